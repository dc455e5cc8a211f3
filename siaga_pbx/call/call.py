"""A call in the queue: one machine.

    Waiting <-> Offering -> Joining -> Talking -> Ending -> Over     Waiting | Offering -> Overflowed -> Ending -> Over

The caller's leg alone ends a call (Over); when a seat hangs up, the caller's leg is ended first (Ending). A seat that
is lost before both heard each other, or by a fault later, puts the caller back to the head of the queue. The overflow
target's leg runs beside Waiting and Offering; whoever answers first, seat or target, has the call.
"""

from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import TypeAlias

from siaga_pbx.call.commands import (
    CallOver,
    Cause,
    Command,
    Connect,
    ConnectOverflow,
    DropCaller,
    DropOverflow,
    DropSeat,
    Hold,
    Noted,
    Offer,
    Outcome,
    Requeued,
    Resume,
    SeatMissed,
    StartOverflow,
    Withdraw,
    WithdrawOverflow,
)
from siaga_pbx.call.events import (
    CallerGone,
    CallId,
    Connected,
    EndedBy,
    Held,
    OverflowAnswered,
    OverflowFailed,
    OverflowGone,
    Resumed,
    SeatAnswered,
    SeatFailed,
    SeatGone,
    SeatId,
    SeatRinging,
)
from siaga_pbx.call.settings import QueueSettings

OVERFLOW_RETRY_S = 10.0
"""An overflow target that failed is tried again after this long: a mobile out of coverage, a centre that was busy."""


class Reach(Enum):
    """Which seats a call is offered to."""

    SKILLED = "skilled"
    ALL = "all"


class Overflow(Enum):
    """The overflow target's leg."""

    NONE = "none"
    RINGING = "ringing"
    TALKING = "talking"
    LEAVING = "leaving"
    """Told to stop; the leg is not over yet."""


@dataclass(frozen=True, slots=True)
class Ring:
    """One seat that rings for the call, and until when it may."""

    seat: SeatId
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Waiting:
    since: float


@dataclass(frozen=True, slots=True)
class Offering:
    """One seat rings, or several when the call is offered to all. `since` is that of Waiting: the place is kept."""

    since: float
    rings: tuple[Ring, ...]


@dataclass(frozen=True, slots=True)
class Joining:
    """A seat has answered; caller and seat do not hear each other yet."""

    since: float
    seat: SeatId


@dataclass(frozen=True, slots=True)
class Talking:
    seat: SeatId


@dataclass(frozen=True, slots=True)
class Overflowed:
    """The overflow target has answered."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The other side hung up, the caller's leg is being ended."""

    by: EndedBy
    cause: Cause


@dataclass(frozen=True, slots=True)
class Over:
    """The caller's leg is over."""


State: TypeAlias = Waiting | Offering | Joining | Talking | Overflowed | Ending | Over
LegEvent: TypeAlias = (
    CallerGone
    | SeatRinging
    | SeatAnswered
    | Connected
    | SeatFailed
    | SeatGone
    | OverflowAnswered
    | OverflowFailed
    | OverflowGone
    | Held
    | Resumed
)


@dataclass(frozen=True, slots=True)
class Call:
    """`arrived` and `number` (of its arrival) are its place; `seat`: the last one it was bridged to."""

    id: CallId
    skills: frozenset[str]
    priority: int
    arrived: float
    number: int
    state: State
    reach: Reach = Reach.SKILLED
    seat: SeatId | None = None
    overflow: Overflow = Overflow.NONE
    overflow_after: float = -inf

    @property
    def place(self) -> tuple[int, float, int]:
        """Who is served first: the higher priority, then who came first."""
        return -self.priority, self.arrived, self.number

    @property
    def rings(self) -> tuple[Ring, ...]:
        return self.state.rings if isinstance(self.state, Offering) else ()

    def takes(self, seat_skills: frozenset[str]) -> bool:
        return self.reach is Reach.ALL or self.skills <= seat_skills


Step: TypeAlias = tuple[Call, list[Command]]


def step(call: Call, event: LegEvent, now: float) -> Step:
    """The call after an event of one of its legs."""
    if isinstance(call.state, Over):
        return call, stray(event)
    match event:
        case CallerGone(by=by):
            return _end(call, by)
        case SeatRinging():
            return call, []
        case SeatAnswered(seat=seat):
            return _seat_answered(call, seat)
        case Connected(seat=seat):
            return _connected(call, seat)
        case SeatFailed(seat=seat, status=status):
            return _seat_lost(call, seat, EndedBy.FAULT, status, now)
        case SeatGone(seat=seat, by=by):
            return _seat_lost(call, seat, by, None, now)
        case OverflowAnswered():
            return _overflow_answered(call)
        case OverflowFailed():
            return _overflow_lost(call, EndedBy.FAULT, now)
        case OverflowGone(by=by):
            return _overflow_lost(call, by, now)
        case Held(seat=seat):
            return call, [Hold(call.id)] if _is_with(call, seat) else []
        case Resumed(seat=seat):
            return call, [Resume(call.id)] if _is_with(call, seat) else []


def stray(event: LegEvent) -> list[Command]:
    """What an event of a call that is over, or never was, asks for: no leg may live on without its call."""
    match event:
        case SeatAnswered(call=call, seat=seat):
            return [DropSeat(call, seat, Cause.UNKNOWN_CALL)]
        case OverflowAnswered(call=call):
            return [DropOverflow(call, Cause.UNKNOWN_CALL)]
    return []


def offer(call: Call, seat: SeatId, now: float, settings: QueueSettings) -> Step:
    """Rings one more seat for a call that nobody has answered."""
    if not isinstance(call.state, Waiting | Offering):
        return call, []
    rings = (*call.rings, Ring(seat, now, now + settings.ring_s))
    return replace(call, state=Offering(call.state.since, rings)), [Offer(call.id, seat)]


def unoffer(call: Call, seat: SeatId, cause: Cause) -> Step:
    """Stops ringing a seat that cannot take the call after all, for no fault of its own."""
    if all(ring.seat != seat for ring in call.rings):
        return call, []
    return _without_ring(call, seat), [Withdraw(call.id, seat, cause)]


def expire(call: Call, now: float, settings: QueueSettings) -> Step:
    """What time has done: seats that rang long enough, and the widening."""
    commands: list[Command] = []
    for ring in call.rings:
        if ring.until <= now:
            call = _without_ring(call, ring.seat)
            commands += [SeatMissed(call.id, ring.seat), Withdraw(call.id, ring.seat, Cause.NO_ANSWER)]
    if call.reach is Reach.SKILLED and _widen_at(call, settings) <= now:
        call = replace(call, reach=Reach.ALL)
        commands.append(Noted(call.id, "widened"))
    return call, commands


def overflow(call: Call, now: float, settings: QueueSettings) -> Step:
    """Rings the overflow target beside the seats, once the wait was long enough."""
    if _overflow_at(call, settings) > now:
        return call, []
    return replace(call, overflow=Overflow.RINGING), [StartOverflow(call.id)]


def deadline(call: Call, settings: QueueSettings) -> float | None:
    """When `expire` or `overflow` has something to do."""
    if not isinstance(call.state, Waiting | Offering):
        return None
    times = [ring.until for ring in call.rings]
    if call.reach is Reach.SKILLED:
        times.append(_widen_at(call, settings))
    soonest = min([_overflow_at(call, settings), *times])
    return None if soonest == inf else soonest


def _widen_at(call: Call, settings: QueueSettings) -> float:
    return call.state.since + settings.widen_s if isinstance(call.state, Waiting | Offering) else inf


def _overflow_at(call: Call, settings: QueueSettings) -> float:
    """A seat that was free and rings at that moment is waited for, by at most one ring time; later ones are not."""
    if settings.overflow is None or call.overflow is not Overflow.NONE:
        return inf
    if not isinstance(call.state, Waiting | Offering):
        return inf
    due = max(call.state.since + settings.overflow_s, call.overflow_after)
    return max([due, *(ring.until for ring in call.rings if ring.since <= due)])


def _seat_answered(call: Call, seat: SeatId) -> Step:
    match call.state:
        case Offering(since=since, rings=rings) if any(ring.seat == seat for ring in rings):
            others = [ring.seat for ring in rings if ring.seat != seat]
            commands: list[Command] = [Connect(call.id, seat)]
            commands += [Withdraw(call.id, other, Cause.ANSWERED_ELSEWHERE) for other in others]
            call, stopped = _stop_overflow(call, Cause.ANSWERED_ELSEWHERE)
            return replace(call, state=Joining(since, seat)), commands + stopped
        case Joining(seat=taken) | Talking(seat=taken) if taken == seat:
            return call, []
        case Waiting() | Offering():
            return call, [DropSeat(call.id, seat, Cause.NO_ANSWER), Noted(call.id, "answer_too_late", {"seat": seat})]
        case Ending():
            return call, [DropSeat(call.id, seat, Cause.CALLER_GONE)]
    return call, [DropSeat(call.id, seat, Cause.ANSWERED_ELSEWHERE)]


def _connected(call: Call, seat: SeatId) -> Step:
    if isinstance(call.state, Joining) and call.state.seat == seat:
        return replace(call, state=Talking(seat), seat=seat), []
    return call, []


def _seat_lost(call: Call, seat: SeatId, by: EndedBy, status: int | None, now: float) -> Step:
    match call.state:
        case Offering(rings=rings) if any(ring.seat == seat for ring in rings):
            return _without_ring(call, seat), [SeatMissed(call.id, seat, status)]
        case Joining(since=since, seat=joined) if joined == seat:
            back = replace(call, state=Waiting(since))
            return back, [SeatMissed(call.id, seat, status), Requeued(call.id, Cause.LEG_LOST)]
        case Talking(seat=talking) if talking == seat and by is EndedBy.SEAT:
            return replace(call, state=Ending(by, Cause.SEAT_GONE)), [DropCaller(call.id, Cause.SEAT_GONE)]
        case Talking(seat=talking) if talking == seat:
            return _requeue(call, now)
    return call, []


def _is_with(call: Call, seat: SeatId | None) -> bool:
    """Whether this seat, or (None) the overflow target, has the caller."""
    match call.state:
        case Talking(seat=talking):
            return talking == seat
    return seat is None and isinstance(call.state, Overflowed)


def _requeue(call: Call, now: float) -> Step:
    """Back to the head, by `arrived`; widening and overflow count anew, since the wait does."""
    return replace(call, state=Waiting(now), reach=Reach.SKILLED), [Requeued(call.id, Cause.LEG_LOST)]


def _overflow_answered(call: Call) -> Step:
    match call.state:
        case Waiting() | Offering() if call.overflow is Overflow.RINGING:
            commands: list[Command] = [ConnectOverflow(call.id)]
            commands += [Withdraw(call.id, ring.seat, Cause.ANSWERED_ELSEWHERE) for ring in call.rings]
            return replace(call, state=Overflowed(), overflow=Overflow.TALKING), commands
        case Overflowed():
            return call, []
    leaving = replace(call, overflow=Overflow.LEAVING)
    return leaving, [DropOverflow(call.id, Cause.ANSWERED_ELSEWHERE)]


def _overflow_lost(call: Call, by: EndedBy, now: float) -> Step:
    call = replace(call, overflow=Overflow.NONE, overflow_after=now + OVERFLOW_RETRY_S)
    match call.state:
        case Overflowed() if by is EndedBy.OVERFLOW:
            return replace(call, state=Ending(by, Cause.OVERFLOW_GONE)), [DropCaller(call.id, Cause.OVERFLOW_GONE)]
        case Overflowed():
            return _requeue(call, now)
    return call, []


def _end(call: Call, by: EndedBy) -> Step:
    commands: list[Command] = []
    cause, outcome = Cause.CALLER_GONE, _outcome(call, by)
    match call.state:
        case Offering(rings=rings):
            commands += [Withdraw(call.id, ring.seat, Cause.CALLER_GONE) for ring in rings]
        case Joining(seat=seat) | Talking(seat=seat):
            commands.append(DropSeat(call.id, seat, Cause.CALLER_GONE))
        case Overflowed():
            commands.append(DropOverflow(call.id, Cause.CALLER_GONE))
        case Ending(by=by, cause=cause):
            pass
    call, stopped = _stop_overflow(call, Cause.CALLER_GONE)
    over = CallOver(call.id, outcome, by, cause, call.seat)
    return replace(call, state=Over()), [*commands, *stopped, over]


def _outcome(call: Call, by: EndedBy) -> Outcome:
    if call.seat is not None:
        return Outcome.ANSWERED
    match call.state:
        case Overflowed() | Ending(by=EndedBy.OVERFLOW):
            return Outcome.OVERFLOWED
    return Outcome.ABANDONED if by is EndedBy.CALLER else Outcome.FAILED


def _stop_overflow(call: Call, cause: Cause) -> Step:
    if call.overflow is not Overflow.RINGING:
        return call, []
    return replace(call, overflow=Overflow.LEAVING), [WithdrawOverflow(call.id, cause)]


def _without_ring(call: Call, seat: SeatId) -> Call:
    if not isinstance(call.state, Offering):
        return call
    since, rings = call.state.since, tuple(ring for ring in call.state.rings if ring.seat != seat)
    return replace(call, state=Offering(since, rings) if rings else Waiting(since))
