"""The one RTP stream that a leg sends, whatever feeds it: prompts, the other leg, silence."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from functools import partial
from itertools import chain
from typing import Protocol, TypeAlias

from siaga_pbx.media.dtmf import KeyPacket, presses
from siaga_pbx.media.g711 import FRAME, RATE, SILENCE, TO_LAW
from siaga_pbx.media.noise import comfort
from siaga_pbx.media.pieces import Later, Spread, pieces
from siaga_pbx.media.protocol import Codec
from siaga_pbx.media.rtp import COMFORT_NOISE, HEADER, MARKER, PLAIN

Address: TypeAlias = tuple[str, int]
_pack = HEADER.pack
_SILENT = {law: bytes((code,)) * FRAME for law, code in SILENCE.items()}
_OVER = KeyPacket(b"", False)
_NO_FRAMES: Iterator[bytes] = iter(())
_EARLY = 40
"""How far (5 ms) silence may run into what was sent before it; if it would further, it starts a tick later. That leaves
no gap of over 35 ms."""

QUIET_S = 0.2
"""A source that has sent nothing for this long (a held phone, silence suppression, a dead one) is stood in for by
silence: far sides and their firewalls take a stream that stops for a call that has ended."""


class Feed(Enum):
    """What a stream is made of."""

    NOTHING = auto()
    """Nothing yet: no packet is sent."""
    PROMPT = auto()
    """Prompts, then silence, by the timer."""
    SOURCE = auto()
    """The packets of another leg (or, for an echo, of its own) as they come; silence by the timer while none come."""


class Track(Protocol):
    """A side of a recording."""

    def write(self, timestamp: int, codes: bytes, law: Codec, now: float) -> None: ...
    def turn(self, over: int) -> None: ...


class Sender:
    """One SSRC with continuous sequence numbers and timestamps and the marker bit at each switch of what feeds it.

    Packets made here are of the length agreed on; the source's go as they are, unless they are longer than the far side
    takes. `relay` is called for each packet of the source, `tick` every 20 ms while `paced`. Whoever owns the sender
    keeps it on the timer while `paced` is true; `on_paced` tells that it became so.
    """

    __slots__ = (
        "_ahead", "_epoch", "_frames", "_frames_law", "_law", "_length", "_longest", "_marker", "_next", "_noise",
        "_on_paced", "_pieces", "_presses", "_ptime", "_rest", "_run", "_sendto", "_sequence_offset", "_spread",
        "_steady", "_takes_noise", "_timestamp_at", "_timestamp_offset", "_wait", "event_type", "feed", "heard",
        "last_at", "octets", "paced", "payload_type", "sent", "sequence", "ssrc", "target", "timestamp", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        sendto: Callable[[bytes, Address], int],
        entropy: Callable[[int], bytes],
        on_paced: Callable[["Sender"], None],
        timestamp: int,
        later: Later | None = None,
    ) -> None:
        """`timestamp` is that of the zero of the clock: the first packet has the one of its time, so that far sides
        that place audio by it hear a pause, and not a leap, when another worker goes on with the leg. The SSRC and the
        numbers are new ones then: nobody knows which numbers the lost worker gave under its own, and to give one twice
        would break SRTP (RFC 3711 9.1). `later` is the loop's `call_later`, for packets that are cut; without it their
        pieces go out together."""
        self._sendto = sendto
        self._on_paced = on_paced
        self._spread = Spread(later)
        self.timestamp = timestamp
        self.ssrc, self.sequence = (int.from_bytes(entropy(n), "big") for n in (4, 2))
        self.target: Address | None = None
        """Where it goes (see `aim`); None: nowhere, and prompts wait."""
        self.payload_type: int = Codec.PCMA
        self.event_type: int | None = None
        self.heard: Track | None = None
        self.feed = Feed.NOTHING
        self.paced = False
        self.sent = self.octets = self.unsent = 0
        self.last_at = 0.0
        self._law = self._frames_law = Codec.PCMA
        self._frames = _NO_FRAMES
        self._rest = b""
        self._presses: Iterator[KeyPacket | None] | None = None
        self._noise: bytes | None = None
        self._takes_noise = False
        self._marker = MARKER
        self._steady = False
        self._timestamp_at = 0.0
        self._ptime = self._length = FRAME
        self._longest = 10 * FRAME
        self._next = self._wait = self._ahead = 0
        self._epoch = -1
        self._pieces = 1
        self._sequence_offset = self._timestamp_offset = self._run = 0

    @property
    def law(self) -> Codec:
        """The law it is sent in."""
        return self._law

    @property
    def frames(self) -> Iterator[bytes]:
        """What it is sent by the timer, given to `play`."""
        return self._frames

    def send_by(self, sendto: Callable[[bytes, Address], int]) -> None:
        """What carries the packets from now on."""
        self._sendto = sendto

    def aim(self, target: Address | None) -> None:
        """Where to send from now on."""
        self.target = target
        if target is None:
            self._epoch = -1  # what the source sends meanwhile is not numbered

    def agree(self, law: Codec, payload_type: int, event_type: int | None) -> None:
        """What the far side takes."""
        if law is not self._law:
            self._rest = self._rest.translate(TO_LAW[law])
        self._law, self.payload_type, self.event_type = law, payload_type, event_type

    def shape(self, ptime_ms: int, longest_ms: int, takes_noise: bool) -> None:
        """What packets it likes to get, and takes at most; and whether comfort noise (RFC 3389)."""
        self._ptime, self._longest = ptime_ms * RATE // 1000, longest_ms * RATE // 1000
        self._takes_noise = takes_noise

    def play(self, frames: Iterator[bytes], law: Codec) -> None:
        """Send these 20 ms frames, in `law`, from the next tick on; silence when they end."""
        self._frames, self._frames_law = frames, law
        self._turn_to(Feed.PROMPT)

    def press(self, keys: str) -> None:
        """Send keys as telephone-events, then go on with what was sent. Nothing if the far side takes none."""
        if self.event_type is not None:
            self._presses = chain(self._presses or (), presses(keys))
            self._turn_to(self.feed if self.feed is Feed.SOURCE else Feed.PROMPT)

    def hush(self) -> None:
        """Send silence."""
        self.play(_NO_FRAMES, self._law)

    def follow(self) -> None:
        """Send what `relay` brings, and silence until it does."""
        self._frames = _NO_FRAMES
        self._turn_to(Feed.SOURCE)

    def relay(
        self, epoch: int, marker: int, law: Codec, sequence: int, timestamp: int, codes: bytes, now: float
    ) -> None:
        """Audio of the source, in `law`; `epoch` tells one numbering of the source from the next."""
        if epoch != self._epoch and not self._switch(epoch, sequence, timestamp, now):
            return
        if law is not self._law:
            codes = codes.translate(TO_LAW[self._law])
        self._noise = None
        if len(codes) > self._longest or self._pieces != 1:
            self._forward_cut(marker, sequence, timestamp, codes, now)
        else:
            self._length = len(codes)
            self._forward(self.payload_type, marker, sequence, timestamp, codes, now)
        if self.heard is not None:
            self.heard.write((timestamp + self._timestamp_offset) & 0xFFFFFFFF, codes, self._law, now)

    def relay_event(self, epoch: int, marker: int, sequence: int, timestamp: int, event: bytes, now: float) -> None:
        """A telephone-event of the source; left out if the far side takes none."""
        if self.event_type is None:
            self.skip(epoch)
        elif epoch == self._epoch or self._switch(epoch, sequence, timestamp, now):
            self._cut_into(1, sequence)
            self._forward(self.event_type, marker, sequence, timestamp, event, now)

    def relay_noise(self, epoch: int, sequence: int, timestamp: int, payload: bytes, now: float) -> None:
        """Comfort noise of the source, which may be silent after it: as it is to who takes it, else the noise meant."""
        if self.feed is not Feed.SOURCE or self._presses is not None:
            return
        if not self._takes_noise:
            if payload != self._noise or not self.paced:
                self._frames, self._frames_law = comfort(payload, self._law), self._law
                self._turn_to(Feed.SOURCE)
        elif epoch == self._epoch or self._switch(epoch, sequence, timestamp, now):
            self._cut_into(1, sequence)
            self._forward(COMFORT_NOISE, 0, sequence, timestamp, payload, now)
        self._noise = payload

    def skip(self, epoch: int) -> None:
        """A packet of the source is held back: what follows is numbered as if it had never been."""
        if epoch == self._epoch:
            self._sequence_offset -= self._pieces
            self._run = 0
            self._marker = MARKER

    def tick(self, now: float) -> None:
        """The timer's 20 ms are over: send what is due until the next."""
        if self.target is None:
            self._steady = False
            return
        if not self._steady and self._passed(now) < self._length - _EARLY:
            return  # what was sent last is still being heard: the next tick will do
        if self._presses is not None and self._tick_keys(self._presses, now):
            return
        if not self._steady:
            self._next, self._wait, self._rest, self._steady = self._turn(now, over=0), 0, b"", True
        if self._ptime == FRAME and not self._rest:
            self._send_made(self._frame(), now)
        else:
            self._send_packed(self._rest + self._frame(), now)

    def watch(self, now: float) -> None:
        """Called now and then: a source that went quiet is stood in for."""
        if self.feed is Feed.SOURCE and not self.paced and now - self.last_at > QUIET_S + (self._length - FRAME) / RATE:
            if self._noise is None:
                self.follow()
            else:
                self._repeat_noise(self._noise, now)

    def stumble(self) -> None:
        """The timer left ticks out: the timestamp has to catch up with the clock."""
        self._steady = False

    def stamp(self, now: float) -> int:
        """The timestamp of this moment (for a report)."""
        return (self.timestamp + round((now - self._timestamp_at) * RATE)) & 0xFFFFFFFF

    def stop(self) -> None:
        """The leg is over."""
        self._spread.drop()

    def _turn_to(self, feed: Feed) -> None:
        self._spread.flush()
        self.feed = feed
        self._epoch = -1
        self._marker = MARKER
        self._noise = None
        self._steady = self._steady and self.paced
        if not self.paced:
            self.paced = True
            self._on_paced(self)

    def _switch(self, epoch: int, sequence: int, timestamp: int, now: float) -> bool:
        """The source's first packet, or the first of a new numbering: ours goes on from where it is."""
        if self.feed is not Feed.SOURCE or self.target is None or self._presses is not None:
            return False
        self._spread.flush()
        self._epoch = epoch
        self._marker = MARKER
        self._steady = self.paced = False
        self._pieces = 1
        self._sequence_offset = self.sequence + 1 - sequence
        self._timestamp_offset = self._turn(now, over=self._length) - timestamp
        self._run = 0
        return True

    def _forward(
        self,
        payload_type: int,
        marker: int,
        sequence: int,
        timestamp: int,
        payload: bytes,
        now: float,
        delay: float = 0.0,
    ) -> None:
        """A packet of the source under our numbers. `sequence` counts the pieces that its packets are cut into."""
        sequence = (sequence + self._sequence_offset) & 0xFFFF
        timestamp = (timestamp + self._timestamp_offset) & 0xFFFFFFFF
        ahead = (sequence - self.sequence) & 0xFFFF
        if ahead < 0x8000:
            self.sequence = sequence
            self._run += ahead
            if timestamp != self.timestamp:  # all packets of one telephone-event have the first one's
                self.timestamp, self._timestamp_at = timestamp, now
        elif 0x10000 - ahead >= self._run:  # late, and from before the switch
            return
        self._send(payload_type | marker | self._marker, sequence, timestamp, payload, now, delay)

    def _forward_cut(self, marker: int, sequence: int, timestamp: int, codes: bytes, now: float) -> None:
        """A packet that is too long, or one after it: its pieces go out as if the source had made them."""
        count = pieces(len(codes), self._longest)
        self._cut_into(count, sequence)
        self._length = size = -(-len(codes) // count)
        for number in range(count):
            start = number * size
            self._forward(
                self.payload_type, 0 if number else marker, sequence * count + number, timestamp + start,
                codes[start : start + size], now + start / RATE, start / RATE,
            )  # fmt: skip

    def _cut_into(self, count: int, sequence: int) -> None:
        """From this packet of the source on, each is so many of ours."""
        if count != self._pieces:
            self._pieces, self._run = count, 0
            self._sequence_offset = self.sequence + 1 - sequence * count

    def _repeat_noise(self, payload: bytes, now: float) -> None:
        """Not silence, which the far side would play in place of its noise. The source's next packet is a switch."""
        self._epoch = -1
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp, self._timestamp_at = self._turn(now, over=0), now
        self._send(COMFORT_NOISE, self.sequence, self.timestamp, payload, now)

    def _tick_keys(self, keys: Iterator[KeyPacket | None], now: float) -> bool:
        """Send what is due of the keys; False if that is silence, or nothing is left of them."""
        packet = next(keys, _OVER)
        if packet is _OVER or self.event_type is None:
            self._presses = None
            self._marker = MARKER
            return False
        if packet is None:
            return False
        if packet.first:
            self.timestamp, self._timestamp_at = self._turn(now, over=0), now
            self._marker = MARKER
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._steady = False
        self._length = FRAME
        self._send(self.event_type | self._marker, self.sequence, self.timestamp, packet.payload, now)
        return True

    def _frame(self) -> bytes:
        frame = next(self._frames, None) if self._presses is None else None
        if frame is None:
            return _SILENT[self._law]
        return frame if self._frames_law is self._law else frame.translate(TO_LAW[self._law])

    def _send_packed(self, codes: bytes, now: float) -> None:
        """The packets of another length that are full; what is left waits for the next tick."""
        while len(codes) >= self._ptime:
            self._send_made(codes[: self._ptime], now, self._wait / RATE)
            codes = codes[self._ptime :]
            self._wait += self._ptime
        self._rest = codes
        self._wait = max(0, self._wait - FRAME)

    def _send_made(self, codes: bytes, now: float, delay: float = 0.0) -> None:
        """A packet of ours, `delay` from now."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp, self._timestamp_at = self._next, now + delay
        self._length = len(codes)
        self._next = (self._next + self._length) & 0xFFFFFFFF
        self._send(self.payload_type | self._marker, self.sequence, self.timestamp, codes, now + delay, delay)
        if self.heard is not None:
            self.heard.write(self.timestamp, codes, self._law, now + delay)

    def _turn(self, now: float, over: int) -> int:
        """The next timestamp at a switch: where the clock is, but at least after the last packet's 20 ms.

        So it may get ahead of the clock, as a source's first packet does not wait until the last silence is over; what
        it is ahead is made good at later switches. In the recording it may lie `over` the end of that silence instead.
        """
        if self.heard is not None:
            self.heard.turn(over)
        step = max(self._length, self._passed(now))
        self._ahead = step - self._passed(now)
        return (self.timestamp + step) & 0xFFFFFFFF

    def _passed(self, now: float) -> int:
        """Samples from the last timestamp to where the clock is."""
        return round((now - self._timestamp_at) * RATE) - self._ahead

    def _send(self, kind: int, sequence: int, timestamp: int, payload: bytes, now: float, delay: float = 0.0) -> None:
        """`now`: when it is due, that is in `delay` seconds."""
        self._marker = 0
        self.last_at = now
        if delay:
            self._spread.add(delay, partial(self._put, kind, sequence, timestamp, payload))
        else:
            if self._spread.waiting:
                self._spread.flush()
            self._put(kind, sequence, timestamp, payload)

    def _put(self, kind: int, sequence: int, timestamp: int, payload: bytes) -> None:
        if (target := self.target) is None:
            return
        self.sent += 1
        self.octets += len(payload)
        try:
            self._sendto(_pack(PLAIN, kind, sequence, timestamp, self.ssrc) + payload, target)
        except OSError:  # a full buffer, no route, a refusal by the far side's machine: one packet, as on any network
            self.unsent += 1
