"""The watchdog's eye: where the queue's belief and the truth of the dialogs differ. It finds; the queue repairs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from siaga_pbx.call.call import Call, Joining, Talking
from siaga_pbx.call.events import CallId, SeatId
from siaga_pbx.call.seats import Free, Leaving, Seat

STUCK_S = 40.0
"""A leg that was told to stop has ended by then: 64*T1 = 32 s (RFC 3261 17.1.1.2), and some."""


class Fault(StrEnum):
    CALLER_LOST = "caller_lost"
    """The queue has a call whose caller's leg is over."""
    CALLER_UNKNOWN = "caller_unknown"
    """A caller is on the line whom the queue does not know."""
    LEG_LOST = "leg_lost"
    """The queue believes in a seat's leg that is over."""
    LEG_UNKNOWN = "leg_unknown"
    """A seat has a leg that the queue does not know."""
    LEG_STUCK = "leg_stuck"
    """A seat's leg lives on although its call is over, or was told to stop long ago."""


@dataclass(frozen=True, slots=True)
class Finding:
    fault: Fault
    call: CallId
    seat: SeatId | None = None


def find(
    calls: Mapping[CallId, Call],
    seats: Mapping[SeatId, Seat],
    seat_dialogs: Mapping[SeatId, CallId],
    callers: set[CallId],
    now: float,
) -> list[Finding]:
    """Every difference, callers first. `calls` are those that are not over."""
    findings = [Finding(Fault.CALLER_LOST, call) for call in calls if call not in callers]
    findings += [Finding(Fault.CALLER_UNKNOWN, call) for call in sorted(callers) if call not in calls]
    for seat in seats.values():
        findings += _of_seat(seat, seat_dialogs.get(seat.id), calls, now)
    for call in calls.values():
        findings += [Finding(Fault.LEG_LOST, call.id, seat) for seat in _claims(call) if not _has(seats, seat, call.id)]
    return findings


def _of_seat(seat: Seat, dialog: CallId | None, calls: Mapping[CallId, Call], now: float) -> Iterable[Finding]:
    believed = seat.call
    if believed is not None and believed != dialog:
        yield Finding(Fault.LEG_LOST, believed, seat.id)
    if dialog is not None and believed != dialog:
        yield Finding(Fault.LEG_UNKNOWN, dialog, seat.id)
    if dialog is None or believed != dialog:
        return
    match seat.line:
        case Free():
            return
        case Leaving(since=since) if now - since > STUCK_S:
            yield Finding(Fault.LEG_STUCK, dialog, seat.id)
        case Leaving():
            return
        case _ if (call := calls.get(dialog)) is None or seat.id not in _claims(call):
            yield Finding(Fault.LEG_STUCK, dialog, seat.id)


def _claims(call: Call) -> tuple[SeatId, ...]:
    """The seats whose legs the call needs."""
    match call.state:
        case Joining(seat=seat) | Talking(seat=seat):
            return (seat,)
    return tuple(ring.seat for ring in call.rings)


def _has(seats: Mapping[SeatId, Seat], seat: SeatId, call: CallId) -> bool:
    return seat in seats and seats[seat].call == call and not isinstance(seats[seat].line, Leaving)
