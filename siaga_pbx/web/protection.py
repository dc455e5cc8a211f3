"""What must stay and what may go: holds and erasure, and the accesses of the machine's own commands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from siaga_pbx.records.errors import NotOnRecord, NotPossible
from siaga_pbx.web.accesses import Note, reader_of
from siaga_pbx.web.centre import Cause, Reason, Refused
from siaga_pbx.web.live import UNKNOWN, Id
from siaga_pbx.web.problem import Problem
from siaga_pbx.web.records import Row

_LEFT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "it is held, not held, or goes on; nothing has changed"}
}


class Erasure(Protocol):
    """What was done: `siaga_pbx.records.custody.Erased`. Ids of calls."""

    @property
    def calls(self) -> Sequence[str]: ...
    @property
    def held(self) -> Sequence[str]: ...
    @property
    def going_on(self) -> Sequence[str]: ...
    @property
    def files(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def texts(self) -> int: ...


class Keeper(Protocol):
    """`siaga_pbx.records.custody.Custody`, in worker threads. Raises NotOnRecord, NotPossible."""

    def hold(self, id: str, reason: str, by: str) -> str: ...
    def release(self, id: str, by: str) -> str: ...
    def holds(self) -> Sequence[Row]: ...
    def erase_call(self, id: str, reason: str, by: str) -> Erasure: ...
    def erase_number(self, number: str, reason: str, by: str) -> Erasure: ...


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HoldRequest(_Asked):
    reason: Reason = Field(examples=["letter of the court, 24 November"])


class ErasureRequest(_Asked):
    """Of one call, or of all of a number."""

    call_id: str | None = Field(None, max_length=64, description="a call's id, or an incident's")
    number: Annotated[str, Field(pattern=r"^\+[0-9]{3,15}$")] | None = Field(None, description="E.164")
    reason: Reason = Field(description="goes on record and stays: no names in it")

    @model_validator(mode="after")
    def _one_of_both(self) -> "ErasureRequest":
        if (self.call_id is None) == (self.number is None):
            raise ValueError("name either call_id or number")
        return self


class ErasureReceipt(BaseModel):
    """Ids of calls that were erased, that are held, and that go on (they, or their incidents)."""

    calls: tuple[str, ...]
    held: tuple[str, ...]
    going_on: tuple[str, ...]
    files: int = Field(description="recordings that were removed")
    events: int = Field(description="events besides that had the number, and lost what they say")
    texts: int = Field(description="texts in others' records that the number was struck from")


class AccessRequest(_Asked):
    """What a command of this machine is about to show from the database."""

    what: str = Field(min_length=1, max_length=200)
    calls: tuple[Id, ...] = Field((), max_length=1000, description="of which calls; none for a listing")


class HoldReceipt(BaseModel):
    call_id: str


class HoldRecord(BaseModel):
    """A hold that stands; `id` is the call's."""

    id: str
    reason: str | None
    placed_at: str
    placed_by: str
    released_at: str | None
    released_by: str | None


def accesses(note: Note) -> APIRouter:
    """The route by which a command tells what it is about to show."""
    router = APIRouter(prefix="/api/v1", tags=["data protection"])

    @router.post("/accesses", status_code=204, summary="Note what a command reads of the database")
    async def access(body: AccessRequest, request: Request) -> None:
        for call_id in body.calls or (None,):
            note(reader_of(request.scope), body.what, call_id, "")

    return router


def protection(keeper: Keeper) -> APIRouter:
    """Routes of holds and erasure."""
    router = APIRouter(prefix="/api/v1", tags=["data protection"])

    @router.put("/calls/{call_id}/hold", summary="Nothing of a call goes until it is released", responses=UNKNOWN)
    def hold(call_id: Id, body: HoldRequest, request: Request) -> HoldReceipt:
        """Neither retention nor erasure touches it, its recording included. The id may be an incident's."""
        with _refusing():
            return HoldReceipt(call_id=keeper.hold(call_id, body.reason, reader_of(request.scope)))

    @router.delete("/calls/{call_id}/hold", summary="Release a call that is held", responses=UNKNOWN | _LEFT)
    def release(call_id: Id, request: Request) -> HoldReceipt:
        with _refusing():
            return HoldReceipt(call_id=keeper.release(call_id, reader_of(request.scope)))

    @router.get("/holds", response_model=list[HoldRecord], summary="What is held, oldest first")
    def holds() -> Sequence[Row]:
        return keeper.holds()

    @router.post("/erasures", summary="Erase a call, or all of a number", responses=UNKNOWN | _LEFT)
    def erase(body: ErasureRequest, request: Request) -> ErasureReceipt:
        """Of a number, calls that are held or go on are left and named. The chain of events still verifies."""
        by = reader_of(request.scope)
        with _refusing():
            if body.number is not None:
                erased = keeper.erase_number(body.number, body.reason, by)
            else:
                erased = keeper.erase_call(str(body.call_id), body.reason, by)
        left = {"held": tuple(erased.held), "going_on": tuple(erased.going_on)}
        counts = {"files": erased.files, "events": erased.events, "texts": erased.texts}
        return ErasureReceipt(calls=tuple(erased.calls), **left, **counts)

    return router


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except NotOnRecord as error:
        raise Refused(Cause.UNKNOWN, str(error)) from error
    except NotPossible as error:
        raise Refused(Cause.CONFLICT, str(error)) from error
    except TimeoutError as error:
        raise Refused(Cause.UNAVAILABLE, "the database does not answer in time; ask again") from error
