"""One heap for every deadline of the core. An owner has at most one live entry in it: that of its earliest deadline."""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Protocol


class Timed(Protocol):
    """Something with deadlines. `scheduled` belongs to the heap: the entry it has there, None for none."""

    scheduled: float | None

    def next_at(self) -> float | None:
        """The earliest deadline, None for none."""


class Deadlines:
    """Entries are never removed when a deadline moves; they are passed over when they come up."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = count()

    def watch(self, owner: Timed) -> None:
        """Takes note of the owner's earliest deadline. To be called after whatever may have moved it."""
        at = owner.next_at()
        if at is not None and (owner.scheduled is None or at < owner.scheduled):
            owner.scheduled = at
            heappush(self._heap, (at, next(self._order), owner))

    def next_at(self) -> float | None:
        heap = self._heap
        while heap:
            at, _, owner = heap[0]
            if owner.scheduled == at and owner.next_at() == at:
                return at
            heappop(heap)
            if owner.scheduled == at:
                owner.scheduled = None
                self.watch(owner)
        return None

    def pop_due(self, now: float) -> Timed | None:
        """An owner with a deadline at or before now; the caller expires it and watches it again."""
        at = self.next_at()
        if at is None or at > now:
            return None
        owner = heappop(self._heap)[2]
        owner.scheduled = None
        return owner


@dataclass(slots=True, eq=False)
class Alarm:
    """One deadline that calls back. Set `at` to None to put it off; watch it again after moving it."""

    at: float | None
    ring: Callable[[float], None]
    scheduled: float | None = None

    def next_at(self) -> float | None:
        return self.at
