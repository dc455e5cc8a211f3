"""The one stream a leg sends, with packets of any length, comfort noise and keys of ours; in virtual time."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.dtmf import KeyReader
from siaga_pbx.media.g711 import decode
from siaga_pbx.media.pieces import pieces
from siaga_pbx.media.protocol import Codec
from siaga_pbx.media.sender import QUIET_S, Sender

TARGET = ("192.0.2.1", 4000)
SILENCE = 0xD5
LENGTHS_MS = (10, 20, 30, 40, 60)
EVENT = 101
NOISE = 13


@dataclass(frozen=True)
class Sent:
    at: float
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    payload: bytes


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Line:
    """A sender on a clock of its own, with a loop's timers and a tick every 20 ms."""

    def __init__(self, ptime_ms: int = 20, longest_ms: int = 200, takes_noise: bool = False, seed: int = 7) -> None:
        self.sent: list[Sent] = []
        self.now = 1000.0
        self._next_tick = 1000.0
        self._numbers = count()
        self._timers: list[tuple[float, int, Timer, Callable[[], None]]] = []
        entropy = iter((seed, 65500 + seed))
        self.sender = Sender(
            self._sendto, lambda n: (next(entropy) % (1 << 8 * n)).to_bytes(n, "big"), lambda _: None, 0xFF800000,
            self._later,
        )  # fmt: skip
        self.sender.aim(TARGET)
        self.sender.agree(Codec.PCMA, 8, EVENT)
        self.sender.shape(ptime_ms, longest_ms, takes_noise)
        self.epoch = 1
        self.sequence, self.timestamp = 65530, 0xFFFFFC00

    def run(self, seconds: float) -> None:
        """Time passes, tick by tick."""
        end = self.now + seconds
        while True:
            timer_at = self._timers[0][0] if self._timers else end + 1
            at = min(timer_at, self._next_tick)
            if at > end + 1e-9:
                break
            self.now = at
            if timer_at <= self._next_tick:
                _, _, timer, callback = heappop(self._timers)
                if not timer.cancelled:
                    callback()
            else:
                self._next_tick += 0.02
                if self.sender.paced:
                    self.sender.tick(at)
        self.now = end

    def wait(self, seconds: float) -> None:
        """The source says nothing; its clock goes on."""
        self.run(seconds)
        self.timestamp = (self.timestamp + round(seconds * 8000)) & 0xFFFFFFFF

    def say(self, codes: bytes, behind: int = 0) -> None:
        """The source's next packet; `behind`: one that should have come before, so many packets of the same length."""
        sequence, timestamp = self.sequence - behind, self.timestamp - behind * len(codes)
        self.sender.relay(
            self.epoch, 0, Codec.PCMA, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, codes, self.now
        )  # fmt: skip
        if not behind:
            self.skip(codes)

    def skip(self, codes: bytes) -> None:
        """The source's next packet is lost."""
        self.sequence, self.timestamp = (self.sequence + 1) & 0xFFFF, (self.timestamp + len(codes)) & 0xFFFFFFFF

    def talk(self, packets: list[bytes]) -> None:
        """At the source's own pace."""
        for codes in packets:
            self.say(codes)
            self.run(len(codes) / 8000)

    def rest(self, level: int) -> None:
        """The source says that it is silent from now on (RFC 3389)."""
        self.sender.relay_noise(self.epoch, self.sequence, self.timestamp, bytes([level]), self.now)
        self.sequence = (self.sequence + 1) & 0xFFFF

    @property
    def audio(self) -> list[Sent]:
        return [packet for packet in self.sent if packet.payload_type == Codec.PCMA]

    def check(self) -> None:
        """Numbers follow one another; timestamps never step back, nor into what was sent before."""
        for before, after in pairwise(self.sent):
            assert (after.sequence - before.sequence) & 0xFFFF == 1
            assert (after.timestamp - before.timestamp) & 0xFFFFFFFF < 0x80000000
        for before, after in pairwise(self.audio):
            assert len(before.payload) <= (after.timestamp - before.timestamp) & 0xFFFFFFFF < 0x80000000

    def _sendto(self, packet: bytes, target: tuple[str, int]) -> int:
        assert target == TARGET
        _, second, sequence, timestamp, _ = struct.unpack_from("!BBHII", packet)
        self.sent.append(Sent(self.now, second > 127, second & 127, sequence, timestamp, packet[12:]))
        return len(packet)

    def _later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer()
        heappush(self._timers, (self.now + delay, next(self._numbers), timer, callback))
        return timer


def codes_of(length_ms: int, number: int, seed: int = 1) -> list[bytes]:
    """Packets of codes that can be told apart."""
    codes = np.random.default_rng(seed).integers(0, 256, (number, length_ms * 8), dtype=np.uint8)
    return [row.tobytes() for row in codes]


def frames(number: int, seed: int = 2) -> Iterator[bytes]:
    return iter(codes_of(20, number, seed))


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ptime", LENGTHS_MS)
def test_a_prompt_goes_out_in_packets_of_the_length_that_is_liked(ptime: int) -> None:
    line = Line(ptime)
    line.sender.play(frames(60), Codec.PCMA)
    line.run(1.4)
    line.check()
    assert {len(packet.payload) for packet in line.sent} == {ptime * 8}
    assert b"".join(packet.payload for packet in line.sent)[: 60 * 160] == b"".join(frames(60))
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(line.sent)} == {ptime * 8}
    assert [b.at - a.at for a, b in pairwise(line.sent)] == pytest.approx([ptime / 1000] * (len(line.sent) - 1))
    assert [packet.marker for packet in line.sent].count(True) == 1


@pytest.mark.parametrize("longest", [*LENGTHS_MS, 200])
@pytest.mark.parametrize("length", LENGTHS_MS)
def test_the_source_is_heard_to_the_sample_in_packets_that_are_not_too_long(length: int, longest: int) -> None:
    line = Line(longest_ms=longest)
    line.sender.follow()
    said = codes_of(length, 40)
    line.talk(said)
    line.check()
    assert b"".join(packet.payload for packet in line.sent) == b"".join(said)
    sizes = {len(packet.payload) for packet in line.sent}
    assert len(sizes) == 1, "packets of one stream are of one length"
    assert max(sizes) <= longest * 8
    if length <= longest:
        assert sizes == {length * 8}, "nothing is done to what can go as it is"
    first = line.sent[0]
    for packet in line.sent:  # each when the source would have sent it, had it made packets of that length
        assert packet.at - first.at == pytest.approx(((packet.timestamp - first.timestamp) & 0xFFFFFFFF) / 8000)


@given(st.integers(1, 1600), st.integers(80, 1600))
def test_pieces_are_as_few_as_can_be_and_none_is_too_long(length: int, longest: int) -> None:
    number = pieces(length, longest)
    assert -(-length // number) <= longest
    if length <= longest:
        assert number == 1 or length % 80 == 0


def test_a_tick_that_was_late_does_not_overtake() -> None:
    """Two at once make good for one that was late; what the first has put off goes before the second's."""
    line = Line(ptime_ms=10)
    line.sender.play(frames(10), Codec.PCMA)
    line.run(0.02)
    for _ in range(3):
        line.sender.tick(line.now)
    line.run(0.2)
    line.check()
    assert b"".join(packet.payload for packet in line.sent)[:1600] == b"".join(frames(10))


def test_what_is_lost_of_a_source_that_is_cut_shows() -> None:
    line = Line(longest_ms=20)
    line.sender.follow()
    said = codes_of(60, 3)
    line.talk(said[:1])
    line.skip(said[1])
    line.run(0.06)
    line.talk(said[2:])
    sequences = [(packet.sequence - line.sent[0].sequence) & 0xFFFF for packet in line.sent]
    assert sequences == [0, 1, 2, 6, 7, 8]
    assert (line.sent[3].timestamp - line.sent[0].timestamp) & 0xFFFFFFFF == 960


def test_what_is_late_of_a_source_that_is_cut_keeps_its_place() -> None:
    line = Line(longest_ms=20)
    line.sender.follow()
    said = codes_of(60, 4)
    line.talk(said[:1])
    line.skip(said[1])
    line.run(0.06)
    line.say(said[2])
    line.say(said[1], behind=2)
    line.run(0.06)
    line.talk(said[3:])
    by_place = sorted(line.sent, key=lambda packet: (packet.sequence - line.sent[0].sequence) & 0xFFFF)
    assert b"".join(packet.payload for packet in by_place) == b"".join(said)
    assert len({packet.sequence for packet in by_place}) == 12


def test_a_source_that_changes_the_length_of_its_packets() -> None:
    line = Line(longest_ms=20)
    line.sender.follow()
    said = [*codes_of(60, 5), *codes_of(20, 5), *codes_of(30, 5), *codes_of(10, 5), *codes_of(40, 5)]
    line.talk(said)
    line.check()
    assert b"".join(packet.payload for packet in line.sent) == b"".join(said)


def test_a_key_between_packets_that_are_cut() -> None:
    line = Line(longest_ms=20)
    line.sender.follow()
    before, after = codes_of(60, 2), codes_of(60, 2, seed=3)
    line.talk(before)
    for duration in range(160, 1121, 160):
        payload = struct.pack("!BBH", 5, 10, duration)
        line.sender.relay_event(1, 0, line.sequence, line.timestamp, payload, line.now)
        line.sequence = (line.sequence + 1) & 0xFFFF
        line.run(0.02)
    line.timestamp = (line.timestamp + 1120) & 0xFFFFFFFF
    line.talk(after)
    line.check()
    assert [packet.payload_type for packet in line.sent] == [8] * 6 + [EVENT] * 7 + [8] * 6
    assert b"".join(packet.payload for packet in line.audio) == b"".join([*before, *after])
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(line.sent)]
    assert steps == [160] * 6 + [0] * 6 + [1120] + [160] * 5


def test_what_comes_too_early_is_not_overtaken_by() -> None:
    """On a network that holds packets up and lets them go together."""
    line = Line(longest_ms=20)
    line.sender.follow()
    said = codes_of(60, 4)
    for codes in said:
        line.say(codes)
        line.run(0.015)
    line.run(0.1)
    line.check()
    assert b"".join(packet.payload for packet in line.sent) == b"".join(said)


def test_a_switch_sends_what_waits_and_drops_nothing() -> None:
    line = Line(ptime_ms=30, longest_ms=20)
    line.sender.follow()
    (said,) = codes_of(60, 1)
    line.say(said)
    line.run(0.005)
    line.sender.play(frames(30), Codec.PCMA)
    line.run(1.0)
    line.check()
    assert b"".join(packet.payload for packet in line.sent[:3]) == said
    assert b"".join(packet.payload for packet in line.sent[3:])[:4800] == b"".join(frames(30))


def test_when_the_leg_is_over_nothing_is_sent_any_more() -> None:
    line = Line(longest_ms=20)
    line.sender.follow()
    line.say(codes_of(60, 1)[0])
    line.sender.stop()
    line.run(1.0)
    assert len(line.sent) == 1


# --- comfort noise ----------------------------------------------------------------------------------------------------


def loudness_db(packets: list[Sent]) -> float:
    samples = decode(b"".join(packet.payload for packet in packets), Codec.PCMA).astype(float)
    return float(10 * np.log10((samples**2).mean() / 32768**2))


def test_comfort_noise_goes_on_to_who_takes_it() -> None:
    line = Line(takes_noise=True)
    line.sender.follow()
    line.talk(codes_of(20, 5))
    line.rest(60)
    line.run(0.1)
    line.timestamp = (line.timestamp + 800) & 0xFFFFFFFF
    line.talk(codes_of(20, 5, seed=3))
    line.check()
    assert [packet.payload_type for packet in line.sent] == [8] * 5 + [NOISE] + [8] * 5
    assert line.sent[5].payload == bytes([60])
    assert [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(line.sent[4:8])] == [160, 800, 160]


def test_comfort_noise_is_made_for_who_takes_none() -> None:
    line = Line()
    line.sender.follow()
    line.talk(codes_of(20, 5))
    line.rest(50)
    line.run(2.0)
    line.timestamp = (line.timestamp + 16000) & 0xFFFFFFFF
    line.talk(codes_of(20, 5, seed=3))
    line.check()
    made = line.sent[5:-5]
    assert {packet.payload_type for packet in line.sent} == {Codec.PCMA}
    assert 98 <= len(made) <= 101
    assert loudness_db(made) == pytest.approx(-50, abs=1)
    assert [packet.marker for packet in line.sent].count(True) == 3  # it begins, the noise begins, the source is back
    assert line.sent[-5].marker
    assert b"".join(packet.payload for packet in line.sent[-5:]) == b"".join(codes_of(20, 5, seed=3))


@pytest.mark.parametrize(("level", "made"), [(0, -30), (20, -30), (40, -40), (60, -60), (127, -78)])
def test_noise_is_as_loud_as_is_said_but_never_hurts(level: int, made: int) -> None:
    line = Line()
    line.sender.follow()
    line.talk(codes_of(20, 1))
    line.rest(level)
    line.run(1.0)
    assert loudness_db(line.sent[1:]) == pytest.approx(made, abs=1.5 if made > -70 else 7)


def test_the_noise_follows_what_the_source_says_of_it() -> None:
    line = Line()
    line.sender.follow()
    line.talk(codes_of(20, 1))
    line.rest(60)
    line.run(1.0)
    line.rest(60)  # said again: it goes on
    line.run(0.02)
    assert not line.sent[-1].marker
    line.rest(40)
    line.run(1.0)
    line.check()
    assert loudness_db(line.sent[1:49]) == pytest.approx(-60, abs=1)
    assert loudness_db(line.sent[-48:]) == pytest.approx(-40, abs=1)


def test_while_the_source_is_silent_its_noise_is_repeated_to_who_takes_it() -> None:
    line = Line(takes_noise=True)
    line.sender.follow()
    line.talk(codes_of(20, 1))
    line.rest(60)
    for _ in range(20):
        line.run(0.1)
        line.sender.watch(line.now)
    assert not line.sender.paced, "no silence is sent that would cover the noise"
    line.timestamp = (line.timestamp + 16000) & 0xFFFFFFFF
    line.talk(codes_of(20, 5, seed=3))
    line.check()
    repeated = [packet for packet in line.sent if packet.payload_type == NOISE]
    assert len(repeated) == pytest.approx(2.0 / QUIET_S, abs=4)
    assert {packet.payload for packet in repeated} == {bytes([60])}
    assert b"".join(packet.payload for packet in line.sent[-5:]) == b"".join(codes_of(20, 5, seed=3))


def test_noise_before_anything_was_said() -> None:
    for takes_noise in (False, True):
        line = Line(takes_noise=takes_noise)
        line.sender.hush()
        line.run(0.1)
        line.sender.follow()
        line.rest(50)
        line.run(0.5)
        line.check()
        assert line.sent[-1].payload_type == (NOISE if takes_noise else Codec.PCMA)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_sent_as_rfc_4733_has_it() -> None:
    line = Line()
    line.sender.hush()
    line.run(0.2)
    line.sender.press("1#")
    line.run(1.0)
    line.check()
    events = [packet for packet in line.sent if packet.payload_type == EVENT]
    assert len(events) == 14
    for press, code in ((events[:7], 1), (events[7:], 11)):
        assert [packet.marker for packet in press] == [True] + [False] * 6
        assert len({packet.timestamp for packet in press}) == 1
        assert {packet.payload[0] for packet in press} == {code}
        assert [int.from_bytes(packet.payload[2:], "big") for packet in press] == [160, 320, 480, 640, 800, 800, 800]
        assert [bool(packet.payload[1] & 0x80) for packet in press] == [False] * 4 + [True] * 3
        assert [b.at - a.at for a, b in pairwise(press)] == pytest.approx([0.02] * 6)
    between = (events[7].timestamp - events[0].timestamp) & 0xFFFFFFFF
    assert between == pytest.approx(1600, abs=2), "the second begins when its time has come"
    reader = KeyReader()
    assert "".join(filter(None, (reader.read(packet.timestamp, packet.payload) for packet in events))) == "1#"


def test_a_prompt_waits_for_the_keys_and_goes_on() -> None:
    line = Line()
    line.sender.play(frames(20), Codec.PCMA)
    line.run(0.1)
    before = len(line.audio)
    line.sender.press("5")
    line.run(1.0)
    line.check()
    spoken = [packet for packet in line.audio if packet.payload != bytes([SILENCE]) * 160]
    assert b"".join(packet.payload for packet in spoken) == b"".join(frames(20))
    after = next(packet for packet in spoken[before:])
    assert line.sent[line.sent.index(after) - 1].payload[0] in (SILENCE, 5)


def test_who_talks_is_not_mixed_into_the_keys_and_is_heard_again() -> None:
    line = Line()
    line.sender.follow()
    said = codes_of(20, 60)
    line.talk(said[:10])
    line.sender.press("9")
    line.talk(said[10:])
    line.check()
    kinds = [packet.payload_type for packet in line.sent]
    first, last = kinds.index(EVENT), len(kinds) - kinds[::-1].index(EVENT)
    assert set(kinds[first:last]) == {EVENT}
    heard = [packet.payload for packet in line.audio if packet.payload in said]
    assert heard[:10] == said[:10]
    assert heard[10:] == said[-len(heard[10:]) :]
    assert len(heard) >= 48
    assert next(packet for packet in line.audio if packet.payload == heard[10]).marker


def test_keys_pressed_while_keys_are_sent_come_behind_them() -> None:
    line = Line()
    line.sender.hush()
    line.sender.press("12")
    line.run(0.1)
    line.sender.press("3")
    line.run(1.5)
    reader = KeyReader()
    events = [packet for packet in line.sent if packet.payload_type == EVENT]
    assert "".join(filter(None, (reader.read(packet.timestamp, packet.payload) for packet in events))) == "123"


def test_no_keys_to_who_takes_none() -> None:
    line = Line()
    line.sender.agree(Codec.PCMA, 8, None)
    line.sender.hush()
    line.sender.press("1")
    line.run(0.5)
    assert {packet.payload_type for packet in line.sent} == {Codec.PCMA}
    line.sender.agree(Codec.PCMA, 8, EVENT)
    line.sender.press("1")
    line.run(0.05)
    line.sender.agree(Codec.PCMA, 8, None)  # a re-INVITE in the middle of it
    line.run(0.5)
    line.check()


# --- whatever happens -------------------------------------------------------------------------------------------------

STEPS = st.sampled_from(
    [
        "run",
        "run",
        "talk",
        "talk",
        "talk",
        "prompt",
        "follow",
        "hush",
        "watch",
        "pause",
        "anew",
        "rest",
        "press",
        "skip",
    ]
)


@given(
    st.lists(STEPS, max_size=60),
    st.sampled_from(LENGTHS_MS),
    st.sampled_from(LENGTHS_MS),
    st.sampled_from([*LENGTHS_MS, 200]),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_happens_the_stream_is_one(
    steps: list[str], source: int, ptime: int, longest: int, takes_noise: bool
) -> None:
    line = Line(ptime, longest, takes_noise)
    said = bytes([0x11]) * (source * 8)
    for step in steps:
        match step:
            case "run":
                line.wait(0.02)
            case "talk":
                line.talk([said, said])
            case "prompt":
                line.sender.play(frames(3), Codec.PCMA)
            case "follow":
                line.sender.follow()
            case "hush":
                line.sender.hush()
            case "watch":
                line.sender.watch(line.now)
            case "pause":
                line.wait(0.3)
            case "anew":
                line.epoch, line.sequence, line.timestamp = line.epoch + 1, line.epoch * 9999 & 0xFFFF, line.epoch * 77
            case "rest":
                line.rest(60)
            case "press":
                line.sender.press("1")
            case _:
                line.sender.skip(line.epoch)
                line.sequence = (line.sequence + 1) & 0xFFFF
    line.run(0.5)
    line.check()
    for before, after in pairwise(line.audio):
        if (set(before.payload) == {0x11}) is not (set(after.payload) == {0x11}):
            between = line.sent[line.sent.index(before) + 1 : line.sent.index(after) + 1]
            assert any(packet.marker for packet in between), "the marker tells of each switch"
    for packet in line.sent:
        ahead = ((packet.timestamp - line.sent[0].timestamp) & 0xFFFFFFFF) / 8000 - (packet.at - line.sent[0].at)
        assert abs(ahead) < 0.25, "the timestamps keep to the clock"
