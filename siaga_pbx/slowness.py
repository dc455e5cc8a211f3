"""A disk or a server that does not answer: the record waits in memory, no call does. An alarm says so."""

from collections.abc import Callable

from siaga_pbx.records.store import Store

SLOW_S = 3.0
"""Longer than another process may hold the database before it counts as failing; no disk in order takes a tenth."""
CALM_S = 10.0
"""How long it must have been quick again: a disk that stalls again and again is one alarm."""
ALARM = "records_slow"


class Slowness:
    """`check` it every second."""

    def __init__(self, store: Store, alarm: Callable[[str, bool, str], None], now: Callable[[], float]) -> None:
        self._store, self._alarm, self._now = store, alarm, now
        self._slow_at: float | None = None

    @property
    def waiting(self) -> int:
        """How many batches wait in memory, while it is slow."""
        return self._store.queued if self._store.behind_s > SLOW_S else 0

    def check(self) -> None:
        """Raises the alarm, renews its detail, or takes it back."""
        behind_s = self._store.behind_s
        if behind_s > SLOW_S:
            self._slow_at = self._now()
            waiting = f"{self._store.queued} entries wait in memory"
            self._alarm(ALARM, True, f"the database has been at one thing for {behind_s:.0f} s: {waiting}")
        elif self._slow_at is not None and self._now() - self._slow_at > CALM_S:
            self._slow_at = None
            self._alarm(ALARM, False, "the database answers again")
