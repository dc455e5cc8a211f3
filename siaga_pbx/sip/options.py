"""What the stack is configured with, and what a call of ours is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from siaga_pbx.sip.flow import Address, Hop, Way
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.uri import Uri

Entropy: TypeAlias = Callable[[int], bytes]
"""Gives n random bytes (os.urandom, or a seeded source in a test)."""


@dataclass(frozen=True, slots=True)
class TrunkOptions:
    """A carrier: where its packets may come from. Networks carry no port: every port of an address is the trunk's.

    `names`, in lower case: who proves one of them by a certificate is the trunk too, wherever it is.
    """

    id: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeatOptions:
    """A call-taker's phone: the id is its user part and its digest username."""

    id: str
    password: str
    digest: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Timers:
    """RFC 3261 table 4, in seconds."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def give_up(self) -> float:
        """64*T1: timers B, F, H, J, L, M, and how long a 2xx is sent again."""
        return 64 * self.t1


@dataclass(frozen=True, slots=True)
class StackSettings:
    """Everything the stack is told. `contact_for` gives the address that a peer reaches us at, in Via and Contact."""

    domain: str
    own_hosts: frozenset[str]
    trunks: tuple[TrunkOptions, ...]
    seats: tuple[SeatOptions, ...]
    contact_for: Callable[[Way], Address]
    digest: tuple[str, ...] = ("md5",)
    user_agent: str = "siaga-pbx"
    timers: Timers = field(default_factory=Timers)


@dataclass(frozen=True, slots=True)
class Account:
    """What a carrier's digest challenge is answered with."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Invite:
    """An outgoing call. Of a name (Hop) every target is tried until one answers (RFC 3263 4.3).

    The offer is always ours; `headers` are added as they are; `account` answers a 401 or 407 once. `session_s` asks for
    a session timer (RFC 4028).
    """

    target: Way | Hop
    uri: Uri
    to: NameAddr
    from_: NameAddr
    sdp: Sdp
    headers: tuple[tuple[str, str], ...] = ()
    account: Account | None = None
    session_s: int = 0
