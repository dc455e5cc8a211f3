"""Targets that failed of late: they are tried last for a while (RFC 3263 4.3)."""

from collections.abc import Iterable

from siaga_pbx.sip.flow import Target, Way

AVOIDED_S = 60.0
MAX_AVOIDED = 256


class Avoided:
    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Target, float] = {}

    def add(self, target: Target, now: float) -> None:
        if len(self._until) >= MAX_AVOIDED:
            self._until.clear()
        self._until[target] = now + AVOIDED_S

    def remove(self, target: Target) -> None:
        """It answered."""
        self._until.pop(target, None)

    def order(self, ways: Iterable[Way], now: float) -> list[Way]:
        """The same ways, those that failed of late last."""
        return sorted(ways, key=lambda way: isinstance(way, Target) and self._until.get(way, 0.0) > now)
