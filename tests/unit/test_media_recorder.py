"""Recordings on disk: true at every moment, never over another, and a slow or full disk never waits for."""

import hashlib
import os
import resource
import stat
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

from siaga_pbx.media.g711 import RATE, Samples, decode
from siaga_pbx.media.protocol import Codec, Recorded, RecordFailed, RecordGap
from siaga_pbx.media.recorder import LEAD_S, Disk, Recording
from tests.media_kit import noise

LEAD = round(LEAD_S * RATE)
Report = Recorded | RecordFailed | RecordGap


class Bench:
    """A disk thread and what it reports."""

    def __init__(self, capacity: int = 4096) -> None:
        self.reports: Queue[Report] = Queue()
        self.disk = Disk(self.reports.put, capacity)

    def next(self) -> Report:
        return self.reports.get(timeout=10)

    def wait(self) -> None:
        """Until all that was asked so far is done."""
        done = threading.Event()
        self.disk._jobs.put(done.set)
        assert done.wait(10)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.disk.close(10)


def talk(recording: Recording, left: list[bytes], right: list[bytes], start: float = 100.0, *, first: int = 0) -> float:
    """Both sides, from the `first` frame on, 20 ms apart, with the flushes the worker would make."""
    now = start
    for number, (said, heard) in enumerate(zip(left[first:], right[first:], strict=True), first):
        now = start + number * 0.02
        recording.left.write(number * 160, said, Codec.PCMA, now)
        recording.right.write(7000 + number * 160, heard, Codec.PCMU, now)
        if number % 25 == 24:
            recording.flush(now)
    return now


def read(path: Path) -> tuple[Samples, Samples]:
    """Both sides from the first packet on: what is before is room for one that was late."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 2, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert np.abs(samples[:LEAD]).max(initial=0) <= 8
    return samples[LEAD:, 0].astype(np.int16), samples[LEAD:, 1].astype(np.int16)


def test_what_was_said_is_on_disk(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "calls" / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    left, right = noise(200, 1), noise(200, 2)
    talk(recording, left, right)
    recording.finish()
    report = bench.next()
    assert report == Recorded("call", str(path), 4.1, hashlib.sha256(path.read_bytes()).hexdigest(), 0)
    told_left, told_right = read(path)
    assert (told_left == decode(b"".join(left), Codec.PCMA)).all()
    assert (told_right == decode(b"".join(right), Codec.PCMU)).all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_is_whole_after_every_window(bench: Bench, tmp_path: Path) -> None:
    """A worker that dies leaves a file that plays, at most a second short."""
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    left, right = noise(130, 1), noise(130, 2)
    talk(recording, left, right)
    bench.wait()
    told, _ = read(path)
    assert len(told) >= 130 * 160 - 8000
    assert (told == decode(b"".join(left), Codec.PCMA)[: len(told)]).all()
    recording.finish()


def test_a_call_without_a_packet_leaves_an_empty_file(bench: Bench, tmp_path: Path) -> None:
    recording = Recording("call", tmp_path / "a.wav", bench.disk, now=100.0)
    recording.flush(5.0)
    recording.finish()
    report = bench.next()
    assert isinstance(report, Recorded)
    assert report.seconds == 0
    assert read(tmp_path / "a.wav")[0].size == 0


def test_one_side_silent(bench: Bench, tmp_path: Path) -> None:
    recording = Recording("call", tmp_path / "a.wav", bench.disk, now=100.0)
    for number in range(10):
        recording.right.write(number * 160, b"\x22" * 160, Codec.PCMA, 50 + number * 0.02)
    recording.finish()
    assert isinstance(bench.next(), Recorded)
    left, right = read(tmp_path / "a.wav")
    assert len(left) == len(right) == 1600
    assert np.abs(left).max() <= 8
    assert np.abs(right).min() > 8


def test_never_over_another_file(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"another call")
    recording = Recording("call", path, bench.disk, now=100.0)
    talk(recording, noise(30, 1), noise(30, 2))
    recording.finish()
    assert bench.next() == RecordFailed("call", str(path), "File exists", False)
    assert bench.next() == RecordFailed("call", str(path), "File exists", True)
    bench.wait()
    assert bench.reports.empty()
    assert path.read_bytes() == b"another call"


def test_never_through_a_link(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "elsewhere")
    Recording("call", tmp_path / "a.wav", bench.disk, now=100.0).finish()
    reports = bench.next(), bench.next()
    assert [isinstance(report, RecordFailed) and report.final for report in reports] == [False, True]
    assert not (tmp_path / "elsewhere").exists()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_of_once_and_the_rest_kept(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    left, right = noise(300, 1), noise(300, 2)
    with full_disk(44 + 2 * 8000 * 4):
        talk(recording, left, right)
        recording.finish()
        first, second, third = bench.next(), bench.next(), bench.next()
    assert first == RecordFailed("call", str(path), os.strerror(27), False)
    assert isinstance(second, RecordGap)
    assert 1.4 < second.start_s <= 2  # whole windows
    assert (second.start_s + second.seconds, second.reason) == (6.1, os.strerror(27))
    assert isinstance(third, Recorded)
    assert third.lost_ms == round(second.seconds * 1000)
    told, _ = read(path)
    assert (told[:15000] == decode(b"".join(left), Codec.PCMA)[: len(told)][:15000]).all()


def test_a_stalled_disk_is_never_waited_for(tmp_path: Path) -> None:
    bench = Bench(capacity=3)
    stall = threading.Event()

    def hang() -> None:
        stall.wait()

    bench.disk._jobs.put(hang)
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    talk(recording, noise(500, 1), noise(500, 2))  # returns: nothing waited
    recording.finish()
    assert bench.next() == RecordFailed("call", str(path), "the disk does not keep up", False), "told while it stalls"
    assert bench.reports.empty()
    stall.set()
    gap, recorded = bench.next(), bench.next()
    assert isinstance(gap, RecordGap)
    assert gap.start_s + gap.seconds == pytest.approx(10.1)
    assert gap.reason == "the disk does not keep up"
    assert isinstance(recorded, Recorded)
    assert 7000 < recorded.lost_ms < 10_000
    bench.disk.close(10)


def test_a_stalled_disk_is_told_of_before_anything_is_lost(tmp_path: Path) -> None:
    bench = Bench()
    stalled, stall = threading.Event(), threading.Event()

    def hang() -> None:
        stalled.set()
        stall.wait()

    bench.disk._jobs.put(hang)
    assert stalled.wait(10)
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    begun = time.monotonic()
    talk(recording, noise(50, 1), noise(50, 2))
    bench.disk.watch(begun)
    assert bench.reports.empty()
    for later in (3, 4):
        bench.disk.watch(time.monotonic() + later)
    assert bench.next() == RecordFailed("call", str(path), "the disk does not keep up", False)
    assert bench.reports.empty(), "once"
    stall.set()
    recording.finish()
    report = bench.next()
    assert isinstance(report, Recorded)
    assert report.lost_ms == 0
    bench.disk.close(10)


def test_a_disk_that_is_full_for_a_while_costs_that_while(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left, right = noise(200, 1), noise(200, 2)
    with full_disk(20):
        recording = Recording("call", path, bench.disk, now=100.0)
        talk(recording, left[:75], right[:75])
        bench.wait()
    talk(recording, left, right, first=75)
    recording.finish()
    failed, gap, recorded = bench.next(), bench.next(), bench.next()
    assert failed == RecordFailed("call", str(path), os.strerror(27), False)
    assert isinstance(gap, RecordGap)
    assert gap.start_s == 0
    assert 1 < gap.seconds < 1.5
    assert gap.reason == os.strerror(27)
    assert isinstance(recorded, Recorded)
    assert (recorded.seconds, recorded.lost_ms) == (4.1, round(gap.seconds * 1000))
    told, _ = read(path)
    lost = round(gap.seconds * 8000) - LEAD
    assert not told[:lost].any()
    assert (told[lost:] == decode(b"".join(left), Codec.PCMA)[lost:]).all()


def test_a_file_whose_end_fails_is_there_all_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what was said: whoever erases the call has to find it."""
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    talk(recording, noise(75, 1), noise(75, 2))
    bench.wait()
    with monkeypatch.context() as broken:

        def fail(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        broken.setattr(os, "fsync", fail)
        recording.finish()
        assert bench.next() == RecordFailed("call", str(path), "Input/output error", made=True)
    assert len(read(path)[0]) > 0


def test_another_worker_goes_on_with_the_file(bench: Bench, tmp_path: Path) -> None:
    """What the first had not written yet, and the time until the second was there, is silence; all else is in place."""
    path = tmp_path / "a.wav"
    left, right = noise(200, 1), noise(200, 2)
    began: list[float] = []
    first = Recording("call", path, bench.disk, now=99.0, on_began=began.append)
    talk(first, left[:60], right[:60])
    bench.wait()
    assert began == [99.9]
    second = Recording("call", path, bench.disk, now=102.0, again=True, began=99.9, on_began=began.append)
    for number in range(110, 200):
        second.left.write(500_000 + number * 160, left[number], Codec.PCMA, 100 + number * 0.02)
        second.right.write(number * 160, right[number], Codec.PCMU, 100 + number * 0.02)
        if number % 25 == 24:
            second.flush(100 + number * 0.02)
    second.finish()
    gap, recorded = bench.next(), bench.next()
    assert isinstance(gap, RecordGap)
    assert gap.reason == "the media worker died"
    assert 0.5 <= gap.start_s <= 1.3
    assert gap.start_s + gap.seconds == 2.1
    assert isinstance(recorded, Recorded)
    assert recorded.seconds == 4.1
    assert recorded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert began == [99.9], "told by the first alone"
    spoken, _ = read(path)
    expected = decode(b"".join(left), Codec.PCMA)
    lost = round(gap.start_s * 8000) - LEAD
    assert (spoken[:lost] == expected[:lost]).all()
    assert not spoken[lost:16000].any()
    assert (spoken[110 * 160 :] == expected[110 * 160 :]).all()


def test_another_worker_finds_no_file(bench: Bench, tmp_path: Path) -> None:
    """The first died before it had made one."""
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0, again=True)
    talk(recording, noise(30, 1), noise(30, 2))
    recording.finish()
    report = bench.next()
    assert isinstance(report, Recorded)
    assert (report.seconds, report.lost_ms) == (0.7, 0)


def test_a_recording_that_was_complete_and_is_asked_for_again(bench: Bench, tmp_path: Path) -> None:
    """Its `Recorded` was lost on the way, and time has passed: it is told again, and no gap."""
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk, now=100.0)
    talk(recording, noise(30, 1), noise(30, 2))
    recording.finish()
    lost = bench.next()
    Recording("call", path, bench.disk, now=160.0, again=True, began=99.9).finish()
    assert bench.next() == lost
    bench.wait()
    assert bench.reports.empty()


def test_a_worker_that_stood_still_for_too_long_tells_what_it_lost(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left, right = noise(800, 1), noise(800, 2)
    recording = Recording("call", path, bench.disk, now=100.0)
    talk(recording, left[:100], right[:100])
    recording.flush(112.0)
    talk(recording, left, right, first=600)
    recording.finish()
    gap, recorded = bench.next(), bench.next()
    assert isinstance(gap, RecordGap)
    assert gap.reason == "the media worker stood still"
    assert gap.start_s == 2.1
    assert gap.start_s + gap.seconds == pytest.approx(11.9)
    assert isinstance(recorded, Recorded)
    assert (recorded.seconds, recorded.lost_ms) == (16.1, round(gap.seconds * 1000))
    told, _ = read(path)
    expected = decode(b"".join(left), Codec.PCMA)
    assert (told[:16000] == expected[:16000]).all()
    assert np.abs(told[16000 : 600 * 160]).max() <= 8
    assert (told[600 * 160 :] == expected[600 * 160 :]).all()
