"""For tests of media: far ends on real sockets, a client with its events at hand, audio that can be told apart."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import LocalMedia, MediaEvent
from siaga_pbx.media.protocol import Closed, Codec, FirstPacket, Remote, Side
from tests.media_process import Settings

PATIENCE_S = 30.0
FRAME_S = 0.02

EventT = TypeVar("EventT")


_ports_given = count()


def free_ports(pairs: int) -> tuple[int, int]:
    """A [media] ports setting, apart from those of other tests, of other workers of this run, and, by chance, of other
    runs."""
    run, worker = os.getppid(), int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    first = 20000 + worker % 8 * 1536 + (run + next(_ports_given)) % 12 * 128
    return first, first + 2 * pairs - 1


def noise(frames: int, seed: int) -> list[bytes]:
    """Frames of codes that occur nowhere else: what is heard can be told to the sample."""
    codes = np.random.default_rng(seed).integers(0, 256, (frames, 160), dtype=np.uint8)
    return [row.tobytes() for row in codes]


@dataclass(frozen=True, slots=True)
class Packet:
    """What a far end got."""

    at: float
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    source: tuple[str, int]


class FarEnd:
    """A phone: sends RTP from one port, keeps what it gets. Its own stream runs on through pauses."""

    def __init__(
        self,
        codec: Codec = Codec.PCMA,
        host: str = "127.0.0.1",
        ssrc: int = 0x1234,
        bound: socket.socket | None = None,
    ) -> None:
        self.codec = codec
        self.ssrc = ssrc
        self.sequence = 65530  # goes round soon: what forgets the carry is found out
        self.timestamp = 0xFFFFFF00
        self.packets: list[Packet] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if bound is None else bound
        self._socket.setblocking(False)
        if bound is None:
            self._socket.bind((host, 0))
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()
        return str(host), int(port)

    def remote(self, telephone_event: int | None = 101) -> Remote:
        host, port = self.address
        return Remote(host=host, port=port, codec=self.codec, telephone_event=telephone_event)

    def say(self, to: LocalMedia, codes: bytes, payload_type: int | None = None, marker: bool = False) -> None:
        """The next packet of its stream."""
        kind = self.codec if payload_type is None else payload_type
        self.send_raw(to, self.packet(codes, kind, marker, self.sequence, self.timestamp))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + len(codes)) & 0xFFFFFFFF

    def packet(self, payload: bytes, payload_type: int, marker: bool, sequence: int, timestamp: int) -> bytes:
        return struct.pack("!BBHII", 0x80, marker << 7 | payload_type, sequence, timestamp, self.ssrc) + payload

    def send_raw(self, to: LocalMedia, packet: bytes) -> None:
        self._socket.sendto(packet, (to.address, to.port))

    def opened(self, packet: bytes) -> bytes | None:
        """What a packet that was got says; None: nothing to this phone."""
        return packet

    async def talk(self, to: LocalMedia, frames: list[bytes]) -> None:
        """Frames, 20 ms apart."""
        start = time.monotonic()
        for number, frame in enumerate(frames):
            await asyncio.sleep(max(0.0, start + number * FRAME_S - time.monotonic()))
            self.say(to, frame)

    async def press(self, to: LocalMedia, code: int, duration: int = 800, payload_type: int = 101) -> None:
        """A key as RFC 4733 has it: a packet each 20 ms, the end three times."""
        for at in range(160, duration + 1, 160):
            self._event(to, code, at, payload_type, end=False, marker=at == 160)
            await asyncio.sleep(FRAME_S)
        for _ in range(3):
            self._event(to, code, duration, payload_type, end=True, marker=False)
        self.timestamp = (self.timestamp + duration) & 0xFFFFFFFF

    async def heard(self, enough: Callable[[list[Packet]], bool]) -> list[Packet]:
        """All packets got, once there are enough."""
        async with asyncio.timeout(PATIENCE_S):
            while not enough(self.packets):
                self._news.clear()
                await self._news.wait()
        return self.packets

    async def heard_frame(self, frame: bytes) -> list[Packet]:
        """All packets got, once this frame has come."""
        return await self.heard(lambda packets: any(packet.payload == frame for packet in packets))

    async def heard_number(self, number: int) -> list[Packet]:
        return await self.heard(lambda packets: len(packets) >= number)

    def forget(self) -> None:
        """Start to listen anew."""
        self.packets.clear()

    def audio(self) -> bytes:
        """All audio got, in order of arrival."""
        return b"".join(packet.payload for packet in self.packets if packet.payload_type == self.codec)

    def _event(self, to: LocalMedia, code: int, duration: int, payload_type: int, *, end: bool, marker: bool) -> None:
        payload = struct.pack("!BBH", code, end << 7 | 10, duration)
        self.send_raw(to, self.packet(payload, payload_type, marker, self.sequence, self.timestamp))
        self.sequence = (self.sequence + 1) & 0xFFFF

    def _receive(self) -> None:
        try:
            packet, source = self._socket.recvfrom(2048)
        except BlockingIOError:
            return
        if (data := self.opened(packet)) is None:
            return
        _, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
        self.packets.append(
            Packet(time.monotonic(), second > 127, second & 127, sequence, timestamp, ssrc, data[12:], source)
        )
        self._news.set()


class Events:
    """What the client told, to be waited for."""

    def __init__(self) -> None:
        self.all: list[MediaEvent] = []
        self._news = asyncio.Event()

    def take(self, event: MediaEvent) -> None:
        self.all.append(event)
        self._news.set()

    def of(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.all if isinstance(event, kind)]

    async def get(self, kind: type[EventT], number: int = 1) -> EventT:
        """The `number`-th event of a kind, when it has come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(kind)) < number:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[number - 1]


@dataclass(slots=True)
class Media:
    """A started client."""

    client: MediaClient
    events: Events
    settings: Settings
    legs: list[str] = field(default_factory=list)

    def open(self, leg: str, side: Side = Side.CALLER, call: str = "call") -> LocalMedia:
        local = self.client.open(call, leg, side, "127.0.0.1")
        assert local is not None
        self.legs.append(leg)
        return local

    async def found(self, *parties: tuple[str, FarEnd, LocalMedia, bytes]) -> None:
        """Leg, far end, where it sends to and its words: each speaks as a phone does, until it has been found. What is
        said before the worker knows of the leg is lost."""
        async with asyncio.timeout(PATIENCE_S):
            while missing := {leg for leg, *_ in parties} - {event.leg for event in self.events.of(FirstPacket)}:
                for leg, far, local, words in parties:
                    if leg in missing:
                        far.say(local, words)
                await asyncio.sleep(FRAME_S)

    async def close_all(self) -> None:
        """All legs, so that the workers end."""
        for leg in self.legs:
            self.client.close(leg)
        if self.legs:
            await self.events.get(Closed, len(self.legs))


@asynccontextmanager
async def media(
    settings: Settings, *, keep_workers: bool = False, ping_s: float = 0.5, spawn: Sequence[str] = ()
) -> AsyncIterator[Media]:
    """A client and its worker processes; they end with it, unless they are kept for the next test."""
    events = Events()
    client = MediaClient(settings, events.take, spawn=spawn or settings.spawn, ping_s=ping_s)
    await client.start(PATIENCE_S)
    started = Media(client, events, settings)
    try:
        yield started
    finally:
        try:
            await started.close_all()
        finally:
            await client.stop(keep_workers=keep_workers)


def new_settings(folder: Path, pairs: int = 8, workers: int = 1, linger_s: float = 5.0) -> Settings:
    """[media] of a test, with ports and a socket of its own."""
    return Settings(socket=folder / "media.sock", ports=free_ports(pairs), workers=workers, linger_s=linger_s)


def shared_worker(folder: Path) -> Iterator[Settings]:
    """For a module's fixture: one worker process for all its tests, each of which is a new daemon that finds it."""
    settings = new_settings(folder, pairs=64, linger_s=60)
    yield settings

    async def end() -> None:
        async with media(settings):
            pass

    asyncio.run(end())
