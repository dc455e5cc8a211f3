"""What the queue asks for and tells. The switch carries the commands out in their order, before the next event.

An event that a command causes at once (a seat that has no contact fails while it is offered) is handed to the queue
after the commands in hand, never within them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from siaga_pbx.call.events import CallId, EndedBy, SeatId


class Outcome(StrEnum):
    """What became of a call (the record's `outcome`). TEST and INTERRUPTED are given by others, never by the queue."""

    ANSWERED = "answered"
    """It was bridged to a seat; a 200 alone is not."""
    ABANDONED = "abandoned"
    OVERFLOWED = "overflowed"
    TEST = "test"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class SeatState(StrEnum):
    OFFLINE = "offline"
    READY = "ready"
    OFFERED = "offered"
    TALKING = "talking"
    WRAP_UP = "wrap_up"
    PAUSED = "paused"
    RESTING = "resting"


class Cause(StrEnum):
    """Why a command is given or a state changes."""

    OFFERED = "offered"
    ANSWERED = "answered"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    CALLER_GONE = "caller_gone"
    SEAT_GONE = "seat_gone"
    OVERFLOW_GONE = "overflow_gone"
    LEG_OVER = "leg_over"
    LEG_LOST = "leg_lost"
    REGISTERED = "registered"
    UNREGISTERED = "unregistered"
    PAUSED = "paused"
    READY = "ready"
    BUSY = "busy"
    IDLE = "idle"
    WRAP_UP_OVER = "wrap_up_over"
    REST_OVER = "rest_over"
    REMOVED = "removed"
    UNKNOWN_CALL = "unknown_call"
    TAKEN_OVER = "taken_over"
    AUDIT = "audit"


class AlarmName(StrEnum):
    NO_SEAT_REGISTERED = "no_seat_registered"
    OVERFLOW_FAILED = "overflow_failed"
    QUEUE_REPAIRED = "queue_repaired"


# Orders about a seat's leg


@dataclass(frozen=True, slots=True)
class Offer:
    """Ring the seat for this call. SeatAnswered or SeatFailed follows."""

    call: CallId
    seat: SeatId


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop ringing the seat. An answer that crosses is hung up; SeatFailed (or SeatGone) says that the leg is over."""

    call: CallId
    seat: SeatId
    cause: Cause


@dataclass(frozen=True, slots=True)
class Connect:
    """Let caller and seat hear each other, and say Connected; if it cannot be done, SeatGone(by FAULT)."""

    call: CallId
    seat: SeatId


@dataclass(frozen=True, slots=True)
class DropSeat:
    """Hang up a seat's leg, answered or not. SeatGone or SeatFailed follows; a leg that is not there needs nothing."""

    call: CallId
    seat: SeatId
    cause: Cause


# Orders about the caller's leg and the overflow target's


@dataclass(frozen=True, slots=True)
class DropCaller:
    """Hang up the caller's leg: the other side ended the call. CallerGone follows."""

    call: CallId
    cause: Cause


@dataclass(frozen=True, slots=True)
class StartOverflow:
    """Ring the overflow target for this call, beside the seats. OverflowAnswered or OverflowFailed follows."""

    call: CallId


@dataclass(frozen=True, slots=True)
class WithdrawOverflow:
    """Stop ringing it. OverflowFailed (or OverflowGone) says that the leg is over."""

    call: CallId
    cause: Cause


@dataclass(frozen=True, slots=True)
class ConnectOverflow:
    """Let caller and overflow target hear each other; if it cannot be done, OverflowGone(by FAULT)."""

    call: CallId


@dataclass(frozen=True, slots=True)
class DropOverflow:
    """Hang up the overflow target's leg that was answered. OverflowGone follows."""

    call: CallId
    cause: Cause


# Orders about what the caller hears of whoever has the call


@dataclass(frozen=True, slots=True)
class Hold:
    """Let the caller hear hold audio: the other side wants to hear nothing. The caller's own leg is left as it is."""

    call: CallId


@dataclass(frozen=True, slots=True)
class Resume:
    """Let both hear each other again."""

    call: CallId


# What happened


@dataclass(frozen=True, slots=True)
class Requeued:
    """The caller's seat (or overflow target) was lost with no wish to end the call: the caller waits again.

    Let it hear the queue; an offer follows as for any waiting caller.
    """

    call: CallId
    cause: Cause


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell a waiting caller its place: 1 is served next."""

    call: CallId
    place: int


@dataclass(frozen=True, slots=True)
class CallOver:
    """The caller's leg is over: exactly once for every CallArrived. The queue knows the call no more.

    `seat`: the last seat it was bridged to.
    """

    call: CallId
    outcome: Outcome
    ended_by: EndedBy
    cause: Cause
    seat: SeatId | None = None


@dataclass(frozen=True, slots=True)
class SeatChanged:
    """The one place where a seat's state changes. `call`: what it is offered or talks to; `reason`: of a pause."""

    seat: SeatId
    old: SeatState
    new: SeatState
    cause: Cause
    call: CallId | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SeatMissed:
    """The seat did not take the call and rests. `status`: its SIP answer, None if its time ran out."""

    call: CallId
    seat: SeatId
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raised (`active`) and cleared once each; `detail` is a line for a person and carries no caller's number."""

    name: AlarmName
    active: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """A step worth a line in the record that no other command tells. `call` None: it is about a seat."""

    call: CallId | None
    kind: str
    data: Mapping[str, str] = field(default_factory=dict)


Command: TypeAlias = (
    Offer
    | Withdraw
    | Connect
    | DropSeat
    | DropCaller
    | StartOverflow
    | WithdrawOverflow
    | ConnectOverflow
    | DropOverflow
    | Hold
    | Resume
    | Requeued
    | Announce
    | CallOver
    | SeatChanged
    | SeatMissed
    | Alarm
    | Noted
)
