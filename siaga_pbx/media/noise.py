"""Comfort noise (RFC 3389) for who takes none: white, as loud as the packet says."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from siaga_pbx.media.g711 import FRAME, RATE, encode
from siaga_pbx.media.protocol import Codec

LOUDEST = 30
"""The loudest that is made, in -dBov: what is louder is no background, and would hurt an ear on a headset."""
QUIETEST = 78
"""Less is lost in G.711's smallest step."""


def comfort(payload: bytes, law: Codec) -> Iterator[bytes]:
    """20 ms frames for ever. Of the payload the level is used (section 3.1), not the spectrum."""
    level = min(max(payload[0] & 0x7F, LOUDEST), QUIETEST)
    chance = np.random.default_rng()
    frames = _second(level, law)
    while True:
        for at in chance.permutation(len(frames)):  # no second is like the last: what repeats is heard as a rhythm
            yield frames[at]


@lru_cache(maxsize=64)
def _second(level: int, law: Codec) -> tuple[bytes, ...]:
    loudness = 32768 * 10 ** (-level / 20)
    samples = np.clip(np.random.default_rng(level).normal(0.0, loudness, RATE), -32768, 32767)
    codes = encode(np.round(samples).astype(np.int16), law)
    return tuple(codes[start : start + FRAME] for start in range(0, RATE, FRAME))
