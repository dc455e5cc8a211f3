"""Wrong passwords: counted by user and source address, then met with silence, longer each time (DESIGN 3, "Seats").

By both, so that neither a whole NAT nor a seat everywhere is locked out by one who guesses.
"""

from collections import OrderedDict
from dataclasses import dataclass

LIMIT = 5
"""Wrong passwords before the first silence: a person who mistypes is done by then."""
FIRST_SILENCE_S = 30.0
LONGEST_SILENCE_S = 3600.0
FORGET_S = 7200.0
"""A count is dropped when nothing wrong came for this long."""
MAX_COUNTS = 10_000
"""Of known users, and as many of unknown ones; the oldest is dropped beyond it."""


@dataclass(slots=True)
class _Count:
    wrong: int
    last: float
    silence: float = FIRST_SILENCE_S
    silent_until: float = 0.0


class Failures:
    """One table. Users that exist and users that do not have one each, so that made-up names cannot flush real ones."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def is_silent(self, user: str, host: str, now: float) -> bool:
        """Whether this user is not to be answered at this address now."""
        count = self._counts.get((user, host))
        return count is not None and now < count.silent_until

    def failed(self, user: str, host: str, now: float) -> None:
        key = (user, host)
        count = self._counts.get(key)
        if count is None or now - count.last > FORGET_S:
            count = self._counts[key] = _Count(0, now)
        count.wrong += 1
        count.last = now
        self._counts.move_to_end(key)
        if count.wrong >= LIMIT:
            # From here on every single wrong password starts a silence, twice as long as the last.
            count.silent_until = now + count.silence
            count.silence = min(2 * count.silence, LONGEST_SILENCE_S)
        if len(self._counts) > MAX_COUNTS:
            self._counts.popitem(last=False)

    def passed(self, user: str, host: str) -> None:
        """The right password: the count is over."""
        self._counts.pop((user, host), None)
