"""Who a packet comes from, judged by its source alone (DESIGN 3.1), and what each may ask."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.options import TrunkOptions
from siaga_pbx.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class Trunk:
    """A carrier: an address in one of the trunk's networks, or one of its names proven by a certificate."""

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

_REMEMBERED = 4096
"""Addresses whose trunk is remembered; forgotten all at once beyond it, so that strangers cannot fill memory."""


class Access:
    """Tells sources apart. Trunks come first: an address that is a trunk's and a seat's makes the trunk's calls."""

    __slots__ = ("_names", "_own_hosts", "_remembered", "_trunks")

    def __init__(self, trunks: Iterable[TrunkOptions], own_hosts: frozenset[str]) -> None:
        self._trunks = tuple(trunks)
        self._names = {name: Trunk(trunk.id) for trunk in self._trunks for name in trunk.names}
        self._own_hosts = own_hosts
        self._remembered: dict[str, Trunk | None] = {}

    def trunk_of(self, host: str) -> Trunk | None:
        """The trunk that an address belongs to, the most specific network first."""
        try:
            return self._remembered[host]
        except KeyError:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            found = self._remembered[host] = self._search(host)
            return found

    def _search(self, host: str) -> Trunk | None:
        try:
            address = ip_address(host)
        except ValueError:
            return None
        found = [
            (network.prefixlen, trunk.id) for trunk in self._trunks for network in trunk.networks if address in network
        ]
        return Trunk(max(found, key=lambda match: match[0])[1]) if found else None

    def _proven(self, names: frozenset[str]) -> Trunk | None:
        return next((self._names[name] for name in names if name in self._names), None)

    def source_of(self, flow: Flow, seat: str | None) -> Source:
        """Who is at the other end of a flow; `seat` is the seat whose live registration came from exactly there."""
        host = flow.remote[0]
        trunk = self._proven(flow.names) or self.trunk_of(host)
        if trunk is not None:
            return trunk
        if seat is not None:
            return Seat(seat)
        return Own() if host in self._own_hosts else Stranger()


def is_test_call(uri: Uri) -> bool:
    """Whether a Request-URI is the test service of RFC 5031, `urn:service:test.sos` or below, in any letter case."""
    name = str(uri).partition(";")[0].lower()
    return name == "urn:service:test.sos" or name.startswith("urn:service:test.sos.")
