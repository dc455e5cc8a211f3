"""What the queue is told: by the callers' legs, by the seats' legs, and by the seats themselves.

A leg that the queue asked for (Offer, StartOverflow) is reported over exactly once: SeatFailed or OverflowFailed if it
never was answered, else SeatGone or OverflowGone, also after Withdraw and Drop. Events may cross commands on the wire:
the queue takes any event in any state and raises for none.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

CallId: TypeAlias = str
SeatId: TypeAlias = str


class EndedBy(StrEnum):
    """Who ended a leg or a call (the record's `ended_by`)."""

    CALLER = "caller"
    SEAT = "seat"
    OVERFLOW = "overflow"
    SYSTEM = "system"
    """This daemon, on a command or on its own decision."""
    FAULT = "fault"
    """Nobody wanted it: silence, an error of the protocol, a lost connection."""


# The caller's leg


@dataclass(frozen=True, slots=True)
class CallArrived:
    """A caller to be served. `skills`: what a seat must have; a higher `priority` goes before a lower one."""

    call: CallId
    skills: frozenset[str] = frozenset()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class CallerGone:
    """The caller's leg is over, whoever ended it. CallOver follows."""

    call: CallId
    by: EndedBy = EndedBy.CALLER


@dataclass(frozen=True, slots=True)
class Connected:
    """Caller and seat hear each other: what Connect asked for is done."""

    call: CallId
    seat: SeatId


# A seat's leg


@dataclass(frozen=True, slots=True)
class SeatRinging:
    """The seat's phone rings. It changes nothing: how long a seat may take counts from Offer."""

    call: CallId
    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatAnswered:
    """The seat took the call."""

    call: CallId
    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatFailed:
    """The seat's leg is over and never was answered. `status`: SIP, 487 after Withdraw, 480 if it could not be rung."""

    call: CallId
    seat: SeatId
    status: int


@dataclass(frozen=True, slots=True)
class SeatGone:
    """The seat's leg is over after it was answered. By SEAT: the call-taker hung up, and so ends the call."""

    call: CallId
    seat: SeatId
    by: EndedBy = EndedBy.SEAT


# Hold: of whoever has the call, a seat or (None) the overflow target


@dataclass(frozen=True, slots=True)
class Held:
    """They want to hear nothing for now (RFC 3264 8.4)."""

    call: CallId
    seat: SeatId | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """They do again."""

    call: CallId
    seat: SeatId | None = None


# The seat itself


@dataclass(frozen=True, slots=True)
class SeatRegistered:
    """The seat has a contact (each REGISTER may be reported, only the first one counts)."""

    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatUnregistered:
    """The seat has no contact any more."""

    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatSuspect:
    """The seat's phone does not answer OPTIONS: it is offered last."""

    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatTrusted:
    """It does again."""

    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatPaused:
    """The call-taker wants no calls; a call that runs goes on, one that rings goes to the next seat."""

    seat: SeatId
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SeatReady:
    """The call-taker wants calls: ends a pause, a rest and a wrap-up."""

    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatBusy:
    """The seat is in calls of its own (a feature code, a call back to a caller)."""

    seat: SeatId


@dataclass(frozen=True, slots=True)
class SeatIdle:
    """The last of them is over."""

    seat: SeatId


# The overflow target's leg


@dataclass(frozen=True, slots=True)
class OverflowAnswered:
    call: CallId


@dataclass(frozen=True, slots=True)
class OverflowFailed:
    call: CallId
    status: int


@dataclass(frozen=True, slots=True)
class OverflowGone:
    """The overflow target's leg is over after it was answered. By OVERFLOW: they hung up, and so ends the call."""

    call: CallId
    by: EndedBy = EndedBy.OVERFLOW


CallerEvent: TypeAlias = CallArrived | CallerGone
LegEvent: TypeAlias = SeatRinging | SeatAnswered | Connected | SeatFailed | SeatGone
OverflowEvent: TypeAlias = OverflowAnswered | OverflowFailed | OverflowGone
CallEvent: TypeAlias = CallerEvent | LegEvent | OverflowEvent | Held | Resumed
SeatEvent: TypeAlias = (
    SeatRegistered | SeatUnregistered | SeatSuspect | SeatTrusted | SeatPaused | SeatReady | SeatBusy | SeatIdle
)
Event: TypeAlias = CallEvent | SeatEvent
