"""What the daemon tells a media worker: the commands of `protocol`, and the values they are made of. Pure."""

from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from siaga_pbx.media.stats import LegStats

MAX_ONCE = 32
"""Prompts in one `Play`: more is a fault of the caller of `play`, not an announcement."""

MAX_KEYS = 64
"""Keys in one `SendKeys`: they take 0.2 s each."""

Network: TypeAlias = IPv4Network | IPv6Network

OFFERED_EVENT = 101
"""The payload number our own offers give telephone-events; far sides may send with it whatever number theirs is."""


def address_of(host: str) -> str | None:
    """An IP address as the system writes it in a packet's source; None for a name, which is not looked up: that takes
    time no packet has."""
    try:
        written = str(ip_address(host))
    except ValueError:
        return None
    return host if host == written else written  # one string less for each leg


def place_of(host: str, port: int) -> tuple[str, int] | None:
    """An address and port that can be sent to; None if either is none."""
    address = address_of(host)
    if address is None or not 0 < port < 65536 or ip_address(address).is_unspecified:
        return None
    return address, port


class Side(StrEnum):
    """Who is at the far end. What a CALLER leg receives is the recording's left, what it is sent the right."""

    CALLER = "caller"
    SEAT = "seat"


class Codec(IntEnum):
    """G.711 in its two laws, by static RTP payload type (RFC 3551)."""

    PCMU = 0
    PCMA = 8


class SrtpSuite(StrEnum):
    """AES in counter mode with HMAC-SHA1, by the names of RFC 4568 6.2."""

    SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    SHA1_32 = "AES_CM_128_HMAC_SHA1_32"


@dataclass(frozen=True, slots=True)
class Srtp:
    """The agreed keys: master key and salt (30 bytes) in base64, of what we send and of what the far side sends."""

    suite: SrtpSuite
    ours: str = field(repr=False)
    theirs: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The agreed far side of a leg, from its SDP, and whose packets are taken for its own.

    Not `strict` (a trunk): any port of `host`; if nothing came from there for 2 s, the first source in `accept`.
    `strict` (a seat) with no `accept`: `host` and `port` exactly. `strict` with `accept` (a seat behind NAT, whose SDP
    names a private address): the first source in `accept`. Once a source is taken it is kept; after another `host` or
    `port` is connected, until the first packet from there. All others are dropped and counted (ADR 401).
    """

    host: str
    port: int
    codec: Codec = Codec.PCMA
    payload_type: int | None = None
    """The payload number agreed for `codec` if it is not the static one."""
    telephone_event: int | None = None
    """The payload number agreed for RFC 4733 events; None: none agreed."""
    ptime_ms: int = 20
    """How long the packets are that we make."""
    max_ptime_ms: int = 200
    """Longer ones of the other side are cut."""
    comfort_noise: bool = False
    """Whether it takes RFC 3389's packets; else noise is made of them."""
    rtcp_mux: bool = False
    """RTCP goes where RTP goes (RFC 5761)."""
    rtcp: tuple[str, int] | None = None
    """Where it goes else, if not to the port above."""
    accept: tuple[Network, ...] = ()
    strict: bool = False
    sending: bool = True
    """False while the far side holds us (SDP sendonly or inactive, or the address 0.0.0.0): nothing is sent to it."""
    receiving: bool = True
    """False while the far side is to send nothing (SDP recvonly or inactive)."""
    srtp: Srtp | None = None
    """The keys, if audio and RTCP are protected both ways; nothing else is taken then."""
    nowhere: bool = False
    """It holds us by an SDP without an address (`after`): it is not even sent RTCP (RFC 3264 8.4)."""

    def after(self, before: "Remote") -> "Remote":
        """What it comes to in mid-call, when `before` was agreed: who holds us by 0.0.0.0, or by a name in .invalid
        (RFC 6157 4.1), names no other far side."""
        if self.sending or place_of(self.host, self.port) is not None:
            return self
        return replace(
            self, nowhere=True, host=before.host, port=before.port, accept=before.accept, strict=before.strict
        )

    def leaves(self, source: tuple[str, int], before: "Remote", former: bool) -> bool:
        """Whether a source found is now that of the far side before. `former`: whether it was already, when `before`
        was agreed."""
        if self.same_source(before):
            return former
        return source[:2] != place_of(self.host, self.port)

    def same_source(self, other: "Remote") -> bool:
        """Whether `other` has the same rule, so that the source found for this one stands."""
        return (self.host, self.port, self.accept, self.strict) == (other.host, other.port, other.accept, other.strict)


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind `count` more port pairs on `address` and hold them: `Bound` for each, `BindFailed` for those that failed."""

    address: str
    count: int
    type: Literal["bind"] = "bind"


@dataclass(frozen=True, slots=True)
class Open:
    """Make the pair (`address`, `port`), bound already or free, a leg of a call. `OpenFailed` if it cannot be had."""

    leg: str
    call: str
    side: Side
    address: str
    port: int
    timestamp: int
    """The RTP timestamp of what is sent to it at the zero of the machine's monotonic clock, so that another worker that
    goes on with the leg goes on with its timestamps."""
    type: Literal["open"] = "open"


@dataclass(frozen=True, slots=True)
class Connect:
    """The leg's far side; again after a re-INVITE."""

    leg: str
    remote: Remote
    source: tuple[str, int] | None = None
    """Where its packets were found to come from, by a worker that is no more: no other is taken."""
    rolls: int = 0
    """With SRTP: the rollover counter of what it sends (RFC 3711 3.3.1), as that worker told it last."""
    former: bool = False
    """That source is of the far side before a re-INVITE: the new one has sent nothing yet."""
    type: Literal["connect"] = "connect"


@dataclass(frozen=True, slots=True)
class Play:
    """Send the prompts of `once`, then `loop` for ever (silence if there is none). `Played` when `once`, if
    there is any, is through."""

    leg: str
    once: Annotated[tuple[str, ...], Field(max_length=MAX_ONCE)]
    loop: Annotated[tuple[str, ...], Field(max_length=MAX_ONCE)] = ()
    at: float = 0.0
    """When the daemon said so: tells it from an earlier one like it that is through."""
    after: bool = False
    """Begin when the prompt that it is sent now is through: all of its `once`, one of its `loop`."""
    type: Literal["play"] = "play"


@dataclass(frozen=True, slots=True)
class Bridge:
    """Each of two legs of one worker hears the other. A leg goes on hearing what it heard (its prompt cut to silence)
    until the other's first packet."""

    leg_a: str
    leg_b: str
    type: Literal["bridge"] = "bridge"


class Part(StrEnum):
    """A leg's part in the conference of its call. Whatever it is, the leg hears all who talk."""

    TALK = "talk"
    """Heard by all."""
    LISTEN = "listen"
    """Heard by none."""
    WHISPER = "whisper"
    """Heard by one alone."""


@dataclass(frozen=True, slots=True)
class Confer:
    """The leg joins the conference of its call, or changes its part there. It is left as a bridge is: by `Unbridge`, or
    by whatever else the leg is to be sent."""

    leg: str
    part: Part = Part.TALK
    to: str | None = None
    """The leg that is whispered to."""
    type: Literal["confer"] = "confer"


@dataclass(frozen=True, slots=True)
class Unbridge:
    """Both legs of the bridge are sent silence from now on; of a conference this leg, and it is heard no more."""

    leg: str
    type: Literal["unbridge"] = "unbridge"


@dataclass(frozen=True, slots=True)
class RelayEvents:
    """Whether the telephone-events this leg receives go to the leg it is bridged to (they are always read)."""

    leg: str
    on: bool
    type: Literal["relay_events"] = "relay_events"


@dataclass(frozen=True, slots=True)
class SendKeys:
    """Press keys (0-9 * # A-D) towards the leg's far side, as telephone-events; what else it is sent waits meanwhile.
    Nothing if it takes none."""

    leg: str
    keys: Annotated[str, Field(max_length=MAX_KEYS)]
    type: Literal["send_keys"] = "send_keys"


@dataclass(frozen=True, slots=True)
class Recall:
    """What a worker that is no more had counted of the leg: its account goes on from there."""

    leg: str
    stats: LegStats
    type: Literal["recall"] = "recall"


@dataclass(frozen=True, slots=True)
class Echo:
    """Send the leg its own audio back (test call)."""

    leg: str
    type: Literal["echo"] = "echo"


@dataclass(frozen=True, slots=True)
class Record:
    """Record the call to a new file at `path` (absolute), from the next packet of its CALLER leg either way."""

    call: str
    path: str
    began: float | None = None
    """When it began, on the machine's monotonic clock, if another worker began it: told by `RecordBegan`."""
    again: bool = False
    """Go on with the file of a worker that is no more; between the two is silence."""
    type: Literal["record"] = "record"


@dataclass(frozen=True, slots=True)
class StopRecord:
    """End the recording now; it ends by itself with the call's last leg."""

    call: str
    type: Literal["stop_record"] = "stop_record"


@dataclass(frozen=True, slots=True)
class Close:
    """End the leg. Its ports are held back for some seconds. `Closed` follows."""

    leg: str
    type: Literal["close"] = "close"


@dataclass(frozen=True, slots=True)
class List:
    """Answered by `State`."""

    type: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class Ping:
    """Answered by `Pong` with the same number."""

    number: int
    type: Literal["ping"] = "ping"


@dataclass(frozen=True, slots=True)
class Leave:
    """The daemon goes and wants no worker kept: end as soon as there is no leg."""

    type: Literal["leave"] = "leave"


Command: TypeAlias = (
    Bind
    | Open
    | Connect
    | Play
    | Bridge
    | Confer
    | Unbridge
    | RelayEvents
    | SendKeys
    | Echo
    | Recall
    | Record
    | StopRecord
    | Close
    | List
    | Ping
    | Leave
)
