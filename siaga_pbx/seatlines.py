"""What a call-taker keys or dials: feature codes in a call, and the seat's own calls (a code dialled, a call back)."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field

import structlog

from siaga_pbx.call import events as told
from siaga_pbx.call.callbacks import next_to_call, same_caller
from siaga_pbx.call.features import FeatureKeys, Keyed, KeySource, Known, dialled
from siaga_pbx.config import Config, Feature
from siaga_pbx.kept import KeptLine
from siaga_pbx.legs import Leg, Role
from siaga_pbx.media.commands import Bridge, Play
from siaga_pbx.negotiation import agree, confirmed, reoffered
from siaga_pbx.outbound import CALLBACK_HEADERS, dial, hop_address, outbound_trunk
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Record
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.sdp import NoCommonCodec, NoSecurity
from siaga_pbx.takers import HOLD
from siaga_pbx.tools import Tools

log = structlog.get_logger(__name__)

FAILURES = ("dispatch-failed", "not-known")
"""The prompts that say that a feature code has come to nothing."""
_SENT, _CONFIRMED = "dispatch-sent", "confirmed"
"""The same in words, and as a beep of a third of a second."""
PROMPT_S = 15.0
"""No prompt is as long: a line that has nothing else to wait for ends by then, whether it could be played or not."""


@dataclass(frozen=True, slots=True)
class Actions:
    """What the lines ask of others. `dispatch(call, category, seat)` is true once committed."""

    dispatch: Callable[[str, str, str], Awaitable[bool]]
    callbacks: Callable[[], list[Record]]
    """The call-back list, read from the database (blocking)."""
    tell: Callable[[told.Event], None]
    last_call: MutableMapping[str, str]
    """The call that each seat talks to, or talked to last."""


@dataclass(slots=True)
class Line:
    """A call of a seat's own: `far` is the call back's other leg, `row` the lost call it is for."""

    seat: str
    leg: Leg
    far: Leg | None = None
    row: Record | None = None
    others: list[Record] = field(default_factory=list)
    """The same caller's other lost calls: one conversation settles them all."""


class SeatLines:
    """Feed it the keys of seats' legs, and the SIP events of FEATURE and CALLBACK legs."""

    def __init__(self, config: Config, tools: Tools, actions: Actions) -> None:
        self.config = config
        self._tools, self._actions = tools, actions
        self._lines: dict[str, Line] = {}
        self._keys: dict[str, FeatureKeys[Feature]] = {}
        self._attempts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def calling_back(self) -> dict[str, str]:
        """Seats that call somebody back, and the lost call each does it for."""
        return {line.seat: str(line.row["id"]) for line in self._lines.values() if line.row is not None}

    # --- over a restart -----------------------------------------------------------------------------------------------

    def kept(self, call: str) -> KeptLine | None:
        """A seat's own call as it is to be kept."""
        line = next((line for line in self._lines.values() if line.leg.call == call), None)
        if line is None:
            return None
        far, row = (line.far.id if line.far is not None else None), (str(line.row["id"]) if line.row else None)
        return KeptLine(line.seat, line.leg.id, far, row, tuple([str(other["id"]) for other in line.others]))

    def resume(self, kept: KeptLine, legs: Mapping[str, Leg]) -> bool:
        """A call back of an earlier daemon goes on. False for all else, and if one of its legs is gone."""
        leg, far = legs.get(kept.leg), legs.get(kept.far or "")
        if leg is None or far is None or kept.row is None:
            return False
        others: list[Record] = [{"id": other} for other in kept.others]
        self._lines[leg.id] = Line(kept.seat, leg, far, {"id": kept.row}, others)
        if far.answered:
            self._actions.last_call[kept.seat] = kept.row
        self._actions.tell(told.SeatBusy(kept.seat))
        return True

    def rejoin(self) -> None:
        """The media workers are there: who was called back and answered before they were is heard."""
        for line in self._lines.values():
            if line.far is not None and line.far.answered:
                state = self._tools.media.state_of(line.far.id)
                if state is not None and not isinstance(state.feed, Play if line.leg.holds else Bridge):
                    self._bridge(line, line.far)

    # --- keys within a call -------------------------------------------------------------------------------------------

    def key(self, leg: Leg, digit: str, source: KeySource) -> None:
        """A key that a call-taker pressed (RFC 4733, or SIP INFO)."""
        if self._subject(leg) is None:
            return
        keys = self._keys.setdefault(leg.id, FeatureKeys(self.config.dialplan.features))
        self._keyed(leg, keys.press(digit, self._tools.now(), source))
        if keys.deadline is not None:
            self._tools.later(keys.deadline - self._tools.now() + 0.01, lambda: self._expire(leg))

    def _subject(self, leg: Leg) -> str | None:
        """The call that keys of this leg are about: the seat's, or the lost one whose caller was called back."""
        if leg.role is Role.SEAT:
            return leg.call
        line = self._lines.get(leg.id)
        answered = line is not None and line.far is not None and line.far.answered
        return str(line.row["id"]) if line is not None and line.row is not None and answered else None

    def _expire(self, leg: Leg) -> None:
        keys = self._keys.get(leg.id)
        if keys is not None:
            self._keyed(leg, keys.expire(self._tools.now()))

    def _keyed(self, leg: Leg, result: Keyed[Feature] | None) -> None:
        seat, call = leg.seat, self._subject(leg)
        if result is None or seat is None or call is None:
            return
        if not isinstance(result, Known):
            self._tools.log.step(call, "feature_unknown", {"seat": seat, "dialled": result.dialled})
            self._tools.media.play(leg.id, ("not-known",))
            return
        self._tools.log.step(call, "feature", {"seat": seat, "dialled": result.feature.dial})
        self._spawn(self._act_in_call(leg, result.feature, seat, call))

    async def _act_in_call(self, leg: Leg, feature: Feature, seat: str, call: str) -> None:
        """A dispatch that is on record is a beep for the call-taker; what fails is said. Then they are bridged again.

        The caller hears nothing of it. All else that works does not disturb the talk.
        """
        prompt = await self._act(feature, seat, call)
        if prompt in FAILURES:
            self._tools.log.step(call, "feature_failed", {"seat": seat, "dialled": feature.dial})
        if prompt in (*FAILURES, _SENT):
            self._tools.media.play(leg.id, (_CONFIRMED if prompt == _SENT else prompt,))

    def forget(self, leg: Leg) -> None:
        """The seat's leg is over."""
        self._keys.pop(leg.id, None)

    # --- the seat's own calls -----------------------------------------------------------------------------------------

    def incoming(self, event: sip.IncomingCall, seat: str) -> None:
        """A registered seat dialled something."""
        tools = self._tools
        feature = dialled(event.request.uri, self.config.dialplan.features)
        leg = Leg(event.leg, Role.FEATURE, new_id(), seat=seat, peer=event.flow.remote[0])
        leg.transport = event.flow.transport
        if feature is None:
            tools.log.seat(seat, "feature_unknown", {"dialled": str(event.request.uri)[:100]})
            tools.perform(tools.stack.reject(leg.id, 404, tools.now()))
            return
        if not tools.legs.open(leg):
            tools.perform(tools.stack.reject(leg.id, 503, tools.now()))
            return
        try:
            ours = leg.reply(event.sdp)
        except NoCommonCodec as error:
            if isinstance(error, NoSecurity):
                tools.legs.unprotected(leg, error.detail)
            tools.perform(tools.stack.reject(leg.id, 488, tools.now(), sdp=leg.offer()))
            tools.legs.close(leg)
            return
        tools.legs.add(leg, event.request.call_id)
        self._lines[leg.id] = Line(seat, leg)
        self._actions.tell(told.SeatBusy(seat))
        tools.log.seat(seat, "feature", {"dialled": feature.dial})
        tools.perform(tools.stack.answer(leg.id, ours, tools.now()))
        leg.answered = True
        tools.legs.connect(leg)
        self._spawn(self._serve(self._lines[leg.id], feature))

    async def _serve(self, line: Line, feature: Feature) -> None:
        if feature.action == "callback":
            await self._call_back(line)
            return
        self._say_and_end(line, await self._act(feature, line.seat, self._actions.last_call.get(line.seat)))

    async def _act(self, feature: Feature, seat: str, call: str | None) -> str:
        """Do what a feature code asks; the prompt that says what came of it."""
        try:
            return await self._done(feature, seat, call)
        except Exception:
            self._tools.metrics.internal_errors.labels("feature").inc()
            log.exception("a feature code failed", seat=seat, dialled=feature.dial)
            return "dispatch-failed" if feature.action == "dispatch" else "not-known"

    async def _done(self, feature: Feature, seat: str, call: str | None) -> str:
        match feature.action:
            case "pause":
                self._actions.tell(told.SeatPaused(seat, feature.reason))
                return "paused"
            case "ready":
                self._actions.tell(told.SeatReady(seat))
                return "ready"
            case "disposition" if call is not None:
                columns = {"disposition": feature.disposition}
                self._tools.log.step(call, "disposition", {"seat": seat, **columns}, columns)
                return "disposition-saved"
            case "dispatch" if call is not None and feature.category is not None:
                sent = await self._actions.dispatch(call, feature.category, seat)
                return _SENT if sent else "dispatch-failed"
        return "not-known"

    def _say_and_end(self, line: Line, prompt: str) -> None:
        """`played` hangs up when the prompt is through; no worker that failed may keep the seat from its next call."""
        self._tools.media.play(line.leg.id, (prompt,))
        self._tools.later(PROMPT_S, lambda: self.played(line.leg))

    def played(self, leg: Leg) -> None:
        """A prompt is through. A line that waits for nothing else ends with it; a talk goes on."""
        line = self._lines.get(leg.id)
        if line is not None and line.far is None:
            self._hang_up(leg)
        elif line is not None and line.far is not None and line.far.answered:
            self._bridge(line, line.far)

    # --- calling back -------------------------------------------------------------------------------------------------

    async def _call_back(self, line: Line) -> None:
        try:
            rows = await asyncio.to_thread(self._actions.callbacks)
        except RecordsError:
            log.exception("the call-back list cannot be read", seat=line.seat)
            rows = []
        row = next_to_call(rows, self.calling_back.values(), self._attempts)
        trunk = outbound_trunk(self.config, str(row["trunk"]) if row else None)
        if row is None or trunk is None or line.leg.id not in self._lines:
            self._say_and_end(line, "callback-none")
            return
        tools = self._tools
        far = Leg(new_id(), Role.CALLBACK, line.leg.call, trunk.id, peer=hop_address(trunk))
        if not tools.legs.open(far):
            self._say_and_end(line, "callback-none")
            return
        tools.legs.add(far)
        line.far, line.row, line.others = far, row, same_caller(rows, row)
        self._attempts[str(row["id"])] += 1
        tools.media.play(line.leg.id, ("callback-dialling",))
        tools.log.step(str(row["id"]), "callback_dialling", {"seat": line.seat, "trunk": trunk.id})
        call = dial(trunk, str(row["caller_number"]), self.config.sip.domain, far.offer(), CALLBACK_HEADERS)
        tools.perform(tools.stack.invite(far.id, call, tools.now()))

    def on_sip(self, event: sip.Event, leg: Leg) -> None:
        """An event of a FEATURE or CALLBACK leg."""
        match event:
            case sip.Answered():
                self._far_answered(event, leg)
            case sip.Confirmed() | sip.Reanswered():
                confirmed(self._tools, leg, event)
                self._look_for_hold(leg)
            case sip.Offered():
                reoffered(self._tools, leg, event.sdp)
                self._look_for_hold(leg)
            case sip.Failed() | sip.Ended():
                self._leg_over(event, leg)

    def _far_answered(self, event: sip.Answered, leg: Leg) -> None:
        line = self._line_of(leg)
        leg.answered = True
        if line is None or line.row is None or not agree(self._tools, leg, event.sdp):
            self._hang_up(leg)
            return
        self._bridge(line, leg)
        self._actions.last_call[line.seat] = str(line.row["id"])
        for row in (line.row, *line.others):
            self._tools.log.callback(str(row["id"]), "called", line.seat, None)
            self._attempts.pop(str(row["id"]), None)

    def _look_for_hold(self, leg: Leg) -> None:
        """A call-taker who holds whom he called back lets him hear hold audio; the other way round nothing changes."""
        news, line = leg.hold_changed(self._tools.now()), self._line_of(leg)
        if news is None or line is None or line.far is None or line.row is None or not line.far.answered:
            return
        self._tools.log.step(str(line.row["id"]), *news)
        if leg is line.leg:
            self._bridge(line, line.far)

    def _bridge(self, line: Line, far: Leg) -> None:
        """They hear each other, unless the call-taker holds."""
        if line.leg.holds:
            self._tools.media.play(far.id, (), (HOLD,))
        else:
            self._tools.media.bridge(line.leg.id, far.id)
        self._tools.media.relay_events(line.leg.id, False)  # feature codes are not for the caller's ear

    def _leg_over(self, event: sip.Failed | sip.Ended, leg: Leg) -> None:
        """One side is gone: so the other goes. A call back that was not answered stays on the list."""
        line = self._line_of(leg)
        self._tools.legs.close(leg)
        if line is None:
            return
        if leg is line.leg:
            del self._lines[leg.id]
            if line.far is not None:
                self._hang_up(line.far)
            if all(other.seat != line.seat for other in self._lines.values()):
                self._actions.tell(told.SeatIdle(line.seat))
            return
        if isinstance(event, sip.Failed) and line.row is not None:
            self._tools.log.step(str(line.row["id"]), "callback_failed", {"seat": line.seat, "status": event.status})
        line.far = None
        self._hang_up(line.leg)

    def _line_of(self, leg: Leg) -> Line | None:
        return next((line for line in self._lines.values() if leg is line.leg or leg is line.far), None)

    def _hang_up(self, leg: Leg) -> None:
        self._tools.perform(self._tools.stack.hang_up(leg.id, self._tools.now()))

    def _spawn(self, work: Coroutine[None, None, object]) -> None:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a feature code failed", exc_info=error)
