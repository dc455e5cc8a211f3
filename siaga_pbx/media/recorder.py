"""Recordings: stereo 16-bit 8 kHz WAV, caller left, what the caller hears right.

The relay lays packets down in memory (`Track`). Twice a second a recording's older part goes through a bounded queue to
one thread that writes all files; a disk that stalls or is full costs that recording's windows, never a packet. What was
not written is silence in the file, found by the place of the next window that is, and told (`RecordGap`).
"""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from time import monotonic
from typing import TypeAlias

import numpy as np

from siaga_pbx.media.durable import Syncer
from siaga_pbx.media.g711 import RATE, decode
from siaga_pbx.media.protocol import Codec, Recorded, RecordFailed, RecordGap
from siaga_pbx.media.track import SPAN, Track
from siaga_pbx.media.wav import FRAME_SIZE, HEADER_SIZE, wav_header

FLUSH_S = 0.5
HELD_BACK_S = 0.2
"""How late a packet may come and still be recorded. With `FLUSH_S`, a crash costs at most 0.7 s."""
LEAD_S = 0.1
"""How long before its first packet a recording begins: that one may have been late, which only the next ones tell."""
CAPACITY = 4096
"""Windows that wait for the disk: 33 MB, four seconds of 500 recordings."""
STALL_S = 2.0
"""A disk that takes this long for one window is told of, though nothing may be lost yet."""
_TOO_SLOW = "the disk does not keep up"
_WORKER_DIED = "the media worker died"
_STOOD_STILL = "the media worker stood still"

Report: TypeAlias = Callable[[Recorded | RecordFailed | RecordGap], None]


class Recording:
    """One call's recording, on the relay's side: two tracks on one clock that starts just before the first packet."""

    def __init__(
        self,
        call: str,
        path: Path,
        disk: "Disk",
        *,
        now: float,
        again: bool = False,
        began: float | None = None,
        on_began: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`again`: another worker began it (its first packet came at `began`) and died. Otherwise `on_began` is told
        when the first packet has come."""
        self._disk = disk
        self._start = began
        self._on_began = on_began
        self._first = base = 0 if began is None else max(0, round((now - began) * RATE))
        self.left, self.right = Track(self._begin, base), Track(self._begin, base)
        self._file = WavFile(call, path, again=again)
        disk.open(self._file)

    def flush(self, now: float) -> None:
        """Hand to the disk what no packet will be added to. If the tracks cannot hold that, it is lost."""
        if self._start is None:
            return
        position = round((now - self._start - HELD_BACK_S) * RATE)
        if position > self.left.base + SPAN:
            self._write_to(max(self.left.end, self.right.end))
            self._disk.skip(self._file, _STOOD_STILL)
            while self.left.base < position:
                self.left.cut(position)
                self.right.cut(position)
        self._write_to(position)

    def finish(self) -> None:
        """Hand over the rest; `Recorded` comes when it is on disk. Nothing is written to the tracks after this.

        A file of another worker to which nothing was added is not said to lack anything: that one may have finished it,
        and only its `Recorded` was lost.
        """
        self._write_to(max(self.left.end, self.right.end))
        self._disk.finish(self._file, self.left.base if self.left.base > self._first else 0)

    def _begin(self, now: float) -> float:
        if self._start is None:
            self._start = now - LEAD_S
            self._on_began(self._start)
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
        """`report` is called from the thread, and from `watch` and `write`."""
        self._report = report
        self._files: set[WavFile] = set()
        """Those being written, for what concerns them all."""
        self._busy_since: float | None = None
        """When the thread began what it does, if it does something."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._room = BoundedSemaphore(capacity)
        self._syncer = Syncer(self._complain_of_all)
        self._thread = Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def open(self, file: "WavFile") -> None:
        self._files.add(file)
        self._jobs.put(lambda: file.open(self._report))

    def write(self, window: Window) -> None:
        """A window that finds no room is lost and told of; the file will see that it is missing."""
        if self._room.acquire(blocking=False):
            self._jobs.put(lambda: self._write(window))
        else:
            window.file.complain(_TOO_SLOW, self._report)

    def skip(self, file: "WavFile", reason: str) -> None:
        """What lies between the windows before and after this is missing for that reason."""
        self._jobs.put(lambda: file.skip(reason))

    def finish(self, file: "WavFile", length: int) -> None:
        """`length`: how many samples it is to have."""
        self._files.discard(file)
        self._jobs.put(lambda: file.finish(length, self._report))

    def watch(self, now: float) -> None:
        """Called now and then: a disk that stalls is told of at once, not when it is through with it."""
        busy_since = self._busy_since
        if busy_since is not None and now - busy_since > STALL_S:
            self._complain_of_all(_TOO_SLOW)

    def close(self, timeout_s: float) -> None:
        """Let what waits be written, for at most this long."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        self._syncer.close()

    def _complain_of_all(self, reason: str) -> None:
        for file in tuple(self._files):
            file.complain(reason, self._report)

    def _write(self, window: Window) -> None:
        self._room.release()
        window.file.write(window, self._report)
        self._syncer.wrote(window.file.folder)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._busy_since = monotonic()
            job()
            self._busy_since = None


class WavFile:
    """A recording's file, on the thread's side. Its header is true after every window."""

    def __init__(self, call: str, path: Path, *, again: bool = False) -> None:
        """`again`: the file is there, or should be."""
        self._call = call
        self._path = path
        self.folder = path.parent
        self._again = again
        self._descriptor: int | None = None
        self._length = 0
        """Samples up to the end of the last window written."""
        self._missed = 0
        self._reason = _WORKER_DIED if again else _TOO_SLOW
        """Why what is missing now is missing."""
        self._complained = False

    def open(self, report: Report) -> None:
        """Make the file, 0600, never over another. What fails is tried again with each window."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if self._again else os.O_EXCL)
        try:
            _make_folder(self.folder)
            self._descriptor = os.open(self._path, flags, 0o600)
            self._again = True  # it is ours now
            self._length = max(0, os.fstat(self._descriptor).st_size - HEADER_SIZE) // FRAME_SIZE
            self._put(wav_header(self._length * FRAME_SIZE), 0)
        except OSError as error:
            self._fail(error, report)

    def write(self, window: Window, report: Report) -> None:
        """Mix the two sides into frames and write them at their place."""
        if self._descriptor is None:
            self.open(report)
        if self._descriptor is None:
            return
        frames = np.empty((len(window.left), 2), dtype="<i2")
        frames[:, 0] = decode(window.left, window.left_law)
        frames[:, 1] = decode(window.right, window.right_law)
        length = window.position + len(window.left)
        try:
            self._put(frames.tobytes(), HEADER_SIZE + window.position * FRAME_SIZE)
            self._put(wav_header(length * FRAME_SIZE), 0)
        except OSError as error:
            self._fail(error, report)
        else:
            self._check_gap(window.position, report)
            self._length = length

    def skip(self, reason: str) -> None:
        """What comes next will be missing, and why."""
        self._reason = reason

    def finish(self, length: int, report: Report) -> None:
        """Make it last, and take its digest."""
        if self._descriptor is None:
            self.open(report)
        if self._descriptor is None:
            report(RecordFailed(self._call, str(self._path), self._reason, made=self._again))
            return
        self._check_gap(length, report)
        try:
            with open(self._descriptor, "rb") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            report(RecordFailed(self._call, str(self._path), _reason(error), made=True))
        else:
            seconds = self._length / RATE
            report(Recorded(self._call, str(self._path), seconds, digest, round(self._missed * 1000 / RATE)))
        self._descriptor = None

    def complain(self, reason: str, report: Report) -> None:
        """Tell that nothing can be written now; once until the gap that this makes is over."""
        if not self._complained:
            self._complained = True
            report(RecordFailed(self._call, str(self._path), reason, final=False))

    def _fail(self, error: OSError, report: Report) -> None:
        self._reason = _reason(error)
        self.complain(self._reason, report)

    def _check_gap(self, position: int, report: Report) -> None:
        """What lies between the last window written and this place was never written."""
        if (gap := position - self._length) > 0:
            self._missed += gap
            report(RecordGap(self._call, self._length / RATE, gap / RATE, self._reason))
            self._complained = False
        self._reason = _TOO_SLOW

    def _put(self, data: bytes, offset: int) -> None:
        assert self._descriptor is not None, "the file is open"
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data, offset = data[written:], offset + written


def _make_folder(folder: Path) -> None:
    """With all above it that is missing, for this user only: `mkdir` gives its mode to the last alone."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
