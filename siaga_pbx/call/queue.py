"""The queue: who is offered which call, and when. Pure: every input takes `now` and returns what to do about it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

from siaga_pbx.call import call as call_machine
from siaga_pbx.call import seats as seat_machine
from siaga_pbx.call.announcements import Announcements
from siaga_pbx.call.audit import Fault, Finding, find
from siaga_pbx.call.call import Call, Offering, Over, Overflow, Reach, Waiting
from siaga_pbx.call.commands import (
    Alarm,
    AlarmName,
    Cause,
    Command,
    DropSeat,
    Noted,
    Offer,
    SeatChanged,
    SeatMissed,
    Withdraw,
)
from siaga_pbx.call.events import (
    CallArrived,
    CallerGone,
    CallId,
    Connected,
    EndedBy,
    Event,
    Held,
    OverflowAnswered,
    OverflowFailed,
    OverflowGone,
    Resumed,
    SeatAnswered,
    SeatBusy,
    SeatFailed,
    SeatGone,
    SeatId,
    SeatPaused,
    SeatRinging,
)
from siaga_pbx.call.seats import Leaving, Line, Offered, Seat, Signal, Talking
from siaga_pbx.call.settings import QueueSettings, SeatSettings
from siaga_pbx.call.standing import CallLeg, Standing, restored, standing_of
from siaga_pbx.call.view import QueueView, view_of

Commands: TypeAlias = list[Command]


class Queue:
    """Callers, seats, and who gets whom.

    Call `start` once the stored registrations are restored, `handle` for each event, `handle_timer` at `next_deadline`,
    `audit` every few seconds. Carry out the commands in order. Nothing raises for what a peer did.
    """

    def __init__(self, settings: QueueSettings, configured: Iterable[SeatSettings]) -> None:
        self._settings = settings
        self._calls: dict[CallId, Call] = {}
        self._unanswered: set[CallId] = set()
        self._seats = {seat.id: Seat(seat.id, seat.skills) for seat in configured}
        self._call_deadlines: dict[CallId, float] = {}
        self._seat_deadlines: dict[SeatId, float] = {}
        self._announcements = Announcements()
        self._arrivals = 0
        self._alarms: set[AlarmName] = set()
        self._suspicions: frozenset[Finding] = frozenset()

    def start(self, now: float) -> Commands:
        """Raises the alarm if no seat is registered."""
        self._seats = {seat.id: seat if seat.since else replace(seat, since=now) for seat in self._seats.values()}
        return self._advance([], now)

    def handle(self, event: Event, now: float) -> Commands:
        out: Commands = []
        self._take(event, now, out)
        return self._advance(out, now)

    def handle_timer(self, now: float) -> Commands:
        return self._advance([], now)

    def next_deadline(self) -> float | None:
        announced = self._announcements.next_deadline()
        own = () if announced is None else (announced,)
        return min(chain(self._call_deadlines.values(), self._seat_deadlines.values(), own), default=None)

    def configure(self, settings: QueueSettings, configured: Iterable[SeatSettings], now: float) -> Commands:
        """Takes new settings. Calls and seats keep their state; a seat that is no more leaves when its leg is over."""
        out: Commands = []
        if settings.overflow != self._settings.overflow:
            self._alarm(AlarmName.OVERFLOW_FAILED, False, "", out)
        self._settings = settings
        wanted = {seat.id: seat.skills for seat in configured}
        for seat in [seat for seat in self._seats.values() if seat.id not in wanted and not seat.removed]:
            self._release(seat.id, Cause.REMOVED, now, out)
            self._enter(seat_machine.remove(self._seats[seat.id], now), Cause.REMOVED, out)
        kept = self._seats
        self._seats = {
            id: replace(kept[id], skills=skills, removed=False) if id in kept else Seat(id, skills, since=now)
            for id, skills in wanted.items()
        } | {id: seat for id, seat in kept.items() if id not in wanted}
        for call in self._calls.values():
            self._watch(call)
        return self._advance(out, now)

    def view(self) -> QueueView:
        return view_of(self._seats.values(), (self._calls[id] for id in self._unanswered))

    def audit(self, seat_dialogs: Mapping[SeatId, CallId], callers: set[CallId], now: float) -> Commands:
        """The watchdog: compares what the queue believes with the dialogs there really are, and repairs.

        `seat_dialogs`: every seat with a leg of a queue call, ringing or up; `callers`: every live caller's leg that
        was given to the queue. A difference is repaired when two audits in a row have found it: what is about to be
        reported anyway needs no repair.
        """
        findings = find(self._calls, self._seats, seat_dialogs, callers, now)
        certain = [finding for finding in findings if finding in self._suspicions]
        self._suspicions = frozenset(findings)
        out: Commands = []
        for finding in certain:
            self._repair(finding, now, out)
        if certain:
            self._alarm(AlarmName.QUEUE_REPAIRED, True, ", ".join(sorted({str(each.fault) for each in certain})), out)
        elif not findings:
            self._alarm(AlarmName.QUEUE_REPAIRED, False, "", out)
        return self._advance(out, now)

    # Over a restart

    def standing(self, call: CallId) -> Standing | None:
        """Where a call stands, to be kept; None if it is not here."""
        return standing_of(self._calls[call]) if call in self._calls else None

    def restore(self, standings: Mapping[CallId, Standing], legs: Collection[CallLeg], now: float) -> Commands:
        """Takes the calls of another life back, and the seats' states from the legs that are there. Before `start`."""
        out: Commands = []
        for id, standing in standings.items():
            call, commands = restored(id, standing, legs, now)
            self._arrivals = max(self._arrivals, call.number)
            self._put(call)
            out += commands
        for leg in legs:
            if leg.seat is not None:
                self._seat_back(leg, leg.seat, now, out)
        return out

    def _seat_back(self, leg: CallLeg, seat_id: SeatId, now: float, out: Commands) -> None:
        """A seat's line follows its leg; a leg that its call has no use for is hung up."""
        line: Line = Leaving(leg.call, now)
        match self._calls.get(leg.call):
            case Call(state=call_machine.Talking(seat=talking)) if talking == seat_id and not leg.leaving:
                line = Talking(leg.call, now)
            case Call(state=Offering(rings=rings)) if not leg.leaving:
                line = next((Offered(leg.call, ring.since) for ring in rings if ring.seat == seat_id), line)
        if isinstance(line, Leaving) and not leg.leaving:
            out.append(DropSeat(leg.call, seat_id, Cause.UNKNOWN_CALL))
        seat = self._seats.setdefault(seat_id, Seat(seat_id, frozenset(), removed=True))
        self._enter(replace(seat, line=line, since=now, idle_since=now), Cause.TAKEN_OVER, out)

    # Events

    def _take(self, event: Event, now: float, out: Commands) -> None:
        match event:
            case CallArrived():
                self._admit(event, now)
            case SeatRinging() | SeatAnswered() | Connected() | SeatFailed() | SeatGone():
                self._step(event, now, out)
                self._signal(event.seat, event, now, out)
            case CallerGone() | OverflowAnswered() | OverflowFailed() | OverflowGone():
                self._tell_overflow(event, out)
                self._step(event, now, out)
            case Held() | Resumed():
                self._step(event, now, out)
            case SeatPaused() | SeatBusy():
                cause = Cause.PAUSED if isinstance(event, SeatPaused) else Cause.BUSY
                self._release(event.seat, cause, now, out)
                self._signal(event.seat, event, now, out)
            case _:
                self._signal(event.seat, event, now, out)

    def _admit(self, event: CallArrived, now: float) -> None:
        if event.call in self._calls:
            return
        self._arrivals += 1
        self._put(Call(event.call, event.skills, event.priority, now, self._arrivals, Waiting(now)))

    def _step(self, event: call_machine.LegEvent, now: float, out: Commands) -> None:
        call = self._calls.get(event.call)
        if call is None:
            self._issue(call_machine.stray(event), now, out)
        else:
            self._perform(call_machine.step(call, event, now), now, out)

    def _release(self, seat: SeatId, cause: Cause, now: float, out: Commands) -> None:
        """Whatever rings at the seat goes to another."""
        line = self._seats[seat].line if seat in self._seats else None
        if isinstance(line, Offered) and (call := self._calls.get(line.call)) is not None:
            self._perform(call_machine.unoffer(call, seat, cause), now, out)

    def _tell_overflow(self, event: call_machine.LegEvent, out: Commands) -> None:
        call = self._calls.get(event.call)
        if call is None or call.overflow is not Overflow.RINGING:
            return
        if isinstance(event, OverflowFailed):
            self._alarm(AlarmName.OVERFLOW_FAILED, True, f"the overflow target answered {event.status}", out)
        elif isinstance(event, OverflowAnswered):
            self._alarm(AlarmName.OVERFLOW_FAILED, False, "", out)

    # Time

    def _advance(self, out: Commands, now: float) -> Commands:
        """What follows from the state alone: deadlines, offers, the overflow, the alarm."""
        for seat_id in [id for id, at in self._seat_deadlines.items() if at <= now]:
            seat = self._seats[seat_id]
            cause = Cause.WRAP_UP_OVER if isinstance(seat.respite, seat_machine.WrapUp) else Cause.REST_OVER
            self._enter(seat_machine.expire(seat, now), cause, out)
        for call_id in [id for id, at in self._call_deadlines.items() if at <= now]:
            self._perform(call_machine.expire(self._calls[call_id], now, self._settings), now, out)
        self._assign(now, out)
        for call_id in [id for id, at in self._call_deadlines.items() if at <= now]:
            self._perform(call_machine.overflow(self._calls[call_id], now, self._settings), now, out)
        out += self._announcements.due(self._order, self._settings.announce_every_s, now)
        missing = not any(seat.registered for seat in self._seats.values())
        self._alarm(AlarmName.NO_SEAT_REGISTERED, missing, f"of {len(self._seats)} seats none is registered", out)
        return out

    # Who gets whom

    def _assign(self, now: float, out: Commands) -> None:
        """First one seat for every caller, in their order; then what is left for those offered to all."""
        unanswered = (self._calls[id] for id in self._unanswered)
        callers = [call for call in unanswered if isinstance(call.state, Waiting) or call.reach is Reach.ALL]
        if not callers:  # as after most events: no need to look at the seats
            return
        callers.sort(key=lambda call: call.place)
        free = sorted((seat for seat in self._seats.values() if seat.offerable), key=lambda seat: seat.turn)
        for call in callers:
            seat = next((seat for seat in free if call.takes(seat.skills)), None)
            if isinstance(call.state, Waiting) and seat is not None:
                free.remove(seat)
                self._offer(call.id, seat, now, out)
        for call in callers:
            if call.reach is Reach.ALL:
                for seat in self._spare(self._calls[call.id], free):
                    free.remove(seat)
                    self._offer(call.id, seat, now, out)

    def _spare(self, call: Call, free: list[Seat]) -> list[Seat]:
        """The rested of the free seats; if there are none and none rings, the resting ones."""
        rested = [seat for seat in free if not seat.resting]
        if rested or any(not self._seats[ring.seat].resting for ring in call.rings):
            return rested
        return free.copy()

    def _offer(self, call: CallId, seat: Seat, now: float, out: Commands) -> None:
        self._perform(call_machine.offer(self._calls[call], seat.id, now, self._settings), now, out)

    # The watchdog

    def _repair(self, finding: Finding, now: float, out: Commands) -> None:
        data = {"fault": str(finding.fault)} | ({"seat": finding.seat} if finding.seat is not None else {})
        out.append(Noted(finding.call, "repaired", data))
        match finding:
            case Finding(Fault.CALLER_LOST, call):
                self._take(CallerGone(call, EndedBy.FAULT), now, out)
            case Finding(Fault.CALLER_UNKNOWN, call):
                self._take(CallArrived(call), now, out)
            case Finding(Fault.LEG_LOST, call, str(seat)):
                self._take(SeatGone(call, seat, EndedBy.FAULT), now, out)
            case Finding(_, call, str(seat)):  # a leg too many: it is hung up, and its seat not free before it is over
                self._issue([DropSeat(call, seat, Cause.AUDIT)], now, out)
                self._signal(seat, SeatAnswered(call, seat), now, out)

    # The tables

    def _perform(self, step: call_machine.Step, now: float, out: Commands) -> None:
        call, commands = step
        self._put(call)
        self._issue(commands, now, out)

    def _issue(self, commands: Commands, now: float, out: Commands) -> None:
        """Gives commands out; the seats that they are about follow them."""
        for command in commands:
            out.append(command)
            if isinstance(command, Offer | Withdraw | DropSeat | SeatMissed):
                self._signal(command.seat, command, now, out)

    def _signal(self, seat_id: SeatId, signal: Signal, now: float, out: Commands) -> None:
        seat = self._seats.get(seat_id)
        if seat is not None:
            cause = seat_machine.cause_of(seat, signal)
            self._enter(seat_machine.step(seat, signal, now, self._settings), cause, out)

    def _enter(self, seat: Seat, cause: Cause, out: Commands) -> None:
        """The one place where a seat changes."""
        old = self._seats[seat.id]
        if seat is old:
            return
        if seat.state is not old.state or seat.reason != old.reason:
            call = seat.call if seat.call is not None else old.call
            out.append(SeatChanged(seat.id, old.state, seat.state, cause, call, seat.reason))
        self._seat_deadlines.pop(seat.id, None)
        if seat.gone:
            del self._seats[seat.id]
            return
        self._seats[seat.id] = seat
        if seat.deadline is not None:
            self._seat_deadlines[seat.id] = seat.deadline

    def _put(self, call: Call) -> None:
        """The one place where a call changes."""
        if isinstance(call.state, Over):
            self._calls.pop(call.id, None)
        else:
            self._calls[call.id] = call
        if isinstance(call.state, Waiting | Offering):
            self._unanswered.add(call.id)
        else:
            self._unanswered.discard(call.id)
        self._watch(call)

    def _order(self) -> list[CallId]:
        """The waiting callers, as they are served."""
        return [call.id for call in sorted((self._calls[id] for id in self._unanswered), key=lambda call: call.place)]

    def _watch(self, call: Call) -> None:
        self._announcements.watch(call, self._settings.announce_every_s)
        deadline = call_machine.deadline(call, self._settings)
        if deadline is None:
            self._call_deadlines.pop(call.id, None)
        else:
            self._call_deadlines[call.id] = deadline

    def _alarm(self, name: AlarmName, active: bool, detail: str, out: Commands) -> None:
        if active is (name in self._alarms):
            return
        (self._alarms.add if active else self._alarms.remove)(name)
        out.append(Alarm(name, active, detail if active else ""))
