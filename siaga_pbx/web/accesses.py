"""Who reads what of a caller: every answer of the API that needs the token, and may show one, is noted before it goes.

One place for all routes, so that a new one cannot be forgotten: what is not listed here as harmless is noted.
"""

from collections.abc import Callable
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Note: TypeAlias = Callable[[str, str, str | None, str], None]
"""By whom, what, of which call (if of one), with which query. It must not block."""

USER = "siaga-user"
"""The header in which a command of this machine names its user. Whoever has the token may claim to be anybody here: the
token is the proof, the name tells those apart who share it."""

_HARMLESS = frozenset({"/api/v1/seats", "/api/v1/openapi.json", "/api/v1/holds"})
_LONGEST = 64


class Accounted:
    """ASGI middleware, inside the gate."""

    def __init__(self, app: ASGIApp, note: Note) -> None:
        self._app, self._note = app, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _shows_a_caller(scope):
            return await self._app(scope, receive, send)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                call_id = scope.get("path_params", {}).get("call_id")
                path = "/".join(
                    "{call_id}" if call_id and part == call_id else part for part in scope["path"].split("/")
                )
                self._note(reader_of(scope), path, call_id, scope["query_string"].decode("ascii", "replace"))
            await send(message)

        return await self._app(scope, receive, noted)


def reader_of(scope: Scope) -> str:
    """The user that the request names, or else the address that it came from."""
    name = Headers(scope=scope).get(USER, "")
    if 0 < len(name) <= _LONGEST and name.isascii() and name.isprintable():
        return f"user {name}"
    client = scope.get("client")
    return f"token from {client[0] if client else 'unknown'}"


def _shows_a_caller(scope: Scope) -> bool:
    """GET alone: what is posted is on record by what it does. Without the token nothing of a caller is shown."""
    if scope["type"] != "http" or scope["method"] != "GET" or not scope.get("state", {}).get("signed_in"):
        return False
    return scope["path"].startswith("/api/v1/") and scope["path"] not in _HARMLESS
