"""Who is who by address alone, fast enough to be asked for every datagram of a flood."""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from siaga_pbx.settings import Listen, Trunk
from siaga_pbx.sip.flow import Address, Flow


class Networks:
    """`host in networks` for a numeric address; anything else is in none."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        by_mask: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            by_mask.setdefault((network.version, int(network.netmask)), set()).add(int(network.network_address))
        self._four = [(mask, starts) for (version, mask), starts in by_mask.items() if version == 4]
        self._six = [(mask, starts) for (version, mask), starts in by_mask.items() if version == 6]

    def __contains__(self, host: str) -> bool:
        family, masks = (socket.AF_INET6, self._six) if ":" in host else (socket.AF_INET, self._four)
        try:
            number = int.from_bytes(socket.inet_pton(family, host), "big")
        except (OSError, ValueError):
            return False
        for mask, starts in masks:  # noqa: SIM110 - any() would cost as much again as the rest
            if number & mask in starts:
                return True
        return False


class Registered(Protocol):
    """What is asked of `sip.stack.Stack`."""

    def seats_at(self, source: Address) -> int: ...
    def seats_on(self, flow: Flow) -> int: ...
    def seats_behind(self, host: str) -> int: ...
    def is_own(self, host: str) -> bool: ...


class Peers:
    """Trunks by the configuration, seats by their live registrations; `configure` at a reload."""

    def __init__(self, registered: Registered, listen: Iterable[Listen], trunks: Iterable[Trunk]) -> None:
        self.seats_at = registered.seats_at
        self.seats_on = registered.seats_on
        self.seats_behind = registered.seats_behind
        self.is_own = registered.is_own
        self._general = frozenset(listen)
        self.configure(trunks)

    def configure(self, trunks: Iterable[Trunk]) -> None:
        trunks = tuple(trunks)
        self._names = frozenset(name for trunk in trunks for name in trunk.certificate_names)
        self._trunks = Networks(network for trunk in trunks for network in trunk.addresses)
        own = self.theirs = frozenset(trunk.listen for trunk in trunks if trunk.listen is not None) - self._general
        """The sockets that trunks have for themselves."""
        self._own = {
            listen: Networks(network for trunk in trunks if trunk.listen == listen for network in trunk.addresses)
            for listen in own
        }
        self._by_certificate = {
            listen: frozenset(name for trunk in trunks if trunk.listen == listen for name in trunk.certificate_names)
            for listen in own
        }

    def is_trunk(self, who: str) -> bool:
        """Whether an address, or a name that a certificate proved, is a trunk's."""
        return who in self._trunks or who in self._names

    def may_use(self, listen: Listen, host: str) -> bool:
        """Whether a socket is for that host: one that a trunk has for itself takes nobody else's packets.

        `listen` is as configured. That of a trunk which a reload took away is open like any other, for the calls that
        it still carries; and where a certificate tells who it is, the address does not: see `may_stay`.
        """
        own = self._own.get(listen)
        return own is None or host in own or bool(self._by_certificate[listen])

    def may_stay(self, listen: Listen, host: str, names: frozenset[str]) -> bool:
        """The same for a connection whose handshake is over, by the names that were proven in it."""
        own = self._own.get(listen)
        return own is None or host in own or not self._by_certificate[listen].isdisjoint(names)

    def listen_for(self, transport: str, host: str, name: str = "") -> Listen | None:
        """The socket that the trunk at that address, or of that certificate's name, has for itself, if it has one."""
        for listen, networks in self._own.items():
            if listen.transport == transport and (host in networks or name.lower() in self._by_certificate[listen]):
                return listen
        return None
