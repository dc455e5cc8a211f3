"""Things to be done again after a time that is another at each."""

from bisect import insort
from collections.abc import Callable
from operator import itemgetter
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Timetable(Generic[Item]):
    """`action` is given an item when it is due, and says in how many seconds it is again."""

    def __init__(self, action: Callable[[Item, float], float]) -> None:
        self._action = action
        self._due: list[tuple[float, Item]] = []

    def add(self, item: Item, at: float) -> None:
        """Due at this time first, and for as long as it is not removed."""
        insort(self._due, (at, item), key=itemgetter(0))

    def remove(self, item: Item) -> None:
        self._due = [due for due in self._due if due[1] != item]

    def run(self, now: float) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= now:
            _, item = self._due.pop(0)
            self.add(item, now + self._action(item, now))
