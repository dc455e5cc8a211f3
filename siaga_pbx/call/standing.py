"""Where a call stands in the queue, as it is kept over a restart: plain values, and the call made of them again.

Times are those of the machine's monotonic clock, which goes on when a process does not (but not when the machine is
started anew).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from siaga_pbx.call.call import (
    Call,
    Ending,
    Joining,
    Offering,
    Overflow,
    Overflowed,
    Reach,
    Ring,
    State,
    Step,
    Talking,
    Waiting,
)
from siaga_pbx.call.commands import Cause, DropCaller, Requeued
from siaga_pbx.call.events import CallId, EndedBy, SeatId


class Stand(StrEnum):
    """WAITING with rings is Offering; Joining, which is over in the moment in which it begins, counts as WAITING."""

    WAITING = "waiting"
    TALKING = "talking"
    OVERFLOWED = "overflowed"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class Standing:
    """A call. `since`: it waits since then; `seat`: it was bridged to it last; `overflow_after`: no sooner tried."""

    stand: Stand
    skills: tuple[str, ...]
    priority: int
    arrived: float
    number: int
    since: float | None = None
    rings: tuple[Ring, ...] = ()
    seat: SeatId | None = None
    reach: Reach = Reach.SKILLED
    overflow_after: float | None = None


@dataclass(frozen=True, slots=True)
class CallLeg:
    """A leg that was taken over: to a seat, or (None) to the overflow target. `leaving`: it is being hung up."""

    call: CallId
    seat: SeatId | None
    answered: bool
    leaving: bool = False


def standing_of(call: Call) -> Standing:
    """The call as it stands."""
    stand, waits = Stand.WAITING, None
    match call.state:
        case Waiting(since=since) | Offering(since=since) | Joining(since=since):
            waits = since
        case Talking():
            stand = Stand.TALKING
        case Overflowed():
            stand = Stand.OVERFLOWED
        case _:
            stand = Stand.ENDING
    return Standing(
        stand,
        tuple(sorted(call.skills)),
        call.priority,
        call.arrived,
        call.number,
        waits,
        call.rings,
        call.seat,
        call.reach,
        call.overflow_after if call.overflow_after > -inf else None,
    )


def restored(id: CallId, standing: Standing, legs: Iterable[CallLeg], now: float) -> Step:
    """The call again, as far as its legs are there: a caller whose other side is gone waits, with the place it had."""
    own = [leg for leg in legs if leg.call == id]
    there = {leg.seat: leg.answered for leg in own if not leg.leaving}
    call = Call(
        id,
        frozenset(standing.skills),
        standing.priority,
        min(now, standing.arrived),
        standing.number,
        _state(standing, there, now),
        standing.reach,
        standing.seat,
        _overflow(standing, next((leg for leg in own if leg.seat is None), None)),
        -inf if standing.overflow_after is None else standing.overflow_after,
    )
    if isinstance(call.state, Ending):
        return call, [DropCaller(id, Cause.SEAT_GONE)]
    if standing.stand is not Stand.WAITING and isinstance(call.state, Waiting):
        return replace(call, reach=Reach.SKILLED), [Requeued(id, Cause.LEG_LOST)]
    return call, []


def _state(standing: Standing, there: dict[SeatId | None, bool], now: float) -> State:
    match standing:
        case Standing(Stand.TALKING, seat=str(seat)) if there.get(seat):
            return Talking(seat)
        case Standing(Stand.OVERFLOWED) if there.get(None):
            return Overflowed()
        case Standing(Stand.ENDING):
            return Ending(EndedBy.SYSTEM, Cause.SEAT_GONE)
    since = now if standing.since is None else min(now, standing.since)
    rings = tuple([ring for ring in standing.rings if there.get(ring.seat) is False])
    return Offering(since, rings) if rings else Waiting(since)


def _overflow(standing: Standing, leg: CallLeg | None) -> Overflow:
    if leg is None:
        return Overflow.NONE
    if leg.leaving:
        return Overflow.LEAVING
    return Overflow.TALKING if standing.stand is Stand.OVERFLOWED and leg.answered else Overflow.RINGING
