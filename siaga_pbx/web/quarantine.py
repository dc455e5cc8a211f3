"""What came over the broker and could not be used. It may hold what callers said, so it needs the token."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fastapi import APIRouter
from pydantic import Field

from siaga_pbx.web.centre import UtcTime, View


class Payload(Protocol):
    """One of them: `siaga_pbx.dispatch.quarantine.Quarantined` is one."""

    @property
    def at(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def payload(self) -> str: ...


class QuarantinedPayload(View):
    """A payload that was not acted on."""

    at: UtcTime
    topic: str = Field(description="where it was published; its last level says by whom")
    reason: str = Field(description="what is wrong with it")
    payload: str = Field(description="its beginning, as text")


def quarantine(quarantined: Callable[[], Sequence[Payload]]) -> APIRouter:
    """Its route; `quarantined` is called on the event loop."""
    router = APIRouter(prefix="/api/v1", tags=["dispatch"])

    @router.get("/quarantine", summary="Messages of agencies that could not be used, oldest first")
    async def get_quarantine() -> list[QuarantinedPayload]:
        """The newest hundred since the daemon's start; all are on record as events of the subject `system`."""
        return [
            QuarantinedPayload(at=one.at, topic=one.topic, reason=one.reason, payload=one.payload)
            for one in quarantined()
        ]

    return router
