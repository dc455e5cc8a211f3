"""Carries out what the cores decide: the one place where SIP, queue, media and records meet.

The stack tells what happened on a leg, the queue decides, the media worker connects. The switch keeps which leg belongs
to which call, does the offer/answer between them, and writes each step down. It decides nothing that a core decides.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from siaga_pbx.alarms import Alarms
from siaga_pbx.call import commands as does
from siaga_pbx.call import events as told
from siaga_pbx.call.identity import identify
from siaga_pbx.call.location import locate
from siaga_pbx.call.queue import Queue
from siaga_pbx.call.routing import route
from siaga_pbx.calllog import CallLog
from siaga_pbx.config import Config
from siaga_pbx.legs import Caller, Leg, LegBook, Role
from siaga_pbx.media.client import MediaClient
from siaga_pbx.metrics import Metrics
from siaga_pbx.outbound import dial, hop_address, outbound_trunk
from siaga_pbx.records.ids import new_id
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.access import Own, Trunk
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.sdp import NoCommonCodec, Sdp
from siaga_pbx.sip.stack import Stack
from siaga_pbx.sip.uri import Uri

log = structlog.get_logger(__name__)

NO_PORT_RETRY_S = 1.0
"""A seat's leg without an audio port fails after this long, not at once: the queue must not spin."""
TEST_CALL_S = 10.0
"""A test call is ended by us after this long (RFC 6881 SP-14 wants a few packets looped, then a BYE)."""
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
STOPPING = 'SIP;cause=503;text="Service stopping"'
_WITHOUT_NUMBER = {"no_sim": "Tanpa SIM", "withheld": "Nomor dirahasiakan"}


class Cancellable(Protocol):
    """A timer that runs, such as asyncio's TimerHandle."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What the switch works with. `perform` sends the stack's outputs, `later` calls back after some seconds;
    `now` is monotonic seconds, `epoch` the wall clock's."""

    stack: Stack
    perform: Callable[[list[sip.Output]], None]
    queue: Queue
    media: MediaClient
    legs: LegBook
    log: CallLog
    alarms: Alarms
    metrics: Metrics
    now: Callable[[], float]
    epoch: Callable[[], float]
    later: Callable[[float, Callable[[], None]], Cancellable]


class Switch:
    """Callers and the seats that serve them. Feed it SIP events by `on_sip`, queue events by `tell`."""

    def __init__(self, config: Config, tools: Tools) -> None:
        self.config = config
        self.callers: dict[str, Caller] = {}
        self.last_call: dict[str, str] = {}
        """The call that each seat talks to, or talked to last."""
        self._tools = tools
        self._told: deque[told.Event] = deque()
        self._telling = False
        self._deadline: float | None = None
        self._timer: Cancellable | None = None
        self._without_media: list[Caller] = []
        self._on_sip: dict[type, Callable[[Any, Leg], None]] = {
            sip.Ringing: self._ringing,
            sip.Answered: self._answered,
            sip.Failed: self._failed,
            sip.Confirmed: self._confirmed,
            sip.Reanswered: self._confirmed,
            sip.Unacknowledged: self._unacknowledged,
            sip.Offered: self._offered,
            sip.Ended: self._ended,
            sip.Noted: self._noted,
        }
        self._commands: dict[type, Callable[[Any], None]] = {
            does.Offer: self._offer_seat,
            does.Withdraw: self._hang_up_seat,
            does.DropSeat: self._hang_up_seat,
            does.Connect: self._connect_seat,
            does.DropCaller: self._drop_caller,
            does.Requeued: self._requeued,
            does.StartOverflow: self._start_overflow,
            does.WithdrawOverflow: self._hang_up_overflow,
            does.DropOverflow: self._hang_up_overflow,
            does.ConnectOverflow: self._connect_overflow,
            does.CallOver: self._call_over,
            does.SeatChanged: self._seat_changed,
            does.SeatMissed: self._seat_missed,
            does.Alarm: self._alarm,
            does.Noted: self._queue_noted,
        }

    # --- the queue ----------------------------------------------------------------------------------------------------

    def tell(self, event: told.Event) -> None:
        """Hand the queue an event and carry its commands out. One at a time: what a command causes comes after it."""
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
        callers = {caller.id for caller in self.callers.values() if caller.queued}
        self.carry_out(self._tools.queue.audit(seats, callers, self._tools.now()))

    def hang_up_all(self) -> None:
        """The daemon stops for good: every leg gets its BYE, CANCEL or final response."""
        for leg in self._tools.legs:
            self._perform(self._tools.stack.hang_up(leg.id, self._tools.now(), STOPPING))

    # --- SIP ----------------------------------------------------------------------------------------------------------

    def on_sip(self, event: sip.Event, leg: Leg) -> None:
        """An event of a caller's, a seat's or an overflow target's leg."""
        handle = self._on_sip.get(type(event))
        if handle is not None:
            handle(event, leg)

    def incoming(self, event: sip.IncomingCall, peer: Trunk | Own) -> None:
        """A call from a trunk: to the queue, or a test call. It is never refused but for media nobody could hear."""
        trunk = peer.id if isinstance(peer, Trunk) else "own"
        routed = route(event.request.uri, self.config.dialplan.routes)
        testing = isinstance(peer, Own) or routed.action == "test-call"
        caller = self._new_caller(event, trunk, routed.skills, testing)
        if not routed.matched:
            self._tools.log.step(caller.id, "no_route", {"called": str(event.request.uri)})
            self._tools.alarms.set(
                f"no_route_{trunk}", True, f"calls from trunk {trunk} match no route of the dialplan"
            )
        self._begin(caller)

    def media_is_back(self) -> None:
        """Callers who heard ringing while no media worker was there go on."""
        waiting, self._without_media = self._without_media, []
        for caller in waiting:
            if caller.id in self.callers:
                self._begin(caller)

    def _new_caller(self, event: sip.IncomingCall, trunk_id: str, skills: frozenset[str], testing: bool) -> Caller:
        trunk = self.config.trunk(trunk_id)
        identity = identify(event.request, trunk, self.config.centre.country)
        call = new_id()
        leg = Leg(event.leg, Role.TEST if testing else Role.CALLER, call, trunk_id, peer=event.flow.remote[0])
        received_at = self._tools.log.arrived(call, trunk_id, event.request, identity, locate(event.request), 0)
        caller = Caller(
            id=call,
            leg=leg,
            request=event.request,
            offer=event.sdp,
            number=identity.number,
            identity_class=identity.class_.value,
            callable=identity.callable,
            skills=skills,
            priority=0,
            arrived=self._tools.now(),
            received_at=received_at,
        )
        self.callers[call] = caller
        self._tools.legs.add(leg)
        log.info("call received", call_id=call, trunk=trunk_id, identity=caller.identity_class, number=identity.number)
        return caller

    def _begin(self, caller: Caller) -> None:
        """Audio, then the answer (or ringing), then the queue."""
        tools = self._tools
        if not tools.legs.open(caller.leg):
            self._without_media.append(caller)
            self._perform(tools.stack.ring(caller.leg.id, tools.now()))
            return
        try:
            ours = caller.leg.reply(caller.offer)
        except NoCommonCodec:
            self._refuse_media(caller)
            return
        if caller.leg.role is Role.TEST:
            self._answer_test(caller)
            return
        if self.config.queue.answer == "at-once":
            self._answer(caller, ours)
        else:
            self._perform(tools.stack.ring(caller.leg.id, tools.now()))
        caller.queued = True
        self.tell(told.CallArrived(caller.id, caller.skills, caller.priority))

    def _refuse_media(self, caller: Caller) -> None:
        """488 with what we can do (RFC 3261 21.4.26): the one refusal that is left, and an alarm."""
        caller.status = 488
        trunk = caller.leg.trunk
        self._tools.log.step(caller.id, "no_common_codec")
        self._tools.alarms.set(
            f"no_common_codec_{trunk}", True, f"trunk {trunk} offers no G.711: its calls cannot be heard"
        )
        self._perform(self._tools.stack.reject(caller.leg.id, 488, self._tools.now(), sdp=caller.leg.offer()))

    def _answer(self, caller: Caller, ours: Sdp) -> None:
        """200, with the greeting: it says that the call is recorded, so recording starts with it."""
        tools, leg = self._tools, caller.leg
        self._perform(tools.stack.answer(leg.id, ours, tools.now()))
        leg.answered = True
        tools.legs.connect(leg)
        columns: dict[str, object] = {}
        if self.config.media.record:
            place = self.config.records.recordings / caller.received_at[:10].replace("-", "/") / f"{caller.id}.wav"
            tools.media.record(caller.id, place)
            columns["recording"] = str(place.relative_to(self.config.records.recordings))
        tools.media.play(leg.id, ("greeting",), ("waiting",))
        tools.log.step(caller.id, "answered", columns=columns, stamp="answered_at")

    def _answer_test(self, caller: Caller) -> None:
        tools, leg = self._tools, caller.leg
        ours = leg.ours or leg.reply(caller.offer)
        self._perform(tools.stack.answer(leg.id, ours, tools.now()))
        leg.answered = True
        tools.legs.connect(leg)
        tools.media.echo(leg.id)
        tools.log.step(caller.id, "answered", {"test": True}, stamp="answered_at")
        tools.later(TEST_CALL_S, lambda: self._perform(tools.stack.hang_up(leg.id, tools.now())))

    def _ringing(self, event: sip.Ringing, leg: Leg) -> None:
        if leg.role is Role.SEAT and leg.seat is not None:
            self._tools.log.step(leg.call, "seat_ringing", {"seat": leg.seat})
            self.tell(told.SeatRinging(leg.call, leg.seat))

    def _answered(self, event: sip.Answered, leg: Leg) -> None:
        """A seat or an overflow target took the call: agree on the audio, then let the queue say who gets it."""
        leg.answered = True
        try:
            heard = leg.agree(event.sdp)
        except NoCommonCodec:
            heard = False
        if not heard:
            self._tools.log.step(leg.call, "no_common_codec", {"leg": leg.role.value, "seat": leg.seat})
            self._perform(self._tools.stack.hang_up(leg.id, self._tools.now()))
            return
        self._tools.legs.connect(leg)
        if leg.role is Role.OVERFLOW:
            self.tell(told.OverflowAnswered(leg.call))
        elif leg.seat is not None:
            self._tools.log.step(leg.call, "seat_answered", {"seat": leg.seat})
            self.tell(told.SeatAnswered(leg.call, leg.seat))

    def _failed(self, event: sip.Failed, leg: Leg) -> None:
        self._tools.legs.close(leg)
        caller = self.callers.get(leg.call)
        if leg.role is Role.OVERFLOW:
            if caller is not None:
                caller.overflow = None
            self._tools.log.step(leg.call, "overflow_failed", {"status": event.status, "reason": event.reason})
            self.tell(told.OverflowFailed(leg.call, event.status))
        elif leg.seat is not None:
            if caller is not None:
                caller.seats.pop(leg.seat, None)
            self._tools.log.step(leg.call, "seat_failed", {"seat": leg.seat, "status": event.status})
            self.tell(told.SeatFailed(leg.call, leg.seat, event.status))

    def _confirmed(self, event: sip.Confirmed | sip.Reanswered, leg: Leg) -> None:
        """The answer to an offer of ours, in the ACK (late offer) or in the 200 to a re-INVITE."""
        try:
            if leg.agree(event.sdp):
                self._tools.legs.connect(leg)
        except NoCommonCodec:
            self._tools.log.step(leg.call, "no_common_codec", {"leg": leg.role.value})

    def _unacknowledged(self, event: sip.Unacknowledged, leg: Leg) -> None:
        """Our 200 was never ACKed. The call stays: as long as its audio comes somebody is there."""
        self._tools.log.step(leg.call, "unacknowledged", {"leg": leg.role.value})

    def _offered(self, event: sip.Offered, leg: Leg) -> None:
        """A re-INVITE or UPDATE: a refresh, a hold, a new address. Answered at once."""
        stack, now = self._tools.stack, self._tools.now()
        try:
            ours = leg.reply(event.sdp)
        except NoCommonCodec:
            self._perform(stack.refuse(leg.id, 488, now))
            return
        self._perform(stack.accept(leg.id, ours, now))
        self._tools.legs.connect(leg)

    def _ended(self, event: sip.Ended, leg: Leg) -> None:
        self._tools.legs.close(leg)
        caller = self.callers.get(leg.call)
        match leg.role:
            case Role.CALLER | Role.TEST if caller is not None:
                self._caller_ended(event, caller)
            case Role.OVERFLOW:
                if caller is not None:
                    caller.overflow = None
                self.tell(told.OverflowGone(leg.call, _by(event.by, told.EndedBy.OVERFLOW)))
            case Role.SEAT if leg.seat is not None:
                if caller is not None:
                    caller.seats.pop(leg.seat, None)
                self._tools.log.step(leg.call, "seat_leg_ended", {"seat": leg.seat, "by": event.by.value})
                self.tell(told.SeatGone(leg.call, leg.seat, _by(event.by, told.EndedBy.SEAT)))

    def _caller_ended(self, event: sip.Ended, caller: Caller) -> None:
        caller.status = caller.status or event.status
        caller.reason = event.reason
        by = _by(event.by, told.EndedBy.CALLER)
        if caller.queued:
            self.tell(told.CallerGone(caller.id, by))
            return
        outcome = does.Outcome.ABANDONED
        if caller.leg.role is Role.TEST:
            outcome = does.Outcome.TEST
        elif caller.status == 488:
            outcome = does.Outcome.FAILED
        self._close(caller, outcome, by, None)

    def _noted(self, event: sip.Noted, leg: Leg) -> None:
        self._tools.log.step(leg.call, event.kind, {"detail": event.detail, "leg": leg.role.value})

    # --- the queue's commands: seats ----------------------------------------------------------------------------------

    def _offer_seat(self, command: does.Offer) -> None:
        tools = self._tools
        caller = self.callers[command.call]
        seat = command.seat
        leg = Leg(new_id(), Role.SEAT, caller.id, seat=seat, peer=self._address_of(seat))
        if not tools.legs.open(leg):
            tools.later(NO_PORT_RETRY_S, lambda: self.tell(told.SeatFailed(caller.id, seat, 503)))
            return
        tools.legs.add(leg)
        caller.seats[seat] = leg
        stamp = None if caller.offered else "offered_at"
        caller.offered = True
        tools.log.step(caller.id, "offered", {"seat": seat}, stamp=stamp)
        headers = (("Priority", "emergency"),)
        self._perform(tools.stack.invite_seat(leg.id, seat, self._shown(caller), leg.offer(), tools.now(), headers))

    def _address_of(self, seat: str) -> str | None:
        binding = self._tools.stack.binding(seat)
        return binding.source.remote[0] if binding is not None else None

    def _shown(self, caller: Caller) -> NameAddr:
        """What the call-taker's phone shows: the number, or in words why there is none."""
        user = caller.number or "anonymous"
        words = _WITHOUT_NUMBER.get(caller.identity_class, "")
        if caller.identity_class == "no_credit":
            words = f"{user} (tanpa pulsa)"
        return NameAddr(words, Uri("sip", user, self.config.sip.domain))

    def _hang_up_seat(self, command: does.Withdraw | does.DropSeat) -> None:
        caller = self.callers.get(command.call)
        leg = caller.seats.get(command.seat) if caller is not None else None
        if leg is None:
            leg = next((one for one in self._tools.legs if (one.call, one.seat) == (command.call, command.seat)), None)
        if leg is not None:
            reason = ELSEWHERE if command.cause is does.Cause.ANSWERED_ELSEWHERE else None
            self._perform(self._tools.stack.hang_up(leg.id, self._tools.now(), reason))

    def _connect_seat(self, command: does.Connect) -> None:
        caller = self.callers.get(command.call)
        leg = caller.seats.get(command.seat) if caller is not None else None
        if caller is None or leg is None:
            self.tell(told.SeatGone(command.call, command.seat, told.EndedBy.FAULT))
            return
        self._bridge(caller, leg)
        waited = self._tools.now() - caller.arrived
        self._tools.metrics.answer_seconds.observe(waited)
        self._tools.log.step(
            caller.id, "connected", {"seat": command.seat}, {"seat_id": command.seat}, stamp="connected_at"
        )
        caller.connected = command.seat
        self.last_call[command.seat] = caller.id
        log.info("call connected", call_id=caller.id, seat=command.seat, waited_s=round(waited, 3))
        self.tell(told.Connected(caller.id, command.seat))

    def _bridge(self, caller: Caller, leg: Leg) -> None:
        if not caller.leg.answered:
            self._answer(caller, caller.leg.reply(caller.offer))
        self._tools.media.bridge(caller.leg.id, leg.id)
        caller.leg.bridged = leg.bridged = True
        # What a call-taker keys is for us (feature codes), never for the caller's ear.
        self._tools.media.relay_events(leg.id, leg.role is not Role.SEAT)

    def _seat_changed(self, command: does.SeatChanged) -> None:
        data = {"old": command.old.value, "new": command.new.value, "cause": command.cause.value}
        if command.reason:
            data["reason"] = command.reason
        self._tools.log.seat(command.seat, "state", data, command.call)

    def _seat_missed(self, command: does.SeatMissed) -> None:
        self._tools.metrics.seat_missed.inc()
        self._tools.log.step(command.call, "missed", {"seat": command.seat, "status": command.status})

    # --- the queue's commands: caller and overflow --------------------------------------------------------------------

    def _drop_caller(self, command: does.DropCaller) -> None:
        caller = self.callers.get(command.call)
        if caller is not None:
            self._perform(self._tools.stack.hang_up(caller.leg.id, self._tools.now()))

    def _requeued(self, command: does.Requeued) -> None:
        """The other side was lost, the caller is still there: waiting audio, and the place at the head."""
        caller = self.callers.get(command.call)
        if caller is not None:
            caller.connected = None
            self._tools.media.play(caller.leg.id, (), ("waiting",))
            self._tools.log.step(caller.id, "requeued", {"cause": command.cause.value})

    def _start_overflow(self, command: does.StartOverflow) -> None:
        tools, caller = self._tools, self.callers[command.call]
        target = self.config.queue.overflow
        trunk = outbound_trunk(self.config)
        leg = Leg(
            new_id(), Role.OVERFLOW, caller.id, trunk.id if trunk else None, peer=hop_address(trunk) if trunk else None
        )
        if target is None or trunk is None or not tools.legs.open(leg):
            tools.later(NO_PORT_RETRY_S, lambda: self.tell(told.OverflowFailed(caller.id, 503)))
            return
        tools.legs.add(leg)
        caller.overflow = leg
        tools.log.step(caller.id, "overflow_started", {"trunk": trunk.id})
        call = dial(trunk, target, self.config.sip.domain, leg.offer(), (("Priority", "emergency"),))
        self._perform(tools.stack.invite(leg.id, call, tools.now()))

    def _hang_up_overflow(self, command: does.WithdrawOverflow | does.DropOverflow) -> None:
        for leg in self._tools.legs:
            if leg.role is Role.OVERFLOW and leg.call == command.call:
                self._perform(self._tools.stack.hang_up(leg.id, self._tools.now()))

    def _connect_overflow(self, command: does.ConnectOverflow) -> None:
        caller = self.callers.get(command.call)
        if caller is None or caller.overflow is None:
            self.tell(told.OverflowGone(command.call, told.EndedBy.FAULT))
            return
        self._bridge(caller, caller.overflow)
        caller.connected = "overflow"
        self._tools.log.step(caller.id, "overflow_connected")

    def _call_over(self, command: does.CallOver) -> None:
        caller = self.callers.get(command.call)
        if caller is not None:
            self._close(caller, command.outcome, command.ended_by, command.cause)

    def _close(self, caller: Caller, outcome: does.Outcome, by: told.EndedBy, cause: does.Cause | None) -> None:
        """The caller's leg is over: the row is closed, with what became of it."""
        del self.callers[caller.id]
        columns = {
            "outcome": outcome.value,
            "ended_by": by.value,
            "sip_status": caller.status,
            "reason": caller.reason,
        }
        data = {**columns, "cause": cause.value if cause else None}
        self._tools.log.step(caller.id, "ended", data, columns, stamp="ended_at")
        self._tools.metrics.calls.labels(caller.leg.trunk or "", outcome.value, caller.identity_class).inc()
        if outcome is does.Outcome.ABANDONED:
            self._tools.metrics.abandoned.inc()
        log.info("call ended", call_id=caller.id, outcome=outcome.value, ended_by=by.value)

    def _alarm(self, command: does.Alarm) -> None:
        self._tools.alarms.set(command.name.value, command.active, command.detail)

    def _queue_noted(self, command: does.Noted) -> None:
        if command.call is not None:
            self._tools.log.step(command.call, command.kind, command.data)
        else:
            self._tools.log.system(command.kind, command.data)

    def _perform(self, outputs: list[sip.Output]) -> None:
        self._tools.perform(outputs)


def _by(by: sip.By, remote: told.EndedBy) -> told.EndedBy:
    """Who ended a call, of who ended a leg."""
    return {sip.By.REMOTE: remote, sip.By.LOCAL: told.EndedBy.SYSTEM, sip.By.FAULT: told.EndedBy.FAULT}[by]
