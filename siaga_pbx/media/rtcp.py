"""RTCP (RFC 3550 section 6): SR or RR with SDES, and BYE, are made; reports are read."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from siaga_pbx.media.rtp import Receiver
from siaga_pbx.media.sender import Sender

SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, GOODBYE = 200, 201, 202, 203
_CNAME = 1
_NTP_EPOCH = 2208988800
"""Seconds from 1900 to 1970."""

_INTERVAL_S = 5.0
"""The shortest on average (section 6.2). Two members' reports are far below 5 % of G.711, so it is the interval."""
_COMPENSATION = math.e - 1.5
"""Of the reconsideration of timers (section 6.3.1)."""

_SENDER_INFO = struct.Struct("!IIIIII")
_BLOCK = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the far side says of what it received from us."""

    lost: int
    jitter_ms: float
    round_trip_ms: float | None = None
    """RFC 3550 6.4.1; None if it answers none of our reports."""


class Reporter:
    """One leg's reports, made and read."""

    __slots__ = (
        "_about", "_clock_of_theirs", "_cname", "_expected", "_lost", "_ours", "_ours_at", "_received", "_sent",
        "_sent_before", "_theirs_at", "_theirs_ssrc", "begun", "heard",
    )  # fmt: skip

    def __init__(self, cname: str) -> None:
        """`cname` names us to the far side (RFC 3550 6.5.1); it must not tell anything about the call."""
        self.heard: Heard | None = None
        self.begun = False
        """A report was made."""
        self._cname = cname.encode()
        self._about = self._expected = self._lost = self._received = 0
        self._sent = self._sent_before = 0
        self._clock_of_theirs = self._theirs_ssrc = 0
        self._theirs_at = 0.0
        self._ours, self._ours_at = 0, 0.0

    def report(self, sender: Sender, receiver: Receiver, now: float, wall: float) -> bytes:
        """A compound packet of the present state; `wall` is seconds since 1970.

        A sender's if anything was sent since the last but one, with a block if anything came since the last (6.4).
        """
        self.begun = True
        blocks = self._block(receiver, now) if receiver.received != self._received else b""
        count = 1 if blocks else 0
        sends = sender.sent != self._sent_before
        self._sent_before, self._sent = self._sent, sender.sent
        if sends:
            ntp = round((wall + _NTP_EPOCH) * (1 << 32))
            self._ours, self._ours_at = ntp >> 16 & 0xFFFFFFFF, now
            info = _SENDER_INFO.pack(
                sender.ssrc, ntp >> 32 & 0xFFFFFFFF, ntp & 0xFFFFFFFF, sender.stamp(now), sender.sent & 0xFFFFFFFF,
                sender.octets & 0xFFFFFFFF,
            )  # fmt: skip
            first = _packet(SENDER_REPORT, count, info + blocks)
        else:
            first = _packet(RECEIVER_REPORT, count, struct.pack("!I", sender.ssrc) + blocks)
        chunk = struct.pack("!IBB", sender.ssrc, _CNAME, len(self._cname)) + self._cname + b"\0"
        return first + _packet(DESCRIPTION, 1, chunk + bytes(-len(chunk) % 4))

    def goodbye(self, sender: Sender, receiver: Receiver, now: float, wall: float) -> bytes:
        """The last one (6.6)."""
        return self.report(sender, receiver, now, wall) + _packet(GOODBYE, 1, struct.pack("!I", sender.ssrc))

    def read(self, packet: bytes, ssrc: int, now: float) -> bool:
        """Take in a compound packet about our `ssrc`; False if it is not RTCP."""
        try:
            for kind, count, content in _parts(packet):
                if kind == SENDER_REPORT:
                    self._theirs_ssrc, seconds, fraction, _, _, _ = _SENDER_INFO.unpack_from(content)
                    self._clock_of_theirs = (seconds << 16 | fraction >> 16) & 0xFFFFFFFF
                    self._theirs_at = now
                    self._read_blocks(content[24:], count, ssrc, now)
                elif kind == RECEIVER_REPORT:
                    self._read_blocks(content[4:], count, ssrc, now)
        except (struct.error, ValueError):
            return False
        return True

    def _block(self, receiver: Receiver, now: float) -> bytes:
        """Of the stream that comes now: what another had is not this one's."""
        if receiver.ssrc != self._about:
            self._about, self._expected, self._lost = receiver.ssrc, 0, 0
        expected, lost = receiver.expected - self._expected, receiver.missing - self._lost
        self._expected, self._lost, self._received = receiver.expected, receiver.missing, receiver.received
        fraction = min(255, max(0, (lost << 8) // expected)) if expected > 0 else 0
        last = self._clock_of_theirs if self._theirs_ssrc == receiver.ssrc else 0
        since = min(round((now - self._theirs_at) * 65536), 0xFFFFFFFF) if last else 0
        return _BLOCK.pack(
            receiver.ssrc, fraction << 24 | min(receiver.missing, 0x7FFFFF), receiver.extended & 0xFFFFFFFF,
            int(receiver.jitter) & 0xFFFFFFFF, last, since,
        )  # fmt: skip

    def _read_blocks(self, content: bytes, count: int, ssrc: int, now: float) -> None:
        for start in range(0, 24 * count, 24):
            about, losses, _, jitter, last, held = _BLOCK.unpack_from(content, start)
            if about == ssrc:
                lost = losses & 0xFFFFFF
                lost -= 1 << 24 if lost & 0x800000 else 0
                self.heard = Heard(lost, jitter / 8, self._round_trip_ms(last, held, now))

    def _round_trip_ms(self, last: int, held: int, now: float) -> float | None:
        """From the report of ours that came last to the far side, and how long it kept it (in 1/65536 s)."""
        if not self._ours or last != self._ours:
            return None if self.heard is None else self.heard.round_trip_ms
        return max(0.0, (now - self._ours_at - held / 65536) * 1000)


def interval(chance: float, first: bool = False) -> float:
    """Seconds to the next report (6.3.1, A.7): `chance` of 0 to 1 spreads it, the first comes after half the time."""
    return _INTERVAL_S / (2 if first else 1) * (0.5 + chance) / _COMPENSATION


def is_rtcp(packet: bytes) -> bool:
    """Whether a packet is RTCP rather than RTP, by its type (RFC 5761 4)."""
    return len(packet) >= 8 and packet[0] & 0xC0 == 0x80 and 192 <= packet[1] <= 223


def _packet(kind: int, count: int, content: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(content) // 4) + content


def _parts(packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The packets of a compound packet: type, count, what is behind the header. Raises `ValueError` if it is none."""
    while packet:
        if len(packet) < 4 or packet[0] & 0xC0 != 0x80 or not 192 <= packet[1] <= 223:
            raise ValueError("not RTCP")
        end = 4 * (int.from_bytes(packet[2:4], "big") + 1)
        yield packet[1], packet[0] & 0x1F, packet[4:end]
        packet = packet[end:]
