"""SDP (RFC 8866) and its offer/answer (RFC 3264) for what this product has: one stream of G.711 audio.

Reading is tolerant: an odd line is kept or passed over, never a reason to lose a call. Every other stream is refused
with port 0, in its place. Directions are always seen from our side.
"""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import TypeAlias

from siaga_pbx.sip import packets, preconditions, sdes
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.sdes import Keys, Security

Line: TypeAlias = tuple[str, str]
"""The letter and the value of one SDP line."""

MAX_MEDIA = 32
"""Media sections of one description: each costs a line in the answer."""
OUR_PTIME_MS = packets.DEFAULT_PTIME_MS
OUR_TELEPHONE_EVENT = 101
CLOCK_RATE = 8000

_PROFILES = ("RTP/AVP", "RTP/AVPF")
_SECURE_PROFILES = ("RTP/SAVP", "RTP/SAVPF")


class Codec(IntEnum):
    """G.711 in its two laws, by static RTP payload type (RFC 3551 6)."""

    PCMU = 0
    PCMA = 8


class Direction(Enum):
    """Which way audio goes (RFC 8866 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def mirrored(self) -> "Direction":
        """The same from the other end: their sendonly is our recvonly."""
        return _direction(sends=self.receives, receives=self.sends)

    def within(self, limit: "Direction") -> "Direction":
        """What is left of it when only `limit` is allowed."""
        return _direction(sends=self.sends and limit.sends, receives=self.receives and limit.receives)


def _direction(sends: bool, receives: bool) -> Direction:
    if sends:
        return Direction.SENDRECV if receives else Direction.SENDONLY
    return Direction.RECVONLY if receives else Direction.INACTIVE


class NoCommonCodec(RemoteError):
    """There is no stream of G.711 that both can use: 488, with `make_offer` as the description of what we can."""

    slug = "no-common-codec"

    def __init__(self, detail: str) -> None:
        super().__init__(self.slug, detail, status=488)


class NoSecurity(NoCommonCodec):
    """There is a stream, but not with the keys that one of the two cannot do without."""

    slug = "no-srtp"


@dataclass(frozen=True, slots=True)
class Media:
    """One m= line and what follows it. `lines` are the others of its section, in order."""

    kind: str
    port: int
    profile: str
    formats: tuple[str, ...]
    lines: tuple[Line, ...] = ()

    def with_lines(self, *lines: Line) -> "Media":
        return replace(self, lines=(*self.lines, *lines)) if lines else self

    def rtpmap(self) -> dict[str, str]:
        """From the payload number to encoding and rate in lower case, for the numbers that the section maps."""
        mapped: dict[str, str] = {}
        for letter, value in self.lines:
            if letter == "a" and value.startswith("rtpmap:"):
                number, _, encoding = value[7:].strip().partition(" ")
                mapped[number] = encoding.strip().lower()
        return mapped

    def __str__(self) -> str:
        lines = [f"m={self.kind} {self.port} {self.profile} {' '.join(self.formats)}\r\n"]
        lines += [f"{letter}={value}\r\n" for letter, value in self.lines]
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class Sdp:
    """A session description: the lines of the session, then the media sections. `str(sdp)` writes it."""

    lines: tuple[Line, ...]
    media: tuple[Media, ...] = ()

    @classmethod
    def parse(cls, text: str | bytes) -> "Sdp":
        """Raises RemoteError with the reason `sdp` when there is neither a v= nor an m= line, or too many m= lines."""
        sections = _sections(text if isinstance(text, str) else _decode(text))
        session = sections[0]
        if len(sections) == 1 and not any(letter == "v" for letter, _ in session):
            raise RemoteError("sdp", "no description")
        if len(sections) > 1 + MAX_MEDIA:
            raise RemoteError("sdp", f"more than {MAX_MEDIA} media sections")
        return cls(tuple(session), tuple([_media(section) for section in sections[1:]]))

    def __str__(self) -> str:
        return "".join([f"{letter}={value}\r\n" for letter, value in self.lines]) + "".join(map(str, self.media))

    def host_of(self, media: Media) -> str:
        """The address of a section: its own c=, else the session's, else the origin's, else 0.0.0.0."""
        for lines in (media.lines, self.lines):
            for letter, value in lines:
                if letter == "c":
                    return _address(value)
        origin = next((value for letter, value in self.lines if letter == "o"), "")
        return _address(" ".join(origin.split()[3:]))

    @property
    def waits(self) -> bool:
        """Whether the sender's preconditions are not met yet: it cannot be heard, or hear (RFC 3312)."""
        return any(preconditions.waits(media.lines) for media in self.media if media.port)

    def direction_of(self, media: Media) -> Direction:
        """The direction of a section as it was written: its own, else the session's, else sendrecv."""
        for lines in (media.lines, self.lines):
            for letter, value in lines:
                if letter == "a" and value in _DIRECTIONS:
                    return _DIRECTIONS[value]
        return Direction.SENDRECV


_DIRECTIONS = {direction.value: direction for direction in Direction}


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _sections(text: str) -> list[list[Line]]:
    """The lines of the session and of each media section. Lines that are no `letter=value` are passed over."""
    sections: list[list[Line]] = [[]]
    for line in text.replace("\r", "\n").split("\n"):
        letter, equals, value = line.partition("=")
        letter = letter.strip()
        if not equals or len(letter) != 1:
            continue
        if letter == "m":
            sections.append([])
        sections[-1].append((letter, value.strip()))
    return sections


def _media(section: list[Line]) -> Media:
    """A section by its lines, the m= line first. One that cannot be read keeps its place, with port 0:

    not to be used.
    """
    parts = section[0][1].split()
    kind = parts[0] if parts else "unknown"
    digits = parts[1].partition("/")[0] if len(parts) > 1 else ""
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535 else 0
    profile = parts[2] if len(parts) > 2 else "RTP/AVP"
    return Media(kind, port, profile, tuple(parts[3:]), tuple(section[1:]))


def _address(connection: str) -> str:
    """The address of `IN IP4 192.0.2.1/127`; 0.0.0.0, which no audio is sent to, if there is none."""
    parts = connection.split()
    return parts[2].partition("/")[0] or "0.0.0.0" if len(parts) > 2 else "0.0.0.0"  # noqa: S104 (no bind)


@dataclass(frozen=True, slots=True)
class LocalAudio:
    """Our end of a leg's audio. `version` rises with each new description of a session (RFC 3264 8)."""

    address: str
    port: int
    session_id: int
    version: int
    security: Security | None = None
    """None: no SRTP, whatever they offer."""


@dataclass(frozen=True, slots=True)
class Audio:
    """What was agreed, as the media relay needs it: where to send, what, and which way.

    `payload` is the number the peer gave the codec: its static one but for peers that map it to another.
    `telephone_event` is the number to send DTMF with, None if the peer takes none. `ptime_ms` is what the peer likes
    to get, `max_ptime_ms` the most. `comfort_noise`: it takes RFC 3389's packets. `rtcp_mux`: it takes RTCP with the
    audio; else `rtcp` is where it takes it, if not one port above. `direction` is ours: RECVONLY or INACTIVE when the
    peer holds the call, whichever way it says so.
    """

    host: str
    port: int
    codec: Codec
    telephone_event: int | None
    ptime_ms: int
    direction: Direction
    payload: int
    max_ptime_ms: int = packets.LONGEST_MS
    comfort_noise: bool = False
    rtcp_mux: bool = False
    rtcp: tuple[str, int] | None = None
    keys: Keys | None = None
    """Of SRTP; None: plain RTP."""


def make_offer(local: LocalAudio, direction: Direction = Direction.SENDRECV) -> Sdp:
    """An offer of A-law, mu-law and DTMF events. Send it, and give it to `read_answer` with the answer.

    Comfort noise is not asked for: who sends it leaves out what a voice detector takes for nothing, and that may be a
    call's one clue.
    """
    formats = {str(int(Codec.PCMA)): Codec.PCMA, str(int(Codec.PCMU)): Codec.PCMU}
    profile = _SECURE_PROFILES[0] if local.security is not None and local.security.required else _PROFILES[0]
    ours = _our_media(local, profile, formats, OUR_TELEPHONE_EVENT, direction, True)
    if local.security is not None:
        ours = ours.with_lines(("a", f"crypto:{sdes.offered(local.security)}"))
    return Sdp(_session(local, ("0 0",)), (ours,))


def make_answer(offer: Sdp, local: LocalAudio) -> tuple[Sdp, Audio]:
    """The answer to an offer, and what is agreed by it. Raises NoCommonCodec, or NoSecurity.

    The first usable audio stream is taken, in it the first codec of the offer that we have, under the offer's own
    payload numbers (RFC 3264 6.1). All other streams are refused.
    """
    agreed: Audio | None = None
    sections: list[Media] = []
    for media in offer.media:
        crypto, keys = sdes.answered(media.lines, local.security)
        protected = _is_protected(media, keys, local.security)
        if agreed is None and protected and (agreed := _agree(offer, media, {}, keys)):
            formats = {str(agreed.payload): agreed.codec}
            ours = _our_media(
                local,
                media.profile,
                formats,
                agreed.telephone_event,
                agreed.direction,
                agreed.rtcp_mux,
                agreed.comfort_noise,
            )
            sections.append(ours.with_lines(*crypto, *preconditions.answer_lines(media.lines)))
        else:
            sections.append(_refused(media))
    if agreed is None:
        bare = any(_agree(offer, media, {}, None) for media in offer.media)
        refused = ", ".join(f"{media.kind} {media.profile} {' '.join(media.formats)}" for media in offer.media)[:200]
        raise NoSecurity(refused) if bare else NoCommonCodec(refused)
    times = tuple([value for letter, value in offer.lines if letter == "t"]) or ("0 0",)
    return Sdp(_session(local, times), tuple(sections)), agreed


def read_answer(offer: Sdp, answer: Sdp) -> Audio:
    """What an answer to our offer agrees. Raises NoCommonCodec when it refuses the stream or has no codec of ours, and
    NoSecurity when it leaves out the keys that the offer requires.

    A payload number that the answer does not map means what it meant in the offer.
    """
    if not answer.media:
        raise NoCommonCodec("an answer without a stream")
    ours, theirs = offer.media[0], answer.media[0]
    keys = sdes.agreed(ours.lines, theirs.lines)
    agreed = _agree(answer, theirs, ours.rtpmap(), keys)
    if agreed is None:
        raise NoCommonCodec(f"answered with {' '.join(theirs.formats)[:200]}")
    if keys is None and not {ours.profile.upper(), theirs.profile.upper()}.isdisjoint(_SECURE_PROFILES):
        raise NoSecurity(f"answered with {theirs.profile[:20]}")
    direction = agreed.direction.within(offer.direction_of(ours))
    return agreed if direction is agreed.direction else replace(agreed, direction=direction)


def _is_protected(media: Media, keys: Keys | None, security: Security | None) -> bool:
    """Whether a stream has the keys that the peer's profile, or our side, demands."""
    if keys is not None:
        return True
    return media.profile.upper() not in _SECURE_PROFILES and not (security is not None and security.required)


def _agree(theirs: Sdp, media: Media, known: dict[str, str], keys: Keys | None) -> Audio | None:
    """The peer's side of one stream, if it is audio that we can speak."""
    if media.kind.lower() != "audio" or media.port == 0 or media.profile.upper() not in (*_PROFILES, *_SECURE_PROFILES):
        return None
    mapped = _STATIC | known | media.rtpmap()
    codec = next((number for number in media.formats if mapped.get(number) in _CODECS), None)
    if codec is None or (payload := _payload(codec)) is None:
        return None
    event = next((number for number in media.formats if mapped.get(number) in _EVENTS), None)
    host = theirs.host_of(media)
    direction = theirs.direction_of(media).mirrored
    if _is_nowhere(host):
        direction = direction.within(Direction.RECVONLY)
    return Audio(
        host,
        media.port,
        _CODECS[mapped[codec]],
        None if event is None else _payload(event),
        packets.ptime(media.lines),
        direction,
        payload,
        packets.max_ptime(media.lines),
        str(packets.COMFORT_NOISE) in media.formats,
        packets.muxes(media.lines),
        packets.rtcp(media.lines, host),
        keys,
    )


_STATIC = {"0": "pcmu/8000", "8": "pcma/8000"}
_CODECS = {
    "pcmu/8000": Codec.PCMU,
    "pcmu/8000/1": Codec.PCMU,
    "pcma/8000": Codec.PCMA,
    "pcma/8000/1": Codec.PCMA,
}
_EVENTS = ("telephone-event/8000", "telephone-event/8000/1")


def _payload(number: str) -> int | None:
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 3 and int(number) <= 127 else None


def _is_nowhere(host: str) -> bool:
    """The old way to hold a call (RFC 3264 8.4), in IPv6 too (RFC 6157 4.1)."""
    return host in ("0.0.0.0", "::") or host.lower().endswith(".invalid")  # noqa: S104 (no bind)


def _session(local: LocalAudio, times: tuple[str, ...]) -> tuple[Line, ...]:
    connection = f"IN {_family(local.address)} {local.address}"
    return (
        ("v", "0"),
        ("o", f"- {local.session_id} {local.version} {connection}"),
        ("s", "-"),
        ("c", connection),
        *(("t", time) for time in times),
    )


def _family(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _our_media(
    local: LocalAudio,
    profile: str,
    formats: dict[str, Codec],
    event: int | None,
    direction: Direction,
    mux: bool,
    noise: bool = False,
) -> Media:
    numbers = list(formats)
    lines = [("a", f"rtpmap:{number} {codec.name}/{CLOCK_RATE}") for number, codec in formats.items()]
    if event is not None:
        numbers.append(str(event))
        lines += [("a", f"rtpmap:{event} telephone-event/{CLOCK_RATE}"), ("a", f"fmtp:{event} 0-15")]
    if noise:
        numbers.append(str(packets.COMFORT_NOISE))
        lines.append(("a", f"rtpmap:{packets.COMFORT_NOISE} CN/{CLOCK_RATE}"))
    lines += [("a", f"ptime:{OUR_PTIME_MS}"), ("a", direction.value)]
    if mux:
        lines.append(("a", packets.MUX))
    return Media("audio", local.port, profile, tuple(numbers), tuple(lines))


def _refused(media: Media) -> Media:
    return Media(media.kind, 0, media.profile, media.formats or ("0",))
