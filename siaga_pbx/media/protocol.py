"""What the daemon and a media worker say to each other: frozen dataclasses, on the wire as JSON lines (`wire.py`).

The worker speaks first: `Hello` (with the protocol's version), then `State` (the legs it carries). The daemon sends
commands, the worker events; neither waits for an answer. A leg is named by the daemon; `call` groups the legs that may
be bridged and recorded together. Times are seconds of the machine's monotonic clock, which all its processes share.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from siaga_pbx.media.commands import (
    MAX_ONCE,
    OFFERED_EVENT,
    Bind,
    Bridge,
    Close,
    Codec,
    Command,
    Confer,
    Connect,
    Echo,
    Leave,
    List,
    Network,
    Open,
    Part,
    Ping,
    Play,
    Recall,
    Record,
    RelayEvents,
    Remote,
    SendKeys,
    Side,
    Srtp,
    SrtpSuite,
    StopRecord,
    Unbridge,
)
from siaga_pbx.media.stats import LegStats

__all__ = [
    "MAX_ONCE",
    "OFFERED_EVENT",
    "VERSION",
    "Account",
    "Bind",
    "BindFailed",
    "Bound",
    "Bridge",
    "CallEvent",
    "Close",
    "Closed",
    "Codec",
    "Command",
    "Confer",
    "Connect",
    "Dtmf",
    "Echo",
    "Event",
    "FirstPacket",
    "HeardAgain",
    "Hello",
    "Leave",
    "LegEvent",
    "LegState",
    "LegStats",
    "List",
    "Network",
    "Open",
    "OpenFailed",
    "Part",
    "Ping",
    "Play",
    "Played",
    "Pong",
    "PromptMissing",
    "Recall",
    "Record",
    "RecordBegan",
    "RecordFailed",
    "RecordGap",
    "Recorded",
    "Refused",
    "RelayEvents",
    "Remote",
    "Rolled",
    "SendKeys",
    "Side",
    "Silent",
    "Srtp",
    "SrtpSuite",
    "State",
    "StopRecord",
    "Unbridge",
    "Unheard",
    "Why",
]

VERSION = 6
"""Raised whenever an old peer would misunderstand a new one; a worker of another version is ended and replaced."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker's first word. `index` is its place among the workers of one configuration."""

    version: int
    index: int
    pid: int
    type: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True)
class LegState:
    """One leg as it is to be: for each thing a leg has, the last command about it. Carried out in this order on a
    worker that knows nothing, they make the leg what it was (see `book.Book`)."""

    open: Open
    connect: Connect | None = None
    events: RelayEvents | None = None
    feed: Play | Bridge | Confer | Echo | None = None
    """What it is sent: silence is a `Play` of nothing; None: nothing yet, not even silence."""
    account: Recall | None = None
    """What was counted of it, as it was told last."""


@dataclass(frozen=True, slots=True)
class State:
    """All legs of the worker, its recordings, and the bound pairs (address, port) that are no leg yet."""

    legs: tuple[LegState, ...]
    recordings: tuple[Record, ...]
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
class OpenFailed:
    """The pair of an `Open` could not be had: there is no such leg, and no `Closed` follows."""

    leg: str
    reason: str
    type: Literal["open_failed"] = "open_failed"


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
class Rolled:
    """The far side's sequence numbers have gone round: its rollover counter now (RFC 3711 3.3.1), which another worker
    would need. Only with SRTP; every 22 minutes."""

    leg: str
    rolls: int
    type: Literal["rolled"] = "rolled"


class Why(StrEnum):
    """Why a packet was dropped: a label of the metric."""

    EARLY = "early"
    """No far side is agreed yet: most often a phone that talks before its 200 has arrived."""
    STRANGER = "stranger"
    """Not from the far side's address."""
    REPORT = "rtcp_stranger"
    """RTCP, and not from where the audio comes from."""
    UNPROTECTED = "srtp"
    """From the right address, but not made with the agreed key, or seen before (RFC 3711 3.3)."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Somebody else's packets were dropped: told at the first, then once a minute while there are more, ten times in
    all."""

    leg: str
    why: Why
    host: str
    port: int
    """Where the last came from that was looked at."""
    packets: int
    """How many so far for this reason."""
    type: Literal["refused"] = "refused"


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


@dataclass(frozen=True, slots=True)
class Unheard:
    """Nothing comes from the leg's far side, though it should: neither holds the other. Told within 3 s, and again only
    when it turns out to be one way."""

    leg: str
    seconds: float
    one_way: bool
    """Its bridge's other side is heard, so one of the two hears nothing."""
    type: Literal["unheard"] = "unheard"


@dataclass(frozen=True, slots=True)
class HeardAgain:
    """The end of `Unheard`: something comes, or is not to come any more."""

    leg: str
    seconds: float
    """How long nothing came, to a second."""
    type: Literal["heard_again"] = "heard_again"


@dataclass(frozen=True, slots=True)
class Account:
    """The leg's account so far, told now and then: another worker that goes on with the leg goes on with it too."""

    leg: str
    stats: LegStats
    type: Literal["account"] = "account"


@dataclass(frozen=True, slots=True)
class Closed:
    """The leg is no more. Exactly one for every leg opened."""

    leg: str
    stats: LegStats
    type: Literal["closed"] = "closed"


@dataclass(frozen=True, slots=True)
class RecordBegan:
    """The recording's first packet, its first sample: when, on the machine's monotonic clock."""

    call: str
    began: float
    type: Literal["record_began"] = "record_began"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The call's recording is complete on disk."""

    call: str
    path: str
    seconds: float
    sha256: str
    lost_ms: int
    """How much of it is silence because it was not written: the sum of its gaps."""
    type: Literal["recorded"] = "recorded"


@dataclass(frozen=True, slots=True)
class RecordFailed:
    """The recording cannot be written now (told once) or, if `final`, could not be made at all."""

    call: str
    path: str
    reason: str
    final: bool = True
    """No `Recorded` follows."""
    made: bool = False
    """There is a file all the same, with what could be written: only its end or its digest is not had."""
    type: Literal["record_failed"] = "record_failed"


@dataclass(frozen=True, slots=True)
class RecordGap:
    """A stretch of the recording that was not written is over; it is silence in the file."""

    call: str
    start_s: float
    """Seconds from the recording's begin."""
    seconds: float
    reason: str
    type: Literal["record_gap"] = "record_gap"


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Ping`, with what the worker is like now."""

    number: int
    free: int
    """Port pairs that are neither leg, bound, nor held back."""
    refused: dict[str, int]
    """Packets dropped since the start, by reason (`Why`)."""
    lag_ms: float
    """The worst delay of the 20 ms timer since the last Pong."""
    type: Literal["pong"] = "pong"


LegEvent: TypeAlias = (
    OpenFailed | FirstPacket | Rolled | Refused | Dtmf | Played | PromptMissing | Silent | Unheard | HeardAgain | Closed
)
CallEvent: TypeAlias = RecordBegan | Recorded | RecordFailed | RecordGap
Event: TypeAlias = LegEvent | CallEvent | Account | Hello | State | Bound | BindFailed | Pong
