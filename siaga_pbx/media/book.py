"""What media is to be: for each leg the last command about each thing it has, for each call its recording. Pure.

Both ends keep one. The worker tells its own to a new daemon (`State`); the daemon makes a new worker from its own
(`missing`). A new kind of command that changes what a leg is takes its place here: in `obey` and in `LegState`.
"""

from collections.abc import Iterable
from dataclasses import replace

from siaga_pbx.media.protocol import (
    Account,
    Bridge,
    Close,
    Closed,
    Command,
    Confer,
    Connect,
    Echo,
    Event,
    FirstPacket,
    LegState,
    Open,
    OpenFailed,
    Play,
    Played,
    Recall,
    Record,
    RecordBegan,
    Recorded,
    RecordFailed,
    RelayEvents,
    Rolled,
    State,
    StopRecord,
    Unbridge,
)


class Book:
    """`obey` every command, `learn` from every event. What is about a leg that is not there is ignored."""

    def __init__(self) -> None:
        self.legs: dict[str, LegState] = {}
        self.recordings: dict[str, Record] = {}
        """By call, until they are complete or have failed."""
        self._stopped: set[str] = set()

    def obey(self, command: Command) -> None:
        """The command is being carried out."""
        match command:
            case Open():
                self.legs.setdefault(command.leg, LegState(command))
            case Record():
                self.recordings.setdefault(command.call, command)
            case StopRecord():
                self._stopped.add(command.call)
            case Bridge():
                self._bridge(command)
            case Connect() | RelayEvents() | Recall() | Play() | Echo() | Confer() | Unbridge() | Close():
                if command.leg in self.legs:
                    self._obey_for(self.legs[command.leg], command)

    def learn(self, event: Event) -> None:
        """The worker has told this."""
        match event:
            case FirstPacket():
                if (leg := self.legs.get(event.leg)) is not None and leg.connect is not None:
                    found = replace(leg.connect, source=(event.host, event.port), former=False)
                    self.legs[event.leg] = replace(leg, connect=found)
            case Rolled():
                if (leg := self.legs.get(event.leg)) is not None and leg.connect is not None:
                    self.legs[event.leg] = replace(leg, connect=replace(leg.connect, rolls=event.rolls))
            case Account():
                if (leg := self.legs.get(event.leg)) is not None:
                    self.legs[event.leg] = replace(leg, account=Recall(event.leg, event.stats))
            case Played():
                if (leg := self.legs.get(event.leg)) is not None:
                    self.legs[event.leg] = replace(leg, feed=_played(leg))
            case Closed() | OpenFailed():
                self._silence_peer(event.leg)
                self.legs.pop(event.leg, None)
            case RecordBegan():
                if (recording := self.recordings.get(event.call)) is not None:
                    self.recordings[event.call] = replace(recording, began=event.began)
            case Recorded() | RecordFailed():
                if isinstance(event, Recorded) or event.final:
                    self.forget_recording(event.call)

    def adopt(self, legs: Iterable[LegState], recordings: Iterable[Record]) -> None:
        """What a worker has for an earlier daemon, and goes on with."""
        for leg in legs:
            self.legs[leg.open.leg] = leg
        for recording in recordings:
            self.recordings.setdefault(recording.call, recording)

    def forget_recording(self, call: str) -> None:
        self.recordings.pop(call, None)
        self._stopped.discard(call)

    def state(self, bound: tuple[tuple[str, int], ...]) -> State:
        return State(tuple(self.legs.values()), tuple(self.recordings.values()), bound)

    def missing(self, state: State) -> list[Command]:
        """What a worker in that state has to be told to be what this book says; its further legs stay as they are."""
        there = {leg.open.leg: leg for leg in state.legs}
        made: list[Command] = []
        feeds: dict[Command, None] = {}  # after all legs, as a bridge needs both; once, as both legs have it
        for name, leg in self.legs.items():
            has = there.get(name)
            if has is None:
                made.append(leg.open)
                if leg.account is not None:
                    made.append(leg.account)
            if leg.connect is not None and not _same_far_side(leg.connect, has):
                made.append(leg.connect)
            if leg.events is not None and (has is None or has.events != leg.events):
                made.append(leg.events)
            if leg.feed is not None and (has is None or has.feed not in (leg.feed, _played(leg))):
                feeds[leg.feed] = None
        return [*made, *feeds, *self._missing_recordings({recording.call for recording in state.recordings})]

    def untold(self, state: State) -> list[Played]:
        """What a worker in that state told when nobody heard it any more: prompts that are through."""
        there = {leg.open.leg: leg for leg in state.legs}
        return [
            Played(name)
            for name, leg in self.legs.items()
            if (has := there.get(name)) is not None and has.feed == _played(leg) != leg.feed
        ]

    def _missing_recordings(self, there: set[str]) -> list[Command]:
        live = {leg.open.call for leg in self.legs.values()} - self._stopped
        commands: list[Command] = []
        for call, recording in self.recordings.items():
            if call not in there:
                commands.append(replace(recording, again=True))
            if call not in live:
                commands.append(StopRecord(call))
        return commands

    def _obey_for(
        self, leg: LegState, command: Connect | RelayEvents | Recall | Play | Echo | Confer | Unbridge | Close
    ) -> None:
        match command:
            case Connect():
                self.legs[command.leg] = replace(leg, connect=_with_source(command, leg.connect))
            case RelayEvents():
                self.legs[command.leg] = replace(leg, events=command)
            case Recall():
                self.legs[command.leg] = replace(leg, account=command)
            case Play() | Echo() | Confer():
                self._feed(command.leg, command)
            case Unbridge():
                if isinstance(leg.feed, Bridge | Confer | Echo):
                    self._feed(command.leg, Play(command.leg, ()))
            case Close():
                self._silence_peer(command.leg)
                del self.legs[command.leg]

    def _bridge(self, bridge: Bridge) -> None:
        first, second = bridge.leg_a, bridge.leg_b
        if first != second and first in self.legs and second in self.legs:
            for leg in (first, second):
                self._silence_peer(leg)
            for leg in (first, second):
                self.legs[leg] = replace(self.legs[leg], feed=bridge)

    def _feed(self, leg: str, feed: Play | Echo | Confer) -> None:
        self._silence_peer(leg)
        self.legs[leg] = replace(self.legs[leg], feed=feed)

    def _silence_peer(self, leg: str) -> None:
        """The end of the leg's bridge, if it has one, for the other."""
        known = self.legs.get(leg)
        if known is not None and isinstance(known.feed, Bridge):
            peer = known.feed.leg_b if known.feed.leg_a == leg else known.feed.leg_a
            if peer in self.legs:
                self.legs[peer] = replace(self.legs[peer], feed=Play(peer, ()))


def _with_source(new: Connect, old: Connect | None) -> Connect:
    """The source found stays found; it may be that of the far side so far (`SourceLock.connect`)."""
    if old is None:
        return new
    new = replace(new, remote=new.remote.after(old.remote))
    if new.source is not None or old.source is None:
        return new
    former = new.remote.leaves(old.source, old.remote, old.former)
    return replace(new, source=old.source, former=former, rolls=old.rolls)


def _same_far_side(connect: Connect, has: LegState | None) -> bool:
    """A source that the worker alone knows of, or we alone (it was told to nobody), is no difference."""
    return has is not None and has.connect is not None and has.connect.remote == connect.remote


def _played(leg: LegState) -> Play | Bridge | Confer | Echo | None:
    """Its feed with the prompts of `once` through."""
    return replace(leg.feed, once=()) if isinstance(leg.feed, Play) else leg.feed
