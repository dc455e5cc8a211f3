"""The daemon's side of the media workers: legs are opened, joined, recorded and closed here.

    client = MediaClient(config.media, on_event, spawn=[sys.executable, "-m", "siaga_pbx", "media", "--config", path])
    await client.start()
    for call, legs in client.surviving().items(): ...    # claim(leg) what an earlier daemon left, release_unclaimed()
    local = client.open(call, leg, Side.CALLER, peer="192.0.2.1")      # its address and port go into the SDP
    client.connect(leg, Remote(host, port, Codec.PCMA, ...)); client.play(leg, ("greeting",), ("waiting",))

All commands are synchronous, never block and never raise; what comes of them arrives as a `MediaEvent` from the event
loop, never from within a command. Commands for a leg that is not there any more are ignored.

A worker that dies is replaced, and the new one told what the legs are to be (`Book`): same ports, so that no far side
has to be told anything. A leg that is opened, moved or closed while no worker is there is part of that.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from siaga_pbx.media.addresses import bound_for, told_to
from siaga_pbx.media.book import Book
from siaga_pbx.media.events import LocalMedia, MediaDown, MediaEvent, MediaUp, StrayLegs
from siaga_pbx.media.link import PING_S, Link, LinkHandlers
from siaga_pbx.media.protocol import (
    Account,
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
    Hello,
    LegEvent,
    LegState,
    LegStats,
    Open,
    OpenFailed,
    Part,
    Play,
    Pong,
    Record,
    RecordBegan,
    Recorded,
    RecordFailed,
    RecordGap,
    RelayEvents,
    Remote,
    Rolled,
    SendKeys,
    Side,
    State,
    StopRecord,
    Unbridge,
)
from siaga_pbx.media.reserve import Reserve
from siaga_pbx.media.settings import MediaSettings, port_pairs, socket_path

__all__ = ["LocalMedia", "MediaClient", "MediaEvent", "Remote", "Side"]

LEAVE_S = 2.0
"""How long `stop` waits for workers without a leg to end."""


@dataclass(slots=True)
class _Worker:
    link: Link
    book: Book = field(default_factory=Book)
    """What it is to be."""


@dataclass(slots=True)
class _Leg:
    """A leg of ours. `worker` None: it was lost, as its port could not be had again."""

    worker: _Worker | None
    closing: bool = False


class MediaClient:
    """See the module. `start` before anything else, `stop` at the end; both from the loop that is to run it."""

    def __init__(
        self,
        settings: MediaSettings,
        on_event: Callable[[MediaEvent], None],
        *,
        spawn: Sequence[str],
        ping_s: float = PING_S,
    ) -> None:
        """`spawn` is the command that starts a worker; `--index N` is put behind it. A worker that hangs is found out
        after some eight times `ping_s`."""
        self._settings = settings
        self._on_event = on_event
        handlers = LinkHandlers(self._up, self._down, self._event)
        self._workers = [
            _Worker(Link(i, socket_path(settings, i), spawn, handlers, ping_s)) for i in range(settings.workers)
        ]
        self._reserve = Reserve([worker.link for worker in self._workers], settings.address, self._later)
        self._legs: dict[str, _Leg] = {}
        self._held: dict[str, list[LegEvent]] | None = {}
        """Until `release_unclaimed`: what happened to legs that nobody has claimed."""
        self._all_ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def available(self) -> bool:
        """Whether a worker is there that a new call could use."""
        return any(worker.link.up for worker in self._workers)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes of the workers that are there."""
        return tuple(worker.link.pid for worker in self._workers if worker.link.up)

    @property
    def ports_free(self) -> int:
        """Port pairs that new legs could have now: the workers' free ones (a second old) and those held for us."""
        return sum(worker.link.pong.free for worker in self._workers if worker.link.up) + self._reserve.count

    @property
    def refused(self) -> Mapping[str, int]:
        """Packets the workers dropped, by reason (`Why`), those of workers that are no more too."""
        return sum((worker.link.refused for worker in self._workers), Counter())

    async def start(self, timeout_s: float = 10.0) -> None:
        """Find or start the workers. Returns when all are there with ports, or after `timeout_s` (with `MediaDown` for
        those that are not: they are tried on)."""
        self._tasks = [asyncio.create_task(worker.link.run()) for worker in self._workers]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_ready.wait()
        for worker in self._workers:
            worker.link.report_absent()

    async def stop(self, *, keep_workers: bool = False) -> None:
        """Let go of the workers: they end when they have no leg. With `keep_workers` they stay for the next daemon (for
        60 s after their last call)."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        wait_s = 0.0 if self._legs or keep_workers else LEAVE_S
        await asyncio.gather(*(worker.link.leave(wait_s, keep=keep_workers) for worker in self._workers))

    # --- what an earlier daemon left ---

    def surviving(self) -> dict[str, tuple[LegState, ...]]:
        """The legs of an earlier daemon, by call, that the workers carry on and nobody has claimed yet."""
        calls: dict[str, list[LegState]] = {}
        for worker in self._workers:
            for name, leg in worker.book.legs.items():
                if name not in self._legs:
                    calls.setdefault(leg.open.call, []).append(leg)
        return {call: tuple(legs) for call, legs in calls.items()}

    def claim(self, leg: str) -> bool:
        """Take over a leg of an earlier daemon, and whatever happened to it since; False if there is no such leg (any
        more: what happened to it arrives in any case, its `Closed` too)."""
        worker = next((worker for worker in self._workers if leg in worker.book.legs), None)
        if worker is not None and leg not in self._legs:
            self._legs[leg] = _Leg(worker)
        for event in (self._held or {}).pop(leg, ()):
            self._later(event)
        return worker is not None

    def release_unclaimed(self) -> None:
        """Close the legs of an earlier daemon that nobody has claimed (`StrayLegs`), from now on at once."""
        self._held = None
        for worker in self._workers:
            self._close_strays(worker, [leg for name, leg in worker.book.legs.items() if name not in self._legs])

    def state_of(self, leg: str) -> LegState | None:
        """A leg of ours as it is to be; None for one that is not there, or lost."""
        known = self._legs.get(leg)
        return known.worker.book.legs.get(leg) if known is not None and known.worker is not None else None

    def recording_of(self, call: str) -> Record | None:
        """The call's recording as it is to be; None if it has none, or it is complete."""
        return next((book[call] for book in (worker.book.recordings for worker in self._workers) if call in book), None)

    def resume(self, legs: Sequence[LegState], recording: Record | None) -> None:
        """Make legs of a call again that no worker carries any more, as they were; `OpenFailed` for those whose port
        cannot be had. `recording`: the call's, which goes on if no worker has it."""
        call = legs[0].open.call
        worker = self._home(call) or self._owner(legs[0].open.port)
        wanted = Book()
        wanted.adopt(legs, [recording] if recording is not None and self.recording_of(call) is None else [])
        for leg in legs:
            self._legs[leg.open.leg] = _Leg(worker)
            self._reserve.give_up(worker.link, leg.open.address, leg.open.port)
        for command in wanted.missing(State((), (), ())):
            self._command(worker, command)

    # --- commands ---

    def open(self, call: str, leg: str, side: Side, peer: str | None = None) -> LocalMedia | None:
        """A new leg of a call, or None: no worker (`MediaDown` was told) or no port (`PortsExhausted` is told).

        `peer` is the far side's IP address as far as it is known: it chooses among several [media] addresses.
        """
        address = bound_for(self._settings.address, peer)
        worker = self._worker_for(call, address)
        if worker is None or leg in self._legs:
            return None
        port = self._reserve.take(worker.link, address)
        self._legs[leg] = _Leg(worker)
        timestamp = int.from_bytes(os.urandom(4), "big")
        self._tell(leg, Open(leg, call, side, address, port, timestamp))
        self._reserve.fill(worker.link)
        return LocalMedia(told_to(address, peer), port)

    def connect(self, leg: str, remote: Remote) -> None:
        """The leg's far side; again after a re-INVITE."""
        self._tell(leg, Connect(leg, remote))

    def play(self, leg: str, once: tuple[str, ...], then_loop: tuple[str, ...] = (), *, after: bool = False) -> None:
        """Prompts by name; ends a bridge or an echo. `Played` after `once`, unless cut. `after`: when the prompt that
        is being played is through."""
        self._tell(leg, Play(leg, once, then_loop, monotonic(), after))

    def bridge(self, leg_a: str, leg_b: str) -> None:
        """Each hears the other. Both must be legs of one call: others may be on two workers, and nothing happens."""
        first, second = self._legs.get(leg_a), self._legs.get(leg_b)
        if first is not None and second is not None and first.worker is second.worker:
            self._tell(leg_a, Bridge(leg_a, leg_b))

    def confer(self, leg: str, part: Part = Part.TALK, to: str | None = None) -> None:
        """The leg takes part in the conference of its call, or changes its part; `to`: whom it whispers to."""
        self._tell(leg, Confer(leg, part, to))

    def unbridge(self, leg: str) -> None:
        """Both legs of the leg's bridge are sent silence, until `play` or `bridge`; of a conference this leg."""
        self._tell(leg, Unbridge(leg))

    def relay_events(self, leg: str, on: bool) -> None:
        """Whether this leg's telephone-events are passed to the other (the default). They are read in any case."""
        self._tell(leg, RelayEvents(leg, on))

    def send_keys(self, leg: str, keys: str) -> None:
        """Press keys (0-9 * # A-D) towards the leg's far side, as telephone-events, if it takes such."""
        self._tell(leg, SendKeys(leg, keys))

    def echo(self, leg: str) -> None:
        """Send the leg its own audio back."""
        self._tell(leg, Echo(leg))

    def record(self, call: str, path: Path) -> None:
        """Record the call, which has a leg, to a new file; `Recorded` after its last leg, or `RecordFailed`. Until
        `release_unclaimed` a call that no worker has may be one that is still to be claimed: nothing comes of it."""
        worker = self._home(call)
        if worker is not None:
            self._command(worker, Record(call, str(path.absolute())))
        elif self._held is None:
            self._later(RecordFailed(call, str(path), "no media worker has the call"))

    def stop_record(self, call: str) -> None:
        """End the call's recording before the call ends."""
        for worker in self._workers:
            if call in worker.book.recordings:
                self._command(worker, StopRecord(call))

    def close(self, leg: str) -> None:
        """End the leg. `Closed` follows, once for every leg opened (with empty statistics if its worker died)."""
        known = self._legs.get(leg)
        if known is None or known.closing:
            return
        self._tell(leg, Close(leg))
        known.closing = True
        if known.worker is None or not known.worker.link.up:
            del self._legs[leg]
            self._later(Closed(leg, LegStats()))

    def _tell(self, leg: str, command: Command) -> None:
        known = self._legs.get(leg)
        if known is not None and known.worker is not None and not known.closing:
            self._command(known.worker, command)

    def _command(self, worker: _Worker, command: Command) -> None:
        worker.book.obey(command)
        worker.link.send(command)

    # --- the workers' side ---

    def _later(self, event: MediaEvent) -> None:
        asyncio.get_running_loop().call_soon(self._on_event, event)

    def _up(self, link: Link, state: State) -> None:
        worker = self._workers[link.index]
        there = {leg.open.leg: leg for leg in state.legs}
        strays = [leg for name, leg in there.items() if name not in worker.book.legs]
        for command in worker.book.missing(state):
            link.send(command)
        used = {(leg.open.address, leg.open.port) for leg in worker.book.legs.values()}
        self._reserve.came(link, [pair for pair in state.bound if pair not in used])
        if self._held is None:
            self._close_strays(worker, strays)
        else:
            worker.book.adopt(strays, state.recordings)
        self._note_ready()
        ours = sorted(name for name, leg in self._legs.items() if leg.worker is worker)
        carried = tuple(name for name in ours if name in there)
        self._on_event(MediaUp(link.index, carried, tuple(name for name in ours if name not in there)))
        for event in worker.book.untold(state):
            self._event(link, event)

    def _down(self, link: Link, reason: str) -> None:
        worker = self._workers[link.index]
        legs = tuple(sorted(leg for leg, known in self._legs.items() if known.worker is worker))
        self._on_event(MediaDown(link.index, reason, legs))
        for leg in legs:
            if leg in self._legs and self._legs[leg].closing:
                self._on_event(Closed(leg, LegStats()))
                del self._legs[leg]

    def _close_strays(self, worker: _Worker, strays: Sequence[LegState]) -> None:
        for leg in strays:
            self._command(worker, Close(leg.open.leg))
        if strays:
            self._later(StrayLegs(worker.link.index, tuple(strays)))

    def _event(self, link: Link, event: Event) -> None:
        worker = self._workers[link.index]
        worker.book.learn(event)
        match event:
            case Bound():
                self._reserve.bound(link, event)
                self._note_ready()
            case BindFailed():
                self._reserve.failed(link, event)
                self._note_ready()
            case Pong():
                self._reserve.fill(link)
            case Hello() | State() | Account() | Rolled():
                pass
            case RecordBegan() | Recorded() | RecordFailed() | RecordGap():
                self._on_event(event)
            case _:
                self._leg_event(event)

    def _leg_event(self, event: LegEvent) -> None:
        known = self._legs.get(event.leg)
        if known is None:
            if self._held is not None:
                self._held.setdefault(event.leg, []).append(event)
            return
        if isinstance(event, OpenFailed):
            known.worker = None
            if known.closing:
                event = Closed(event.leg, LegStats())
        if isinstance(event, Closed):
            del self._legs[event.leg]
        self._on_event(event)

    def _note_ready(self) -> None:
        if self._reserve.complete:
            self._all_ready.set()

    # --- choices ---

    def _owner(self, port: int) -> _Worker:
        """The worker that a port is of; the first if [media] has changed so much that it is none's."""
        owners = (worker for worker in self._workers if port in port_pairs(self._settings, worker.link.index))
        return next(owners, self._workers[0])

    def _home(self, call: str) -> _Worker | None:
        """The worker that has the call, claimed or not: its legs can only be joined if one worker has them all."""
        for worker in self._workers:
            if any(leg.open.call == call for leg in worker.book.legs.values()):
                return worker
        return None

    def _worker_for(self, call: str, address: str) -> _Worker | None:
        """The call's worker, even while it is being replaced; else that with the fewest legs; None: no port."""
        home = self._home(call)
        there = [home] if home is not None else [worker for worker in self._workers if worker.link.up]
        able = [worker for worker in there if self._reserve.has(worker.link, address)]
        if there and not able:
            self._reserve.miss(address)
        return min(able, key=lambda worker: len(worker.book.legs), default=None)
