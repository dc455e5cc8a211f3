"""Conferences in a real worker, with far ends on real sockets: each says a tone of its own, and the spectrum of what
each hears shows whom it hears. Looked at until it is as it should be: on a busy machine packets come late."""

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from siaga_pbx.media.events import LocalMedia, MediaDown, MediaUp
from siaga_pbx.media.g711 import RATE, decode, encode
from siaga_pbx.media.protocol import Codec, FirstPacket, Part, Recorded, Side
from tests.integration.test_media import read_stereo
from tests.media_kit import FarEnd, Media, media, new_settings, shared_worker
from tests.media_process import Settings
from tests.tones import faults, tone

LEVEL = 2500.0
"""Of each tone: eight of them are not too loud together."""
LOOKED_AT = RATE // 4
"""Samples of a look: a quarter of a second."""
PATIENCE_S = 30.0
PITCHES = (425.0, 605.0, 785.0, 1015.0, 1265.0, 1555.0, 1885.0, 2295.0)
"""None is a multiple of another, nor what two of them make together."""


@dataclass
class Party:
    """A far end that says its tone all the time, in packets of its own length."""

    far: FarEnd
    at: LocalMedia
    pitch: float
    ptime_ms: int = 20
    silent: bool = False
    said: int = 0
    dead: bool = False

    def die(self) -> None:
        """Its machine is gone; once."""
        if not self.dead:
            self.silent = self.dead = True
            self.far.__exit__(None, None, None)

    def due(self, now: float) -> None:
        """Say what is due by now (seconds since it began)."""
        size = self.ptime_ms * RATE // 1000
        while self.said + size <= now * RATE:
            if not self.silent:
                self.far.say(self.at, encode(tone(self.pitch, size, LEVEL, self.said), self.far.codec))
            self.said += size

    def hears(self) -> NDArray[np.int16]:
        """The last quarter of a second that it got, if it got as much."""
        codes = b"".join(packet.payload for packet in self.far.packets[-30:])
        return decode(codes[-LOOKED_AT:], self.far.codec)


@dataclass
class Room:
    """All parties of a call, by leg."""

    media: Media
    parties: dict[str, Party] = field(default_factory=dict)

    async def hear(self, who: dict[str, str]) -> None:
        """Wait until each of these legs hears exactly the legs named by letters. What it heard before is forgotten."""
        for name in who:
            self.parties[name].far.forget()
        for name, others in who.items():
            await self._hears(name, [self.parties[other].pitch for other in others])

    async def _hears(self, name: str, pitches: list[float]) -> None:
        party, found, until = self.parties[name], ["nothing came"], time.monotonic() + PATIENCE_S
        while found and time.monotonic() < until:
            await party.far.heard_number(len(party.far.packets) + 1)
            if len(heard := party.hears()) == LOOKED_AT:
                found = faults(heard, pitches, LEVEL)
        assert found == [], f"{name}: {found}"

    def check_streams(self) -> None:
        """One SSRC to each, sequence numbers without a hole, timestamps that only rise.

        In the order of their numbers: a machine with all cores busy may change that of packets sent at once.
        """
        for party in self.parties.values():
            packets = party.far.packets
            assert len({packet.ssrc for packet in packets}) <= 1
            ordered = sorted(packets, key=lambda packet: (packet.sequence - packets[0].sequence + 10) & 0xFFFF)
            for before, after in pairwise(ordered[:-2]):  # what belongs before the last may still be on its way
                assert (after.sequence - before.sequence) & 0xFFFF == 1
                assert 0 < (after.timestamp - before.timestamp) & 0xFFFFFFFF < 0x80000000


@asynccontextmanager
async def room(
    settings: Settings, names: str, keep_workers: bool = True, **odd: tuple[Codec, int]
) -> AsyncIterator[Room]:
    """Parties by letters, `c` the caller; those named in `odd` have another law and packet length."""
    async with media(settings, keep_workers=keep_workers) as m:
        with ExitStack() as stack:
            made = Room(m)
            for number, name in enumerate(names):
                law, ptime_ms = odd.get(name, (Codec.PCMA, 20))
                far = FarEnd(law, ssrc=0x1000 + number)
                at = m.open(name, Side.CALLER if name == "c" else Side.SEAT)
                m.client.connect(name, replace(far.remote(), ptime_ms=ptime_ms, strict=True))
                made.parties[name] = party = Party(far.__enter__(), at, PITCHES[number], ptime_ms)
                stack.callback(party.die)
            talk = asyncio.create_task(_talk(list(made.parties.values())))
            await m.events.get(FirstPacket, len(names))
            try:
                yield made
            finally:
                talk.cancel()
                with suppress(asyncio.CancelledError):
                    await talk


async def _talk(parties: list[Party]) -> None:
    start = time.monotonic()
    while True:
        now = time.monotonic() - start
        for party in parties:
            party.due(now)
        await asyncio.sleep(0.01 - math.fmod(now, 0.01))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from shared_worker(tmp_path_factory.mktemp("conference"))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def waited_for() -> None:
        await test()

    asyncio.run(waited_for())


def test_three_hear_each_other_and_an_agency_that_leaves_leaves_a_bridge(shared: Settings) -> None:
    """The agency joins in mid-call, in mu-law and packets of 30 ms."""

    async def test() -> None:
        async with room(shared, "csa", a=(Codec.PCMU, 30)) as r:
            client = r.media.client
            client.bridge("c", "s")
            await r.hear({"c": "s", "s": "c"})
            for leg in "csa":
                client.confer(leg)
            await r.hear({"c": "sa", "s": "ca", "a": "cs"})
            r.check_streams()
            client.unbridge("a")
            await r.hear({"c": "s", "s": "c", "a": ""})
            client.bridge("c", "s")
            await r.hear({"c": "s", "s": "c", "a": ""})

    run(test)


def test_a_supervisor_listens_whispers_and_joins(shared: Settings) -> None:
    async def test() -> None:
        async with room(shared, "csv") as r:
            client = r.media.client
            for leg in "cs":
                client.confer(leg)
            client.confer("v", Part.LISTEN)
            await r.hear({"c": "s", "s": "c", "v": "cs"})
            client.confer("v", Part.WHISPER, "s")
            await r.hear({"s": "cv", "c": "s", "v": "cs"})
            client.confer("v")
            await r.hear({"c": "sv", "s": "cv", "v": "cs"})
            client.confer("v", Part.LISTEN)
            await r.hear({"c": "s", "s": "c", "v": "cs"})
            r.check_streams()

    run(test)


def test_eight_parties_one_silent_and_one_that_dies(shared: Settings) -> None:
    """Two of the other law, one of them in packets of 30 ms; one says nothing; then one's machine is gone."""

    async def test() -> None:
        async with room(shared, "csabdefg", a=(Codec.PCMU, 30), b=(Codec.PCMU, 20), d=(Codec.PCMA, 60)) as r:
            for leg in "csabdefg":
                r.media.client.confer(leg)
            r.parties["g"].silent = True
            all_but = {leg: "csabdef".replace(leg, "") for leg in "csabdefg"}
            await r.hear(all_but)
            r.parties["f"].die()
            await r.hear({leg: others.replace("f", "") for leg, others in all_but.items() if leg != "f"})
            r.media.client.close("f")
            await r.hear({leg: others.replace("f", "") for leg, others in all_but.items() if leg != "f"})

    run(test)


def test_hold_and_resume_in_a_conference_and_out_of_it(shared: Settings) -> None:
    """Who is held hears hold audio, and nobody hears who holds; the others go on."""

    async def test() -> None:
        async with room(shared, "csa") as r:
            client, seat = r.media.client, r.parties["s"]
            for leg in "csa":
                client.confer(leg)
            await r.hear({"c": "sa", "a": "cs"})
            there = replace(seat.far.remote(), strict=True)
            client.connect("s", replace(there, sending=False, receiving=False))
            seat.silent = True
            await r.hear({"c": "a", "a": "c"})
            packets = len(seat.far.packets)
            await r.hear({"c": "a", "a": "c"})
            assert len(seat.far.packets) == packets  # nothing is sent to who holds
            client.connect("s", there)
            seat.silent = False
            await r.hear({"c": "sa", "s": "ca", "a": "cs"})
            client.play("c", (), ("waiting",))
            await r.hear({"s": "a", "a": "s"})
            client.confer("c")
            await r.hear({"c": "sa", "s": "ca", "a": "cs"})
            r.check_streams()

    run(test)


def test_the_recording_has_what_the_caller_said_and_all_that_it_heard(shared: Settings, tmp_path: Path) -> None:
    async def test() -> None:
        async with room(shared, "csav") as r:
            client = r.media.client
            client.record("call", tmp_path / "call.wav")
            for leg in "csa":
                client.confer(leg)
            client.confer("v", Part.WHISPER, "s")
            for _ in range(4):
                await r.hear({"c": "sa", "s": "cav"})
            for leg in "csav":
                client.close(leg)
            await r.media.events.get(Recorded)
            left, right = read_stereo(tmp_path / "call.wav")
            c, s, a = (r.parties[leg].pitch for leg in "csa")
            looks = [slice(at, at + LOOKED_AT) for at in range(0, len(left) - LOOKED_AT, RATE // 20)]
            assert any(not faults(left[look], [c], LEVEL) and not faults(right[look], [s, a], LEVEL) for look in looks)

    run(test)


def test_a_new_worker_goes_on_with_the_conference(tmp_path: Path) -> None:
    async def test() -> None:
        async with room(new_settings(tmp_path, pairs=64), "csv", keep_workers=False) as r:
            for leg in "cs":
                r.media.client.confer(leg)
            r.media.client.confer("v", Part.WHISPER, "s")
            await r.hear({"c": "s", "s": "cv", "v": "cs"})
            os.kill(r.media.client.worker_pids[0], signal.SIGKILL)
            await r.media.events.get(MediaDown)
            await r.media.events.get(MediaUp, 2)
            await r.hear({"c": "s", "s": "cv", "v": "cs"})

    run(test)
