"""The store: whatever is recorded goes through its one writer thread."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from siaga_pbx.records.changes import Change


def _nothing(*_: object) -> None:
    """The default hook."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the store tells. All are called from the writer thread; none may block.

    `on_alarm(name, active, detail)`: "records" (the database fails, the journal takes over) or "records_lost";
    `on_commit(seconds)`: one transaction's time; `on_pending(batches)`: how many wait in the journal.
    """

    on_alarm: Callable[[str, bool, str], None] = _nothing
    on_commit: Callable[[float], None] = _nothing
    on_pending: Callable[[int], None] = _nothing


class Store:
    """The writer of the records."""

    def __init__(
        self, database: str, *, node: str | None = None, journal: Path | None = None, hooks: Hooks | None = None
    ):
        """`database` is the URL; `node` is this centre's node, whose crashed calls are closed at open()."""
        raise NotImplementedError

    def open(self, keep: Collection[str] = ()) -> None:
        """Migrates, checks, replays the journal, closes the rows of a crashed run (but for the calls to `keep`).

        Raises StoreInUse when another process writes to this database; for nothing else: a database that fails is an
        alarm, and the journal takes what is written until it works.
        """
        raise NotImplementedError

    def write(self, changes: Iterable[Change]) -> None:
        """Records the changes soon, in the order of the calls, as one. Never blocks, never raises."""
        raise NotImplementedError

    def commit(self, changes: Iterable[Change]) -> "Future[None]":
        """The future is done once all the changes are durable in the database; what was written before is, too.

        It fails with StoreUnavailable or ChangeRefused; then none of them is in the database, now or later. Never blocks.
        In asyncio: `await asyncio.wrap_future(store.commit(changes))`.
        """
        raise NotImplementedError

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until all that was written is in the database (True) or, when that fails, in the journal (False)."""
        raise NotImplementedError

    def close(self, timeout_s: float = 10.0) -> None:
        """Flushes and ends the writer thread. Later writes are dropped and counted, later commits fail."""
        raise NotImplementedError
