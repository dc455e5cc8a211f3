"""Recordings on disk: true at every moment, never over another, and a slow or full disk never waits for."""

import hashlib
import os
import resource
import stat
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

from siaga_pbx.media.g711 import Samples, decode
from siaga_pbx.media.protocol import Codec, Recorded, RecordFailed
from siaga_pbx.media.recorder import Disk, Recording
from tests.media_kit import noise

Report = Recorded | RecordFailed


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


def talk(recording: Recording, left: list[bytes], right: list[bytes], start: float = 100.0) -> float:
    """Both sides, 20 ms apart, with the flushes the worker would make."""
    now = start
    for number, (said, heard) in enumerate(zip(left, right, strict=True)):
        now = start + number * 0.02
        recording.left.write(number * 160, said, Codec.PCMA, now)
        recording.right.write(7000 + number * 160, heard, Codec.PCMU, now)
        if number % 25 == 24:
            recording.flush(now)
    return now


def read(path: Path) -> tuple[Samples, Samples]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 2, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return samples[:, 0].astype(np.int16), samples[:, 1].astype(np.int16)


def test_what_was_said_is_on_disk(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "calls" / "a.wav"
    recording = Recording("call", path, bench.disk)
    left, right = noise(200, 1), noise(200, 2)
    talk(recording, left, right)
    recording.finish()
    report = bench.next()
    assert report == Recorded("call", str(path), 4.0, hashlib.sha256(path.read_bytes()).hexdigest(), 0)
    told_left, told_right = read(path)
    assert (told_left == decode(b"".join(left), Codec.PCMA)).all()
    assert (told_right == decode(b"".join(right), Codec.PCMU)).all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_is_whole_after_every_window(bench: Bench, tmp_path: Path) -> None:
    """A worker that dies leaves a file that plays, at most a second short."""
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk)
    left, right = noise(130, 1), noise(130, 2)
    talk(recording, left, right)
    bench.wait()
    told, _ = read(path)
    assert len(told) >= 130 * 160 - 8000
    assert (told == decode(b"".join(left), Codec.PCMA)[: len(told)]).all()
    recording.finish()


def test_a_call_without_a_packet_leaves_an_empty_file(bench: Bench, tmp_path: Path) -> None:
    recording = Recording("call", tmp_path / "a.wav", bench.disk)
    recording.flush(5.0)
    recording.finish()
    report = bench.next()
    assert isinstance(report, Recorded)
    assert report.seconds == 0
    assert read(tmp_path / "a.wav")[0].size == 0


def test_one_side_silent(bench: Bench, tmp_path: Path) -> None:
    recording = Recording("call", tmp_path / "a.wav", bench.disk)
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
    recording = Recording("call", path, bench.disk)
    talk(recording, noise(30, 1), noise(30, 2))
    recording.finish()
    assert bench.next() == RecordFailed("call", str(path), "File exists", True)
    bench.wait()
    assert bench.reports.empty()
    assert path.read_bytes() == b"another call"


def test_never_through_a_link(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "elsewhere")
    Recording("call", tmp_path / "a.wav", bench.disk).finish()
    report = bench.next()
    assert isinstance(report, RecordFailed)
    assert report.final
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
    recording = Recording("call", path, bench.disk)
    left, right = noise(300, 1), noise(300, 2)
    with full_disk(44 + 2 * 8000 * 4):
        talk(recording, left, right)
        recording.finish()
        first, second = bench.next(), bench.next()
    assert first == RecordFailed("call", str(path), os.strerror(27), False)
    assert isinstance(second, Recorded)
    assert second.lost_ms >= 3900
    told, _ = read(path)
    assert (told[:16000] == decode(b"".join(left), Codec.PCMA)[: len(told)][:16000]).all()


def test_a_stalled_disk_is_never_waited_for(tmp_path: Path) -> None:
    bench = Bench(capacity=3)
    stall = threading.Event()

    def hang() -> None:
        stall.wait()

    bench.disk._jobs.put(hang)
    path = tmp_path / "a.wav"
    recording = Recording("call", path, bench.disk)
    talk(recording, noise(500, 1), noise(500, 2))  # returns: nothing waited
    recording.finish()
    assert bench.reports.empty()
    stall.set()
    first, second = bench.next(), bench.next()
    assert first == RecordFailed("call", str(path), "the disk does not keep up", False)
    assert isinstance(second, Recorded)
    assert 7000 < second.lost_ms < 10_000
    bench.disk.close(10)
