"""Packets of another length than the source's: cut, and sent as if they had been made one by one."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

_UNIT = 80
"""Samples (10 ms) that lengths of packets are multiples of."""


class Cancellable(Protocol):
    """What a loop's `call_later` returns."""

    def cancel(self) -> None: ...


Later: TypeAlias = Callable[[float, Callable[[], None]], Cancellable]
"""A loop's `call_later`."""


def pieces(length: int, longest: int) -> int:
    """In how many equal packets so many samples go that none is longer: pieces of whole 10 ms if there are such.

    Equal ones, as there are receivers that take the first packet's length for that of all.
    """
    least = -(-length // longest)
    even = [count for count in range(least, length // _UNIT + 1) if length % (count * _UNIT) == 0]
    return even[0] if even else least


class Spread:
    """Packets that wait for their moment (without `later` none does). `flush` sends them: nothing may overtake them."""

    __slots__ = ("_later", "waiting")

    def __init__(self, later: Later | None) -> None:
        self._later = later
        self.waiting: tuple[tuple[Cancellable, Callable[[], None]], ...] = ()
        """Few if any: every leg has one of these."""

    def add(self, delay_s: float, send: Callable[[], None]) -> None:
        """Behind those that wait; `delay_s` is not less than theirs."""
        if self._later is None:
            send()
        else:
            self.waiting += ((self._later(delay_s, self._due), send),)

    def flush(self) -> None:
        while self.waiting:
            timer, send = self._first()
            timer.cancel()
            send()

    def drop(self) -> None:
        """The leg is over."""
        while self.waiting:
            self._first()[0].cancel()

    def _due(self) -> None:
        self._first()[1]()

    def _first(self) -> tuple[Cancellable, Callable[[], None]]:
        first, *rest = self.waiting
        self.waiting = tuple(rest)
        return first
