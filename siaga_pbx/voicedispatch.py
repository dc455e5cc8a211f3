"""A dispatch told by telephone: a call by a trunk that speaks it, again and again, until the key `1` accepts it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from siaga_pbx.config import Config
from siaga_pbx.dispatch.followup import CALL_S
from siaga_pbx.dispatch.hooks import Spoken, Tell
from siaga_pbx.dispatch.message import Dispatch
from siaga_pbx.dispatch.words import details, opening
from siaga_pbx.legs import Leg, Role
from siaga_pbx.media.settings import socket_path
from siaga_pbx.negotiation import agree, reoffered
from siaga_pbx.outbound import dial, hop_address, outbound_trunk
from siaga_pbx.records.ids import new_id
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.uri import Uri
from siaga_pbx.speech import NoVoice, read_out
from siaga_pbx.tools import Tools

log = structlog.get_logger(__name__)

ACCEPT = "1"
RING_S = 40.0
"""How long it may ring there."""
TALK_S = CALL_S - RING_S - 20.0
"""How long it is told again and again; what is left of `CALL_S` is for the voice, and for ending the call."""
THANKS_S = 5.0
"""How long the thanks may take; then we hang up, whether they could be played or not."""
_HEADERS = (("Priority", "emergency"),)
_BUSY = (486, 600)
_UNANSWERED = (408, 480, 487)


@dataclass(slots=True)
class _Call:
    """One call. `over`: what it came to; `told`: how often it was told to the end."""

    leg: Leg
    parts: tuple[str, ...]
    tell: Tell
    over: asyncio.Future[Spoken] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    told: int = 0

    def end(self, outcome: Spoken) -> None:
        """What comes later does not count."""
        if not self.over.done():
            self.over.set_result(outcome)


class VoiceDispatch:
    """`speak` is the dispatcher's hook. Feed it the SIP events, keys and played prompts of DISPATCH legs."""

    def __init__(self, config: Config, tools: Tools, voice: Callable[[str, Path], None] = read_out) -> None:
        """`voice` writes a text as a WAV file, or raises NoVoice."""
        self.config = config
        self._tools, self._voice = tools, voice
        self._calls: dict[str, _Call] = {}

    async def speak(self, target: str, message: Dispatch, tell: Tell) -> Spoken:
        """Returns once a person there has pressed `1`, or nobody will; within `CALL_S`. Cancelled, it hangs up."""
        trunk = outbound_trunk(self.config)
        if trunk is None:
            return Spoken(False, "no [[trunk]] has outbound")
        try:
            Uri.parse(target)
        except RemoteError as error:
            return Spoken(False, f"{target} is nothing that can be called: {error.reason}")
        id = new_id()
        # Not the 112 call's id: this is no leg of it, and is not part of its recording.
        leg = Leg(id, Role.DISPATCH, id, trunk.id, peer=hop_address(trunk))
        file = socket_path(self.config.media, 0).with_name(f"spoken-{id}.wav").absolute()
        try:
            call = _Call(leg, await self._parts(message, file, tell), tell)
            if not self._tools.legs.open(leg):
                return Spoken(False, "no media worker, or no port")
            self._tools.legs.add(leg)
            self._calls[id] = call
            tell("voice_call", {"target": target, "trunk": trunk.id})
            invite = dial(trunk, target, self.config.sip.domain, leg.offer(), _HEADERS)
            self._tools.perform(self._tools.stack.invite(id, invite, self._tools.now()))
            self._tools.later(RING_S, lambda: self._rung(call))
            outcome = await call.over
        finally:
            self._leave(id)
            asyncio.get_running_loop().run_in_executor(None, _remove, file)  # an acceptance waits for no disk
        tell("voice_accepted" if outcome.accepted else "voice_failed", {"detail": outcome.detail})
        return outcome

    async def _parts(self, message: Dispatch, file: Path, tell: Tell) -> tuple[str, ...]:
        """What is played: prompts, and between them what only a voice can say; without one, where it can be read."""
        text = details(message)
        middle: tuple[str, ...] = ("voice-details",)
        try:
            if text:
                await asyncio.to_thread(self._voice, text, file)
                middle = (str(file),)
        except (NoVoice, OSError) as error:
            log.warning("a dispatch is told without its details", dispatch=message.dispatch_id, why=str(error))
            tell("voice_without_details", {"reason": str(error)})
        return (*opening(message), *middle, "voice-accept")

    def _leave(self, id: str) -> None:
        """The call has served; whoever accepted is thanked first."""
        call = self._calls.get(id)
        if call is None:
            return
        if call.over.done() and not call.over.cancelled() and call.over.result().accepted:
            self._tools.media.play(id, ("voice-accepted",))
            self._tools.later(THANKS_S, lambda: self._hang_up(id))
        else:
            self._hang_up(id)

    def _hang_up(self, id: str) -> None:
        if id in self._calls:
            self._tools.perform(self._tools.stack.hang_up(id, self._tools.now()))

    # --- what comes of the leg ----------------------------------------------------------------------------------------

    def on_sip(self, event: sip.Event, leg: Leg) -> None:
        """An event of a DISPATCH leg."""
        call = self._calls.get(leg.id)
        match event:
            case sip.Answered() if call is not None:
                self._answered(event, call)
            case sip.Offered():
                reoffered(self._tools, leg, event.sdp)
            case sip.Confirmed() | sip.Reanswered():
                agree(self._tools, leg, event.sdp)
            case sip.Failed() | sip.Ended():
                self._tools.legs.close(leg)
                self._calls.pop(leg.id, None)
                if call is not None:
                    call.end(Spoken(False, _why(event)))

    def _answered(self, event: sip.Answered, call: _Call) -> None:
        call.leg.answered = True
        if not agree(self._tools, call.leg, event.sdp):
            call.end(Spoken(False, "answered without audio"))
            return
        call.tell("voice_answered", {})
        self._tools.media.play(call.leg.id, call.parts)
        self._tools.later(TALK_S, lambda: call.end(Spoken(False, f"told, and nobody pressed {ACCEPT}")))

    def _rung(self, call: _Call) -> None:
        if not call.leg.answered:
            call.end(Spoken(False, "no answer"))

    def key(self, leg: Leg, digit: str) -> None:
        """A key (RFC 4733, or SIP INFO; a phone may send each both ways). Any other than `1` asks to hear it again."""
        call = self._calls.get(leg.id)
        if call is None or not leg.answered or call.over.done():
            return
        if digit == ACCEPT:
            call.end(Spoken(True, f"accepted by key after {call.told} times"))
        else:
            self._tools.media.play(leg.id, call.parts)

    def played(self, leg: Leg) -> None:
        """All is said: once more, or goodbye."""
        call = self._calls.get(leg.id)
        if call is None:
            return
        if call.over.done():
            self._hang_up(leg.id)
            return
        call.told += 1
        if call.told == 1:
            call.tell("voice_told", {})
        self._tools.media.play(leg.id, call.parts)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a dispatch's spoken details cannot be removed", file=str(file), why=str(error))


def _why(event: sip.Failed | sip.Ended) -> str:
    if isinstance(event, sip.Ended):
        return f"hung up without pressing {ACCEPT}"
    if event.status in _BUSY:
        return "busy"
    return "no answer" if event.status in _UNANSWERED else f"refused with {event.status}"
