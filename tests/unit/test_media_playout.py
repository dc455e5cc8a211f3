"""What a conference hears of a far side whose packets come as they like, in virtual time."""

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siaga_pbx.media.g711 import FRAME, RATE, decode, encode
from siaga_pbx.media.playout import RESERVE, Playout
from siaga_pbx.media.protocol import Codec
from tests.tones import faults, tone

PITCH, LEVEL = 1000.0, 8000.0
FIRST = 0xFFFFF000
"""The timestamps go round soon."""


def heard(
    seconds: float,
    *,
    ptime_ms: int = 20,
    delay_s: Callable[[int, float], float | None] = lambda _number, _at: 0.0,
    faster: float = 0.0,
    law: Codec = Codec.PCMA,
) -> NDArray[np.int16]:
    """What is taken of a tone. Each packet comes `delay_s` (by its number and time) late, or never; the far side's
    clock is `faster` than ours by so many parts of one."""
    size = ptime_ms * RATE // 1000
    number = int(seconds * RATE / size)
    codes = encode(tone(PITCH, number * size, LEVEL), law)
    arrivals = []
    for n in range(number):
        at = n * size / RATE / (1 + faster)
        if (delay := delay_s(n, at)) is not None:
            arrivals.append((at + delay, n))
    packets = deque(sorted(arrivals))
    playout, taken = Playout(), []
    for tick in range(int(seconds * 50)):
        now = tick * 0.02 + 0.0103
        while packets and packets[0][0] <= now:
            at, n = packets.popleft()
            playout.put(1, FIRST + n * size & 0xFFFFFFFF, codes[n * size : (n + 1) * size], law, at)
        frame = playout.take(now)
        taken.append(np.zeros(FRAME, dtype=np.int16) if frame is None else frame)
    return np.concatenate(taken)


def quiet_frames(samples: NDArray[np.int16]) -> int:
    return sum(not frame.any() for frame in samples.reshape(-1, FRAME))


@pytest.mark.parametrize("law", Codec)
@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_every_packet_length_is_heard_whole_some_40_ms_late(ptime_ms: int, law: Codec) -> None:
    samples = heard(6.0, ptime_ms=ptime_ms, law=law)
    first = int(np.flatnonzero(np.abs(samples) > LEVEL / 4)[0])
    assert RESERVE <= first <= RESERVE + FRAME
    assert faults(samples[RATE : 5 * RATE], [PITCH], LEVEL) == []


def test_jitter_within_the_reserve_is_not_heard() -> None:
    chance = np.random.default_rng(1)
    samples = heard(10.0, delay_s=lambda _n, _at: float(chance.uniform(0.0, 0.025)))
    assert faults(samples[RATE : 9 * RATE], [PITCH], LEVEL) == []


@pytest.mark.parametrize("faster", [200e-6, -200e-6])
def test_a_clock_that_is_not_ours_costs_nothing_in_ten_minutes(faster: float) -> None:
    samples = heard(600.0, faster=faster)
    after = samples[RATE : 599 * RATE]
    assert quiet_frames(after) == 0
    loudness = np.sqrt((after.reshape(-1, FRAME).astype(np.float64) ** 2).mean(axis=1))
    assert np.abs(20 * np.log10(loudness / LEVEL * np.sqrt(2))).max() < 0.3
    bend = LEVEL * (2 * np.pi * PITCH / RATE) ** 2  # as much as a sine bends from sample to sample: no step in it
    assert np.abs(np.diff(after.astype(np.int32), 2)).max() < 1.05 * bend


def test_a_lost_packet_fades_and_two_fall_silent() -> None:
    lost = {100, 200, 201, 202, 203, 204}
    samples = heard(6.0, delay_s=lambda n, _at: None if n in lost else 0.0)
    frames = np.abs(samples.reshape(-1, FRAME)).max(axis=1)
    softer = [n for n in range(50, 290) if frames[n] < LEVEL * 0.9]  # the first of each begins as loud as the last was
    assert len(softer) == 4
    assert quiet_frames(samples[RATE : 5 * RATE]) == 3
    assert faults(samples[int(2.5 * RATE) : int(3.5 * RATE)], [PITCH], LEVEL) == []


def test_a_way_that_becomes_longer_is_followed_and_the_delay_shrinks_again() -> None:
    samples = heard(30.0, delay_s=lambda _n, at: 0.15 if 5.0 < at < 10.0 else 0.0)
    assert faults(samples[6 * RATE : 9 * RATE], [PITCH], LEVEL) == []
    assert faults(samples[25 * RATE : 29 * RATE], [PITCH], LEVEL) == []
    assert np.abs(samples[-8 * FRAME :]).max() > LEVEL / 2  # what came last is not still to be heard


def test_silence_suppressed_is_silence_and_the_next_words_are_heard_from_their_first_sample() -> None:
    samples = heard(6.0, delay_s=lambda n, _at: None if 100 <= n < 200 else 0.0)
    pause = quiet_frames(samples[RATE : 5 * RATE])
    assert 94 <= pause <= 100
    words = samples[int(4.2 * RATE) :]
    assert faults(words[: int(1.5 * RATE)], [PITCH], LEVEL) == []


def test_a_new_numbering_begins_anew() -> None:
    playout = Playout()
    codes = encode(tone(PITCH, FRAME, LEVEL), Codec.PCMU)
    for epoch in (1, 2):
        playout.put(epoch, epoch * 0x40000000, codes, Codec.PCMU, epoch)
        frames = [playout.take(epoch) for _ in range(3)]
        assert frames[2] is not None
        assert np.abs(frames[2]).max() > LEVEL / 2


def test_a_packet_before_the_first_tick_changes_no_pace() -> None:
    """The monotonic clock is far from zero: who talks as he enters is heard as he is, not drawn out."""
    playout, codes = Playout(), encode(tone(PITCH, 4 * RATE, LEVEL), Codec.PCMA)
    taken = []
    for n in range(200):
        at = 50_000.0 + n * 0.02
        playout.put(1, n * FRAME, codes[n * FRAME : (n + 1) * FRAME], Codec.PCMA, at)
        frame = playout.take(at + 0.0103)
        taken.append(np.zeros(FRAME, dtype=np.int16) if frame is None else frame)
    said, samples = decode(codes, Codec.PCMA), np.concatenate(taken)
    assert np.array_equal(samples[RESERVE:], said[:-RESERVE])


def test_what_comes_after_later_audio_was_heard_is_left_out() -> None:
    playouts = Playout(), Playout()
    codes = encode(tone(PITCH, FRAME, LEVEL), Codec.PCMA)
    for playout in playouts:
        for n in (0, 1, 3):
            playout.put(1, n * FRAME, codes, Codec.PCMA, 0.0)
        for _ in range(6):
            playout.take(0.0)
    playouts[0].put(1, 2 * FRAME, codes, Codec.PCMA, 0.0)
    assert [playout.late for playout in playouts] == [1, 0]
    with_it, without = ([playout.take(0.0) for _ in range(4)] for playout in playouts)
    assert str(with_it) == str(without)


@pytest.mark.parametrize("size", [1, 79, 1600, 3900, 65000])
def test_any_length_of_packet_is_survived(size: int) -> None:
    playout = Playout()
    for n in range(20):
        playout.put(1, n * size & 0xFFFFFFFF, bytes(size), Codec.PCMA, n / 50)
        frame = playout.take(n / 50)
        assert frame is None or len(frame) == FRAME


packets = st.tuples(
    st.integers(1, 3),
    st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(-5000, 5000), st.integers(-40, 40).map(lambda n: n * FRAME)),
    st.sampled_from([1, 80, 160, 163, 240, 480, 1600, 4000]),
    st.sampled_from(Codec),
)


@given(st.lists(st.one_of(packets, st.integers(1, 80))))
def test_whatever_comes_there_is_a_frame_or_silence(history: list[tuple[int, int, int, Codec] | int]) -> None:
    """Of packets (numbering, timestamp, size, law) and numbers of 20 ms, in any order."""
    playout, now = Playout(), 1000.0
    for one in history:
        if isinstance(one, tuple):
            epoch, timestamp, size, law = one
            playout.put(epoch, timestamp & 0xFFFFFFFF, bytes(size), law, now)
            continue
        for _ in range(one):
            now += 0.02
            frame = playout.take(now)
            assert frame is None or (frame.shape == (FRAME,) and frame.dtype == np.int16)
