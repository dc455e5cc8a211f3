"""Who a packet comes from, judged by its source alone (DESIGN 3.1), and what each may ask."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Trunk:
    """A carrier: an address in one of the trunk's networks."""

    id: str


@dataclass(frozen=True, slots=True)
class Seat:
    """A call-taker's phone: the exact source of a live registration."""

    id: str


@dataclass(frozen=True, slots=True)
class Own:
    """One of our own addresses: the probe. It may call `urn:service:test.sos` only."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Anyone else: REGISTER is challenged, all else is dropped unanswered."""


Peer: TypeAlias = Trunk | Seat | Own
Source: TypeAlias = Peer | Stranger
