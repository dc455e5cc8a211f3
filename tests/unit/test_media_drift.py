"""An hour of a clock that is not ours, 200 parts in a million fast or slow, on a network that jitters."""

import random
import struct
from itertools import pairwise

import pytest

from siaga_pbx.media.protocol import Codec
from siaga_pbx.media.rtp import Receiver
from siaga_pbx.media.sender import Sender
from siaga_pbx.media.track import SPAN, Track

HOUR_S = 3600
RATE = 8000
DRIFT = (200e-6, -200e-6)
JITTER_S = 0.015
FLUSH_S = 0.5


class Hour:
    """A far side that talks for an hour: each packet is sent by its clock, and arrives at `arrivals` of ours."""

    def __init__(self, drift: float, seed: int) -> None:
        chance = random.Random(seed)
        self.drift = drift
        count = round(HOUR_S * 50 * (1 + drift))
        sent = [1000.0 + number * 0.02 / (1 + drift) for number in range(count)]
        self.arrivals = [at + 0.02 + chance.random() * JITTER_S for at in sent]
        """Not in order: then the network has changed it."""

    @staticmethod
    def codes(number: int) -> bytes:
        """Codes that tell which packet it was: its number four times."""
        return struct.pack("!I", number) * 40


@pytest.mark.parametrize("drift", DRIFT)
def test_what_is_relayed_for_an_hour_has_no_gap_no_switch_and_no_delay(drift: float) -> None:
    sent: list[tuple[float, bool, int, int]] = []

    def sendto(packet: bytes, _: tuple[str, int]) -> int:
        _, second, sequence, timestamp, _ = struct.unpack_from("!BBHII", packet)
        sent.append((now, second > 127, sequence, timestamp))
        return len(packet)

    sender = Sender(sendto, lambda n: bytes(n), lambda _: None, 0)
    sender.aim(("192.0.2.1", 4000))
    sender.follow()
    receiver = Receiver()
    hour = Hour(drift, 1)
    for number, now in enumerate(hour.arrivals):
        sequence, timestamp = number & 0xFFFF, number * 160 & 0xFFFFFFFF
        assert receiver.take(sequence, timestamp, 7, now, True)
        sender.relay(receiver.epoch, 0, Codec.PCMA, sequence, timestamp, b"\x11" * 160, now)
        sender.watch(now)
        if number % 250 == 0:
            receiver.adapt()
    assert len(sent) == len(hour.arrivals)
    assert receiver.epoch == 1
    assert receiver.lost == receiver.late == 0
    assert receiver.jitter < JITTER_S * RATE
    assert not sender.paced
    assert [marker for _, marker, _, _ in sent].count(True) == 1
    for (_, _, sequence, timestamp), (_, _, next_sequence, next_timestamp) in pairwise(sent):
        assert (next_sequence - sequence) & 0xFFFF == 1
        assert (next_timestamp - timestamp) & 0xFFFFFFFF == 160
    # A prompt after it goes on where the hour's last packet ends: the drift is not made good by a leap.
    now = hour.arrivals[-1]
    sender.hush()
    now += 0.02
    sender.tick(now)
    assert (sent[-1][3] - sent[-2][3]) & 0xFFFFFFFF == pytest.approx(160, abs=2)
    assert sender.stamp(now) == sent[-1][3]


@pytest.mark.parametrize("drift", DRIFT)
def test_a_recording_of_an_hour_stays_aligned_and_its_buffer_as_it_was(drift: float) -> None:
    track = Track(lambda now: now)
    hour = Hour(drift, 2)
    began = hour.arrivals[0]
    written: list[bytes] = []
    flush_at = began + FLUSH_S
    for number, now in enumerate(hour.arrivals):
        while now >= flush_at:  # as `Recording` does: half a second at a time, a fifth of one behind
            written.append(track.cut(round((flush_at - began - 0.2) * RATE)))
            flush_at += FLUSH_S
        track.write(number * 160 & 0xFFFFFFFF, Hour.codes(number), Codec.PCMA, now)
        assert track.end - track.base <= SPAN
    written.append(track.cut(track.end))
    recording = b"".join(written)
    assert len(recording) == pytest.approx((hour.arrivals[-1] - began) * RATE, abs=RATE * 0.1)
    worst = 0.0
    for number in range(100, len(hour.arrivals) - 10):  # the first two seconds are for finding out how late it was
        soonest = (1000.0 + number * 0.02 / (1 + drift) + 0.02 - began) * RATE
        first = max(0, round(soonest) - RATE)
        at = recording.find(Hour.codes(number)[:64], first, first + 2 * RATE)
        assert at >= 0, "what is put right costs a hundredth of a second at a time"
        worst = max(worst, abs(at - soonest))
    assert worst <= 0.0125 * RATE, "both sides of a call are within 20 ms of each other for the whole hour"


def test_prompts_are_sent_by_our_clock_for_an_hour() -> None:
    """And from packet to packet by 160 samples, though no tick is on time to the microsecond."""
    chance, sent = random.Random(3), []

    def sendto(packet: bytes, _: tuple[str, int]) -> int:
        sent.append(struct.unpack_from("!I", packet, 4)[0])
        return len(packet)

    sender = Sender(sendto, lambda n: bytes(n), lambda _: None, 0)
    sender.aim(("192.0.2.1", 4000))
    sender.hush()
    for number in range(HOUR_S * 50):
        sender.tick(1000.0 + number * 0.02 + chance.random() * 0.004)
    assert len(sent) == HOUR_S * 50
    assert {(after - before) & 0xFFFFFFFF for before, after in pairwise(sent)} == {160}
