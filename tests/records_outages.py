"""What the tests of the records' outages share: a bell for alarms, a store that tries again soon, numbered events."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.store import Store
from tests.records_databases import Database


class Bell:
    """The alarms as they came, and a way to wait for one."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, bool]] = []
        self.details: list[str] = []
        self._change = threading.Condition()

    def ring(self, name: str, active: bool, detail: str) -> None:
        assert detail
        with self._change:
            self.rung.append((name, active))
            self.details.append(detail)
            self._change.notify_all()

    def wait_for(self, name: str, active: bool) -> None:
        with self._change:
            assert self._change.wait_for(lambda: (name, active) in self.rung, 20), self.rung


@contextmanager
def opened(database: Database, bell: Bell | None = None) -> Iterator[Store]:
    store = database.store(Hooks(on_alarm=(bell or Bell()).ring), busy_timeout_s=0.1, retry_s=0.05)
    store.open()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size, mounted on the folder, which is to be there."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def kinds(database: Database) -> list[str]:
    """The kinds of the tests' own events, in the order of the chain."""
    return [str(kind) for (kind,) in database.rows("SELECT kind FROM event WHERE kind LIKE 'e0%' ORDER BY seq")]


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"e{number:05d}" for number in range(start, start + count)]
