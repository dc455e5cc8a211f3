"""RTP packets (RFC 3550 section 5.1) and what is counted of those received (sections 6.4.1, A.1, A.3, A.8)."""

import math
import struct

HEADER = struct.Struct("!BBHII")
HEADER_SIZE = 12
PLAIN = 0x80
"""The first byte of nearly every packet: version 2, no padding, no extension, no CSRC."""
MARKER = 0x80
COMFORT_NOISE = 13
"""The payload number of RFC 3389."""

SEQUENCES = 0x10000
TIMESTAMPS = 0x100000000

MAX_DROPOUT = 3000
"""A jump ahead of more packets than this (a minute) is a new stream, not a loss (RFC 3550 A.1)."""
MAX_DISORDER = 100
"""Packets later than this belong to no stream of ours (RFC 3550 A.1)."""
MAX_LEAP = 16000
"""A timestamp that departs from the clock by more than this (2 s) at one packet has been set anew by the sender."""
LATE = 480
"""Samples (60 ms) after which a packet is of no use to a phone: what the buffers of usual ones hold."""
_WINDOW = (1 << (MAX_DISORDER + 1)) - 1


def body(packet: bytes) -> bytes | None:
    """The payload of a packet with padding, extension or CSRCs; None if it is none."""
    first = packet[0]
    if first & 0xC0 != 0x80:
        return None
    start = HEADER_SIZE + 4 * (first & 0x0F)
    if first & 0x10:
        if len(packet) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    end = len(packet)
    if first & 0x20:
        end -= packet[-1]
    return packet[start:end] if start <= end else None


class Receiver:
    """What has come from a leg's far side. `epoch` changes whenever its numbering starts anew."""

    __slots__ = (
        "_bad",
        "_base",
        "_cycles",
        "_deadline",
        "_least",
        "_lost_before",
        "_seen",
        "_transit",
        "duplicate",
        "epoch",
        "expected_from",
        "highest",
        "jitter",
        "last_at",
        "late",
        "longest_gap",
        "received",
        "reordered",
        "silenced_at",
        "ssrc",
        "unique",
    )

    def __init__(self) -> None:
        self.epoch = 0
        """0: nothing has come yet."""
        self.ssrc = 0
        self.highest = 0
        """The highest sequence number, of 16 bits."""
        self.received = self.unique = self.duplicate = self.reordered = 0
        self.jitter = 0.0
        """In samples (RFC 3550 A.8)."""
        self.last_at = 0.0
        self.longest_gap = 0.0
        self.expected_from = 0.0
        """Since when packets are expected; infinite while the leg is held. What is before is no gap."""
        self.silenced_at = -1.0
        """When the far side last said that it will be silent (comfort noise, RFC 3389): then nothing that does not come
        is missing."""
        self.late = 0
        self._least = self._deadline = math.inf
        self._base = self._cycles = self._seen = self._lost_before = 0
        self._bad = -1
        self._transit = math.nan

    def take(self, sequence: int, timestamp: int, ssrc: int, now: float, timed: bool) -> bool:
        """Count a packet; False for one that has come before or is far too late. `timed`: its timestamp tells when it
        was sent (not so for the telephone-events of one key press, which all carry the press's)."""
        self.received += 1
        ahead = (sequence - self.highest) & 0xFFFF
        if ssrc != self.ssrc or not self.epoch:
            self._start(sequence, ssrc, now)
        elif 0 < ahead < MAX_DROPOUT:
            if sequence < self.highest:
                self._cycles += SEQUENCES
            self.highest = sequence
            self._seen = (self._seen << ahead | 1) & _WINDOW
        elif not self._late(SEQUENCES - ahead if ahead else 0, sequence, ssrc, now):
            return False
        if now - self.last_at > self.longest_gap and self.last_at != self.silenced_at:
            self.longest_gap = max(self.longest_gap, now - max(self.last_at, self.expected_from))
        self.last_at = now
        self.unique += 1
        if timed:
            transit = now * 8000.0 - timestamp
            variation = abs(transit - self._transit)
            self._transit = transit
            if variation < MAX_LEAP:
                self.jitter += (variation - self.jitter) * 0.0625
                if transit > self._deadline:
                    self.late += 1
                elif transit < self._least:
                    self._least = transit
                    self._deadline = min(self._deadline, transit + LATE)
            else:
                self._least, self._deadline = transit, transit + LATE
                if variation < TIMESTAMPS - MAX_LEAP:  # else the 32 bits have gone round, or it is the first (nan)
                    self.epoch += 1
        return True

    def adapt(self) -> None:
        """Called every few seconds: what is late is told by the earliest packet of the last few, as the far side's
        clock is not ours and ways change."""
        self._deadline = self._least + LATE
        self._least = math.inf

    @property
    def extended(self) -> int:
        """The highest sequence number with the cycles above it."""
        return self._cycles + self.highest

    @property
    def expected(self) -> int:
        """Packets of the present stream that should have come."""
        return self.extended - self._base + 1 if self.epoch else 0

    @property
    def lost(self) -> int:
        return self.missing + self._lost_before

    @property
    def missing(self) -> int:
        """Packets of the present stream that never came."""
        return max(0, self.expected - self.unique)

    def _start(self, sequence: int, ssrc: int, now: float) -> None:
        if self.epoch:
            self._lost_before = self.lost
        else:
            self.last_at = now
        self.ssrc, self.highest, self._base, self._cycles, self._seen = ssrc, sequence, sequence, 0, 1
        self.unique, self._bad, self._transit = 0, -1, math.nan
        self.epoch += 1

    def _late(self, behind: int, sequence: int, ssrc: int, now: float) -> bool:
        """A packet at or behind the highest: the first of its kind, or one more. Two in a row from elsewhere are a new
        stream (RFC 3550 A.1)."""
        if behind > MAX_DISORDER:
            if sequence != self._bad:
                self._bad = (sequence + 1) & 0xFFFF
                return False
            self._start(sequence, ssrc, now)
            return True
        if self._seen >> behind & 1:
            self.duplicate += 1
            return False
        self._seen |= 1 << behind
        self.reordered += 1
        return True
