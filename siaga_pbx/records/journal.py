"""Where batches wait while the database fails: a file of JSON lines, synced, and memory when the file fails too.

A line is `[run, number, [change, ...]]`; a change is `[name, field, ...]`. Run and number identify a batch for ever, so
that one that reached the database after all is not replayed (the last number of each run is in the database, too).
"""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

from siaga_pbx.records.changes import Blank, Change, Delete, Erase, Event, Insert, Update, Upsert
from siaga_pbx.records.plain import plain, to_json
from siaga_pbx.records.times import utc_now

_KINDS: dict[str, type[Change]] = {
    kind.__name__.lower(): kind for kind in (Insert, Update, Upsert, Delete, Event, Erase, Blank)
}
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch; `run` and `number` identify it."""

    run: str
    number: int
    changes: Sequence[Change]


class Journal:
    """The batches that wait, in order. One thread's."""

    def __init__(self, path: Path, memory_limit: int) -> None:
        """`memory_limit` is how many batches are kept in memory when the file cannot be written."""
        self.path = path
        self.lost = 0
        self._limit = memory_limit
        self._memory: deque[Entry] = deque()
        self._in_file = 0
        self._fd: int | None = None
        self._size = 0

    @property
    def pending(self) -> int:
        """How many batches wait."""
        return self._in_file + len(self._memory)

    def open(self) -> None:
        """Counts what an earlier run left. Raises OSError if the file is there and cannot be read."""
        if self.path.exists():
            self._open_file()

    def append(self, entries: Iterable[Entry]) -> None:
        """Takes the batches; they are on the disk on return, or, while that fails, in memory. Never raises.

        Past the limit of the memory the newest are dropped and counted: the older ones are what they build on.
        """
        for entry in entries:
            if len(self._memory) < self._limit:
                self._memory.append(entry)
            else:
                self.lost += 1
        self._spill()

    def entries(self) -> Iterator[Entry]:
        """All that wait, oldest first. Raises OSError."""
        if self._in_file:
            with self.path.open("rb") as file:
                for line in file:
                    yield _decode(line)
        yield from self._memory

    def clear(self) -> None:
        """Forgets everything: it is in the database now. Raises OSError."""
        self._memory.clear()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.path.unlink(missing_ok=True)
        self._in_file = self._size = 0

    def close(self) -> None:
        """Tries once more to bring the memory to the disk; `pending` less what is in the file is lost then."""
        self._spill()
        self.lost += len(self._memory)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _spill(self) -> None:
        if not self._memory:
            return
        try:
            fd = self._open_file()
            data = b"".join(map(_encode, self._memory))
            try:
                _write_all(fd, data)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, self._size)  # no half line, and none twice
                raise
        except OSError:
            return
        self._size += len(data)
        self._in_file += len(self._memory)
        self._memory.clear()

    def _open_file(self) -> int:
        """The file, ready to append; a line cut off by a crash was never acknowledged and is cut away."""
        if self._fd is not None:
            return self._fd
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        try:
            with self.path.open("rb") as file:
                lines = [len(line) for line in file if line.endswith(b"\n")]
            self._size, self._in_file = sum(lines), len(lines)
            os.ftruncate(fd, self._size)
            _sync_folder(self.path.parent)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def described(change: Change) -> list[object]:
    """The change as a line of the journal has it: its name, then its fields."""
    return [type(change).__name__.lower(), *_fields(change)]


def _fields(change: Change) -> Iterator[object]:
    for field in fields(change):
        value = getattr(change, field.name)
        flat = field.name in ("row", "values")  # columns; an event's data is a tree and stays one
        yield {str(key): plain(item) for key, item in value.items()} if flat else value


def _encode(entry: Entry) -> bytes:
    return to_json([entry.run, entry.number, [described(change) for change in entry.changes]]).encode() + b"\n"


def _decode(line: bytes) -> Entry:
    """The batch of a line; one that cannot be read becomes an event, in a run of its own so that it comes once."""
    try:
        run, number, changes = json.loads(line)
        return Entry(str(run), int(number), [_KINDS[name](*parts) for name, *parts in changes])
    except (ValueError, TypeError, KeyError):
        text = line.decode("utf-8", "backslashreplace").rstrip("\n")
        event = Event(utc_now(), "system", "records", None, "journal_line_damaged", {"line": text})
        return Entry(f"damaged-{sha256(line).hexdigest()}", 1, [event])
