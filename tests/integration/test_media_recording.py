"""Recordings of real calls: both sides where they were said whatever the network does, whole if the power goes."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from siaga_pbx.media.events import LocalMedia
from siaga_pbx.media.g711 import Samples, decode
from siaga_pbx.media.protocol import Codec, Recorded, Side
from siaga_pbx.media.recorder import LEAD_S
from siaga_pbx.media.wav import mend
from tests.integration.test_media import find, read_stereo
from tests.media_kit import FRAME_S, FarEnd, Media, Packet, media, new_settings, noise

pytestmark = pytest.mark.quiet

QUIET, CLICK = b"\xd5" * 160, b"\x2a" * 160
CLICKS = (12, 60, 110, 140)
FRAMES = 150


async def over_a_bad_network(far: FarEnd, to: LocalMedia, chance: random.Random, slow: int = 0) -> None:
    """Three seconds with some clicks; every packet takes up to 60 ms, the `slow` first ones all of that, so that many
    overtake others."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(FRAMES):
        await asyncio.sleep(max(0.0, start + number * FRAME_S - loop.time()))
        codes = CLICK if number in CLICKS else QUIET
        packet = far.packet(codes, far.codec, False, far.sequence, far.timestamp)
        far.sequence, far.timestamp = (far.sequence + 1) & 0xFFFF, (far.timestamp + 160) & 0xFFFFFFFF
        loop.call_later(chance.uniform(0, 0.06) if number >= slow else 0.06, far.send_raw, to, packet)
    await asyncio.sleep(0.2)


def clicks(track: Samples) -> list[int]:
    """Where each begins."""
    loud = np.flatnonzero(np.abs(track.astype(np.int32)) > 20_000)
    return [int(at) for at, before in zip(loud, [-1000, *loud[:-1]], strict=True) if at - before > 160]


async def recorded(m: Media, path: Path, caller: FarEnd, seat: FarEnd) -> tuple[LocalMedia, LocalMedia]:
    """A bridged call that is recorded to `path`."""
    at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
    m.client.connect("c", caller.remote())
    m.client.connect("s", seat.remote())
    m.client.record("call", path)
    m.client.bridge("c", "s")
    await seat.heard_number(1)
    return at_caller, at_seat


@pytest.mark.parametrize(("slow_caller", "slow_seat"), [(5, 0), (0, 5)])
def test_what_was_said_at_the_same_time_lies_side_by_side(tmp_path: Path, slow_caller: int, slow_seat: int) -> None:
    """A click of both at once is within 20 ms of the other, from the first second on, and both clocks go on evenly."""

    async def run() -> None:
        path = tmp_path / "call.wav"
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=2) as seat:
                at_caller, at_seat = await recorded(m, path, caller, seat)
                await asyncio.gather(
                    over_a_bad_network(caller, at_caller, random.Random(1), slow_caller),
                    over_a_bad_network(seat, at_seat, random.Random(101), slow_seat),
                )
            await m.close_all()
            await m.events.get(Recorded)
            m.legs.clear()
        left, right = map(clicks, read_stereo(path))
        assert len(left) == len(right) == len(CLICKS)
        assert max(abs(one - other) for one, other in zip(left, right, strict=True)) <= 160
        for track in (left, right):
            steps = [at - track[0] - 160 * (click - CLICKS[0]) for at, click in zip(track, CLICKS, strict=True)]
            assert max(map(abs, steps)) <= 160, steps

    asyncio.run(run())


def test_it_plays_at_any_moment_and_lacks_a_second_at_most(tmp_path: Path) -> None:
    async def run() -> None:
        path, copy = tmp_path / "call.wav", tmp_path / "copy.wav"
        chance = random.Random(4)
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=2) as seat:
                at_caller, at_seat = await recorded(m, path, caller, seat)
                talk = asyncio.gather(
                    over_a_bad_network(caller, at_caller, chance), over_a_bad_network(seat, at_seat, chance)
                )
                began = time.monotonic()
                while not talk.done():
                    await asyncio.sleep(chance.uniform(0.1, 0.4))
                    if time.monotonic() - began > 1.2:
                        shutil.copy(path, copy)
                        left, _ = read_stereo(copy)
                        assert len(left) >= (time.monotonic() - began - 1) * 8000
                await talk

    asyncio.run(run())


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_power_cut_takes_a_second_at_most(tmp_path: Path) -> None:
    """What is on the disk, and not in the system's memory, at a moment when the worker is stopped: it is mended."""
    image, left_over = tmp_path / "image", tmp_path / "left-over"
    image.write_bytes(bytes(16 << 20))
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    said_s = 0.0

    async def run(folder: Path) -> None:
        nonlocal said_s
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=2) as seat:
                at_caller, at_seat = await recorded(m, folder / "2026" / "call.wav", caller, seat)
                began = time.monotonic()
                talk = asyncio.gather(
                    over_a_bad_network(caller, at_caller, random.Random(1)),
                    over_a_bad_network(seat, at_seat, random.Random(2)),
                )
                await asyncio.sleep(2.6)
                (worker,) = m.client.worker_pids
                os.kill(worker, signal.SIGSTOP)
                said_s = time.monotonic() - began
                shutil.copy(image, left_over)
                os.kill(worker, signal.SIGCONT)
                await talk

    with mounted(image, tmp_path / "disk") as folder:
        asyncio.run(run(folder))
    with mounted(left_over, tmp_path / "after") as folder:
        path = folder / "2026" / "call.wav"
        seconds = mend(path)
        assert seconds >= said_s - 1
        left, right = map(clicks, read_stereo(path))
        assert len(left) >= 2
        assert abs(left[1] - right[1]) <= 160


@pytest.mark.quiet
def test_the_right_side_is_what_the_caller_was_sent_whatever_that_was(tmp_path: Path) -> None:
    """Greeting, seat, hold audio, seat again, a conference: every packet the caller got lies where its timestamp says,
    sample by sample, and the left side is all that the caller said."""

    async def run() -> None:
        path = tmp_path / "call.wav"
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=2) as seat, FarEnd(ssrc=3) as agency:
                places = [m.open("c"), m.open("s", Side.SEAT), m.open("a", Side.SEAT)]
                for leg, far in (("c", caller), ("s", seat), ("a", agency)):
                    m.client.connect(leg, far.remote())
                m.client.record("call", path)
                said = noise(300, 1)

                async def course() -> None:
                    m.client.play("c", ("greeting",), ("waiting",))
                    await caller.heard_number(60)
                    m.client.bridge("c", "s")
                    await seat.talk(places[1], noise(50, 2))
                    m.client.play("c", (), ("waiting",))  # hold
                    await caller.heard_number(len(caller.packets) + 50)
                    m.client.bridge("c", "s")
                    await seat.talk(places[1], noise(50, 3))
                    for leg in ("c", "s", "a"):
                        m.client.confer(leg)
                    await asyncio.gather(seat.talk(places[1], noise(50, 4)), agency.talk(places[2], noise(50, 5)))

                await asyncio.gather(caller.talk(places[0], said), course())
                await caller.heard_number(len(caller.packets) + 20)
                await m.close_all()
                m.legs.clear()
                await m.events.get(Recorded)
                got = [packet for packet in caller.packets if packet.payload != QUIET]
                began = caller.packets[0]
        left, right = read_stereo(path)
        missing = [number for number, frame in enumerate(said) if find(left, frame) is None]
        assert len(missing) <= 3, "the first may be too early, and one is cut where the clock is put right"
        misplaced = [shift for packet in got if (shift := _shift(right, packet, began)) is None or abs(shift) > 160]
        assert len(misplaced) <= 5, "one is cut where what is sent changes, and the last may not be there"
        assert len({packet.payload for packet in got}) > 200

    asyncio.run(run())


def _shift(right: Samples, packet: Packet, first: Packet) -> int | None:
    """How far a packet lies from where it should by its timestamp; None if it is nowhere near, to the sample."""
    due = round(LEAD_S * 8000) + ((packet.timestamp - first.timestamp) & 0xFFFFFFFF)
    start = max(0, due - 400)
    near = right[start : due + 560].tobytes()
    at = near.find(decode(packet.payload, Codec.PCMA).tobytes())
    return None if at < 0 else start + at // 2 - due
