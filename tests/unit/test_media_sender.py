"""The one stream a leg sends: continuous numbers, a marker at each switch, whatever feeds it and in whatever order."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.g711 import TO_LAW
from siaga_pbx.media.protocol import Codec
from siaga_pbx.media.sender import QUIET_S, Feed, Sender

TARGET = ("192.0.2.1", 4000)
SILENCE = b"\xd5" * 160
ZERO = 0xFFFFF000 - 1000 * 8000 & 0xFFFFFFFF
"""The timestamp at the zero of the clock: at the beginning of a `Line` it goes round soon."""


@dataclass(frozen=True)
class Sent:
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class Line:
    """A sender with its packets, a clock, and a source whose numbering is its own."""

    def __init__(self, first: int = 65000) -> None:
        self.sent: list[Sent] = []
        self.now = 1000.0
        self.paced = 0
        start = iter((first * 7, first))
        self.sender = Sender(
            self._sendto, lambda n: (next(start) % (1 << 8 * n)).to_bytes(n, "big"), self._on_paced, timestamp=ZERO
        )
        self.sender.aim(TARGET)
        self.source_sequence, self.source_timestamp = 100, 5000

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.02
            if self.sender.paced:
                self.sender.tick(self.now)

    def relay(self, payload: bytes = b"\x11" * 160, epoch: int = 1, behind: int = 0, law: Codec = Codec.PCMA) -> None:
        """The source's next packet (or one from `behind` it), 20 ms on."""
        if not behind:
            self.now += 0.02
            self.source_sequence, self.source_timestamp = self.source_sequence + 1, self.source_timestamp + 160
        sequence, timestamp = self.source_sequence - behind, self.source_timestamp - 160 * behind
        self.sender.relay(epoch, 0, law, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, payload, self.now)

    def check_continuous(self) -> None:
        """Sequence numbers follow one another, timestamps never step back or stand still."""
        assert len({packet.ssrc for packet in self.sent}) <= 1
        for before, after in zip(self.sent, self.sent[1:], strict=False):
            assert (after.sequence - before.sequence) & 0xFFFF == 1
            assert 160 <= (after.timestamp - before.timestamp) & 0xFFFFFFFF < 0x80000000

    def _sendto(self, packet: bytes, target: tuple[str, int]) -> int:
        assert target == TARGET
        first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
        assert first == 0x80
        self.sent.append(Sent(second > 127, second & 127, sequence, timestamp, ssrc, packet[12:]))
        return len(packet)

    def _on_paced(self, sender: Sender) -> None:
        assert sender is self.sender
        self.paced += 1


def prompt(*fills: int) -> Iterator[bytes]:
    return iter([bytes((fill,)) * 160 for fill in fills])


def test_nothing_is_sent_before_there_is_something_to_send() -> None:
    line = Line()
    line.tick(3)
    line.relay()
    assert line.sent == []


def test_a_prompt_then_silence() -> None:
    line = Line()
    line.sender.play(prompt(1, 2), Codec.PCMA)
    line.tick(4)
    assert [packet.payload for packet in line.sent] == [b"\1" * 160, b"\2" * 160, SILENCE, SILENCE]
    assert [packet.marker for packet in line.sent] == [True, False, False, False]
    line.check_continuous()


def test_a_prompt_waits_for_somewhere_to_go() -> None:
    line = Line()
    line.sender.aim(None)
    line.sender.play(prompt(1), Codec.PCMA)
    line.tick(10)
    line.sender.aim(TARGET)
    line.tick()
    assert [packet.payload for packet in line.sent] == [b"\1" * 160]


def test_prompt_to_source_to_silence_to_prompt() -> None:
    line = Line()
    line.sender.play(prompt(1, 1, 1), Codec.PCMA)
    line.tick(2)
    line.sender.follow()
    line.tick(2)  # the source has not spoken yet: silence, no gap
    for _ in range(3):
        line.relay()
        line.tick(0)
    assert not line.sender.paced
    line.sender.hush()
    line.tick(2)
    line.sender.play(prompt(9), Codec.PCMA)
    line.tick()
    fills = [packet.payload[0] for packet in line.sent]
    assert fills == [1, 1, 0xD5, 0xD5, 0x11, 0x11, 0x11, 0xD5, 0xD5, 9]
    markers = [packet.marker for packet in line.sent]
    assert markers == [True, False, True, False, True, False, False, True, False, True]
    line.check_continuous()
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in zip(line.sent, line.sent[1:], strict=False)} == {160}


def test_the_timestamp_follows_the_clock_over_a_pause() -> None:
    line = Line()
    line.sender.follow()
    line.relay()
    line.now += 3.0
    line.sender.play(prompt(1), Codec.PCMA)
    line.tick()
    assert (line.sent[1].timestamp - line.sent[0].timestamp) & 0xFFFFFFFF == pytest.approx(3.02 * 8000, abs=1)


def test_a_run_longer_than_the_sequence_numbers() -> None:
    line = Line()
    line.sender.follow()
    for number in range(80_000):
        line.relay()
        if number % 1000 == 999:
            line.relay(behind=3)  # late ones pass too, however long the run
    assert len(line.sent) == 80_080
    in_order = [packet for packet, after in zip(line.sent, line.sent[1:], strict=False) if packet != after]
    assert len({packet.sequence for packet in in_order}) == 65536


def test_loss_and_disorder_of_the_source_show_in_ours() -> None:
    line = Line()
    line.sender.follow()
    line.relay()
    line.source_sequence += 2
    line.source_timestamp += 320
    line.relay()
    line.relay(behind=1)
    first, second, late = (packet.sequence for packet in line.sent)
    assert ((second - first) & 0xFFFF, (late - second) & 0xFFFF) == (3, 0xFFFF)


def test_what_is_late_from_before_the_switch_is_left_out() -> None:
    line = Line()
    line.sender.play(prompt(1), Codec.PCMA)
    line.tick()
    line.sender.follow()
    line.relay()
    line.relay(behind=1)
    line.relay(behind=40)
    assert [packet.payload[0] for packet in line.sent] == [1, 0x11]


def test_a_source_that_numbers_anew_is_continued() -> None:
    line = Line()
    line.sender.follow()
    line.relay(epoch=1)
    line.source_sequence, line.source_timestamp = 40000, 777
    line.relay(epoch=2)
    line.relay(epoch=2)
    line.check_continuous()
    assert [packet.marker for packet in line.sent] == [True, True, False]


def test_a_quiet_source_is_stood_in_for() -> None:
    line = Line()
    line.sender.follow()
    line.relay()
    line.now += QUIET_S * 0.9
    line.sender.watch(line.now)
    assert not line.sender.paced
    line.now += QUIET_S * 0.2
    line.sender.watch(line.now)
    line.tick(2)
    line.relay()
    line.check_continuous()
    assert [packet.payload[0] for packet in line.sent] == [0x11, 0xD5, 0xD5, 0x11]


def test_held_back_packets_leave_no_hole() -> None:
    line = Line()
    line.sender.follow()
    line.relay()
    for _ in range(4):
        line.now += 0.02
        line.source_sequence += 1
        line.sender.skip(1)
    line.source_timestamp += 640
    line.relay()
    line.check_continuous()
    assert line.sent[1].marker
    assert (line.sent[1].timestamp - line.sent[0].timestamp) & 0xFFFFFFFF == 800


def test_events_pass_under_the_far_sides_number() -> None:
    line = Line()
    line.sender.agree(Codec.PCMA, 8, 96)
    line.sender.follow()
    line.relay()
    for _ in range(5):
        line.now += 0.02
        line.source_sequence += 1
        line.sender.relay_event(1, 0, line.source_sequence, line.source_timestamp + 160, b"event", line.now)
    line.source_timestamp += 800
    line.relay()
    assert [packet.payload_type for packet in line.sent] == [8, 96, 96, 96, 96, 96, 8]
    assert {packet.timestamp for packet in line.sent[1:6]} == {(line.sent[0].timestamp + 160) & 0xFFFFFFFF}
    assert [packet.sequence for packet in line.sent] == [(line.sent[0].sequence + n) & 0xFFFF for n in range(7)]


def test_after_a_long_event_the_timestamp_has_gone_on() -> None:
    """All packets of an event carry its start; what follows a switch must not start from there."""
    line = Line()
    line.sender.agree(Codec.PCMA, 8, 96)
    line.sender.follow()
    line.relay()
    for _ in range(50):
        line.now += 0.02
        line.source_sequence += 1
        line.sender.relay_event(1, 0, line.source_sequence, line.source_timestamp + 160, b"event", line.now)
    line.sender.hush()
    line.tick()
    assert (line.sent[-1].timestamp - line.sent[0].timestamp) & 0xFFFFFFFF == pytest.approx(51 * 160, abs=160)


def test_no_event_for_who_takes_none() -> None:
    line = Line()
    line.sender.follow()
    line.relay()
    line.source_sequence += 1
    line.sender.relay_event(1, 0, line.source_sequence, line.source_timestamp, b"event", line.now)
    line.relay()
    line.check_continuous()
    assert [packet.payload_type for packet in line.sent] == [8, 8]


def test_laws_and_payload_numbers_are_converted() -> None:
    line = Line()
    line.sender.agree(Codec.PCMU, 97, None)
    line.sender.follow()
    codes = bytes(range(160))
    line.relay(codes, law=Codec.PCMA)
    line.relay(codes, law=Codec.PCMU)
    assert [packet.payload for packet in line.sent] == [codes.translate(TO_LAW[Codec.PCMU]), codes]
    assert {packet.payload_type for packet in line.sent} == {97}


def test_a_prompt_goes_on_in_the_new_law() -> None:
    line = Line()
    line.sender.play(prompt(0x2A, 0x2A), Codec.PCMA)
    line.tick()
    line.sender.agree(Codec.PCMU, 0, None)
    line.tick(2)
    assert [packet.payload[0] for packet in line.sent] == [0x2A, TO_LAW[Codec.PCMU][0x2A], 0xFF]


def test_held_by_the_far_side_nothing_is_sent_and_numbers_stay() -> None:
    line = Line()
    line.sender.follow()
    line.relay()
    line.sender.aim(None)
    for _ in range(10):
        line.relay()
    line.sender.aim(TARGET)
    line.relay()
    line.check_continuous()
    assert (line.sent[1].timestamp - line.sent[0].timestamp) & 0xFFFFFFFF == 11 * 160


def test_a_network_that_refuses_is_counted() -> None:
    def refuse(packet: bytes, target: tuple[str, int]) -> int:
        raise ConnectionRefusedError

    sender = Sender(refuse, lambda n: bytes(n), lambda _: None, 0)
    sender.aim(TARGET)
    sender.hush()
    sender.tick(1.0)
    assert (sender.sent, sender.unsent) == (1, 1)


Step = st.sampled_from(
    ["tick", "tick", "relay", "relay", "relay", "prompt", "follow", "hush", "watch", "pause", "anew", "skip"]
)


@given(st.lists(Step, max_size=120), st.integers(0, 65535))
@settings(deadline=None)
def test_whatever_happens_the_stream_is_one(steps: list[str], first: int) -> None:
    line = Line(first)
    epoch = 1
    for step in steps:
        match step:
            case "tick":
                line.tick()
            case "relay":
                line.relay(epoch=epoch)
            case "prompt":
                line.sender.play(prompt(1, 2, 3), Codec.PCMA)
            case "follow":
                line.sender.follow()
            case "hush":
                line.sender.hush()
            case "watch":
                line.sender.watch(line.now)
            case "pause":
                line.now += 0.3
            case "anew":
                epoch, line.source_sequence, line.source_timestamp = epoch + 1, epoch * 9999, epoch * 77
            case _:
                line.source_sequence += 1
                line.sender.skip(epoch)
    # What the source itself left out stays out; all else is continuous. Here the source leaves nothing out but while
    # it was not listened to, and then the switch closes the gap.
    line.check_continuous()
    assert line.sender.feed is not Feed.NOTHING or not line.sent
