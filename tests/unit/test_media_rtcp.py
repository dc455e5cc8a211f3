"""RTCP: reports as RFC 3550 lays them out, and what far sides say."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.rtcp import Heard, Reporter
from siaga_pbx.media.rtp import Receiver
from siaga_pbx.media.sender import Sender


def sender(packets: int) -> Sender:
    made = Sender(lambda packet, target: len(packet), lambda n: b"\1" * n, lambda _: None, 0x01010101)
    made.aim(("192.0.2.1", 4000))
    made.hush()
    for number in range(packets):
        made.tick(1 + number * 0.02)
    return made


def test_a_sender_report() -> None:
    receiver = Receiver()
    for sequence in (1, 2, 3, 5):
        receiver.take(sequence, sequence * 160, 0xCAFE, sequence * 0.02, True)
    ours = sender(10)
    report = Reporter("me").report(ours, receiver, 2.18, 0.5)
    first, kind, length, ssrc, seconds, fraction, stamp, packets, octets = struct.unpack_from("!BBHIIIIII", report)
    assert (first, kind, length, ssrc) == (0x81, 200, 12, 0x01010101)
    assert (seconds, fraction) == (2208988800, 1 << 31)
    assert stamp == ours.timestamp + 8000  # the last packet went at 1.18 s
    assert (packets, octets) == (10, 1600)
    about, losses, highest, jitter, _, _ = struct.unpack_from("!IIIIII", report, 28)
    assert (about, losses >> 24, losses & 0xFFFFFF, highest, jitter) == (0xCAFE, 256 // 5, 1, 5, 0)
    assert report[52:] == bytes((0x81, 202, 0, 3)) + b"\1\1\1\1" + b"\1\2me" + bytes(4)


def test_the_fraction_lost_is_since_the_last_report() -> None:
    receiver, reporter, ours = Receiver(), Reporter("me"), sender(1)
    for sequence in (1, 3):
        receiver.take(sequence, 0, 7, 0.0, False)
    assert reporter.report(ours, receiver, 0.0, 0.0)[32] == 256 // 3
    receiver.take(4, 0, 7, 0.0, False)
    assert reporter.report(ours, receiver, 0.0, 0.0)[32] == 0


def test_a_receiver_report_while_nothing_is_sent() -> None:
    report = Reporter("me").report(sender(0), Receiver(), 0.0, 0.0)
    assert report[:8] == bytes((0x80, 201, 0, 1)) + b"\1\1\1\1"


def test_two_reporters_understand_each_other() -> None:
    receiver = Receiver()
    for sequence in (1, 2, 4, 5, 6):
        receiver.take(sequence, sequence * 160, 0x01010101, sequence * 0.02 + (0.01 if sequence % 2 else 0), True)
    theirs = Reporter("they").report(sender(5), receiver, 1.0, 1_700_000_000.0)
    ours = Reporter("we")
    assert ours.read(theirs, 0x01010101, 1.5)
    assert ours.heard == Heard(1, int(receiver.jitter) / 8)
    back = ours.report(sender(5), _heard_from(0x01010101), 2.5, 0.0)
    since = struct.unpack_from("!I", back, 48)[0]
    assert since == pytest.approx(65536)  # a second after their report came


def test_the_round_trip_is_what_their_report_leaves_of_it() -> None:
    """RFC 3550 6.4.1: 120 ms there, kept for 4 s, 60 ms back; a report that answers an older one of ours is passed
    over."""
    we, they = Reporter("we"), Reporter("they")
    first = we.report(sender(5), Receiver(), 100.0, 1_700_000_000.0)
    assert they.read(first, 0, 500.12)
    answer = they.report(sender(5), _heard_from(0x01010101), 504.12, 0.0)
    assert we.read(answer, 0x01010101, 104.18)
    assert we.heard is not None
    assert we.heard.round_trip_ms == pytest.approx(180, abs=0.1)
    we.report(sender(5), Receiver(), 105.0, 1_700_000_005.0)
    assert we.read(answer, 0x01010101, 109.0)
    assert we.heard.round_trip_ms == pytest.approx(180, abs=0.1)


def test_reports_about_others_are_not_ours() -> None:
    reporter = Reporter("we")
    assert reporter.read(Reporter("they").report(sender(5), _heard_from(99), 1.0, 0.0), 100, 1.0)
    assert reporter.heard is None


def test_lost_may_be_negative() -> None:
    block = struct.pack("!IIIIII", 7, 0xFFFFFE, 0, 16, 0, 0)
    reporter = Reporter("we")
    assert reporter.read(struct.pack("!BBHI", 0x81, 201, 7, 9) + block, 7, 0.0)
    assert reporter.heard == Heard(-2, 2.0)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda rest: b"\x81\xc8\x00\x06" + rest)))
def test_any_bytes_are_read_or_refused(packet: bytes) -> None:
    assert Reporter("we").read(packet, 7, 0.0) in (True, False)


def _heard_from(ssrc: int) -> Receiver:
    receiver = Receiver()
    receiver.take(1, 160, ssrc, 0.02, True)
    return receiver
