"""Carries out what the cores decide: the one place where SIP, queue, media and records meet.

The stack tells what happened on a leg, the queue decides, the media worker connects. Callers and takers know which leg
belongs to which call; the switch takes events to them and the queue's commands to whom they are for. It decides nothing
that a core decides.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from siaga_pbx.call import commands as does
from siaga_pbx.call import events as told
from siaga_pbx.callers import Callers
from siaga_pbx.config import Config
from siaga_pbx.legs import Caller, Leg, Role
from siaga_pbx.negotiation import confirmed, reoffered
from siaga_pbx.sip import events as sip
from siaga_pbx.takers import Takers
from siaga_pbx.tools import Cancellable, Tools
from siaga_pbx.whereabouts import Whereabouts

log = structlog.get_logger(__name__)

STOPPING = 'SIP;cause=503;text="Service stopping"'


class Switch:
    """Callers and those who take their calls. Feed it SIP events by `on_sip`, queue events by `tell`.

    `on_located(call)`: the record knows better where the caller is.
    """

    def __init__(self, config: Config, tools: Tools, on_located: Callable[[str], None] = lambda _call: None) -> None:
        self._whereabouts = Whereabouts(tools.log, on_located)
        self.callers = Callers(config, tools, self.tell)
        self.takers = Takers(config, tools, self.callers, self.tell)
        self._tools = tools
        self._told: deque[told.Event] = deque()
        self._telling = False
        self._deadline: float | None = None
        self._timer: Cancellable | None = None
        self._commands: dict[type, Callable[[Any], None]] = {
            does.Offer: self.takers.offer,
            does.Withdraw: self.takers.hang_up,
            does.DropSeat: self.takers.hang_up,
            does.Connect: self.takers.connect,
            does.SeatMissed: self.takers.missed,
            does.StartOverflow: self.takers.start_overflow,
            does.WithdrawOverflow: self.takers.hang_up_overflow,
            does.DropOverflow: self.takers.hang_up_overflow,
            does.ConnectOverflow: self.takers.connect_overflow,
            does.Hold: self.takers.follow_hold,
            does.Resume: self.takers.follow_hold,
            does.DropCaller: self.callers.drop,
            does.Requeued: self.callers.requeued,
            does.Announce: self.callers.announce,
            does.CallOver: self.callers.over,
            does.SeatChanged: self._seat_changed,
            does.Alarm: self._alarm,
            does.Noted: self._queue_noted,
        }

    def configure(self, config: Config) -> None:
        """Calls stay as they are."""
        self.callers.config = self.takers.config = config

    def resume(self, caller: Caller, legs: Iterable[Leg]) -> None:
        """A caller of an earlier daemon, and the legs of the other sides."""
        self.callers.resume(caller)
        self.takers.resume(caller, legs)

    # --- the queue ----------------------------------------------------------------------------------------------------

    def tell(self, event: told.Event) -> None:
        """Hand the queue an event and carry its commands out. One at a time: what a command causes comes after it."""
        match event:
            case told.SeatPaused(seat=seat, reason=reason):
                self._tools.log.seat(seat, "paused", {"reason": reason})
            case told.SeatReady(seat=seat):
                self._tools.log.seat(seat, "ready")
        self._told.append(event)
        if self._telling:
            return
        self._drain(())

    def carry_out(self, commands: Iterable[does.Command]) -> None:
        """Commands that the queue gave without an event (its timer, a reload), then what they caused."""
        if self._telling:
            self._carry(commands)
        else:
            self._drain(commands)

    def _drain(self, commands: Iterable[does.Command]) -> None:
        self._telling = True
        try:
            self._carry(commands)
            while self._told:
                self._carry(self._tools.queue.handle(self._told.popleft(), self._tools.now()))
        finally:
            self._telling = False
            self._arm()

    def _carry(self, commands: Iterable[does.Command]) -> None:
        for command in commands:
            try:
                self._commands[type(command)](command)
            except Exception:
                self._tools.metrics.internal_errors.labels("switch").inc()
                log.exception("a command was not carried out", command=type(command).__name__)

    def _arm(self) -> None:
        """One timer for the whole queue, set to its next deadline."""
        deadline = self._tools.queue.next_deadline()
        if deadline == self._deadline:
            return
        self._deadline = deadline
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if deadline is not None:
            self._timer = self._tools.later(max(0.0, deadline - self._tools.now()), self._due)

    def _due(self) -> None:
        self._deadline = self._timer = None
        self.carry_out(self._tools.queue.handle_timer(self._tools.now()))

    def audit(self) -> None:
        """The watchdog: compares what the queue believes with the legs there are."""
        seats = {leg.seat: leg.call for leg in self._tools.legs if leg.role is Role.SEAT and leg.seat is not None}
        callers = {caller.id for caller in self.callers.live.values() if caller.queued}
        self.carry_out(self._tools.queue.audit(seats, callers, self._tools.now()))

    def hang_up_all(self) -> None:
        """The daemon stops for good: every leg gets its BYE, CANCEL or final response.

        All callers first and at once, or the queue would offer those who still wait to the seats that become free.
        """
        self._hang_up(leg for leg in self._tools.legs if leg.role is Role.CALLER)
        self._hang_up(self._tools.legs)

    def _hang_up(self, legs: Iterable[Leg]) -> None:
        stack, now = self._tools.stack, self._tools.now()
        self._tools.perform([output for leg in legs for output in stack.hang_up(leg.id, now, STOPPING)])

    def _seat_changed(self, command: does.SeatChanged) -> None:
        data = {"old": command.old.value, "new": command.new.value, "cause": command.cause.value}
        if command.reason:
            data["reason"] = command.reason
        self._tools.log.seat(command.seat, "state", data, command.call)

    def _alarm(self, command: does.Alarm) -> None:
        self._tools.alarms.set(command.name.value, command.active, command.detail)

    def _queue_noted(self, command: does.Noted) -> None:
        if command.call is not None:
            self._tools.log.step(command.call, command.kind, command.data)
        else:
            self._tools.log.system(command.kind, command.data)

    # --- SIP ----------------------------------------------------------------------------------------------------------

    def on_sip(self, event: sip.Event, leg: Leg) -> None:
        """An event of a caller's, a seat's or an overflow target's leg."""
        match event:
            case sip.Ringing():
                self.takers.ringing(leg)
            case sip.Answered():
                self.takers.answered(event, leg)
                self._look_for_hold(leg)
            case sip.Failed():
                self._tools.legs.close(leg)
                self.takers.failed(event, leg)
            case sip.Ended():
                self._tools.legs.close(leg)
                self._ended(event, leg)
            case sip.Offered():
                reoffered(self._tools, leg, event.sdp)
                self._look_for_hold(leg)
                self._whereabouts.look(leg, event.request)
            case sip.Refreshed():
                self._whereabouts.look(leg, event.request)
            case sip.Confirmed() | sip.Reanswered():
                self._confirmed(event, leg)
            case sip.AnswerSent():
                self.callers.answer_sent(leg)
            case sip.Unacknowledged():
                self._unacknowledged(leg)
            case sip.Noted():
                self._tools.log.step(leg.call, event.kind, {"detail": event.detail, "leg": leg.role.value})

    def _confirmed(self, event: sip.Confirmed | sip.Reanswered, leg: Leg) -> None:
        """The answer to an offer of ours, in the ACK (late offer) or in the 200 to a re-INVITE."""
        if not confirmed(self._tools, leg, event):
            self._tools.log.step(leg.call, leg.lacks, {"leg": leg.role.value})
        self._look_for_hold(leg)

    def _look_for_hold(self, leg: Leg) -> None:
        """After an offer or an answer. A caller who holds is heard as before: only the record tells of it."""
        news = leg.hold_changed(self._tools.now())
        if news is None:
            return
        kind, data = news
        self._tools.log.step(leg.call, kind, data)
        if leg.role in (Role.SEAT, Role.OVERFLOW):
            self.tell(told.Held(leg.call, leg.seat) if kind == "on_hold" else told.Resumed(leg.call, leg.seat))

    def _unacknowledged(self, leg: Leg) -> None:
        """The call stays: as long as its audio comes somebody is there. None can if the ACK was to say where from."""
        self._tools.log.step(leg.call, "unacknowledged", {"leg": leg.role.value})
        leg.doubted = True
        if leg.remote is None:
            self._tools.perform(self._tools.stack.check(leg.id, self._tools.now()))

    def _ended(self, event: sip.Ended, leg: Leg) -> None:
        if leg.role not in (Role.CALLER, Role.TEST):
            self.takers.ended(event, leg)
        elif (caller := self.callers.live.get(leg.call)) is not None:
            self.callers.ended(event, caller)
