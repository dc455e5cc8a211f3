"""Keys as telephone-events (RFC 4733): read, one a press, whatever is lost, repeated or long; and sent."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_EVENT = struct.Struct("!BBH")
_KEYS = "0123456789*#ABCDF"
"""By event code (RFC 4733 section 3.2); 16 is hook flash."""
_PAUSE = 200
"""Samples (25 ms). Two presses have a longer pause between them (ITU-T Q.24); what starts sooner after the end known so
far of the last one is that one going on: the next segment of a long press (section 2.5.1.3), or a sender that moves the
timestamp along."""


class KeyReader:
    """Reads the events of one stream, in the order they come."""

    __slots__ = ("_code", "_duration", "_started")

    def __init__(self) -> None:
        self._code = -1
        self._started = 0
        self._duration = 0

    def read(self, timestamp: int, payload: bytes) -> str | None:
        """The key, at the first packet of a press: the first, or any later one if those before it were lost."""
        if len(payload) < 4:
            return None
        code, _, duration = _EVENT.unpack_from(payload)
        since = (timestamp - self._started) & 0xFFFFFFFF
        if self._code >= 0 and since & 0x80000000:
            return None  # a late packet of an earlier press
        known = self._code >= 0 and (since == 0 or (code == self._code and since <= self._duration + _PAUSE))
        if known:
            self._duration = max(self._duration, since + duration)
            return None
        self._code, self._started, self._duration = code, timestamp, duration
        return _KEYS[code] if code < len(_KEYS) else None


TICK = 160
"""Samples between two packets of an event that we send."""
PRESS = 5
"""Ticks (100 ms) a key of ours is held: more than twice what ITU-T Q.24 wants of it."""
PAUSE = 5
"""Ticks from its end to the next key."""
ENDS = 3
"""How often the end is sent (RFC 4733 section 2.5.1.4)."""
_VOLUME = 10


@dataclass(frozen=True, slots=True)
class KeyPacket:
    """`first`: it begins an event, and so has a timestamp of its own and the marker."""

    payload: bytes
    first: bool


def presses(keys: str) -> Iterator[KeyPacket | None]:
    """What goes out at each tick to press these keys one after another; None: silence. What is no key is left out."""
    for code in [_KEYS.index(key) for key in keys if key in _KEYS]:
        for tick in range(1, PRESS + ENDS):
            duration, end = min(tick, PRESS) * TICK, tick >= PRESS
            yield KeyPacket(_EVENT.pack(code, end << 7 | _VOLUME, duration), tick == 1)
        yield from [None] * (PAUSE - ENDS + 1)
