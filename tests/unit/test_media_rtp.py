"""RTP headers, and the counting of RFC 3550 A.1, A.3, A.8."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.rtp import Receiver, body


def take(receiver: Receiver, sequence: int, now: float | None = None, ssrc: int = 7) -> bool:
    at = sequence * 0.02 if now is None else now
    return receiver.take(sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF, ssrc, at, True)


def header(first: int) -> bytes:
    return struct.pack("!BBHII", first, 8, 1, 2, 3)


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (header(0x80) + b"audio", b"audio"),
        (header(0x82) + b"csrccsrc" + b"audio", b"audio"),
        (header(0x90) + struct.pack("!HH", 1, 2) + b"12345678" + b"audio", b"audio"),
        (header(0xA0) + b"audio" + b"\0\0\3", b"audio"),
        (header(0x80), b""),
        (header(0x40) + b"audio", None),
        (header(0x90) + b"\0", None),
        (header(0x8F) + b"too short", None),
        (header(0xA0) + b"audio\xff", None),
        (header(0x90) + struct.pack("!HH", 1, 9) + b"1234", None),
    ],
)
def test_body(packet: bytes, payload: bytes | None) -> None:
    assert body(packet) == payload


@settings(deadline=None)
@given(st.binary(min_size=12, max_size=60))
def test_body_takes_any_bytes(packet: bytes) -> None:
    payload = body(packet)
    assert payload is None or payload in packet


def test_a_whole_stream_around_the_wrap_loses_nothing() -> None:
    receiver = Receiver()
    assert all(take(receiver, sequence) for sequence in range(65500, 65500 + 70000))
    assert (receiver.received, receiver.lost, receiver.expected) == (70000, 0, 70000)
    assert receiver.jitter < 1e-3
    assert receiver.longest_gap == pytest.approx(0.02, abs=1e-6)


def test_loss_duplicates_and_disorder_are_told_apart() -> None:
    receiver = Receiver()
    for sequence in (1, 2, 5, 4, 4, 5, 6, 10):
        take(receiver, sequence)
    assert (receiver.lost, receiver.duplicate, receiver.reordered, receiver.received) == (4, 2, 1, 8)


def test_a_duplicate_is_not_passed_on() -> None:
    receiver = Receiver()
    assert [take(receiver, sequence) for sequence in (1, 3, 2, 2, 3, 4)] == [True, True, True, False, False, True]


def test_a_new_ssrc_is_a_new_epoch_and_keeps_the_old_loss() -> None:
    receiver = Receiver()
    take(receiver, 1)
    take(receiver, 4)
    before = receiver.epoch
    take(receiver, 9000, ssrc=8)
    take(receiver, 9001, ssrc=8)
    assert receiver.epoch > before
    assert receiver.lost == 2


def test_packets_that_a_phone_has_no_use_for_are_late() -> None:
    receiver = Receiver()
    delays = [0.0, 0.059, 0.061, 0.0, 0.2, 0.04]
    for sequence, delay in enumerate(delays, 1):
        take(receiver, sequence, sequence * 0.02 + 1 + delay)
    assert (receiver.late, receiver.lost) == (2, 0)


def test_after_a_while_a_longer_way_is_the_usual_one() -> None:
    receiver = Receiver()
    for sequence in range(1, 1001):
        if sequence % 250 == 0:
            receiver.adapt()
        take(receiver, sequence, sequence * 0.02 + (0.1 if sequence > 400 else 0.0))
    assert receiver.late == 349, "from the 401st to the 750th, when five seconds had none that was on time"


def test_drift_of_200_parts_in_a_million_is_never_late() -> None:
    receiver = Receiver()
    for sequence in range(1, 50 * 1200):
        if sequence % 250 == 0:
            receiver.adapt()
        take(receiver, sequence, sequence * 0.02 * 1.0002)
    assert receiver.late == 0


def test_a_hold_is_no_gap() -> None:
    receiver = Receiver()
    take(receiver, 1, 10.0)
    receiver.expected_from = float("inf")  # held
    take(receiver, 2, 30.0)  # the last of it, or what a phone says on hold
    receiver.expected_from = 60.0  # taken back
    take(receiver, 3, 60.1)
    take(receiver, 4, 60.3)
    assert receiver.longest_gap == pytest.approx(0.2)


def test_silence_that_was_announced_is_no_gap() -> None:
    receiver = Receiver()
    take(receiver, 1, 10.0)
    take(receiver, 2, 10.02)
    receiver.silenced_at = 10.02  # comfort noise
    take(receiver, 3, 15.0)
    take(receiver, 4, 15.3)
    assert receiver.longest_gap == pytest.approx(0.3)


def test_two_packets_in_a_row_from_elsewhere_are_a_new_stream() -> None:
    receiver = Receiver()
    take(receiver, 100)
    before = receiver.epoch
    assert not take(receiver, 40000)
    assert receiver.epoch == before
    assert take(receiver, 40001)
    assert receiver.epoch > before
    assert take(receiver, 40002)


def test_one_stray_packet_changes_nothing() -> None:
    receiver = Receiver()
    take(receiver, 100)
    take(receiver, 40000)
    assert take(receiver, 101)
    assert (receiver.lost, receiver.epoch) == (0, 1)


def test_a_timestamp_set_anew_is_a_new_epoch() -> None:
    receiver = Receiver()
    receiver.take(1, 0, 7, 0.0, True)
    receiver.take(2, 160, 7, 0.02, True)
    before = receiver.epoch
    receiver.take(3, 90_000_000, 7, 0.04, True)
    assert receiver.epoch == before + 1
    receiver.take(4, 90_000_160, 7, 0.06, True)
    assert receiver.epoch == before + 1
    assert receiver.jitter < 1


def test_the_timestamps_wrap_is_no_new_epoch() -> None:
    receiver = Receiver()
    for number in range(10):
        receiver.take(number, (0xFFFFFFFF - 800 + number * 160) & 0xFFFFFFFF, 7, number * 0.02, True)
    assert receiver.epoch == 1


def test_jitter_is_the_rfcs_running_mean() -> None:
    """A.8: with a variation of D at every packet, J after n packets is D * (1 - (15/16)^n)."""
    receiver = Receiver()
    for sequence in range(101):
        take(receiver, sequence, sequence * 0.02 + (0.005 if sequence % 2 else 0.0))
    assert receiver.jitter == pytest.approx(40 * (1 - (15 / 16) ** 100), rel=1e-6)


def test_a_pause_is_no_jitter() -> None:
    receiver = Receiver()
    take(receiver, 1, 0.02)
    receiver.take(2, 1 * 160 + 8000 * 5, 7, 5.02, True)
    assert receiver.jitter < 1e-6
    assert receiver.longest_gap == pytest.approx(5.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 2)), max_size=200))
def test_any_numbers_give_sane_counts(packets: list[tuple[int, int, int]]) -> None:
    receiver = Receiver()
    for number, (sequence, timestamp, ssrc) in enumerate(packets):
        receiver.take(sequence, timestamp, ssrc, number * 0.02, True)
    assert receiver.received == len(packets)
    assert 0 <= receiver.unique <= len(packets)
    assert receiver.lost >= 0
