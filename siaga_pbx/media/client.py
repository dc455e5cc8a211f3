"""The daemon's side of the media workers: legs are opened, joined, recorded and closed here.

    client = MediaClient(config.media, on_event, spawn=[sys.executable, "-m", "siaga_pbx", "media", "--config", path])
    await client.start()
    local = client.open(call, leg, Side.CALLER, peer="192.0.2.1")      # its address and port go into the SDP
    client.connect(leg, Remote(host, port, Codec.PCMA, ...)); client.play(leg, ("greeting",), ("waiting",))

All commands are synchronous, never block and never raise; what comes of them arrives as a `MediaEvent` from the event
loop, never from within a command. Commands for a leg that is not there any more are ignored.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from siaga_pbx.media.addresses import bound_for, told_to
from siaga_pbx.media.events import (
    LocalMedia,
    MediaDown,
    MediaEvent,
    MediaUp,
    PortsAvailable,
    PortsExhausted,
    StrayLegs,
)
from siaga_pbx.media.link import PING_S, Link, LinkHandlers
from siaga_pbx.media.protocol import (
    Bind,
    BindFailed,
    Bound,
    Bridge,
    Close,
    Closed,
    Command,
    Connect,
    Echo,
    Event,
    Hello,
    LegStats,
    Open,
    Play,
    Pong,
    Record,
    Recorded,
    RecordFailed,
    RelayEvents,
    Remote,
    Side,
    State,
    StopRecord,
    Unbridge,
)
from siaga_pbx.media.settings import MediaSettings, socket_path

__all__ = ["LocalMedia", "MediaClient", "MediaEvent", "Remote", "Side"]

RESERVE = 64
"""Port pairs a worker holds ready on each address, so that `open` need not wait: a burst of 64 legs within the
millisecond it takes to fill up again."""
LEAVE_S = 2.0
"""How long `stop` waits for workers without a leg to end."""


@dataclass(slots=True)
class _Leg:
    """A leg as the daemon knows it. `link` None: its worker lost it."""

    call: str
    link: Link | None
    closing: bool = False


@dataclass(slots=True)
class _Recording:
    link: Link
    path: str


@dataclass(slots=True)
class _Reserve:
    """The pairs held for us on one address of one worker, and how many more are on order."""

    ports: deque[int]
    ordered: int = 0


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
        self._links = [Link(i, socket_path(settings, i), spawn, handlers, ping_s) for i in range(settings.workers)]
        self._reserves = {
            (link.index, address): _Reserve(deque()) for link in self._links for address in settings.address
        }
        self._legs: dict[str, _Leg] = {}
        self._calls: dict[str, set[str]] = {}
        self._recordings: dict[str, _Recording] = {}
        self._wanted: set[str] = set()
        """Addresses on which `open` found no port."""
        self._exhausted: set[str] = set()
        """Those of them that no port is on order for: `PortsExhausted` was told."""
        self._all_ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def available(self) -> bool:
        """Whether a worker is there that a new call could use."""
        return any(link.up for link in self._links)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes of the workers that are there."""
        return tuple(link.pid for link in self._links if link.up)

    @property
    def ports_free(self) -> int:
        """Port pairs that new legs could have now: the workers' free ones (a second old) and those held for us."""
        return sum(link.pong.free for link in self._links if link.up) + sum(
            len(r.ports) for r in self._reserves.values()
        )

    @property
    def rejected(self) -> int:
        """Packets the workers dropped since their start because they came from somebody else."""
        return sum(link.pong.rejected for link in self._links)

    async def start(self, timeout_s: float = 10.0) -> None:
        """Find or start the workers. Returns when all are there with ports, or after `timeout_s` (with `MediaDown` for
        those that are not: they are tried on)."""
        self._tasks = [asyncio.create_task(link.run()) for link in self._links]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_ready.wait()
        for link in self._links:
            link.report_absent()

    async def stop(self, *, keep_workers: bool = False) -> None:
        """Let go of the workers: they end when they have no leg. With `keep_workers` they stay for the next daemon (for
        60 s after their last call)."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        wait_s = 0.0 if self._legs or keep_workers else LEAVE_S
        await asyncio.gather(*(link.leave(wait_s, keep=keep_workers) for link in self._links))

    def open(self, call: str, leg: str, side: Side, peer: str | None = None) -> LocalMedia | None:
        """A new leg of a call, or None: no worker (`MediaDown` was told) or no port (`PortsExhausted` is told).

        `peer` is the far side's IP address as far as it is known: it chooses among several [media] addresses.
        """
        address = bound_for(self._settings.address, peer)
        link = self._link_for(call, address)
        if link is None or leg in self._legs:
            return None
        port = self._reserves[link.index, address].ports.popleft()
        self._legs[leg] = _Leg(call, link)
        self._calls.setdefault(call, set()).add(leg)
        link.legs += 1
        link.send(Open(leg, call, side, address, port))
        self._fill(link, address)
        return LocalMedia(told_to(address, peer), port)

    def connect(self, leg: str, remote: Remote) -> None:
        """The leg's far side; again after a re-INVITE."""
        self._tell(leg, Connect(leg, remote))

    def play(self, leg: str, once: tuple[str, ...], then_loop: tuple[str, ...] = ()) -> None:
        """Prompts by name; ends a bridge or an echo. `Played` after `once`, unless cut."""
        self._tell(leg, Play(leg, once, then_loop))

    def bridge(self, leg_a: str, leg_b: str) -> None:
        """Each hears the other. Both must be legs of one call: others may be on two workers, and nothing happens."""
        first, second = self._legs.get(leg_a), self._legs.get(leg_b)
        if first is not None and second is not None and first.link is second.link:
            self._tell(leg_a, Bridge(leg_a, leg_b))

    def unbridge(self, leg: str) -> None:
        """Both legs of the leg's bridge are sent silence, until `play` or `bridge`."""
        self._tell(leg, Unbridge(leg))

    def relay_events(self, leg: str, on: bool) -> None:
        """Whether this leg's telephone-events are passed to the other (the default). They are read in any case."""
        self._tell(leg, RelayEvents(leg, on))

    def echo(self, leg: str) -> None:
        """Send the leg its own audio back."""
        self._tell(leg, Echo(leg))

    def record(self, call: str, path: Path) -> None:
        """Record the call, which has a leg, to a new file; `Recorded` after its last leg, or `RecordFailed`."""
        link = self._home(call)
        if link is None:
            self._later(RecordFailed(call, str(path), "no media worker has the call"))
            return
        self._recordings[call] = _Recording(link, str(path.absolute()))
        link.send(Record(call, str(path.absolute())))

    def stop_record(self, call: str) -> None:
        """End the call's recording before the call ends."""
        if (recording := self._recordings.get(call)) is not None:
            recording.link.send(StopRecord(call))

    def close(self, leg: str) -> None:
        """End the leg. `Closed` follows, once for every leg opened (with empty statistics if its worker died)."""
        known = self._legs.get(leg)
        if known is None or known.closing:
            return
        known.closing = True
        if known.link is None or not known.link.up:
            self._forget(leg)
            self._later(Closed(leg, LegStats()))
        else:
            known.link.send(Close(leg))

    # --- the workers' side ---

    def _tell(self, leg: str, command: Command) -> None:
        known = self._legs.get(leg)
        if known is not None and known.link is not None and not known.closing:
            known.link.send(command)

    def _later(self, event: MediaEvent) -> None:
        asyncio.get_running_loop().call_soon(self._on_event, event)

    def _up(self, link: Link, state: State) -> None:
        ours = {leg for leg, known in self._legs.items() if known.link is link}
        lost = ours - {leg.leg for leg in state.legs}
        strays = tuple(leg for leg in state.legs if leg.leg not in ours)
        for leg in lost:
            self._legs[leg].link = None
        for stray in strays:
            link.send(Close(stray.leg))
        link.legs = len(ours - lost)
        for address in self._settings.address:
            self._reserves[link.index, address] = _Reserve(deque(port for a, port in state.bound if a == address))
            self._fill(link, address)
        if strays:
            self._on_event(StrayLegs(link.index, strays))
        self._end_recordings(link, set(state.recording))
        self._note_ready()
        self._on_event(MediaUp(link.index, tuple(sorted(ours - lost)), tuple(sorted(lost))))

    def _down(self, link: Link, reason: str) -> None:
        for address in self._settings.address:
            self._reserves[link.index, address] = _Reserve(deque())
        legs = tuple(sorted(leg for leg, known in self._legs.items() if known.link is link))
        self._on_event(MediaDown(link.index, reason, legs))
        for leg in legs:
            if leg in self._legs and self._legs[leg].closing:
                self._on_event(Closed(leg, LegStats()))
                self._forget(leg)

    def _end_recordings(self, link: Link, running: set[str]) -> None:
        """The worker came back without these recordings: what is on disk is all there is."""
        for call, recording in list(self._recordings.items()):
            if recording.link is link and call not in running:
                del self._recordings[call]
                self._on_event(RecordFailed(call, recording.path, "the media worker died"))

    def _event(self, link: Link, event: Event) -> None:
        match event:
            case Bound():
                self._bound(link, event)
            case BindFailed():
                self._delivered(link, event.address, event.count)
            case Pong():
                for address in self._settings.address:
                    self._fill(link, address)
            case Hello() | State():
                pass
            case Closed():
                if self._forget(event.leg):
                    self._on_event(event)
            case Recorded() | RecordFailed():
                if isinstance(event, Recorded) or event.final:
                    self._recordings.pop(event.call, None)
                self._on_event(event)
            case _:
                if event.leg in self._legs:
                    self._on_event(event)

    def _bound(self, link: Link, event: Bound) -> None:
        if (reserve := self._reserves.get((link.index, event.address))) is None:
            return
        reserve.ports.append(event.port)
        self._delivered(link, event.address, 1)
        if event.address in self._wanted:
            self._wanted.remove(event.address)
            self._exhausted.discard(event.address)
            self._later(PortsAvailable(event.address))

    def _delivered(self, link: Link, address: str, count: int) -> None:
        """So many of the pairs on order came, or cannot come."""
        if (reserve := self._reserves.get((link.index, address))) is not None:
            reserve.ordered = max(0, reserve.ordered - count)
        self._check_exhausted(address)
        self._note_ready()

    def _note_ready(self) -> None:
        if all(reserve.ports and not reserve.ordered for reserve in self._reserves.values()):
            self._all_ready.set()

    def _check_exhausted(self, address: str) -> None:
        """None is free and none is on its way: a worker that has just come owes us some, and that is no alarm."""
        reserves = [self._reserves[link.index, address] for link in self._links if link.up]
        due = any(reserve.ports or reserve.ordered for reserve in reserves)
        if address in self._wanted and reserves and not due and address not in self._exhausted:
            self._exhausted.add(address)
            self._later(PortsExhausted(address))

    def _fill(self, link: Link, address: str) -> None:
        """Order what the reserve lacks; what cannot be bound now is ordered again with the next `Pong`."""
        reserve = self._reserves[link.index, address]
        missing = RESERVE - len(reserve.ports) - reserve.ordered
        if missing > 0:
            reserve.ordered += missing
            link.send(Bind(address, missing))

    def _forget(self, leg: str) -> bool:
        known = self._legs.pop(leg, None)
        if known is None:
            return False
        if known.link is not None:
            known.link.legs -= 1
        siblings = self._calls[known.call]
        siblings.discard(leg)
        if not siblings:
            del self._calls[known.call]
        return True

    # --- choices ---

    def _home(self, call: str) -> Link | None:
        """The worker that has the call: its legs can only be joined if one worker has them all."""
        links = (self._legs[leg].link for leg in self._calls.get(call, ()))
        return next((link for link in links if link is not None and link.up), None)

    def _link_for(self, call: str, address: str) -> Link | None:
        """The call's worker, for a new call the one with the fewest legs; None if none has a port ready."""
        home = self._home(call)
        there = [home] if home is not None else [link for link in self._links if link.up]
        able = [link for link in there if self._reserves[link.index, address].ports]
        if there and not able:
            self._wanted.add(address)
            self._check_exhausted(address)
        return min(able, key=lambda link: link.legs, default=None)
