"""G.711 against the interpreter's own tables, and the standard's conversion tables against their defining property."""

import warnings

import numpy as np
import pytest

from siaga_pbx.media.g711 import LINEAR, SILENCE, TO_LAW, decode, encode
from siaga_pbx.media.protocol import Codec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

CODES = bytes(range(256))
OTHER = {Codec.PCMA: Codec.PCMU, Codec.PCMU: Codec.PCMA}


def test_decoding_is_the_reference() -> None:
    assert decode(CODES, Codec.PCMA).astype("<i2").tobytes() == audioop.alaw2lin(CODES, 2)
    assert decode(CODES, Codec.PCMU).astype("<i2").tobytes() == audioop.ulaw2lin(CODES, 2)


@pytest.mark.parametrize("law", list(Codec))
def test_encoding_takes_the_nearest_level(law: Codec) -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    levels = LINEAR[law].astype(np.int32)
    off = np.abs(levels[np.frombuffer(encode(samples, law), np.uint8)] - samples)
    nearest = np.abs(levels[None, :] - samples[::97, None].astype(np.int32)).min(axis=1)
    assert (off[::97] == nearest).all()


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


def test_known_pairs_of_the_standard() -> None:
    """G.711 tables 3 and 4 at their ends: full scale to full scale, the smallest to the smallest."""
    to_a, to_mu = TO_LAW[Codec.PCMA], TO_LAW[Codec.PCMU]
    assert (to_a[0x80], to_a[0x00]) == (0xAA, 0x2A)
    assert (to_mu[0xAA], to_mu[0x2A]) == (0x80, 0x00)
    assert (to_a[0xFF], to_a[0x7F]) == (0xD5, 0x55)
    assert (to_mu[0xD5], to_mu[0x55]) == (0xFE, 0x7E)
