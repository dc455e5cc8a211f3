"""Whether the far side of a leg is heard as it should be: a leg without audio is told of within three seconds."""

from siaga_pbx.media.protocol import HeardAgain, Unheard

UNHEARD_S = 2.0
"""Silence that is a fault. Looked for each second, it is told of within three."""
HEARD_S = 1.0
"""Who was heard so lately is heard."""


class Hearing:
    """One leg's. `expect` at each change of what was agreed, `look` each second."""

    __slots__ = ("_leg", "_lost_at", "_one_way", "_since")

    def __init__(self, leg: str) -> None:
        self._leg = leg
        self._since: float | None = None
        self._lost_at: float | None = None
        self._one_way = False

    @property
    def expected(self) -> bool:
        """Whether the far side is to be heard now."""
        return self._since is not None

    def expect(self, expected: bool, now: float) -> None:
        """Not while either side holds the other: then nothing that does not come is missing."""
        if not expected:
            self._since = None
        elif self._since is None:
            self._since = now

    def look(self, last_at: float, other_at: float | None, now: float) -> Unheard | HeardAgain | None:
        """What is to be told. `other_at`: when the other side of the bridge was heard last, if it has one."""
        since = max(self._since, last_at) if self._since is not None else now
        if now - since < UNHEARD_S:
            lost_at, self._lost_at = self._lost_at, None
            return None if lost_at is None else HeardAgain(self._leg, round(now - lost_at, 1))
        one_way = other_at is not None and now - other_at < HEARD_S
        if self._lost_at is not None and not (one_way and not self._one_way):
            return None
        self._lost_at, self._one_way = since, one_way
        return Unheard(self._leg, round(now - since, 1), one_way)
