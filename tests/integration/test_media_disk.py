"""Disks that are full or stall under a recording, real ones: the relay never waits, and what is lost is told."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from siaga_pbx.media.events import LocalMedia
from siaga_pbx.media.protocol import Recorded, RecordFailed, RecordGap, Side
from tests.integration.test_media import find, read_stereo
from tests.integration.test_media_survival import PAUSE_S, longest_gap
from tests.media_kit import FarEnd, Media, media, new_settings, noise

pytestmark = [pytest.mark.quiet, pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")]


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", *how, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Whoever writes to the file system waits."""
    subprocess.run(["fsfreeze", "--freeze", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=True)


async def end(m: Media) -> Recorded:
    m.client.close("c")
    m.client.close("s")
    return await m.events.get(Recorded)


async def joined(m: Media, caller: FarEnd, seat: FarEnd) -> tuple[LocalMedia, LocalMedia]:
    at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
    m.client.connect("c", caller.remote())
    m.client.connect("s", seat.remote())
    m.client.bridge("c", "s")
    while not seat.packets or not caller.packets:
        caller.say(at_caller, b"\xd5" * 160)
        seat.say(at_seat, b"\xd5" * 160)
        await asyncio.sleep(0.02)
    return at_caller, at_seat


def test_a_full_disk_costs_what_it_cannot_hold(tmp_path: Path) -> None:
    async def run(folder: Path) -> None:
        filler = folder / "filler"
        filler.write_bytes(bytes(200_000))
        path = folder / "call.wav"
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
                at_caller, at_seat = await joined(m, caller, seat)
                m.client.record("call", path)
                of_caller, of_seat = noise(225, 1), noise(225, 2)

                async def make_room() -> None:
                    failed = await m.events.get(RecordFailed)
                    assert (failed.reason, failed.final) == ("No space left on device", False)
                    await seat.heard_frame(of_caller[175])
                    filler.unlink()

                await asyncio.gather(caller.talk(at_caller, of_caller), seat.talk(at_seat, of_seat), make_room())
                await seat.heard_frame(of_caller[-1])
                assert seat.audio().endswith(b"".join(of_caller)), "not a packet is missing"
                assert longest_gap(seat.packets) < PAUSE_S
                recorded = await end(m)
        (gap,) = m.events.of(RecordGap)
        assert gap.reason == "No space left on device"
        assert 0.5 <= gap.start_s <= 2
        assert 2.6 <= gap.start_s + gap.seconds <= 3.7, "a window goes to the disk 0.7 s after its begin"
        assert recorded.lost_ms == round(gap.seconds * 1000)
        left, _ = read_stereo(path)
        places = [find(left, frame) for frame in of_caller]
        begun = 1 if places[0] is None else 0  # the first may be too early
        first, last = places[begun], places[-1]
        assert first is not None
        assert last is not None
        assert abs(last - first - (224 - begun) * 160) <= 160, "what comes after the gap is where it was said"
        missing = [number for number, place in enumerate(places) if place is None and number >= begun]
        assert missing == list(range(missing[0], missing[-1] + 1)), "one gap"

    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as folder:
        asyncio.run(run(folder))


def test_a_stalled_disk_is_told_of_and_costs_nothing(tmp_path: Path) -> None:
    async def run(folder: Path) -> None:
        path = folder / "call.wav"
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
                at_caller, at_seat = await joined(m, caller, seat)
                m.client.record("call", path)
                of_caller, of_seat = noise(200, 1), noise(200, 2)

                async def stall() -> None:
                    await seat.heard_frame(of_caller[5])
                    with frozen(folder):
                        failed = await m.events.get(RecordFailed)
                        assert (failed.reason, failed.final) == ("the disk does not keep up", False)
                        await seat.heard_frame(of_caller[-1])

                await asyncio.gather(caller.talk(at_caller, of_caller), seat.talk(at_seat, of_seat), stall())
                assert seat.audio().endswith(b"".join(of_caller)), "not a packet is missing"
                assert longest_gap(seat.packets) < PAUSE_S
                assert len(m.events.of(RecordFailed)) == 1
                recorded = await end(m)
        assert m.events.of(RecordGap) == []
        assert recorded.lost_ms == 0
        left, right = read_stereo(path)
        for track, said in ((left, of_caller), (right, of_seat)):
            missing = [number for number, frame in enumerate(said) if find(track, frame) is None]
            assert len(missing) <= 2, "the first may be too early, and one is cut where the clock is put right"

    image = tmp_path / "image"
    image.write_bytes(bytes(8 << 20))
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as folder:
        asyncio.run(run(folder))
