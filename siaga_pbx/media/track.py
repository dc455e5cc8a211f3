"""One side of a recording in memory: G.711 codes laid down by RTP timestamp on the recording's own clock."""

from collections.abc import Callable

from siaga_pbx.media.g711 import RATE, SILENCE, TO_LAW
from siaga_pbx.media.protocol import Codec

SPAN = 8 * RATE
"""Samples a track can hold. It holds 0.7 s, the half second between two writings and the fifth held back for packets
that come late; more after the worker stood still, which costs it its life before this is too short."""
LEAP = 2 * RATE
"""A timestamp this far from the clock has been set anew."""
TOLERANCE = 80
"""Samples (10 ms) a track may stray from the clock before it is put right: half of what the two sides may differ."""
WATCHED = 50
"""Packets over which the least delayed tells how far a track has strayed: that one's delay is the network's, the others
waited somewhere on the way."""
WATCHED_S = 0.5
"""And how long these have to come for at least: those of a burst have all waited."""
_HALF = 1 << 31


class Track:
    """Codes by position, the number of samples since the recording began. What nobody wrote is silence.

    A packet is put where its timestamp says; where that is on the clock is found from the packets' arrival, as the far
    side's clock is not ours (200 parts in a million are 0.7 s in an hour).
    """

    __slots__ = (
        "_anchored",
        "_begin",
        "_best",
        "_codes",
        "_count",
        "_offset",
        "_over",
        "_placed",
        "_since",
        "_start",
        "_turned",
        "base",
        "end",
        "law",
    )

    def __init__(self, begin: Callable[[float], float], base: int = 0) -> None:
        """`begin` is called with the time of the first packet and tells when the recording began. Nothing is held of
        what is before `base`."""
        self._begin = begin
        self._start = 0.0
        self._codes = bytearray()
        self._offset = 0
        self._placed = False
        self._turned = True
        self._over = 0
        self._best = float("-inf")
        self._count = 0
        self._since = 0.0
        self._anchored = base
        """Where what is placed by the present offset begins."""
        self.law = Codec.PCMA
        self.base = base
        """The position of the first code held."""
        self.end = base
        """One past the last position ever written."""

    def write(self, timestamp: int, codes: bytes, law: Codec, now: float) -> None:
        """Lay down a packet's codes, in `law`, that came or went at `now`."""
        if not self._placed:
            self._place(law, now)
        clock = (now - self._start) * RATE
        position = ((timestamp + self._offset + _HALF) & 0xFFFFFFFF) - _HALF
        ahead = position - clock
        if self._turned or not -LEAP < ahead < LEAP or position < self.base:
            # A leap; or a far side so slow that its audio would lie in what is on disk already. What was said counts
            # more than when: it is put where the clock is now, and `_correct` mends it if that was a passing stall.
            position = self._anchor(timestamp, clock)
        elif ahead > self._best:
            if self._best == float("-inf"):
                self._since = now
            self._best = ahead
            if ahead > TOLERANCE:
                position -= self._shift(round(ahead))
        if position < self._anchored:
            self._anchored = position
        self._count += 1
        if self._count >= WATCHED and now - self._since >= WATCHED_S:
            self._correct()
        if law is not self.law:
            codes = codes.translate(TO_LAW[self.law])
        self._lay(position, codes)

    def turn(self, over: int) -> None:
        """Another source feeds the track: its first packet is put where the clock is, over at most so many of the last
        samples written."""
        self._turned = True
        self._over = over

    def cut(self, position: int) -> bytes:
        """Take out what is before a position, at most `SPAN` at once; it cannot be written any more."""
        size = min(max(0, position - self.base), SPAN)
        taken = bytes(self._codes[:size])
        del self._codes[:size]
        self.base += size
        return taken + self._silence(size - len(taken))

    def _place(self, law: Codec, now: float) -> None:
        self._placed = True
        self._start = self._begin(now)
        self.law = law

    def _silence(self, size: int) -> bytes:
        return bytes((SILENCE[self.law],)) * size

    def _lay(self, position: int, codes: bytes) -> None:
        first = position - self.base
        last = first + len(codes)
        if first >= 0 and last <= SPAN:
            self._codes += self._silence(first - len(self._codes))
            self._codes[first:last] = codes
            if position + len(codes) > self.end:
                self.end = position + len(codes)

    def _anchor(self, timestamp: int, clock: float) -> int:
        position = max(self.base, round(clock), self.end - self._over if self._turned else 0)
        self._turned = False
        self._offset = position - timestamp
        self._anchored = position
        self._best, self._count = float("-inf"), 0
        return position

    def _shift(self, late: int) -> int:
        """The packet that all is anchored by had come late, as one shows that came sooner: what was laid down since
        belongs that much earlier. It is moved over the silence before it, as far as that is still held; by how much."""
        first, last = self._anchored - self.base, self.end - self.base
        if first <= 0:
            return 0
        before = bytes(self._codes[max(0, first - late) : first])
        late = len(before) - len(before.rstrip(self._silence(1)))
        self._codes[first - late : last] = self._codes[first:last] + self._silence(late)
        self._offset -= late
        self._anchored -= late
        self._best -= late
        self.end -= late
        return late

    def _correct(self) -> None:
        if abs(self._best) > TOLERANCE:
            self._offset -= round(self._best)
        self._best, self._count = float("-inf"), 0
