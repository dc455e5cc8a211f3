"""The sum of what each is to hear."""

import numpy as np
import pytest

from siaga_pbx.media.g711 import FRAME, encode
from siaga_pbx.media.mixer import encoded, mix, who_hears
from siaga_pbx.media.protocol import Codec, Part


def test_each_hears_all_others_and_not_itself() -> None:
    hears = who_hears([(name, Part.TALK, None) for name in "abc"])
    mixed = mix(hears, [np.full(FRAME, level, dtype=np.int16) for level in (1, 10, 100)])
    assert mixed[:, 0].tolist() == [110, 101, 11]


def test_who_listens_is_heard_by_none_and_who_whispers_by_one() -> None:
    parts = [("a", Part.TALK, None), ("b", Part.TALK, None), ("c", Part.LISTEN, None), ("d", Part.WHISPER, "b")]
    assert who_hears(parts).tolist() == [[0, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_a_whisper_to_nobody_or_to_oneself_is_heard_by_nobody() -> None:
    parts = [("a", Part.TALK, None), ("b", Part.WHISPER, "gone"), ("c", Part.WHISPER, None), ("d", Part.WHISPER, "d")]
    assert not who_hears(parts)[:, 1:].any()


def test_what_is_too_loud_is_clipped_and_silence_is_nothing() -> None:
    hears = who_hears([(str(n), Part.TALK, None) for n in range(9)])
    loud = np.full(FRAME, 32767, dtype=np.int16)
    assert set(mix(hears, [loud] * 9).ravel().tolist()) == {32767}
    assert set(mix(hears, [(-32768 * np.ones(FRAME)).astype(np.int16)] * 9).ravel().tolist()) == {-32768}
    assert not mix(hears, [None] * 9).any()
    assert who_hears([]).shape == (0, 0)


@pytest.mark.parametrize("law", Codec)
def test_the_table_encodes_every_sample_as_the_law_does(law: Codec) -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    assert encoded(samples, law) == encode(samples, law)
