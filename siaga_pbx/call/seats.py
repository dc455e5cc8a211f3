"""A seat: one machine. It follows what its phone reports and what the queue orders; its state is derived, never set.

    line     the leg of a queue call:   Free -> Offered -> Answered -> Talking -> Free
                                             Offered | Answered -> Leaving (we hang up) -> Free
    respite  between calls:             Rested; WrapUp after a call; Barred, then Resting after a miss

A line is free only when its leg is reported over, whatever was ordered before: so no seat ever has two calls, and
"offered" and "talking" are the truth of the dialogs.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

from siaga_pbx.call.commands import Cause, DropSeat, Offer, SeatMissed, SeatState, Withdraw
from siaga_pbx.call.events import (
    CallId,
    Connected,
    EndedBy,
    SeatAnswered,
    SeatBusy,
    SeatEvent,
    SeatFailed,
    SeatGone,
    SeatId,
    SeatIdle,
    SeatPaused,
    SeatReady,
    SeatRegistered,
    SeatRinging,
    SeatSuspect,
    SeatTrusted,
    SeatUnregistered,
)
from siaga_pbx.call.settings import QueueSettings

RETRY_S = 2.0
"""A seat that refuses at once is tried again no sooner, however alone it is: an INVITE storm helps nobody."""


@dataclass(frozen=True, slots=True)
class Free:
    """No leg of a queue call."""


@dataclass(frozen=True, slots=True)
class Offered:
    call: CallId
    since: float


@dataclass(frozen=True, slots=True)
class Leaving:
    """Told to stop; the leg is not over yet."""

    call: CallId
    since: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The seat took the call; caller and seat do not hear each other yet."""

    call: CallId
    since: float


@dataclass(frozen=True, slots=True)
class Talking:
    call: CallId
    since: float


Line: TypeAlias = Free | Offered | Leaving | Answered | Talking


@dataclass(frozen=True, slots=True)
class Rested:
    """Nothing keeps the seat from a call."""


@dataclass(frozen=True, slots=True)
class WrapUp:
    until: float


@dataclass(frozen=True, slots=True)
class Barred:
    """Refused within RETRY_S of its offer: not offered at all before `until`; then it rests until `rest_until`."""

    until: float
    rest_until: float


@dataclass(frozen=True, slots=True)
class Resting:
    """Missed a call: offered only when no rested seat is free."""

    until: float


Respite: TypeAlias = Rested | WrapUp | Barred | Resting


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str | None


@dataclass(frozen=True, slots=True)
class Seat:
    """`since`: when it entered its state; `idle_since`: when it last had something to do (longest idle goes first).

    `own_calls`: it is in a call that is not the queue's. `removed`: no longer configured, gone when its leg is over.
    """

    id: SeatId
    skills: frozenset[str]
    line: Line = Free()
    respite: Respite = Rested()
    pause: Pause | None = None
    registered: bool = False
    suspect: bool = False
    own_calls: bool = False
    removed: bool = False
    since: float = 0.0
    idle_since: float = 0.0

    @property
    def state(self) -> SeatState:
        """What people are shown: the dialogs first, then whether it can be reached, then what its person wants."""
        match self.line:
            case Offered() | Leaving():
                return SeatState.OFFERED
            case Answered() | Talking():
                return SeatState.TALKING
        if self.own_calls:
            return SeatState.TALKING
        if not self.registered:
            return SeatState.OFFLINE
        if self.pause is not None:
            return SeatState.PAUSED
        match self.respite:
            case WrapUp():
                return SeatState.WRAP_UP
            case Barred() | Resting():
                return SeatState.RESTING
        return SeatState.READY

    @property
    def call(self) -> CallId | None:
        """The queue call that it has a leg of."""
        return None if isinstance(self.line, Free) else self.line.call

    @property
    def reason(self) -> str | None:
        """Why it is paused, when its state is "paused"."""
        return self.pause.reason if self.pause is not None and self.state is SeatState.PAUSED else None

    @property
    def offerable(self) -> bool:
        """Whether a call may be offered to it now, if need be although it rests."""
        if not (isinstance(self.line, Free) and self.registered) or self.own_calls or self.removed:
            return False
        return self.pause is None and isinstance(self.respite, (Rested, Resting))

    @property
    def resting(self) -> bool:
        # Asked of every seat for every call: A | B would be built anew each time, and costs three times as much.
        return isinstance(self.respite, (Barred, Resting))

    @property
    def turn(self) -> tuple[bool, bool, float, SeatId]:
        """Who is offered first: the rested before the resting, the trusted before the suspect, the longest idle."""
        return self.resting, self.suspect, self.idle_since, self.id

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        return None if isinstance(self.respite, Rested) else self.respite.until

    @property
    def gone(self) -> bool:
        """Removed, and no leg left."""
        return self.removed and isinstance(self.line, Free)


LegSignal: TypeAlias = (
    Offer | Withdraw | DropSeat | SeatMissed | SeatRinging | SeatAnswered | Connected | SeatFailed | SeatGone
)
Signal: TypeAlias = LegSignal | SeatEvent


def step(seat: Seat, signal: Signal, now: float, settings: QueueSettings) -> Seat:
    """The seat after an event or an order. What does not fit its line (a crossing on the wire) changes nothing."""
    match signal:
        case SeatRegistered():
            changed = seat if seat.registered else replace(seat, registered=True, suspect=False)
        case SeatUnregistered():
            changed = replace(seat, registered=False, suspect=False)
        case SeatSuspect():
            changed = replace(seat, suspect=seat.registered)
        case SeatTrusted():
            changed = replace(seat, suspect=False)
        case SeatPaused(reason=reason):
            changed = replace(seat, pause=Pause(reason))
        case SeatReady():
            changed = replace(seat, pause=None, respite=Rested())
        case SeatBusy():
            changed = replace(seat, own_calls=True)
        case SeatIdle():
            changed = replace(seat, own_calls=False)
        case _:
            changed = _step_leg(seat, signal, now, settings)
    return _stamp(seat, changed, now)


def cause_of(seat: Seat, signal: Signal) -> Cause:
    """Why the signal changes the seat's state, if it does."""
    match signal:
        case Withdraw(cause=cause) | DropSeat(cause=cause):
            return cause
        case SeatFailed() if isinstance(seat.line, Offered):
            return Cause.REJECTED
    return _CAUSES[type(signal)]


_CAUSES: dict[type[Signal], Cause] = {
    Offer: Cause.OFFERED,
    SeatMissed: Cause.NO_ANSWER,
    SeatRinging: Cause.OFFERED,
    SeatAnswered: Cause.ANSWERED,
    Connected: Cause.ANSWERED,
    SeatFailed: Cause.LEG_OVER,
    SeatGone: Cause.LEG_OVER,
    SeatRegistered: Cause.REGISTERED,
    SeatUnregistered: Cause.UNREGISTERED,
    SeatSuspect: Cause.UNREGISTERED,
    SeatTrusted: Cause.REGISTERED,
    SeatPaused: Cause.PAUSED,
    SeatReady: Cause.READY,
    SeatBusy: Cause.BUSY,
    SeatIdle: Cause.IDLE,
}


def expire(seat: Seat, now: float) -> Seat:
    """The seat once its deadline has come."""
    respite = seat.respite
    if isinstance(respite, Barred) and respite.until <= now:
        respite = Resting(respite.rest_until)
    if isinstance(respite, WrapUp | Resting) and respite.until <= now:
        respite = Rested()
    return _stamp(seat, replace(seat, respite=respite), now)


def remove(seat: Seat, now: float) -> Seat:
    """The seat is no longer configured; it goes when its line is free (`gone`)."""
    return _stamp(seat, replace(seat, removed=True, registered=False), now)


def _step_leg(seat: Seat, signal: LegSignal, now: float, settings: QueueSettings) -> Seat:
    line, call = seat.line, signal.call
    match signal:
        case Offer():
            return replace(seat, line=Offered(call, now)) if isinstance(line, Free) else seat
        case SeatAnswered():
            return _answer(seat, call, now)
    if call != seat.call:
        return seat
    match signal, line:
        case ((Withdraw() | DropSeat()), (Offered() | Answered())):
            return replace(seat, line=Leaving(call, now))
        case SeatMissed(), Offered(since=since):
            return replace(seat, respite=_rest(since + RETRY_S, now, settings), idle_since=now)
        case SeatMissed(), Answered():
            return replace(seat, respite=_rest(now + RETRY_S, now, settings), idle_since=now)
        case Connected(), Answered():
            return replace(seat, line=Talking(call, now))
        case SeatFailed(), Talking():
            return replace(seat, line=Free(), respite=_after_talk(EndedBy.FAULT, now, settings))
        case SeatGone(by=by), Talking():
            return replace(seat, line=Free(), respite=_after_talk(by, now, settings))
        case ((SeatFailed() | SeatGone()), _):
            return replace(seat, line=Free())
    return seat


def _answer(seat: Seat, call: CallId, now: float) -> Seat:
    match seat.line:
        case Offered(call=offered) if offered == call:
            return replace(seat, line=Answered(call, now))
        case Leaving(call=left) if left == call:
            return replace(seat, respite=Rested())  # too late by a moment: but its person is there
        case Free():
            return replace(seat, line=Leaving(call, now))  # a leg that nobody asked for; it is being dropped
    return seat


def _rest(barred_until: float, now: float, settings: QueueSettings) -> Respite:
    rest_until = now + settings.rest_s
    return Barred(barred_until, rest_until) if barred_until > now else Resting(rest_until)


def _after_talk(by: EndedBy, now: float, settings: QueueSettings) -> Respite:
    """A phone that was lost has no notes to write: it rests instead, so that its caller can have it back."""
    return _rest(now + RETRY_S, now, settings) if by is EndedBy.FAULT else WrapUp(now + settings.wrap_up_s)


def _stamp(old: Seat, new: Seat, now: float) -> Seat:
    """Enters the times of a change of state. A seat whose offer another one took keeps its place among the idle."""
    if new.state is old.state:
        return new
    if new.state is SeatState.READY and old.state is not SeatState.OFFERED:
        return replace(new, since=now, idle_since=now)
    return replace(new, since=now)
