"""The file that the live calls stand in, for the daemon that comes after one that was killed.

Lines are appended, one write a turn of the loop and no sync: what write() took is the kernel's and outlives the
process, and with the machine the calls are gone too. It lies beside the media workers' socket, under systemd in memory,
so that no disk holds a call up; a file system that fails costs the take-over, never a call.

    #boot ID           the machine's boot that the lines are of
    +KEY VALUE         an entry as it is now
    -KEY               it is no more
"""

import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

MIN_REWRITE = 1 << 20
"""Bytes that the file may have before it is written anew with what is alive; then it may be four times as long."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LiveFileInUse(OSError):
    """Another daemon has the file: two must not serve the same calls."""


class LiveFile:
    """`entries` is what stands in it. `on_fault(failing, reason)` is told when it cannot be written, and when it can
    again."""

    def __init__(self, path: Path, on_fault: Callable[[bool, str], None]) -> None:
        self.entries: dict[str, bytes] = {}
        self._path, self._on_fault = path, on_fault
        self._fd: int | None = None
        self._lock: int | None = None
        self._size = 0
        self._limit = MIN_REWRITE

    def open(self) -> float | None:
        """Takes the file, and what another process left in it; when that one last wrote (seconds since 1970), if any.

        Raises LiveFileInUse. A file that cannot be read, or is of another boot, is as good as none.
        """
        self._take_lock()
        left_at = None
        with suppress(OSError, ValueError):
            data, left_at = self._path.read_bytes(), self._path.stat().st_mtime
            self.entries = _read(data)
        self._rewrite()
        return left_at if self.entries else None

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Entries as they are now, None for those that are no more. What has not changed costs nothing."""
        lines = []
        for key, value in changes.items():
            if value is None and self.entries.pop(key, None) is not None:
                lines.append(b"-%b\n" % key.encode())
            elif value is not None and self.entries.get(key) != value:
                self.entries[key] = value
                lines.append(_line(key, value))
        if lines and self._fd is not None:
            self._append(self._fd, b"".join(lines))

    def beat(self) -> None:
        """We live: from the time of the file the next daemon sees for how long nobody did. Tries a file that failed."""
        if self._fd is None and self._lock is not None:
            self._rewrite()
        elif self._fd is not None:
            os.utime(self._fd)

    def close(self) -> None:
        """The file goes if nothing stands in it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._lock is not None:
            if not self.entries:
                self._path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._on_fault(True, str(error))
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LiveFileInUse(f"{self._path}: another daemon serves these calls") from None
        self._lock = lock

    def _append(self, fd: int, data: bytes) -> None:
        try:
            written = os.write(fd, data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as error:
            os.close(fd)
            self._fd = None  # the next beat writes it anew
            self._on_fault(True, str(error))
            return
        self._size += len(data)
        if self._size > self._limit:
            self._rewrite()

    def _rewrite(self) -> None:
        """All that is alive into a new file, which takes the old one's place: at any moment one of them is whole."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._lock is None:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        data = b"".join([b"#boot %b\n" % _boot_id(), *(_line(*entry) for entry in self.entries.items())])
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._fd = fd
            if os.write(fd, data) < len(data):
                raise OSError(f"{new}: no space for {len(data)} bytes")
            new.replace(self._path)
        except OSError as error:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            self._on_fault(True, str(error))
            return
        self._size, self._limit = len(data), max(MIN_REWRITE, 4 * len(data))
        self._on_fault(False, "")


def _line(key: str, value: bytes) -> bytes:
    return b"+%b %b\n" % (key.encode(), value)


def _read(data: bytes) -> dict[str, bytes]:
    """The entries of a file; none if it is of another boot. A line that was cut off, or is none, is passed over."""
    boot, *lines = data.split(b"\n")[:-1] or [b""]
    entries: dict[str, bytes] = {}
    if boot != b"#boot %b" % _boot_id():
        return entries
    for line in lines:
        key, space, value = line[1:].partition(b" ")
        name = key.decode("ascii", "replace")
        if line[:1] == b"+" and space:
            entries[name] = value
        elif line[:1] == b"-":
            entries.pop(name, None)
    return entries


def _boot_id() -> bytes:
    with suppress(OSError):
        return _BOOT_ID.read_bytes().strip()
    return b"unknown"
