"""The centre now: what goes on, and what a supervisor may tell it to do."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from siaga_pbx.web.centre import (
    CancelRequest,
    CentreView,
    DispatchOrder,
    DispatchReceipt,
    DispatchRequest,
    Reason,
    SeatStatus,
    Status,
    UpdateRequest,
)
from siaga_pbx.web.problem import Problem

Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "there is no such thing; nothing has changed"}
}

WHICH: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "the call has several incidents: name the category"}
}


class PauseRequest(BaseModel):
    reason: Reason | None = Field(None, examples=["istirahat"])


class DismissRequest(BaseModel):
    reason: Reason = Field(description="why nobody calls back; it goes on record", examples=["called again by himself"])


def live(centre: CentreView) -> APIRouter:
    """Routes of live state and commands."""
    router = APIRouter(prefix="/api/v1", tags=["live"])

    @router.get("/status", summary="Everything live at one moment")
    async def get_status(request: Request) -> Status:
        """Without the token no caller's number is in it."""
        return _status(centre, request)

    @router.get("/seats", summary="The seats and their states")
    async def get_seats() -> tuple[SeatStatus, ...]:
        return centre.status().seats

    @router.post("/seats/{seat_id}/pause", status_code=204, summary="Offer a seat no more calls", responses=UNKNOWN)
    async def pause(seat_id: Id, body: PauseRequest | None = None) -> None:
        """A call it has goes on. The reason is on record and in the seat's status."""
        centre.pause_seat(seat_id, body.reason if body else None)

    @router.post("/seats/{seat_id}/ready", status_code=204, summary="Offer a seat calls again", responses=UNKNOWN)
    async def ready(seat_id: Id) -> None:
        centre.ready_seat(seat_id)

    @router.post(
        "/calls/{call_id}/dispatches",
        status_code=201,
        tags=["dispatch"],
        summary="Dispatch the agencies of a category",
        responses=UNKNOWN | {503: {"model": Problem, "description": "the records cannot be written; nothing was sent"}},
    )
    async def dispatch(call_id: Id, body: DispatchRequest) -> DispatchReceipt:
        """For a live or an ended call. Answered once it is committed: from then on it is delivered, whatever fails."""
        return await centre.dispatch(DispatchOrder(call_id=call_id, **body.model_dump()))

    @router.post(
        "/calls/{call_id}/dispatches/update",
        tags=["dispatch"],
        summary="Tell those who are dispatched more",
        responses=UNKNOWN | WHICH,
    )
    async def update(call_id: Id, body: UpdateRequest) -> DispatchReceipt:
        """A new address, a better location, another caller. Each of the incident's agencies gets the next sequence."""
        return await centre.update_dispatches(call_id, body)

    @router.post(
        "/calls/{call_id}/dispatches/cancel",
        tags=["dispatch"],
        summary="Nobody is to go any more",
        responses=UNKNOWN | WHICH,
    )
    async def cancel(call_id: Id, body: CancelRequest) -> DispatchReceipt:
        """Each of the incident's agencies, or one of them, gets the next sequence, which says so."""
        return await centre.cancel_dispatches(call_id, body)

    @router.post(
        "/callbacks/{call_id}/dismiss",
        status_code=204,
        tags=["call-backs"],
        summary="Take a call off the call-back list",
        responses=UNKNOWN,
    )
    async def dismiss(call_id: Id, body: DismissRequest) -> None:
        await centre.dismiss_callback(call_id, body.reason)

    return router


def _status(centre: CentreView, request: Request) -> Status:
    status = centre.status()
    return status if request.state.signed_in else status.without_callers()
