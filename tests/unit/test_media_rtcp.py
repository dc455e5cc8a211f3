"""RTCP: reports as RFC 3550 lays them out, and what far sides say."""

import struct
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.protocol import Remote
from siaga_pbx.media.rtcp import Heard, Reporter, interval
from siaga_pbx.media.rtp import Receiver
from siaga_pbx.media.sender import Sender
from siaga_pbx.media.source import SourceLock
from siaga_pbx.media.timetable import Timetable

HIDDEN = Remote(host="10.0.0.9", port=4000, accept=(ip_network("198.51.100.1"),), strict=True)
"""A phone behind NAT."""


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


def block_of(report: bytes) -> tuple[int, int, int, int, int, int]:
    """The reception block of a sender's report."""
    assert report[0] & 0x1F == 1
    about, losses, highest, _, last, since = struct.unpack_from("!IIIIII", report, 28)
    return about, losses >> 24, losses & 0xFFFFFF, highest, last, since


def test_nothing_came_since_the_last_report_so_it_has_no_block() -> None:
    receiver, reporter, ours = _heard_from(7), Reporter("me"), sender(3)
    assert reporter.report(ours, receiver, 1.0, 0.0)[0] & 0x1F == 1
    ours.tick(2.0)
    assert reporter.report(ours, receiver, 6.0, 0.0)[0] & 0x1F == 0
    receiver.take(2, 320, 7, 7.0, True)
    ours.tick(8.0)
    assert reporter.report(ours, receiver, 11.0, 0.0)[0] & 0x1F == 1


def test_who_sends_nothing_any_more_is_a_receiver_after_two_reports() -> None:
    receiver, reporter, ours = _heard_from(7), Reporter("me"), sender(3)
    kinds = [reporter.report(ours, receiver, 5.0 * n, 0.0)[1] for n in range(3)]
    ours.tick(20.0)
    kinds.append(reporter.report(ours, receiver, 20.0, 0.0)[1])
    assert kinds == [200, 200, 201, 200]


def test_a_stream_that_begins_anew_is_reported_by_itself() -> None:
    """What another lost, and what it said in its reports, is not this one's."""
    receiver, reporter, ours = Receiver(), Reporter("me"), sender(3)
    for sequence in (1, 2, 9):
        receiver.take(sequence, sequence * 160, 7, sequence * 0.02, True)
    theirs = sender(1)
    theirs.ssrc = 7
    assert reporter.read(Reporter("they").report(theirs, Receiver(), 1.0, 1_700_000_000.0), ours.ssrc, 1.0)
    assert block_of(reporter.report(ours, receiver, 1.0, 0.0))[:4] == (7, 6 * 256 // 9, 6, 9)
    for sequence in (50_000, 50_001, 50_003):
        receiver.take(sequence, sequence * 160, 8, sequence * 0.02, True)
    about, fraction, lost, highest, last, since = block_of(reporter.report(ours, receiver, 2.0, 0.0))
    assert (about, fraction, lost, highest) == (8, 256 // 4, 1, 50_003)
    assert (last, since) == (0, 0)
    assert receiver.lost == 7, "the leg's own account has both"


def test_the_highest_number_counts_its_rounds() -> None:
    receiver = Receiver()
    for sequence in (65534, 65535, 0, 1):
        receiver.take(sequence, 0, 7, 0.0, False)
    assert block_of(Reporter("me").report(sender(1), receiver, 0.0, 0.0))[3] == 0x10001


def test_goodbye() -> None:
    ours = sender(2)
    last = Reporter("me").goodbye(ours, _heard_from(7), 1.0, 0.0)
    assert last[1] == 200
    assert last[-8:] == bytes((0x81, 203, 0, 1)) + b"\1\1\1\1"


def test_the_times_between_reports() -> None:
    """RFC 3550 6.2 and A.7: five seconds on average (before the compensation), from half to one and a half of it."""
    chances = [n / 1000 for n in range(1001)]
    later, first = [interval(chance) for chance in chances], [interval(chance, first=True) for chance in chances]
    compensation = 2.71828 - 1.5
    assert min(later) == pytest.approx(2.5 / compensation, rel=1e-3)
    assert max(later) == pytest.approx(7.5 / compensation, rel=1e-3)
    assert first == pytest.approx([one / 2 for one in later])


def test_a_timetable_asks_again_when_it_was_told_to() -> None:
    done: list[tuple[str, float]] = []
    waits = {"a": [3.0, 1.0, 9.0], "b": [2.0, 2.0, 9.0]}

    def action(item: str, now: float) -> float:
        done.append((item, now))
        return waits[item].pop(0)

    timetable = Timetable(action)
    timetable.add("a", 1.0)
    timetable.add("b", 2.0)
    for now in (0.5, 1.0, 2.0, 3.9, 4.0, 5.0, 6.0):
        timetable.run(now)
    timetable.remove("a")
    timetable.remove("b")
    timetable.run(100.0)
    assert done == [("a", 1.0), ("b", 2.0), ("a", 4.0), ("b", 4.0), ("a", 5.0), ("b", 6.0)]


@pytest.mark.parametrize(
    ("agreed", "source", "reporter", "place"),
    [
        (Remote(host="192.0.2.1", port=4000), None, None, ("192.0.2.1", 4001)),
        (Remote(host="192.0.2.1", port=4000, rtcp_mux=True), None, None, ("192.0.2.1", 4000)),
        (Remote(host="192.0.2.1", port=4000, rtcp=("192.0.2.7", 9)), None, None, ("192.0.2.7", 9)),
        (Remote(host="192.0.2.1", port=4000, sending=False), None, None, ("192.0.2.1", 4001)),  # held: RTCP goes on
        (Remote(host="0.0.0.0", port=4000, sending=False), None, None, None),
        (HIDDEN, ("198.51.100.1", 700), None, ("198.51.100.1", 701)),
        (HIDDEN, ("198.51.100.1", 700), ("198.51.100.1", 912), ("198.51.100.1", 912)),
        (replace(HIDDEN, rtcp_mux=True), ("198.51.100.1", 700), None, ("198.51.100.1", 700)),
    ],
)
def test_where_reports_go(
    agreed: Remote, source: tuple[str, int] | None, reporter: tuple[str, int] | None, place: tuple[str, int] | None
) -> None:
    lock = SourceLock()
    lock.connect(agreed, 0.0)
    if source is not None:
        assert lock.admits(source, 0.0, 0.0)
        lock.take(source)
    if reporter is not None:
        assert lock.admits_report(reporter, True)
    assert lock.reports_to == place


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
