"""What the store tells the rest of the daemon."""

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(*_: object) -> None:
    """The default hook."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called from the writer thread; they must not block, and what they raise is dropped.

    `on_alarm(name, active, detail)`: "records": the database fails and the journal takes over; "records_journal": the
    journal that an earlier run left cannot be read; "records_lost": the journal is full too and batches were dropped;
    "records_refused": a batch contradicted the database, see its event; "records_missed": the database has not any more
    what it had, as after going back to a backup. All but the first are never taken back.
    `on_commit(seconds)`: one transaction, from its begin until it was on the disk.
    `on_pending(batches)`: how many wait in the journal.
    """

    on_alarm: Callable[[str, bool, str], None] = _nothing
    on_commit: Callable[[float], None] = _nothing
    on_pending: Callable[[int], None] = _nothing
