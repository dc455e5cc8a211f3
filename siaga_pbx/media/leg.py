"""A leg in the worker: what its far side sends is checked, counted, recorded and passed on to who hears it."""

import math
from collections.abc import Callable
from functools import cache
from secrets import randbits, token_urlsafe
from time import monotonic

from siaga_pbx.media.conference import Conferences, Place
from siaga_pbx.media.door import Door
from siaga_pbx.media.dtmf import KeyReader
from siaga_pbx.media.hearing import Hearing
from siaga_pbx.media.ports import PortPair
from siaga_pbx.media.protocol import (
    OFFERED_EVENT,
    Codec,
    Connect,
    Dtmf,
    FirstPacket,
    LegEvent,
    LegStats,
    Part,
    Rolled,
    Side,
    Silent,
    Srtp,
    Why,
)
from siaga_pbx.media.rtcp import Reporter, is_rtcp
from siaga_pbx.media.rtp import COMFORT_NOISE, HEADER, HEADER_SIZE, MARKER, PLAIN, Receiver, body
from siaga_pbx.media.sender import Sender, Track
from siaga_pbx.media.source import Source
from siaga_pbx.media.srtp import Cipher
from siaga_pbx.media.stats import together

MAX_PACKET = 2048
"""Bytes read of a packet: more than any network carries whole; the rest of a longer one is cut off."""
SILENT_S = 60.0

_unpack = HEADER.unpack_from


class Leg:
    """One leg. `receive` and `receive_report` are called when a socket is readable."""

    __slots__ = (
        "_cipher",
        "_event_types",
        "_expected_at",
        "_keys",
        "_keys_epoch",
        "_laws",
        "_lock",
        "_silent_since",
        "_silent_told",
        "_tell",
        "before",
        "call",
        "door",
        "hearer",
        "hearing",
        "keys_pressed",
        "malformed",
        "name",
        "pair",
        "peer",
        "place",
        "receiver",
        "relay_events",
        "reporter",
        "said",
        "sender",
        "side",
    )

    def __init__(
        self,
        name: str,
        call: str,
        side: Side,
        pair: PortPair,
        sender: Sender,
        tell: Callable[[LegEvent], None],
        now: float,
    ) -> None:
        self.name = name
        self.call = call
        self.side = side
        self.pair = pair
        self.sender = sender
        self.receiver = Receiver()
        self.reporter = Reporter(token_urlsafe(12))
        self.hearer: Sender | Place | None = None
        """Who is sent what comes in."""
        self.peer: Leg | None = None
        self.place: Place | None = None
        """In a conference."""
        self.said: Track | None = None
        self.relay_events = True
        self.malformed = self.keys_pressed = 0
        self.before: LegStats | None = None
        """What another worker had counted."""
        self.door = Door(name, pair, tell)
        self._cipher: Cipher | None = None
        self._lock = self.door.lock
        self.hearing = Hearing(name)
        self._expected_at = now
        self._tell = tell
        self._laws: tuple[Codec | None, ...] = (None,) * 128
        self._event_types = _event_types(None)
        self._keys: KeyReader | None = None
        self._keys_epoch = 0
        self._silent_since = 0.0
        self._silent_told = 0

    @property
    def heard_at(self) -> float:
        """When the far side was last heard, or else when it was first expected."""
        return max(self.receiver.last_at, self._expected_at)

    def connect(self, command: Connect, now: float) -> None:
        """The far side as agreed now."""
        remote = command.remote
        if self.door.connect(remote, now, command.source, command.former):
            self._expected_at = now
        self._secure(remote.srtp, command.rolls)
        self._expect(remote.sending and remote.receiving, now)
        self.sender.aim(self._lock.target)
        payload_type = remote.codec if remote.payload_type is None else remote.payload_type
        self.sender.agree(remote.codec, payload_type, remote.telephone_event)
        self.sender.shape(remote.ptime_ms, remote.max_ptime_ms, remote.comfort_noise)
        self._laws = _laws(payload_type & 0x7F, remote.codec)
        self._event_types = _event_types(remote.telephone_event)

    def receive(self) -> None:
        """A packet on the RTP port."""
        try:
            packet, source = self.pair.rtp.recvfrom(MAX_PACKET)
        except OSError:
            return
        now = monotonic()
        if source != self._lock.source:
            opened = self._admit(source, packet, now)
        else:
            opened = packet if self._cipher is None else self._open(source, packet, now)
        if opened is None:
            return
        packet = opened
        if len(packet) < HEADER_SIZE:
            self.malformed += 1
            return
        first, second, sequence, timestamp, ssrc = _unpack(packet)
        payload = packet[HEADER_SIZE:] if first == PLAIN else body(packet)
        law = self._laws[second & 0x7F]
        if law is None or not payload:
            self._receive_other(packet, payload, now)
        elif self.receiver.take(sequence, timestamp, ssrc, now, True):
            if self.said is not None:
                self.said.write(timestamp, payload, law, now)
            if self.hearer is not None:
                self.hearer.relay(self.receiver.epoch, second & MARKER, law, sequence, timestamp, payload, now)

    def receive_report(self) -> None:
        """A packet on the RTCP port: only from the machine whose audio is taken."""
        try:
            packet, source = self.pair.rtcp.recvfrom(MAX_PACKET)
        except OSError:
            return
        now = monotonic()
        opened = packet if self._cipher is None else self._cipher.opened_report(packet)
        if not self.door.admits_report(source, opened, now) or opened is None:
            return
        if not self.reporter.read(opened, self.sender.ssrc, now):
            self.malformed += 1

    def send_report(self, now: float, wall: float) -> None:
        """RTCP, once there is something to report."""
        self.receiver.adapt()
        if self._lock.reports_to is not None and (self.sender.sent or self.receiver.epoch):
            self._send_report(self.reporter.report(self.sender, self.receiver, now, wall))

    def say_goodbye(self, now: float, wall: float) -> None:
        """The leg ends: the last RTCP. Who has said nothing says no goodbye (RFC 3550 6.3.7)."""
        if self.sender.sent or self.reporter.begun:
            self._send_report(self.reporter.goodbye(self.sender, self.receiver, now, wall))

    def _send_report(self, packet: bytes) -> None:
        gate, to = self._lock.gate, self._lock.reports_to
        if gate is None or to is None:
            return
        try:
            protected = packet if self._cipher is None else self._cipher.protect_report(packet)
            (self.pair.rtp if gate.remote.rtcp_mux else self.pair.rtcp).sendto(protected, to)
        except (OSError, OverflowError):  # as in Sender; and no port is above 65535
            return

    def bridge(self, other: "Leg") -> None:
        """Each is sent what the other says."""
        self.part()
        other.part()
        self.peer, other.peer = other, self
        self.hearer, other.hearer = other.sender, self.sender
        self.sender.follow()
        other.sender.follow()

    def echo(self) -> None:
        """It is sent what it says."""
        self.part()
        self.hearer = self.sender
        self.sender.follow()

    def confer(self, conferences: Conferences, part: Part, to: str | None) -> None:
        """It takes part in the conference of its call, or changes its part there."""
        if self.place is None:
            self.part()
            self.hearer = self.place = conferences.enter(self.call, self.name, self.sender)
        self.place.takes(part, to)

    def part(self) -> None:
        """End a bridge (both are sent silence) or an echo, or leave a conference."""
        peer, self.peer = self.peer, None
        if self.place is not None:
            self.place.leave()
            self.place = None
        if self.hearer is not None:
            self.hearer = None
            self.sender.hush()
        if peer is not None:
            peer.part()

    def watch(self, now: float) -> None:
        """Called each second: a silent far side is told of."""
        self.door.watch(now)
        if self._lock.gate is None:
            return
        last_at = self.receiver.last_at
        if self._lock.watch(last_at):
            self.sender.aim(self._lock.target)
        if last_at == self.receiver.silenced_at:
            last_at = now
        if (news := self.hearing.look(last_at, self._others_heard_at, now)) is not None:
            self._tell(news)
        since = self.heard_at
        if since != self._silent_since:
            self._silent_since, self._silent_told = since, 0
        if now - since >= SILENT_S * (self._silent_told + 1):
            self._silent_told += 1
            self._tell(Silent(self.name, round(now - since, 1)))

    def stats(self) -> LegStats:
        receiver, heard = self.receiver, self.reporter.heard
        own = LegStats(
            received=receiver.received,
            sent=self.sender.sent - self.sender.unsent,
            lost=receiver.lost,
            duplicate=receiver.duplicate,
            reordered=receiver.reordered,
            late=receiver.late,
            jitter_ms=round(receiver.jitter / 8, 3),
            longest_gap_ms=round(receiver.longest_gap * 1000, 1),
            rejected=self.door.refused,
            malformed=self.malformed,
            events=self.keys_pressed,
            remote_lost=heard.lost if heard is not None else None,
            remote_jitter_ms=heard.jitter_ms if heard is not None else None,
            round_trip_ms=heard.round_trip_ms if heard is not None else None,
        )
        return own if self.before is None else together(self.before, own)

    @property
    def _others_heard_at(self) -> float | None:
        """When whom it is to hear was heard last; None if that is nobody."""
        if self.place is not None:
            return self.place.others_heard_at
        return self.peer.receiver.last_at if self.peer is not None else None

    def _expect(self, expected: bool, now: float) -> None:
        """A hold begins, or ends: what does not come meanwhile is no gap."""
        if expected is not self.hearing.expected:
            self.receiver.expected_from = now if expected else math.inf
        self.hearing.expect(expected, now)

    def _admit(self, source: Source, packet: bytes, now: float) -> bytes | None:
        """The packet, opened, of a source we do not know that turns out to be the far side's: only one of the agreed
        kind, made with the agreed key."""
        if not self._lock.knows(source):
            if not self._agreed(packet):
                self.door.refuse(self.door.reason, source, now)
                return None
            if not self.door.admits(source, self.receiver.last_at, now):
                return None
        opened = packet if self._cipher is None else self._open(source, packet, now)
        if opened is not None and source != self._lock.source:
            expected = self.door.take(source)
            self.sender.aim(self._lock.target)
            host, port = (self._lock.source or source)[:2]
            self._tell(FirstPacket(self.name, host, port, expected))
        return opened

    def _secure(self, keys: Srtp | None, rolls: int) -> None:
        """Protect what is sent, and take nothing but what is protected; or no more. The keys may have been this leg's
        before."""
        if keys is None:
            self._cipher = None
            self.sender.send_by(self.pair.rtp.sendto)
        elif self._cipher is not None:
            if self._cipher.rekey(keys):
                self.sender.ssrc = randbits(32)
        else:
            self.sender.ssrc = randbits(32)
            cipher = self._cipher = Cipher(keys, rolls, lambda rolls: self._tell(Rolled(self.name, rolls)))
            sendto = self.pair.rtp.sendto
            self.sender.send_by(lambda packet, target: sendto(cipher.protect(packet), target))

    def _open(self, source: Source, packet: bytes, now: float) -> bytes | None:
        """An SRTP packet, or SRTCP on the same port (RFC 5761); None if it is neither, and counted."""
        assert self._cipher is not None, "a leg with keys"
        opened = self._cipher.opened_report(packet) if is_rtcp(packet) else self._cipher.opened(packet, now)
        if opened is None:
            self.door.refuse(Why.UNPROTECTED, source, now)
        return opened

    def _agreed(self, packet: bytes) -> bool:
        if len(packet) <= HEADER_SIZE or packet[0] & 0xC0 != PLAIN:
            return False
        payload_type = packet[1] & 0x7F
        return (
            self._laws[payload_type] is not None or payload_type in self._event_types or payload_type == COMFORT_NOISE
        )

    def _receive_other(self, packet: bytes, payload: bytes | None, now: float) -> None:
        """What is no audio: a telephone-event, comfort noise, RTCP on the RTP port (RFC 5761), or what nobody knows."""
        _, second, sequence, timestamp, ssrc = _unpack(packet)
        if payload and second & 0x7F in self._event_types:
            if self.receiver.take(sequence, timestamp, ssrc, now, False):
                self._receive_event(second & MARKER, sequence, timestamp, payload, now)
        elif payload and second & 0x7F == COMFORT_NOISE:
            if self.receiver.take(sequence, timestamp, ssrc, now, True):
                self.receiver.silenced_at = now
                if self.hearer is not None:
                    self.hearer.relay_noise(self.receiver.epoch, sequence, timestamp, payload, now)
        elif not 192 <= second <= 223 or not self.reporter.read(packet, self.sender.ssrc, now):
            self.malformed += 1

    def _receive_event(self, marker: int, sequence: int, timestamp: int, payload: bytes, now: float) -> None:
        epoch = self.receiver.epoch
        if self._keys is None or epoch != self._keys_epoch:
            self._keys, self._keys_epoch = KeyReader(), epoch
        digit = self._keys.read(timestamp, payload)
        if digit is not None:
            self.keys_pressed += 1
            self._tell(Dtmf(self.name, digit))
        if self.hearer is not None and self.relay_events:
            self.hearer.relay_event(epoch, marker, sequence, timestamp, payload, now)
        elif self.hearer is not None:
            self.hearer.skip(epoch)


# One of each kind for all legs that agreed on the same: they would be a third of what a leg takes.


@cache
def _laws(payload_type: int, codec: Codec) -> tuple[Codec | None, ...]:
    """The law of each payload type that is audio: the static ones, and the one agreed."""
    laws: list[Codec | None] = [None] * 128
    laws[Codec.PCMU], laws[Codec.PCMA] = Codec.PCMU, Codec.PCMA
    laws[payload_type] = codec
    return tuple(laws)


@cache
def _event_types(agreed: int | None) -> frozenset[int]:
    """Theirs to receive, and ours if ours was another (RFC 3264 5.1)."""
    return frozenset() if agreed is None else frozenset((agreed, OFFERED_EVENT))
