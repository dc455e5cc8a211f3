"""A side of a recording: codes at their place in time, whatever the clocks and the network do."""

import random

import pytest

from siaga_pbx.media.g711 import RATE, TO_LAW
from siaga_pbx.media.protocol import Codec
from siaga_pbx.media.track import SPAN, Track


def frame(number: int) -> bytes:
    """160 codes that tell which frame they are."""
    return bytes(((number % 97) + 1,)) * 160


class Tape:
    """A track, and all that was ever cut from it."""

    def __init__(self) -> None:
        self.track = Track(lambda now: 0.0)
        self.whole = b""

    def write(self, number: int, now: float, offset: int = 0) -> None:
        while round((now - 0.2) * RATE) - self.track.base > 4000:
            self.whole += self.track.cut(self.track.base + 4000)
        self.track.write((number * 160 + offset) & 0xFFFFFFFF, frame(number), Codec.PCMA, now)

    def end(self) -> bytes:
        while self.track.base < self.track.end:
            self.whole += self.track.cut(self.track.end)
        return self.whole


def test_a_steady_stream_is_kept_to_the_sample() -> None:
    tape = Tape()
    for number in range(500):
        tape.write(number, number * 0.02, offset=0xFFFFF000)
    assert tape.end() == b"".join(map(frame, range(500)))


def test_what_came_late_or_twice_or_never() -> None:
    tape = Tape()
    for number in (0, 2, 1, 3, 3, 5):
        tape.write(number, max(number, 2) * 0.02)
    silence = b"\xd5" * 160
    # The first packet came with the third, which tells that it was late.
    assert tape.end() == frame(0) + frame(1) + frame(2) + frame(3) + silence + frame(5)


def test_silence_before_and_between() -> None:
    tape = Tape()
    tape.write(0, 1.0)
    tape.write(1, 1.02)
    tape.write(100, 3.0)
    whole = tape.end()
    assert whole[8000:8320] == frame(0) + frame(1)
    assert whole[24000:24160] == frame(100)
    assert set(whole[:8000]) == set(whole[8320:24000]) == {0xD5}


def test_nothing_was_written() -> None:
    track = Track(lambda now: now)
    assert track.cut(1000) == b"\xd5" * 1000
    assert track.base == 1000


def test_a_cut_is_never_longer_than_the_track() -> None:
    track = Track(lambda now: 0.0)
    assert len(track.cut(10 * SPAN)) == SPAN
    assert track.base == SPAN


@pytest.mark.parametrize("parts_per_million", [-200, 200])
def test_a_far_clock_that_is_off_stays_within_20_ms_for_an_hour(parts_per_million: int) -> None:
    track = Track(lambda now: 0.0)
    worst = 0.0
    for number in range(50 * 3600):
        now = number * 0.02 * (1 + parts_per_million / 1e6)
        track.write(number * 160, b"\x01" * 160, Codec.PCMA, now)
        worst = max(worst, abs(track.end - 160 - now * RATE))
        track.cut(round((now - 0.2) * RATE))
    assert worst < 160


def test_jitter_does_not_shift_the_track() -> None:
    chance = random.Random(1)
    tape = Tape()
    for number in range(1000):
        tape.write(number, number * 0.02 + (chance.uniform(0, 0.04) if number else 0))
    assert tape.end() == b"".join(map(frame, range(1000)))


def test_a_burst_after_a_stall_is_put_where_it_was_said() -> None:
    tape = Tape()
    for number in range(100):
        tape.write(number, max(number, 55 if 50 <= number < 55 else 0) * 0.02)
    assert tape.end() == b"".join(map(frame, range(100)))


@pytest.mark.parametrize("stall_s", [0.5, 1.0, 1.5, 2.5, 5.0])
@pytest.mark.parametrize("before", [1, 26, 50, 51])
def test_what_waited_while_the_worker_stood_still_is_put_where_it_was_said(stall_s: float, before: int) -> None:
    """All of it is read at once; only then something is cut."""
    track = Track(lambda now: 0.0)
    resumed = before + round(stall_s / 0.02)
    for number in range(resumed):
        track.write(number * 160, frame(number), Codec.PCMA, (number if number < before else resumed) * 0.02)
    for number in range(resumed, resumed + 90):
        track.write(number * 160, frame(number), Codec.PCMA, number * 0.02)
    whole = b"".join(map(frame, range(resumed + 90)))
    assert track.cut(len(whole)) == whole


def test_a_timestamp_set_anew_goes_on_at_the_clock() -> None:
    tape = Tape()
    for number in range(20):
        tape.write(number, number * 0.02, offset=0 if number < 10 else 123_456_789)
    assert tape.end() == b"".join(map(frame, range(20)))


def test_the_other_law_is_converted() -> None:
    track = Track(lambda now: 0.0)
    track.write(0, frame(0), Codec.PCMU, 0.0)
    track.write(160, frame(1), Codec.PCMA, 0.02)
    assert track.law is Codec.PCMU
    assert track.cut(320) == frame(0) + frame(1).translate(TO_LAW[Codec.PCMU])


def test_at_a_turn_what_follows_is_put_at_the_clock() -> None:
    """The stream is 15 ms ahead of the clock after its silence; the words are to lie where they were said."""
    track = Track(lambda now: 0.0)
    track.write(0, frame(0), Codec.PCMA, 0.0)
    track.turn(over=160)
    track.write(160, frame(1), Codec.PCMA, 0.005)
    assert track.cut(200) == frame(0)[:40] + frame(1)


def test_at_a_turn_to_silence_nothing_said_is_lost() -> None:
    track = Track(lambda now: 0.0)
    track.write(0, frame(0), Codec.PCMA, 0.0)
    track.turn(over=0)
    track.write(160, frame(1), Codec.PCMA, 0.016)
    assert track.cut(320) == frame(0) + frame(1)


def test_a_late_first_packet_moves_what_it_misplaced() -> None:
    """It came 60 ms late, and some after it; those on time tell, and all lies where it was said, to 10 ms."""
    tape = Tape()
    late = {0: 0.06, 1: 0.06, 2: 0.055, 3: 0.03}
    arrivals = sorted((1 + number * 0.02 + late.get(number, 0.002), number) for number in range(30))
    for now, number in arrivals:
        tape.write(number, now)
    whole = tape.end()
    assert abs(whole.find(frame(0)) - 8000) <= 80
    assert whole.endswith(b"".join(map(frame, range(30))))


def test_it_is_not_moved_over_what_was_said_before() -> None:
    track = Track(lambda now: 0.0)
    track.write(0, frame(0), Codec.PCMA, 0.0)
    track.turn(over=0)
    track.write(10_000, frame(1), Codec.PCMA, 0.05)
    track.write(10_160, frame(2), Codec.PCMA, 0.05)
    track.write(10_320, frame(3), Codec.PCMA, 0.05)
    # 40 ms late, by the last; there are 30 ms of silence before it.
    assert track.cut(640) == frame(0) + frame(1) + frame(2) + frame(3)
