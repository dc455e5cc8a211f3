"""What a worker carries: legs, bridges, recordings. Carries out the daemon's commands, tells what comes of them."""

import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from siaga_pbx.media.book import Book
from siaga_pbx.media.conference import Conferences
from siaga_pbx.media.leg import Leg
from siaga_pbx.media.pacer import Pacer, Rota
from siaga_pbx.media.pieces import Cancellable
from siaga_pbx.media.ports import NoPort, PortPair, PortPool
from siaga_pbx.media.prompts import Playing, PromptStore
from siaga_pbx.media.protocol import (
    Account,
    Bind,
    BindFailed,
    Bound,
    Bridge,
    Close,
    Closed,
    Command,
    Confer,
    Connect,
    Echo,
    Event,
    Leave,
    List,
    Open,
    OpenFailed,
    Ping,
    Play,
    Played,
    Pong,
    PromptMissing,
    Recall,
    Record,
    RecordBegan,
    RecordFailed,
    RelayEvents,
    SendKeys,
    Side,
    State,
    StopRecord,
    Unbridge,
)
from siaga_pbx.media.recorder import FLUSH_S, HELD_BACK_S, Disk, Recording
from siaga_pbx.media.rtcp import interval
from siaga_pbx.media.sender import Sender
from siaga_pbx.media.sockets import Sockets
from siaga_pbx.media.timetable import Timetable

WATCH_S = 1.0
"""Between two looks at a far side that may have gone silent."""
STAND_IN_S = 0.1
"""Between two looks at a source that may have gone quiet: half of what it is given (`sender.QUIET_S`)."""


class Readers(Protocol):
    """The part of an event loop that calls back when a socket is readable, or after a while."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> object: ...
    def call_later(self, delay: float, callback: Callable[[], None], /) -> Cancellable: ...


class Calls:
    """`perform` a command; `tell` an event of the worker, which goes on to `tell_daemon`."""

    def __init__(
        self, readers: Readers, ports: PortPool, prompts: PromptStore, disk: Disk, tell_daemon: Callable[[Event], None]
    ) -> None:
        self._ports = ports
        self._prompts = prompts
        self._disk = disk
        self._tell_daemon = tell_daemon
        self._book = Book()
        self.pacer = Pacer(self._then)
        self._audio: Sockets[Leg] = Sockets(readers, Leg.receive, self.pacer.faults)
        self._rtcp: Sockets[Leg] = Sockets(readers, Leg.receive_report, self.pacer.faults)
        self._sender = partial(Sender, entropy=os.urandom, on_paced=self.pacer.add, later=readers.call_later)
        self._leg = partial(Leg, tell=self.tell)
        self.leaving = False
        """The daemon wants the worker to end with its last leg."""
        self._legs: dict[str, Leg] = {}
        self._bound: dict[tuple[str, int], PortPair] = {}
        self._recordings: dict[str, Recording] = {}
        self._conferences = Conferences(self.pacer)
        self._refused: Counter[str] = Counter()
        self._watch: Rota[Leg] = Rota(WATCH_S, Leg.watch)
        self._stand_in: Rota[Sender] = Rota(STAND_IN_S, Sender.watch)
        self._chance = random.SystemRandom()
        self._reports: Timetable[Leg] = Timetable(self._report)
        self._flush: Rota[Recording] = Rota(FLUSH_S, Recording.flush)
        self._then_at = math.inf
        self._flush_from = 0.0

    def __len__(self) -> int:
        """How many legs there are."""
        return len(self._legs)

    def state(self) -> State:
        """The book's, with each leg's account of now, which is not kept there."""
        state = self._book.state(tuple(self._bound))
        there = [leg for leg in state.legs if leg.open.leg in self._legs]
        legs = [replace(leg, account=Recall(leg.open.leg, self._legs[leg.open.leg].stats())) for leg in there]
        return replace(state, legs=tuple(legs))

    def tell(self, event: Event) -> None:
        """What happened, to the daemon and into the book."""
        self._book.learn(event)
        self._tell_daemon(event)

    def perform(self, command: Command) -> None:
        """Carry out a command. What is about a leg that is not there is ignored: it may have ended in between."""
        match command:
            case Bind():
                self._bind(command)
            case Open():
                self._open(command)
            case Record():
                self._record(command)
            case StopRecord():
                self._stop_record(command.call)
            case List():
                self.tell(self.state())
            case Ping():
                self._pong(command)
            case Leave():
                self.leaving = True
            case Bridge():
                first, second = self._legs.get(command.leg_a), self._legs.get(command.leg_b)
                if first is not None and second is not None and first is not second:
                    self._book.obey(command)
                    first.bridge(second)
            case _:
                if (leg := self._legs.get(command.leg)) is not None:
                    self._book.obey(command)
                    self._perform_on(leg, command)

    def close_all(self) -> None:
        """End every leg and recording."""
        for leg in list(self._legs.values()):
            self._close(leg)
        for call in list(self._recordings):
            self._stop_record(call)
        for pair in self._bound.values():
            pair.close()
        self._bound.clear()

    def close_silent(self, since: float) -> None:
        """End the legs that nothing has come for since then. Of one on hold nothing may: it ends with its call."""
        heard = {leg.call for leg in self._legs.values() if leg.heard_at > since}
        for leg in list(self._legs.values()):
            if leg.heard_at <= since and (leg.hearing.expected or leg.call not in heard):
                self._close(leg)

    def _perform_on(
        self, leg: Leg, command: Connect | Play | Confer | Unbridge | RelayEvents | SendKeys | Echo | Recall | Close
    ) -> None:
        match command:
            case Connect():
                leg.connect(command, time.monotonic())
            case Play():
                self._play(leg, command)
            case Confer():
                leg.confer(self._conferences, command.part, command.to)
            case Unbridge():
                leg.part()
            case RelayEvents():
                leg.relay_events = command.on
            case Recall():
                leg.before = command.stats
            case SendKeys():
                leg.sender.press(command.keys)
            case Echo():
                leg.echo()
            case Close():
                self._close(leg)

    def _bind(self, command: Bind) -> None:
        for done in range(command.count):
            try:
                pair = self._ports.take(command.address, time.monotonic())
            except NoPort as error:
                self.tell(BindFailed(command.address, command.count - done, error.reason))
                return
            self._bound[pair.address, pair.port] = pair
            self.tell(Bound(pair.address, pair.port))

    def _open(self, command: Open) -> None:
        if command.leg in self._legs:
            return
        now = time.monotonic()
        try:
            pair = self._bound.pop((command.address, command.port), None)
            if pair is None:
                pair = self._ports.take_this(command.address, command.port)
        except NoPort as error:
            self.tell(OpenFailed(command.leg, error.reason))
            return
        self._book.obey(command)
        sender = self._sender(pair.rtp.sendto, timestamp=command.timestamp)
        leg = self._leg(command.leg, command.call, command.side, pair, sender, now=now)
        self._legs[leg.name] = leg
        self._audio.add(pair.rtp.fileno(), leg)
        self._rtcp.add(pair.rtcp.fileno(), leg)
        self._watch.add(leg, now)
        self._stand_in.add(sender, now)
        self._reports.add(leg, now + interval(self._chance.random(), first=True))
        if (recording := self._recordings.get(leg.call)) is not None:
            self._tap(leg.call, recording)

    def _play(self, leg: Leg, command: Play) -> None:
        for name in (*command.once, *command.loop):
            if name not in self._prompts:
                self.tell(
                    PromptMissing(leg.name, name, self._prompts.faults.get(f"{name}.wav", "there is no such file"))
                )
        playing = leg.sender.frames
        law = playing.law if command.after and isinstance(playing, Playing) else leg.sender.law
        plan = self._prompts.plan(command.once, command.loop, law, partial(self._played, command))
        if command.after and isinstance(playing, Playing) and playing.then(plan):
            return
        leg.part()
        leg.sender.play(Playing(plan, law), law)

    def _played(self, command: Play) -> None:
        if command.once:
            self.tell(Played(command.leg))

    def _close(self, leg: Leg) -> None:
        now = time.monotonic()
        del self._legs[leg.name]
        self._audio.remove(leg.pair.rtp.fileno())
        self._rtcp.remove(leg.pair.rtcp.fileno())
        self.pacer.remove(leg.sender)
        self._watch.remove(leg)
        self._stand_in.remove(leg.sender)
        leg.sender.stop()
        self._reports.remove(leg)
        try:
            leg.part()
            leg.say_goodbye(now, time.time())
            leg.door.settle()
        except Exception:  # noqa: BLE001  the leg is over whatever its last words come to
            self.pacer.faults.add(leg)
        self.pacer.faults.forget(leg)
        self._ports.give_back(leg.pair, now)
        self._refused += leg.door.counts
        self.tell(Closed(leg.name, leg.stats()))
        if not any(other.call == leg.call for other in self._legs.values()):
            self._stop_record(leg.call)

    def _record(self, command: Record) -> None:
        if command.call in self._recordings:
            self.tell(RecordFailed(command.call, command.path, "the call is being recorded already", final=False))
            return
        self._book.obey(command)
        recording = Recording(
            command.call,
            Path(command.path),
            self._disk,
            now=time.monotonic(),
            again=command.again,
            began=command.began,
            on_began=lambda began: self.tell(RecordBegan(command.call, began)),
        )
        self._recordings[command.call] = recording
        self._flush.add(recording, time.monotonic())
        self._tap(command.call, recording)

    def _tap(self, call: str, recording: Recording) -> None:
        """Let the call's first caller leg write to the recording."""
        caller = next((leg for leg in self._legs.values() if leg.call == call and leg.side is Side.CALLER), None)
        if caller is not None:
            caller.said, caller.sender.heard = recording.left, recording.right

    def _stop_record(self, call: str) -> None:
        recording = self._recordings.pop(call, None)
        if recording is None:
            return
        for leg in self._legs.values():
            if leg.call == call:
                leg.said = leg.sender.heard = None
        self._flush.remove(recording)
        recording.finish()

    def _report(self, leg: Leg, now: float) -> float:
        try:
            leg.send_report(now, time.time())
        except Exception:  # noqa: BLE001  it is tried again with the next, and the other legs' are due now
            self.pacer.faults.add(leg)
        self._tell_daemon(Account(leg.name, leg.stats()))
        return interval(self._chance.random())

    def _pong(self, ping: Ping) -> None:
        now = time.monotonic()
        refused = sum((leg.door.counts for leg in self._legs.values() if leg.door.counts), self._refused)
        self.tell(Pong(ping.number, self._ports.free(now), dict(refused), round(self.pacer.worst_lag * 1000, 1)))
        self.pacer.worst_lag = 0.0

    def _then(self, now: float) -> None:
        self._stand_in.run(now)
        self._watch.run(now)
        self._reports.run(now)
        if now - self._then_at > HELD_BACK_S and now >= self._flush_from + FLUSH_S:
            self._flush_from = now + FLUSH_S  # we stood still: what came meanwhile is yet to be read
        self._then_at = now
        if now >= self._flush_from:
            self._flush.run(now)
        self._disk.watch(now)
