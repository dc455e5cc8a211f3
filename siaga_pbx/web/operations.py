"""For those who run the machine: metrics, health, readiness, reload."""

from typing import Literal

from fastapi import APIRouter, Response, status
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.requests import Request

from siaga_pbx.web.centre import CentreView, Check, Reloaded


class Health(BaseModel):
    status: Literal["healthy"] = "healthy"


class Readiness(BaseModel):
    """Ready when every check is."""

    ready: bool
    checks: tuple[Check, ...]


def operations(centre: CentreView, registry: CollectorRegistry) -> APIRouter:
    """Routes /metrics and /-/..."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", response_class=Response, summary="Metrics for Prometheus")
    async def metrics(request: Request) -> Response:
        """In the text format asked for; gauges are read at this moment."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    @router.get("/-/healthy", summary="Is the process alive?")
    async def healthy() -> Health:
        """Answered by the event loop that carries the calls: no answer within a second means that it is stuck."""
        return Health()

    @router.get(
        "/-/ready",
        summary="Can calls be taken?",
        responses={503: {"model": Readiness, "description": "starting, draining, or a check fails"}},
    )
    async def ready(response: Response) -> Readiness:
        """Configuration loaded, SIP sockets bound, a media worker up; never broker, database or seats."""
        checks = tuple(check if not check.ok else Check(name=check.name, ok=True) for check in centre.checks())
        readiness = Readiness(ready=all(check.ok for check in checks), checks=checks)
        if not readiness.ready:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return readiness

    @router.post("/-/reload", summary="Read the configuration again")
    async def reload() -> Reloaded:
        """No call, seat or registration is lost. With an error in a file nothing changes, and all errors are listed."""
        return await centre.reload()

    return router
