"""G.711: the two laws, to linear and back, and from one to the other without linear in between.

Codes are bytes as they stand in RTP (A-law with its even bits inverted, mu-law with all bits inverted). Linear samples
are 16-bit, as the 13- and 14-bit values of the standard shifted up.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from siaga_pbx.media.protocol import Codec

Samples = NDArray[np.int16]

RATE = 8000
FRAME = 160
"""Samples, and bytes, in a packet of 20 ms."""

SILENCE = {Codec.PCMU: 0xFF, Codec.PCMA: 0xD5}
"""The code of the smallest positive value."""


def _from_a_law(code: int) -> int:
    bits = code ^ 0x55
    exponent, mantissa = (bits >> 4) & 7, bits & 15
    level = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return level if bits & 0x80 else -level


def _from_mu_law(code: int) -> int:
    bits = ~code
    level = ((((bits & 15) << 3) + 0x84) << ((bits >> 4) & 7)) - 0x84
    return -level if bits & 0x80 else level


# ITU-T G.711 tables 3 and 4: which value number of one law stands for each value number of the other, from the smallest
# magnitude up. A-law counts from 1, mu-law from 0, as in the standard.
_MU_TO_A: tuple[int, ...] = (
    *(n for n in range(1, 9) for _ in range(2)),
    *range(9, 25), *(25, 27, 29, 31), *range(33, 45), *(46,), *range(48, 63), *range(64, 81), *range(82, 129),
)  # fmt: skip
_A_TO_MU: tuple[int, ...] = (
    *range(1, 16, 2), *range(16, 32), *(n for n in range(32, 36) for _ in range(2)),
    *range(36, 48), *(48, 48, 49, 49), *range(50, 64), *(64, 64), *range(65, 80), *(80, 80), *range(81, 128),
)  # fmt: skip


def _mu_law_to_a_law(code: int) -> int:
    return 0xD5 ^ (_MU_TO_A[0xFF ^ code] - 1) if code & 0x80 else 0x55 ^ (_MU_TO_A[0x7F ^ code] - 1)


def _a_law_to_mu_law(code: int) -> int:
    return 0xFF ^ _A_TO_MU[code ^ 0xD5] if code & 0x80 else 0x7F ^ _A_TO_MU[code ^ 0x55]


TO_LAW = {
    Codec.PCMA: bytes(map(_mu_law_to_a_law, range(256))),
    Codec.PCMU: bytes(map(_a_law_to_mu_law, range(256))),
}
"""For `bytes.translate`: the other law's codes to this one's."""


def _levels(decode: Callable[[int], int]) -> Samples:
    return np.array([decode(code) for code in range(256)], dtype=np.int16)


LINEAR = {Codec.PCMA: _levels(_from_a_law), Codec.PCMU: _levels(_from_mu_law)}
"""Code to linear, by indexing."""


def decode(codes: bytes | bytearray, law: Codec) -> Samples:
    """Codes to linear samples."""
    return LINEAR[law][np.frombuffer(codes, dtype=np.uint8)]


def _a_law_codes() -> bytes:
    """For each magnitude in 16 bits, its positive code: G.711 table 1a, by the segment its 12 bits lie in."""
    magnitudes = np.arange(1 << 15) >> 4
    segment = np.maximum(np.frexp(magnitudes)[1] - 4, 0)
    steps = magnitudes >> np.maximum(segment - 1, 0)
    codes: bytes = ((segment << 4 | steps & 15) ^ 0xD5).astype(np.uint8).tobytes()
    return codes


def _mu_law_codes() -> bytes:
    """The same of table 2a: with 33 of the 14-bit standard's units added, segments are powers of two."""
    magnitudes = np.minimum((np.arange(1 << 15) >> 2) + 33, 0x1FFF)
    segment = np.frexp(magnitudes)[1] - 6
    codes: bytes = (0xFF ^ (segment << 4 | magnitudes >> (segment + 1) & 15)).astype(np.uint8).tobytes()
    return codes


def _by_sample(positive: bytes) -> NDArray[np.uint8]:
    """By all 16-bit samples as unsigned: a negative one (its ones' complement is its magnitude) has no sign bit."""
    codes = np.frombuffer(positive, dtype=np.uint8)
    return np.concatenate([codes, codes[::-1] ^ 0x80])


CODES = {Codec.PCMA: _by_sample(_a_law_codes()), Codec.PCMU: _by_sample(_mu_law_codes())}
"""Linear to code, by indexing with the samples as unsigned: the decision values of G.711, as ITU-T G.191 has them."""


def encode(samples: Samples, law: Codec) -> bytes:
    """Linear samples to codes."""
    return CODES[law][samples.view(np.uint16)].tobytes()
