"""How often something may happen: so many a second for each key, and some more at once."""

from collections.abc import Hashable


class Pace:
    """A bucket for each key, kept as the one time at which it will be full again (GCRA, ITU-T I.371).

    A key that is full is no entry, so that the table holds only who was lately heard.
    """

    __slots__ = ("_ahead_s", "_every_s", "_full_at", "_most")

    def __init__(self, a_second: float, at_once: int, most: int) -> None:
        """`most` keys are kept; others are refused meanwhile."""
        self._every_s = 1.0 / a_second
        self._ahead_s = (at_once - 1) / a_second
        self._most = most
        self._full_at: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def has(self, key: Hashable, now: float) -> bool:
        """Whether one is left for the key; nothing is taken."""
        return self._full_at.get(key, 0.0) - now <= self._ahead_s

    def takes(self, key: Hashable, now: float, heads: int = 1, at_once: int | None = None) -> bool:
        """Takes one, if one is left.

        `heads` share the key: each has the whole measure, but if `at_once` is given all have only that at once.
        """
        every_s = self._every_s / heads
        ahead_s = self._ahead_s if at_once is None else (at_once - 1) * every_s
        full_at = self._full_at.get(key, now)
        if full_at <= now:
            full_at = now
            if len(self._full_at) >= self._most and not self._has_room(now):
                return False
        elif full_at - now > ahead_s:
            return False
        self._full_at[key] = full_at + every_s
        return True

    def _has_room(self, now: float) -> bool:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        return len(self._full_at) < self._most
