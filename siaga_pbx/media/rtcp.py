"""RTCP (RFC 3550 section 6), as little as an honest sender and receiver must: SR or RR with SDES; reports are read."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from siaga_pbx.media.rtp import Receiver
from siaga_pbx.media.sender import Sender

SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, GOODBYE = 200, 201, 202, 203
_CNAME = 1
_NTP_EPOCH = 2208988800
"""Seconds from 1900 to 1970."""

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

    __slots__ = ("_clock_of_theirs", "_cname", "_expected", "_lost", "_ours", "_ours_at", "_theirs_at", "heard")

    def __init__(self, cname: str) -> None:
        """`cname` names us to the far side (RFC 3550 6.5.1); it must not tell anything about the call."""
        self.heard: Heard | None = None
        self._cname = cname.encode()
        self._expected = self._lost = 0
        self._clock_of_theirs = 0
        self._theirs_at = 0.0
        self._ours, self._ours_at = 0, 0.0

    def report(self, sender: Sender, receiver: Receiver, now: float, wall: float) -> bytes:
        """A compound packet of the present state; `wall` is seconds since 1970."""
        blocks = self._block(receiver, now) if receiver.epoch else b""
        count = 1 if blocks else 0
        if sender.sent:
            ntp = round((wall + _NTP_EPOCH) * (1 << 32))
            self._ours, self._ours_at = ntp >> 16 & 0xFFFFFFFF, now
            stamp = (sender.timestamp + round((now - sender.last_at) * 8000)) & 0xFFFFFFFF
            info = _SENDER_INFO.pack(
                sender.ssrc, ntp >> 32 & 0xFFFFFFFF, ntp & 0xFFFFFFFF, stamp, sender.sent & 0xFFFFFFFF,
                sender.octets & 0xFFFFFFFF,
            )  # fmt: skip
            first = _packet(SENDER_REPORT, count, info + blocks)
        else:
            first = _packet(RECEIVER_REPORT, count, struct.pack("!I", sender.ssrc) + blocks)
        chunk = struct.pack("!IBB", sender.ssrc, _CNAME, len(self._cname)) + self._cname + b"\0"
        return first + _packet(DESCRIPTION, 1, chunk + bytes(-len(chunk) % 4))

    def read(self, packet: bytes, ssrc: int, now: float) -> bool:
        """Take in a compound packet about our `ssrc`; False if it is not RTCP."""
        try:
            for kind, count, content in _parts(packet):
                if kind == SENDER_REPORT:
                    _, seconds, fraction, _, _, _ = _SENDER_INFO.unpack_from(content)
                    self._clock_of_theirs = (seconds << 16 | fraction >> 16) & 0xFFFFFFFF
                    self._theirs_at = now
                    self._read_blocks(content[24:], count, ssrc, now)
                elif kind == RECEIVER_REPORT:
                    self._read_blocks(content[4:], count, ssrc, now)
        except (struct.error, ValueError):
            return False
        return True

    def _block(self, receiver: Receiver, now: float) -> bytes:
        expected, lost = receiver.expected - self._expected, receiver.lost - self._lost
        self._expected, self._lost = receiver.expected, receiver.lost
        fraction = min(255, max(0, (lost << 8) // expected)) if expected > 0 else 0
        since = min(round((now - self._theirs_at) * 65536), 0xFFFFFFFF) if self._clock_of_theirs else 0
        return _BLOCK.pack(
            receiver.ssrc, fraction << 24 | min(receiver.lost, 0x7FFFFF), receiver.extended & 0xFFFFFFFF,
            round(receiver.jitter) & 0xFFFFFFFF, self._clock_of_theirs, since,
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
