"""The live calls are on file at any moment; a daemon that follows one that was killed takes them over from there.

    kept = takeover.resume()                  once SIP is bound, before anything is received: dialogs, callers, queue
    ...                                       the records open, those calls' rows stay so; the media workers are found
    takeover.claim()                          the audio

What is kept of a call is made anew at most once a turn of the loop, after one of its legs was born, agreed on its audio
or ended (`LegBook`) or its row changed (`CallLog`), and looked over every few seconds: so what changes otherwise is
late by that much at most.
"""

from collections.abc import Iterable

import structlog

from siaga_pbx.call.standing import CallLeg, Standing
from siaga_pbx.config import Config
from siaga_pbx.kept import KeptCall, KeptCaller, KeptLeg, read, written
from siaga_pbx.legs import Caller, Leg, Role
from siaga_pbx.livefile import LiveFile
from siaga_pbx.media.commands import Play
from siaga_pbx.outbound import account_of
from siaga_pbx.seatlines import SeatLines
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Output
from siaga_pbx.sip.snapshot import Stage, offer_of
from siaga_pbx.switch import Switch
from siaga_pbx.tools import Tools

log = structlog.get_logger(__name__)


class TakeOver:
    """`config` is needed for the accounts at trunks, which are not on file."""

    def __init__(self, config: Config, tools: Tools, switch: Switch, lines: SeatLines, file: LiveFile) -> None:
        self.config = config
        self._tools, self._switch, self._lines, self._file = tools, switch, lines, file
        self._changed: set[str] = set()
        self._writes = False
        """Nothing is written until the calls of the last daemon are all back: were we killed, the next has them yet."""
        self._due = False
        self._kept: list[KeptCall] = []
        self._down_s = 0.0
        tools.legs.on_change = tools.log.on_change = self.touch

    # --- on file ------------------------------------------------------------------------------------------------------

    def touch(self, call: str) -> None:
        """The call has changed."""
        self._changed.add(call)
        if self._writes and not self._due:
            self._due = True
            self._tools.later(0.0, self.flush)

    def flush(self) -> None:
        """Bring what has changed to the file."""
        self._due = False
        if self._writes:
            changed, self._changed = self._changed, set()
            legs = list(self._tools.legs) if len(changed) > 1 else self._tools.legs
            self._file.write({call: self._entry(call, legs) for call in changed})

    def look_over(self) -> None:
        """Every few seconds: what has changed without a word (a refreshed session, a NAT's new port), and we live."""
        self._changed.update(leg.call for leg in self._tools.legs)
        self._changed.update(self._file.entries)
        self.flush()
        self._file.beat()

    def close(self) -> None:
        """The daemon ends. What stands in the file then is the next one's."""
        self._writes = False
        self._file.close()

    def _entry(self, call: str, legs: Iterable[Leg]) -> bytes | None:
        tools = self._tools
        kept = []
        for leg in legs:
            if leg.call == call and (sip := tools.stack.snapshot_leg(leg.id)) is not None:
                kept.append(KeptLeg.of(leg, sip, tools.media.state_of(leg.id)))
        if not kept:
            return None
        caller = self._switch.callers.live.get(call)
        kept_caller = self._caller(caller) if caller is not None else None
        line = self._lines.kept(call) if caller is None else None
        return written(KeptCall(call, tuple(kept), kept_caller, line, tools.media.recording_of(call)))

    def _caller(self, caller: Caller) -> KeptCaller:
        standing = self._tools.queue.standing(caller.id) if caller.queued else None
        return KeptCaller.of(caller, self._tools.log.row(caller.id), standing)

    # --- taken over: dialogs, callers, queue --------------------------------------------------------------------------

    def resume(self) -> frozenset[str]:
        """Take back what stands in the file; the calls whose rows are to stay open. Raises LiveFileInUse."""
        left_at = self._file.open()
        if left_at is None:
            self._writes = True
            return frozenset()
        tools = self._tools
        self._down_s = max(0.0, tools.epoch() - left_at)
        outputs: list[Output] = []
        standings: dict[str, Standing] = {}
        legs: list[CallLeg] = []
        for key, text in self._file.entries.items():
            self._changed.add(key)
            kept = read(text)
            if kept is None:
                log.error("a live call on file cannot be read", call_id=key)
                continue
            self._kept.append(kept)
            back = self._legs_back(kept, outputs)
            caller = self._whose(kept, back, outputs)
            if caller is not None and kept.caller is not None and kept.caller.standing is not None:
                standings[kept.id] = kept.caller.standing
            legs += [
                _call_leg(kept.id, one, caller is None) for one in kept.legs if one.sip.id in back and _is_queues(one)
            ]
        commands = tools.queue.restore(standings, legs, tools.now())
        tools.perform(outputs)
        self._switch.carry_out(commands)
        self._ask_all()
        return frozenset(self._switch.callers.live)

    def _legs_back(self, kept: KeptCall, outputs: list[Output]) -> dict[str, Leg]:
        tools, back = self._tools, {}
        for one in kept.legs:
            try:
                leg = one.leg(kept.id)
                trunk = self.config.trunk(leg.trunk) if leg.trunk is not None else None
                account = account_of(trunk) if trunk is not None else None
                outputs += tools.stack.restore_leg(one.sip, account, tools.now())
            except RemoteError as error:
                log.error("a leg on file cannot be read", call_id=kept.id, leg=one.role.value, why=str(error))
                continue
            tools.legs.add(leg, one.sip.call_id)
            back[leg.id] = leg
        return back

    def _whose(self, kept: KeptCall, back: dict[str, Leg], outputs: list[Output]) -> Caller | None:
        """Give the legs to whom they are of; hang up those that are of nobody."""
        tools, caller = self._tools, None
        if kept.caller is not None and kept.caller.leg in back:
            sip = next(one.sip for one in kept.legs if one.sip.id == kept.caller.leg)
            caller = kept.caller.caller(kept.id, back[kept.caller.leg], offer_of(sip))
            self._switch.resume(caller, [leg for leg in back.values() if leg is not caller.leg])
            tools.log.resume(kept.id, kept.caller.row)
        elif kept.line is None or not self._lines.resume(kept.line, back):
            for leg in back.values():
                outputs += tools.stack.hang_up(leg.id, tools.now())
        return caller

    def _ask_all(self) -> None:
        """Who hung up while nobody was there, and was not heard: 481 says so. Silence says nothing yet."""
        stack, now = self._tools.stack, self._tools.now()
        for leg in self._tools.legs:
            if leg.answered:
                self._tools.perform(stack.check(leg.id, now, patient=True))

    # --- taken over: audio and record ---------------------------------------------------------------------------------

    def claim(self) -> None:
        """Once the workers are there."""
        media = self._tools.media
        for kept in self._kept:
            lost = []
            for one in kept.legs:
                leg = self._tools.legs.get(one.sip.id)
                if media.claim(one.sip.id):
                    if leg is None:  # it ended while we started
                        media.close(one.sip.id)
                elif leg is not None and one.media is not None:
                    lost.append(one.media)
            if lost:
                media.resume(lost, kept.recording)
            self._connect(kept)
        for caller in self._switch.callers.live.values():
            self._join(caller)
        self._lines.rejoin()
        if self._kept:
            self._note()
        self._kept = []
        self._writes = True
        self.flush()

    def _connect(self, kept: KeptCall) -> None:
        """What was agreed while no worker could be told."""
        for one in kept.legs:
            leg = self._tools.legs.get(one.sip.id)
            if leg is not None and (leg.remote is not one.remote or leg.answered is not one.answered):
                self._tools.legs.connect(leg)

    def _join(self, caller: Caller) -> None:
        """Whatever was under way at the end, or since: whom the call has it hears, who waits hears that."""
        leg, media = caller.leg, self._tools.media
        state = media.state_of(leg.id)
        if state is None or not leg.answered or leg.role is not Role.CALLER:
            return
        if state.feed is None:  # answered while no worker could be told
            self._switch.callers.begin_audio(caller)
            state = media.state_of(leg.id) or state
        if not self._switch.takers.rejoin(caller, state.feed) and not isinstance(state.feed, Play):
            media.play(leg.id, (), caller.prompts("waiting"))

    def _note(self) -> None:
        down_s = round(self._down_s, 1)
        live = self._switch.callers.live
        taken = [kept.id for kept in self._kept if kept.id in live]
        for call in taken:
            self._tools.log.taken_over(call, {"down_s": down_s})
        waiting = len(self._tools.queue.view().waiting)
        counts = {"calls": len(taken), "waiting": waiting, "ended": len(self._kept) - len(taken), "down_s": down_s}
        self._tools.log.system("taken_over", counts)
        log.warning("calls of an earlier daemon taken over", **counts)


def _is_queues(leg: KeptLeg) -> bool:
    return leg.role in (Role.SEAT, Role.OVERFLOW)


def _call_leg(call: str, leg: KeptLeg, orphan: bool) -> CallLeg:
    return CallLeg(call, leg.seat, leg.sip.stage is Stage.TALKING, orphan or leg.sip.stage is Stage.CANCELLING)
