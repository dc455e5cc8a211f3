"""Things to be done again after a time that is another at each."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Timetable(Generic[Item]):
    """`action` is given an item when it is due, and says in how many seconds it is again."""

    def __init__(self, action: Callable[[Item, float], float]) -> None:
        self._action = action
        self._due: list[tuple[float, int, Item]] = []
        self._items: set[Item] = set()
        self._number = count()

    def add(self, item: Item, at: float) -> None:
        """Due at this time first, and for as long as it is not removed."""
        self._items.add(item)
        heappush(self._due, (at, next(self._number), item))

    def remove(self, item: Item) -> None:
        self._items.discard(item)

    def run(self, now: float) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= now:
            _, _, item = heappop(self._due)
            if item in self._items:
                heappush(self._due, (now + self._action(item, now), next(self._number), item))
