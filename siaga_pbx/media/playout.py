"""What a conference hears of one far side: its packets in as they come, 20 ms at a time out by our clock. Pure.

Packets come unevenly, in sizes of the far side's choice, late or not at all, by a clock that is not ours. So its audio
is held back by some 40 ms; that grows when packets come later than that, and shrinks again by playing a little faster.
What is missing is the last 20 ms once more, fading; then silence.
"""

from math import inf

import numpy as np
from numpy.typing import NDArray

from siaga_pbx.media.g711 import FRAME, LINEAR, RATE, Samples
from siaga_pbx.media.protocol import Codec

RESERVE = 240
"""Samples (30 ms) of silence before the first packet, and up to 20 ms until the next frame is taken."""
LOW, MIDDLE, HIGH = 120, 280, 440
"""Samples that the latest packet of a second comes before it is needed. If they are fewer than LOW or more than HIGH,
they are brought to MIDDLE (35 ms) by a sample in 20 ms: one part in 160, which nobody hears."""
TOO_MANY = 800
"""More than these (100 ms) are left out at once."""
IDLE = 10
"""Frames without a packet (200 ms) after which the next one begins anew."""
FADE = 2
"""Frames over which what is missing fades."""

_SIZE = 4096
"""Samples held (512 ms): a power of two, so that a timestamp is its place in the ring."""
_LONGEST = _SIZE - RESERVE
_WINDOW = 50
_TAPS = 8
_SIGN = 1 << 31
_ALL = (1 << 32) - 1
_RAMPS = tuple(np.linspace(1 - n / FADE, 1 - (n + 1) / FADE, FRAME, endpoint=False) for n in range(FADE))


def _stretched(number: int) -> NDArray[np.float64]:
    """The matrix that makes a frame of so many samples, by a windowed sinc. What lies between two samples by half is in
    the middle of the frame: at its ends, where samples to both sides are missing, there is next to nothing between."""
    apart = np.arange(FRAME)[:, None] * (number / FRAME) - np.arange(number)
    taps = np.sinc(apart) * np.cos(np.clip(apart / _TAPS, -1, 1) * np.pi / 2) ** 2
    return np.array(taps / taps.sum(axis=1, keepdims=True), dtype=np.float64)


_STRETCHED = {step: _stretched(FRAME + step) for step in (-1, 1)}


class Playout:
    """`put` each packet, `take` every 20 ms."""

    __slots__ = (
        "_epoch",
        "_faded",
        "_idle",
        "_last",
        "_least",
        "_looked",
        "_newest",
        "_next",
        "_samples",
        "_slip",
        "_taken_at",
        "_there",
        "late",
    )

    def __init__(self) -> None:
        self.late = 0
        """Packets that came too late to be heard."""
        self._samples = np.zeros(_SIZE, dtype=np.int16)
        self._there = np.zeros(_SIZE, dtype=np.bool_)
        self._next = self._newest = 0
        """Timestamps: of the next sample to be taken, and of the one behind the last that came."""
        self._epoch = -1
        self._idle = IDLE
        self._last: Samples = np.zeros(FRAME, dtype=np.int16)
        self._faded = FADE
        self._taken_at = inf
        """Infinite until the first frame is taken: what comes before says nothing of when packets come."""
        self._least, self._looked, self._slip = inf, 0, 0

    def put(self, epoch: int, timestamp: int, codes: bytes, law: Codec, now: float) -> None:
        """A packet's audio; `epoch` tells one numbering of the source from the next. None comes twice."""
        size = len(codes)
        if size > _LONGEST:
            return
        ahead = _signed(timestamp - self._next)
        if epoch != self._epoch or self._idle >= IDLE or not -_SIZE < ahead <= _SIZE - size:
            self._epoch, self._newest, self._idle = epoch, timestamp, 0
            self._there[:] = False
            ahead = self._hold_back(timestamp)
        elif ahead < 0:
            if _signed(timestamp + size - self._newest) <= 0:
                self.late += 1
                return
            ahead = self._hold_back(timestamp)  # the newest there is: its way has become longer
        self._least = min(self._least, FRAME * (ahead // FRAME + 1) - (now - self._taken_at) * RATE)
        self._lay_down(timestamp & (_SIZE - 1), LINEAR[law][np.frombuffer(codes, dtype=np.uint8)])
        if _signed(timestamp + size - self._newest) > 0:
            self._newest = (timestamp + size) & _ALL

    def take(self, now: float) -> Samples | None:
        """The next 20 ms, `FRAME` linear samples; None for silence."""
        self._taken_at = now
        if _signed(self._newest - self._next) <= 0:
            if self._idle < IDLE:
                self._idle += 1
                self._next = (self._next + FRAME) & _ALL
            return self._missing()
        self._idle = 0
        self._look()
        if self._slip and self._there[self._places(FRAME + 1)].all():
            return self._slipped()
        samples, there = self._cut(FRAME)
        if there.all():
            self._last, self._faded = samples, 0
            return samples
        fill = self._missing()
        return np.where(there, samples, 0 if fill is None else fill).astype(np.int16)

    def _hold_back(self, timestamp: int) -> int:
        """A packet, and all after it, is to be heard after the reserve."""
        self._next = (timestamp - RESERVE) & _ALL
        self._least, self._looked, self._slip = inf, 0, 0
        return RESERVE

    def _missing(self) -> Samples | None:
        """What stands for 20 ms that are not there."""
        if self._faded == FADE:
            return None
        self._faded += 1
        return (self._last * _RAMPS[self._faded - 1]).astype(np.int16)

    def _look(self) -> None:
        """Once a second: whether there is too much of a reserve, or too little."""
        self._looked += 1
        if self._looked < _WINDOW:
            return
        spare, self._least, self._looked = self._least, inf, 0
        if TOO_MANY < spare < inf:
            self._cut(round(spare) - MIDDLE)
        elif not LOW <= spare <= HIGH and spare < inf:
            self._slip = round(spare) - MIDDLE

    def _slipped(self) -> Samples:
        """20 ms made of one sample more than they have, or one fewer."""
        step = 1 if self._slip > 0 else -1
        self._slip -= step
        samples, _ = self._cut(FRAME + step)
        self._last = np.clip(np.rint(_STRETCHED[step] @ samples), -32768, 32767).astype(np.int16)
        self._faded = 0
        return self._last

    def _lay_down(self, start: int, samples: Samples) -> None:
        first = min(len(samples), _SIZE - start)
        self._samples[start : start + first] = samples[:first]
        self._there[start : start + first] = True
        self._samples[: len(samples) - first] = samples[first:]
        self._there[: len(samples) - first] = True

    def _cut(self, number: int) -> tuple[Samples, NDArray[np.bool_]]:
        """Take samples out, and which of them there are."""
        places = self._places(number)
        samples, there = self._samples[places], self._there[places]
        self._there[places] = False
        self._next = (self._next + number) & _ALL
        return samples, there

    def _places(self, number: int) -> NDArray[np.int_]:
        """Of the next samples in the ring."""
        return np.arange(self._next, self._next + number) & (_SIZE - 1)


def _signed(difference: int) -> int:
    """Of two timestamps, of 32 bits."""
    return ((difference + _SIGN) & _ALL) - _SIGN
