"""G.711 against the interpreter's own tables, and the standard's conversion tables against their defining property."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from siaga_pbx.media.g711 import LINEAR, SILENCE, TO_LAW, decode, encode
from siaga_pbx.media.protocol import Codec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

CODES = bytes(range(256))

# ITU-T G.711 (11/88), table 3: the A-law value number for each mu-law one, from 0; table 4: the other way,
# from 1.
TABLE_3 = (
    1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8,
    9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
    25, 27, 29, 31, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
    46, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62,
    64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79,
    80, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96,
    97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112,
    113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128,
)  # fmt: skip
TABLE_4 = (
    1, 3, 5, 7, 9, 11, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 27, 28, 29, 30, 31, 32, 32, 33, 33, 34, 34, 35, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 48, 49, 49,
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 64,
    65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80,
    80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95,
    96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127,
)  # fmt: skip
OTHER = {Codec.PCMA: Codec.PCMU, Codec.PCMU: Codec.PCMA}


def test_decoding_is_the_reference() -> None:
    assert decode(CODES, Codec.PCMA).astype("<i2").tobytes() == audioop.alaw2lin(CODES, 2)
    assert decode(CODES, Codec.PCMU).astype("<i2").tobytes() == audioop.ulaw2lin(CODES, 2)


def g191_a_law(sample: int) -> int:
    """ITU-T G.191's `alaw_compress`, written anew from its description: 12 bits of magnitude, halved to 5 and more."""
    magnitude = (~sample if sample < 0 else sample) >> 4
    if magnitude > 15:
        exponent = 1
        while magnitude > 16 + 15:
            magnitude >>= 1
            exponent += 1
        magnitude = magnitude - 16 + (exponent << 4)
    return (magnitude if sample < 0 else magnitude | 0x80) ^ 0x55


def g191_mu_law(sample: int) -> int:
    """`ulaw_compress`: 13 bits of magnitude and a bias of 33; segment and steps inverted."""
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 0x1FFF)
    segment, above = 1, magnitude >> 6
    while above:
        segment, above = segment + 1, above >> 1
    code = (8 - segment) << 4 | 15 - (magnitude >> segment & 15)
    return code if sample < 0 else code | 0x80


@pytest.mark.parametrize(("law", "reference"), [(Codec.PCMA, g191_a_law), (Codec.PCMU, g191_mu_law)])
def test_encoding_is_the_reference_for_every_sample(law: Codec, reference: Callable[[int], int]) -> None:
    samples = np.arange(-32768, 32768)
    assert encode(samples.astype(np.int16), law) == bytes(reference(int(sample)) for sample in samples)


@pytest.mark.parametrize("law", list(Codec))
def test_decoding_and_encoding_gives_the_code_back(law: Codec) -> None:
    back = encode(decode(CODES, law), law)
    different = [code for code in CODES if back[code] != code]
    assert different == ([0x7F] if law is Codec.PCMU else [])  # mu-law's negative zero becomes its positive one


def test_nothing_encodes_to_silence() -> None:
    assert encode(np.zeros(1, np.int16), Codec.PCMU) == bytes([SILENCE[Codec.PCMU]])
    assert encode(np.array([8], np.int16), Codec.PCMA) == bytes([SILENCE[Codec.PCMA]])


@pytest.mark.parametrize("law", list(Codec))
def test_conversion_is_as_near_as_any_code_or_one_step_from_it(law: Codec) -> None:
    source, target = LINEAR[OTHER[law]].astype(int), LINEAR[law].astype(int)
    levels = np.unique(target)
    for code in range(256):
        got = target[TO_LAW[law][code]]
        nearest = levels[np.abs(levels - source[code]).argmin()]
        at, best = np.searchsorted(levels, got), np.searchsorted(levels, nearest)
        assert abs(int(at) - int(best)) <= 1, code
        assert got * source[code] >= 0, f"{code} changes its sign"


@pytest.mark.parametrize("law", list(Codec))
def test_conversion_never_falls_where_the_source_rises(law: Codec) -> None:
    order = np.argsort(LINEAR[OTHER[law]], kind="stable")
    converted = LINEAR[law].astype(int)[np.frombuffer(TO_LAW[law], np.uint8)[order]]
    assert (np.diff(converted) >= 0).all()


def number(code: int, law: Codec) -> tuple[int, bool]:
    """The standard's value number of a code (A-law's from 1, mu-law's from 0), and whether it is positive."""
    levels = sorted({abs(int(level)) for level in LINEAR[law]})
    at = levels.index(abs(int(LINEAR[law][code])))
    return at + (1 if law is Codec.PCMA else 0), bool(code & 0x80)


def test_conversion_is_the_standards() -> None:
    for code in range(256):
        value, positive = number(code, Codec.PCMU)
        assert number(TO_LAW[Codec.PCMA][code], Codec.PCMA) == (TABLE_3[value], positive)
        value, positive = number(code, Codec.PCMA)
        assert number(TO_LAW[Codec.PCMU][code], Codec.PCMU) == (TABLE_4[value - 1], positive)


def test_known_pairs_of_the_standard() -> None:
    """G.711 tables 3 and 4 at their ends: full scale to full scale, the smallest to the smallest."""
    to_a, to_mu = TO_LAW[Codec.PCMA], TO_LAW[Codec.PCMU]
    assert (to_a[0x80], to_a[0x00]) == (0xAA, 0x2A)
    assert (to_mu[0xAA], to_mu[0x2A]) == (0x80, 0x00)
    assert (to_a[0xFF], to_a[0x7F]) == (0xD5, 0x55)
    assert (to_mu[0xD5], to_mu[0x55]) == (0xFE, 0x7E)
