"""The callers: from their INVITE to the end of their leg, with the row that is kept of each."""

from collections.abc import Callable

import structlog

from siaga_pbx.call import commands as does
from siaga_pbx.call import events as told
from siaga_pbx.call.emergency import emergency_ids, priority_of
from siaga_pbx.call.identity import identify
from siaga_pbx.call.language import language_of
from siaga_pbx.call.location import locate
from siaga_pbx.call.routing import Routed, route
from siaga_pbx.config import Config
from siaga_pbx.legs import Caller, Leg, Role
from siaga_pbx.records.ids import new_id
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.access import Own, Trunk
from siaga_pbx.sip.sdp import NoCommonCodec, Sdp
from siaga_pbx.tools import Tools

log = structlog.get_logger(__name__)

CLEARED = 'Q.850;cause=16;text="Normal call clearing"'
"""The Reason (RFC 3326) of who hung up without giving one."""
TEST_AGAIN_S = 120.0
"""A device that calls the test service again within this time gets 486 (RFC 6881 SP-15)."""
TEST_CALL_S = 10.0
"""A test call is ended by us after this long (RFC 6881 SP-14 wants a few packets looped, then a BYE)."""


class Callers:
    """Those on the line, in `live` by call. `tell` hands the queue an event."""

    def __init__(self, config: Config, tools: Tools, tell: Callable[[told.Event], None]) -> None:
        self.config = config
        self.live: dict[str, Caller] = {}
        self._tools, self._tell = tools, tell
        self._without_media: list[Caller] = []
        self._tested: dict[str, float] = {}
        """When each device made its last test call that was served."""

    def __len__(self) -> int:
        return len(self.live)

    # --- they come ----------------------------------------------------------------------------------------------------

    def incoming(self, event: sip.IncomingCall, peer: Trunk | Own) -> None:
        """A call from a trunk: to the queue, or a test call. It is never refused but for media nobody could hear."""
        trunk = peer.id if isinstance(peer, Trunk) else "own"
        routed = route(event.request.uri, self.config.dialplan.routes)
        testing = isinstance(peer, Own) or routed.action == "test-call"
        caller = self._new_caller(event, trunk, routed, testing)
        if not routed.matched:
            self._tools.log.step(caller.id, "no_route", {"called": str(event.request.uri)})
            self._tools.alarms.set(
                f"no_route_{trunk}", True, f"calls from trunk {trunk} match no route of the dialplan"
            )
        if routed.action == "test-call" and isinstance(peer, Trunk) and self._tested_lately(caller, event):
            caller.status = 486
            self._tools.perform(self._tools.stack.reject(caller.leg.id, 486, self._tools.now()))
            return
        self._begin(caller)

    def _tested_lately(self, caller: Caller, event: sip.IncomingCall) -> bool:
        """The probe of our own is asked by nobody: it may come as often as its timer likes."""
        now = self._tools.now()
        self._tested = {device: at for device, at in self._tested.items() if now - at < TEST_AGAIN_S}
        device = f"{caller.leg.trunk} {caller.number or event.request.from_.uri}"
        if device in self._tested:
            return True
        self._tested[device] = now
        return False

    def media_is_back(self) -> None:
        """Callers who heard ringing while no media worker was there go on."""
        waiting, self._without_media = self._without_media, []
        for caller in waiting:
            if caller.id in self.live:
                self._begin(caller)

    def resume(self, caller: Caller) -> None:
        """A caller of an earlier daemon is on the line. (The queue gets its calls back all together.)"""
        self.live[caller.id] = caller
        if caller.leg.role is Role.TEST:
            self._tools.later(0.0, lambda: self._hang_up(caller))
        elif not caller.queued:
            self._without_media.append(caller)

    def interrupt(self, caller: Caller) -> None:
        """The call cannot go on: it ends, and is on the call-back list."""
        caller.interrupted = True
        self._hang_up(caller)

    def _hang_up(self, caller: Caller, reason: str | None = None) -> None:
        self._tools.perform(self._tools.stack.hang_up(caller.leg.id, self._tools.now(), reason))

    def _new_caller(self, event: sip.IncomingCall, trunk_id: str, routed: Routed, testing: bool) -> Caller:
        trunk = self.config.trunk(trunk_id)
        identity = identify(event.request, trunk, self.config.centre.country)
        call = new_id()
        leg = Leg(event.leg, Role.TEST if testing else Role.CALLER, call, trunk_id, peer=event.flow.remote[0])
        language = language_of(event.request, routed.language)
        ids, priority = emergency_ids(event.request, call, self.config.sip.domain), priority_of(event.request)
        received_at = self._tools.log.arrived(
            call, trunk_id, event.request, identity, locate(event.request), priority, ids, language
        )
        caller = Caller(
            id=call,
            leg=leg,
            offer=event.sdp,
            number=identity.number,
            identity_class=identity.class_.value,
            callable=identity.callable,
            skills=routed.skills,
            priority=priority,
            arrived=self._tools.now(),
            received_at=received_at,
            headers=ids.headers(),
            language=language,
        )
        self.live[call] = caller
        self._tools.legs.add(leg, event.request.call_id)
        log.info("call received", call_id=call, trunk=trunk_id, identity=caller.identity_class, number=identity.number)
        return caller

    def _begin(self, caller: Caller) -> None:
        """Audio, then the answer (or ringing), then the queue."""
        tools = self._tools
        if not tools.legs.open(caller.leg):
            self._without_media.append(caller)
            tools.perform(tools.stack.ring(caller.leg.id, tools.now()))
            return
        try:
            ours = caller.leg.reply(caller.offer)
        except NoCommonCodec:
            self._refuse_media(caller)
            return
        tools.alarms.set(f"no_common_codec_{caller.leg.trunk}", False)
        if caller.leg.role is Role.TEST:
            self._answer_test(caller, ours)
            return
        if self.config.queue.answer == "at-once":
            self._answer(caller, ours)
        else:
            tools.perform(tools.stack.ring(caller.leg.id, tools.now(), ours))
        caller.queued = True
        self._tell(told.CallArrived(caller.id, caller.skills, caller.priority))

    def _refuse_media(self, caller: Caller) -> None:
        """488 with what we can do (RFC 3261 21.4.26): the one refusal that is left, and an alarm."""
        caller.status = 488
        trunk = caller.leg.trunk
        self._tools.log.step(caller.id, "no_common_codec")
        self._tools.alarms.set(
            f"no_common_codec_{trunk}", True, f"trunk {trunk} offers no G.711: its calls cannot be heard"
        )
        stack = self._tools.stack
        self._tools.perform(stack.reject(caller.leg.id, 488, self._tools.now(), sdp=caller.leg.offer()))

    # --- they are answered --------------------------------------------------------------------------------------------

    def answer(self, caller: Caller) -> None:
        """200, if the caller only heard ringing until now."""
        if not caller.leg.answered:
            # What was agreed while it rang (RFC 3311) stands.
            self._answer(caller, caller.leg.told or caller.leg.reply(caller.offer))

    def _answer(self, caller: Caller, ours: Sdp) -> None:
        tools, leg = self._tools, caller.leg
        leg.answered = True
        tools.perform(tools.stack.answer(leg.id, ours, tools.now()))
        tools.legs.connect(leg)
        if tools.stack.is_answered(leg.id):
            self._greet(caller)

    def answer_sent(self, leg: Leg) -> None:
        """The 200 had to wait for the caller's network; now it is sent."""
        caller = self.live.get(leg.call)
        if caller is not None and leg.role is Role.CALLER:
            self._greet(caller)

    def _greet(self, caller: Caller) -> None:
        columns: dict[str, object] = {}
        if self.config.media.record:
            columns["recording"] = f"{caller.received_at[:10].replace('-', '/')}/{caller.id}.wav"
        self._tools.log.step(caller.id, "answered", columns=columns, stamp="answered_at")
        self.begin_audio(caller)

    def begin_audio(self, caller: Caller) -> None:
        """The greeting says that the call is recorded, so recording starts with it. A seat may have been faster."""
        media, place = self._tools.media, self._tools.log.row(caller.id).get("recording")
        if place is not None and media.recording_of(caller.id) is None:
            media.record(caller.id, self.config.records.recordings / str(place))
        if not caller.leg.bridged:
            media.play(caller.leg.id, caller.prompts("greeting"), caller.prompts("waiting"))

    def _answer_test(self, caller: Caller, ours: Sdp) -> None:
        tools, leg = self._tools, caller.leg
        tools.perform(tools.stack.answer(leg.id, ours, tools.now()))
        leg.answered = True
        tools.legs.connect(leg)
        tools.media.echo(leg.id)
        tools.log.step(caller.id, "answered", {"test": True}, stamp="answered_at")
        tools.later(TEST_CALL_S, lambda: tools.perform(tools.stack.hang_up(leg.id, tools.now(), CLEARED)))

    def requeued(self, command: does.Requeued) -> None:
        """The other side was lost, the caller is still there: waiting audio, and the place at the head."""
        caller = self.live.get(command.call)
        if caller is not None:
            caller.connected = None
            self._tools.media.play(caller.leg.id, (), caller.prompts("waiting"))
            self._tools.log.step(caller.id, "requeued", {"cause": command.cause.value})

    def announce(self, command: does.Announce) -> None:
        """A caller is told its place in the queue, once what it hears now is said. Who hears ringing is not told."""
        caller = self.live.get(command.call)
        if caller is not None and caller.leg.answered:
            place = (
                ("position-first",) if command.place == 1 else ("position", f"number-{command.place}", "position-end")
            )
            waiting = caller.prompts("waiting")
            self._tools.media.play(caller.leg.id, caller.prompts(*place), waiting, after=True)

    # --- they go ------------------------------------------------------------------------------------------------------

    def drop(self, command: does.DropCaller) -> None:
        """The other side hung up: so does the caller's leg, for the same reason."""
        caller = self.live.get(command.call)
        if caller is not None:
            self._hang_up(caller, caller.reason or CLEARED)

    def ended(self, event: sip.Ended, caller: Caller) -> None:
        """The caller's leg is over; what it was is for the queue to say, if it had the call."""
        caller.status = caller.status or event.status
        caller.reason = event.reason
        by = who_ended(event.by, told.EndedBy.CALLER)
        if caller.queued:
            self._tell(told.CallerGone(caller.id, by))
            return
        outcome = does.Outcome.ABANDONED if by is told.EndedBy.CALLER else does.Outcome.FAILED
        self._close(caller, does.Outcome.TEST if caller.leg.role is Role.TEST else outcome, by, None)

    def over(self, command: does.CallOver) -> None:
        """The queue has let go of the call."""
        caller = self.live.get(command.call)
        if caller is not None:
            self._close(caller, command.outcome, command.ended_by, command.cause)

    def _close(self, caller: Caller, outcome: does.Outcome, by: told.EndedBy, cause: does.Cause | None) -> None:
        """The caller's leg is over: the row is closed, with what became of it."""
        del self.live[caller.id]
        outcome = does.Outcome.INTERRUPTED if caller.interrupted else outcome
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


def who_ended(by: sip.By, remote: told.EndedBy) -> told.EndedBy:
    """Who ended a call, of who ended a leg."""
    return {sip.By.REMOTE: remote, sip.By.LOCAL: told.EndedBy.SYSTEM, sip.By.FAULT: told.EndedBy.FAULT}[by]
