"""What the API and the metrics see of the queue."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from siaga_pbx.call.call import Call, Offering, Overflow, Waiting
from siaga_pbx.call.commands import SeatState
from siaga_pbx.call.events import CallId, SeatId
from siaga_pbx.call.seats import Seat


@dataclass(frozen=True, slots=True)
class SeatView:
    """`since`: when it entered its state; `call`: what it is offered or talks to; `reason`: of a pause."""

    seat: SeatId
    state: SeatState
    since: float
    reason: str | None
    call: CallId | None
    skills: frozenset[str]
    registered: bool
    suspect: bool


@dataclass(frozen=True, slots=True)
class WaitingView:
    """A caller without a seat. `since`: when it began to wait; `offered`: the seats that ring for it now."""

    call: CallId
    since: float
    priority: int
    skills: frozenset[str]
    offered: tuple[SeatId, ...]
    overflowing: bool


@dataclass(frozen=True, slots=True)
class QueueView:
    """Seats as configured; waiting callers in the order they are served; the number of seats in every state."""

    seats: tuple[SeatView, ...]
    waiting: tuple[WaitingView, ...]
    oldest_since: float | None
    seats_by_state: Mapping[SeatState, int]


def view_of(seats: Iterable[Seat], unanswered: Iterable[Call]) -> QueueView:
    """Of every seat, and of the calls that nobody has answered."""
    seats = tuple(seats)
    callers = sorted(unanswered, key=lambda call: call.place)
    waiting = tuple(
        WaitingView(
            call.id,
            call.state.since,
            call.priority,
            call.skills,
            tuple(ring.seat for ring in call.rings),
            call.overflow is Overflow.RINGING,
        )
        for call in callers
        if isinstance(call.state, Waiting | Offering)
    )
    states = Counter(seat.state for seat in seats)
    return QueueView(
        tuple(_seat(seat) for seat in seats),
        waiting,
        min((caller.since for caller in waiting), default=None),
        {state: states[state] for state in SeatState},
    )


def _seat(seat: Seat) -> SeatView:
    return SeatView(seat.id, seat.state, seat.since, seat.reason, seat.call, seat.skills, seat.registered, seat.suspect)
