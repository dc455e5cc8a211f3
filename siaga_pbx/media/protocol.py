"""What the daemon and a media worker say to each other: frozen dataclasses, on the wire as JSON lines (`wire.py`).

The worker speaks first: `Hello` (with the protocol's version), then `State` (the legs it carries). The daemon sends
commands, the worker events; neither waits for an answer. A leg is named by the daemon; `call` groups the legs that may
be bridged and recorded together.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

VERSION = 1
"""Raised whenever an old peer would misunderstand a new one; a worker of another version is ended and replaced."""

MAX_ONCE = 32
"""Prompts in one `Play`: more is a fault of the caller of `play`, not an announcement."""

Network: TypeAlias = IPv4Network | IPv6Network

OFFERED_EVENT = 101
"""The payload number our own offers give telephone-events; far sides may send with it whatever number theirs is."""


class Side(StrEnum):
    """Who is at the far end. What a CALLER leg receives is the recording's left, what it is sent the right."""

    CALLER = "caller"
    SEAT = "seat"


class Codec(IntEnum):
    """G.711 in its two laws, by static RTP payload type (RFC 3551)."""

    PCMU = 0
    PCMA = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The agreed far side of a leg, from its SDP, and whose packets are taken for its own.

    Not `strict` (a trunk): any port of `host`; if nothing came from there for 2 s, the first source in `accept`.
    `strict` (a seat) with no `accept`: `host` and `port` exactly. `strict` with `accept` (a seat behind NAT, whose SDP
    names a private address): the first source in `accept`. Once a source is taken it is kept until another `host` or
    `port` is connected; all others are dropped and counted.
    """

    host: str
    port: int
    codec: Codec = Codec.PCMA
    payload_type: int | None = None
    """The payload number agreed for `codec` if it is not the static one."""
    telephone_event: int | None = None
    """The payload number agreed for RFC 4733 events; None: none agreed."""
    ptime_ms: int = 20
    accept: tuple[Network, ...] = ()
    strict: bool = False
    sending: bool = True
    """False while the far side holds us (SDP sendonly or inactive, or the address 0.0.0.0): nothing is sent to it."""


# --- commands: daemon to worker -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind `count` more port pairs on `address` and hold them: `Bound` for each, `BindFailed` for those that failed."""

    address: str
    count: int
    type: Literal["bind"] = "bind"


@dataclass(frozen=True, slots=True)
class Open:
    """Make the bound pair (`address`, `port`) a leg of a call."""

    leg: str
    call: str
    side: Side
    address: str
    port: int
    type: Literal["open"] = "open"


@dataclass(frozen=True, slots=True)
class Connect:
    """The leg's far side; again after a re-INVITE."""

    leg: str
    remote: Remote
    type: Literal["connect"] = "connect"


@dataclass(frozen=True, slots=True)
class Play:
    """Send the prompts of `once`, then `loop` for ever (silence if there is none). `Played` when `once` is through."""

    leg: str
    once: Annotated[tuple[str, ...], Field(max_length=MAX_ONCE)]
    loop: Annotated[tuple[str, ...], Field(max_length=MAX_ONCE)] = ()
    type: Literal["play"] = "play"


@dataclass(frozen=True, slots=True)
class Bridge:
    """Each of two legs of one worker hears the other. A leg goes on hearing what it heard (its prompt cut to silence)
    until the other's first packet."""

    leg_a: str
    leg_b: str
    type: Literal["bridge"] = "bridge"


@dataclass(frozen=True, slots=True)
class Unbridge:
    """Both legs of the bridge are sent silence from now on."""

    leg: str
    type: Literal["unbridge"] = "unbridge"


@dataclass(frozen=True, slots=True)
class RelayEvents:
    """Whether the telephone-events this leg receives go to the leg it is bridged to (they are always read)."""

    leg: str
    on: bool
    type: Literal["relay_events"] = "relay_events"


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
    | Unbridge
    | RelayEvents
    | Echo
    | Record
    | StopRecord
    | Close
    | List
    | Ping
    | Leave
)

# --- events: worker to daemon ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker's first word. `index` is its place among the workers of one configuration."""

    version: int
    index: int
    pid: int
    type: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True)
class LegState:
    """One leg as the worker has it."""

    leg: str
    call: str
    side: Side
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class State:
    """All legs of the worker, the calls it records, and the bound pairs (address, port) that are no leg yet."""

    legs: tuple[LegState, ...]
    recording: tuple[str, ...]
    bound: tuple[tuple[str, int], ...]
    type: Literal["state"] = "state"


@dataclass(frozen=True, slots=True)
class Bound:
    """A port pair is held for the daemon: RTP on `port` (even), RTCP on `port + 1`."""

    address: str
    port: int
    type: Literal["bound"] = "bound"


@dataclass(frozen=True, slots=True)
class BindFailed:
    """`count` pairs could not be bound: `exhausted` (none is free now) or the system's reason."""

    address: str
    count: int
    reason: str
    type: Literal["bind_failed"] = "bind_failed"


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """The leg's far side was found, at its first packet; the leg keeps to this source until another is connected."""

    leg: str
    host: str
    port: int
    expected: bool
    """False: not the address of the SDP (behind NAT, or another gateway of the trunk). Belongs in the call's record."""
    type: Literal["first_packet"] = "first_packet"


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key was pressed (RFC 4733), told at its first packet: one event a press, however long, lost or repeated."""

    leg: str
    digit: str
    """One of 0-9 * # A-D, or `F` for hook flash (event 16)."""
    type: Literal["dtmf"] = "dtmf"


@dataclass(frozen=True, slots=True)
class Played:
    """The prompts of `once` are through (not sent if they were cut)."""

    leg: str
    type: Literal["played"] = "played"


@dataclass(frozen=True, slots=True)
class PromptMissing:
    """A prompt could not be played and was left out."""

    leg: str
    name: str
    reason: str
    type: Literal["prompt_missing"] = "prompt_missing"


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing has come from the leg's far side for 60 s; told again every 60 s while that lasts."""

    leg: str
    seconds: float
    type: Literal["silent"] = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class LegStats:
    """A leg's account. Loss and jitter as RFC 3550 A.3 and A.8 count them; times in milliseconds."""

    received: int = 0
    sent: int = 0
    lost: int = 0
    """Packets of the far side that never came."""
    duplicate: int = 0
    reordered: int = 0
    jitter_ms: float = 0.0
    longest_gap_ms: float = 0.0
    """The longest time between two packets from the far side."""
    rejected: int = 0
    """Packets dropped because they came from somewhere else."""
    malformed: int = 0
    events: int = 0
    """Keys pressed."""
    remote_lost: int | None = None
    """What the far side says it missed of ours (RTCP); None if it never said."""
    remote_jitter_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The leg is no more. Exactly one for every leg opened."""

    leg: str
    stats: LegStats
    type: Literal["closed"] = "closed"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The call's recording is complete on disk."""

    call: str
    path: str
    seconds: float
    sha256: str
    lost_ms: int
    """How much of it is silence because the disk could not keep up."""
    type: Literal["recorded"] = "recorded"


@dataclass(frozen=True, slots=True)
class RecordFailed:
    """The recording could not be made, or goes on with a hole (told once; `Recorded` has its length)."""

    call: str
    path: str
    reason: str
    final: bool = True
    """No `Recorded` follows."""
    type: Literal["record_failed"] = "record_failed"


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Ping`, with what the worker is like now."""

    number: int
    free: int
    """Port pairs that are neither leg, bound, nor held back."""
    rejected: int
    """Packets dropped since the start because they came from somewhere else."""
    lag_ms: float
    """The worst delay of the 20 ms timer since the last Pong."""
    type: Literal["pong"] = "pong"


LegEvent: TypeAlias = FirstPacket | Dtmf | Played | PromptMissing | Silent | Closed
CallEvent: TypeAlias = Recorded | RecordFailed
Event: TypeAlias = LegEvent | CallEvent | Hello | State | Bound | BindFailed | Pong
