"""The console: one page and its script and style, from the package, read once."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


def console() -> APIRouter:
    """Routes / and /static/..."""
    router = APIRouter(include_in_schema=False)
    folder = files("siaga_pbx.web")
    page = folder.joinpath("console.html").read_bytes()
    parts = {entry.name: entry.read_bytes() for entry in folder.joinpath("static").iterdir()}

    @router.get("/")
    async def get_page() -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    @router.get("/static/{name}")
    async def get_part(name: str) -> Response:
        if name not in parts:
            return Response(status_code=404)
        return Response(parts[name], media_type=_TYPES[name.rpartition(".")[2]])

    return router
