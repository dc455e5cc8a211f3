"""Recordings: stereo 16-bit 8 kHz WAV, caller left, what the caller hears right.

The relay lays packets down in memory (`Track`). Twice a second a recording's older part goes through a bounded queue to
one thread that writes all files; a disk that stalls costs that recording's windows, which are counted, never a packet.
"""

import errno
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import TypeAlias

import numpy as np

from siaga_pbx.media.g711 import RATE, decode
from siaga_pbx.media.protocol import Codec, Recorded, RecordFailed
from siaga_pbx.media.track import Track

FLUSH_S = 0.5
HELD_BACK_S = 0.2
"""How late a packet may come and still be recorded. With `FLUSH_S`, a crash costs at most 0.7 s."""
CAPACITY = 4096
"""Windows that wait for the disk: 33 MB, four seconds of 500 recordings."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FRAME_SIZE = 4
_MAX_DATA = 0xFFFFFFFF - _HEADER.size

Report: TypeAlias = Callable[[Recorded | RecordFailed], None]


def wav_header(size: int) -> bytes:
    """The header of a file with `size` bytes of samples."""
    size = min(size, _MAX_DATA)
    return _HEADER.pack(
        b"RIFF", size + _HEADER.size - 8, b"WAVE", b"fmt ", 16, 1, 2, RATE, RATE * _FRAME_SIZE, _FRAME_SIZE, 16,
        b"data", size,
    )  # fmt: skip


class Recording:
    """One call's recording, on the relay's side: two tracks on one clock that starts with the first packet."""

    def __init__(self, call: str, path: Path, disk: "Disk") -> None:
        self.left, self.right = Track(self._begin), Track(self._begin)
        self._disk = disk
        self._file = WavFile(call, path)
        self._start: float | None = None
        disk.open(self._file)

    def flush(self, now: float) -> None:
        """Hand to the disk what no packet will be added to."""
        if self._start is not None:
            self._write_to(round((now - self._start - HELD_BACK_S) * RATE))

    def finish(self) -> None:
        """Hand over the rest; `Recorded` comes when it is on disk. Nothing is written to the tracks after this."""
        self._write_to(max(self.left.end, self.right.end))
        self._disk.finish(self._file)

    def _begin(self, now: float) -> float:
        if self._start is None:
            self._start = now
        return self._start

    def _write_to(self, position: int) -> None:
        while (base := self.left.base) < position:
            left, right = self.left.cut(position), self.right.cut(position)
            self._disk.write(Window(self._file, base, left, self.left.law, right, self.right.law))


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of both tracks, to be written at `position` (in samples)."""

    file: "WavFile"
    position: int
    left: bytes
    left_law: Codec
    right: bytes
    right_law: Codec


class Disk:
    """The thread that writes all recordings, and the bounded queue to it. No method blocks but `close`."""

    def __init__(self, report: Report, capacity: int = CAPACITY) -> None:
        """`report` is called from the thread."""
        self._report = report
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._room = BoundedSemaphore(capacity)
        self._thread = Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def open(self, file: "WavFile") -> None:
        self._jobs.put(lambda: file.open(self._report))

    def write(self, window: Window) -> None:
        """A window that finds no room is lost, counted and reported."""
        if self._room.acquire(blocking=False):
            self._jobs.put(lambda: self._write(window))
        else:
            samples = len(window.left)
            self._jobs.put(lambda: window.file.miss(samples, "the disk does not keep up", self._report))

    def finish(self, file: "WavFile") -> None:
        self._jobs.put(lambda: file.finish(self._report))

    def close(self, timeout_s: float) -> None:
        """Let what waits be written, for at most this long."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _write(self, window: Window) -> None:
        self._room.release()
        window.file.write(window, self._report)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class WavFile:
    """A recording's file, on the thread's side. Its header is true after every window."""

    def __init__(self, call: str, path: Path) -> None:
        self._call = call
        self._path = path
        self._descriptor: int | None = None
        self._size = 0
        self._missed = 0
        self._complained = False

    def open(self, report: Report) -> None:
        """Make the file, 0600, never over another."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, flags, 0o600)
            self._put(wav_header(0), 0)
        except OSError as error:
            self._complain(_reason(error), report, final=True)

    def write(self, window: Window, report: Report) -> None:
        """Mix the two sides into frames and write them at their place."""
        if self._descriptor is None:
            return
        frames = np.empty((len(window.left), 2), dtype="<i2")
        frames[:, 0] = decode(window.left, window.left_law)
        frames[:, 1] = decode(window.right, window.right_law)
        start = window.position * _FRAME_SIZE
        try:
            self._put(frames.tobytes(), _HEADER.size + start)
            self._size = max(self._size, start + frames.nbytes)
            self._put(wav_header(self._size), 0)
        except OSError as error:
            self.miss(len(window.left), _reason(error), report)

    def miss(self, samples: int, reason: str, report: Report) -> None:
        """A stretch that is not on disk: it stays silence in the file."""
        self._missed += samples
        self._complain(reason, report, final=False)

    def finish(self, report: Report) -> None:
        """Make it last, and take its digest."""
        if self._descriptor is None:
            return
        try:
            os.fdatasync(self._descriptor)
            with open(self._descriptor, "rb") as file:
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            self._complain(_reason(error), report, final=True)
        else:
            seconds = self._size / _FRAME_SIZE / RATE
            report(Recorded(self._call, str(self._path), seconds, digest, round(self._missed * 1000 / RATE)))
        self._descriptor = None

    def _put(self, data: bytes, offset: int) -> None:
        assert self._descriptor is not None, "the file is open"
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data, offset = data[written:], offset + written

    def _complain(self, reason: str, report: Report, *, final: bool) -> None:
        """Once a file, and at its end: the first reason is the one that matters."""
        if final or not self._complained:
            self._complained = True
            report(RecordFailed(self._call, str(self._path), reason, final))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
