"""Our own addresses: which one a peer is told, and which hosts are us."""

import re
import socket
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from siaga_pbx.clock import Clock
from siaga_pbx.settings import Listen
from siaga_pbx.sip.flow import DEFAULT_PORTS, Address, Flow, Way, host_of, names_of

REMEMBERED_S = 30.0
"""How long a route is remembered: one system call is spared a packet, and a changed route is followed soon."""

_MAX_REMEMBERED = 4096
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
"""A local address in the kernel's table of routes, which has the second addresses of an interface too."""
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@dataclass(frozen=True, slots=True)
class Advertised:
    """What a trunk is told instead of what everybody is: its `advertise` and `listen`.

    `names` are those that its certificate proves (in lower case): who does is told so wherever he is.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    host: str | None
    listen: Listen | None = None
    names: tuple[str, ...] = ()


_EVERYBODY = Advertised((), None)


class Addresses:
    """What a peer is told in Via and Contact.

    The host is its trunk's advertise, else the general one, else the bound address, else (bound to a wildcard) the one
    that its connection has or the route to it leaves by; the port is the one listened on.
    Give it `bound` once the endpoint has started; `configure` at a reload.
    """

    def __init__(self, clock: Clock, advertise: str | None = None, trunks: Iterable[Advertised] = ()) -> None:
        self._clock = clock
        self._routes: dict[str, tuple[str, float]] = {}
        self.bound: Sequence[Listen] = ()
        """What is listened on, ports known: `Endpoint.bound`."""
        self.configure(advertise, trunks)

    def configure(self, advertise: str | None, trunks: Iterable[Advertised]) -> None:
        self._advertise = advertise
        self._trunks = tuple(trunks)
        self._theirs = frozenset(trunk.listen for trunk in self._trunks if trunk.listen is not None)
        self._named = {name: trunk for trunk in self._trunks for name in trunk.names}
        self._told: dict[str, Advertised] = {}

    def contact_for(self, way: Way) -> Address:
        """What the peer at the other end of `way` reaches us at."""
        listen = self._listen_of(way)
        host = self._told_to(way).host or self._advertise
        if host is None and listen is not None and listen.host not in WILDCARDS:
            host = listen.host
        if host is None and isinstance(way, Flow) and way.local[0] not in WILDCARDS:
            host = way.local[0]
        if host is None:
            host = self.route_to(host_of(way))
        return host, listen.port if listen is not None else DEFAULT_PORTS[way.transport]

    def own_hosts(self) -> frozenset[str]:
        """Every host that is us: bound or, for a wildcard, the interfaces' addresses, and the advertised ones."""
        hosts = {listen.host for listen in self.bound} | {trunk.host for trunk in self._trunks if trunk.host}
        if self._advertise is not None:
            hosts.add(self._advertise)
        if hosts.intersection(WILDCARDS):
            hosts |= interface_addresses()
        return frozenset(hosts.difference(WILDCARDS))

    def route_to(self, peer: str) -> str:
        """The address that packets to `peer` leave by; remembered for a while."""
        now = self._clock.now()
        remembered = self._routes.get(peer)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        if len(self._routes) >= _MAX_REMEMBERED:
            self._routes.clear()
        host = route_to(peer)
        self._routes[peer] = host, now + REMEMBERED_S
        return host

    def _listen_of(self, way: Way) -> Listen | None:
        """The socket that the peer should send to: the one its flow came to, a trunk's own, the first it can reach."""
        if isinstance(way, Flow):
            host, port = way.local
            for own in self.bound:
                if own.transport == way.transport and own.port == port and own.host in (host, *WILDCARDS):
                    return own
        trunks = self._told_to(way).listen
        if trunks is not None and trunks.transport == way.transport:
            return trunks
        return first_listen(self.bound, way.transport, host_of(way), self._theirs)

    def _told_to(self, way: Way) -> Advertised:
        if self._named and (named := next((self._named[name] for name in names_of(way) if name in self._named), None)):
            return named
        peer = host_of(way)
        try:
            return self._told[peer]
        except KeyError:
            if len(self._told) >= _MAX_REMEMBERED:
                self._told.clear()
            told = self._told[peer] = self._search(peer)
            return told

    def _search(self, peer: str) -> Advertised:
        with suppress(ValueError):
            address = ip_address(peer)
            for trunk in self._trunks:
                if any(address in network for network in trunk.networks):
                    return trunk
        return _EVERYBODY


def first_listen(
    bound: Iterable[Listen], transport: str, peer: str, others: Container[Listen] = frozenset()
) -> Listen | None:
    """The first listening socket of a transport that can reach `peer`: on the address that the route to it leaves by.

    If none is there, the first of its family, but from loopback only what stays there: it may be another address of the
    same interface. `others` are sockets that trunks have for themselves: nobody else is to be sent to from them while
    there is another.
    """
    family = family_of(peer)
    alike = [own for own in bound if own.transport == transport and family_of(own.host) == family]
    alike = [own for own in alike if own not in others] or alike
    if len(alike) > 1:
        leaving = route_to(peer)
        reaching = [own for own in alike if _stays_here(own.host) == _stays_here(leaving)] or alike
        return next((own for own in alike if own.host in (leaving, *WILDCARDS)), reaching[0])
    return alike[0] if alike else None


def _stays_here(host: str) -> bool:
    return host == "::1" or host.startswith("127.")


def family_of(host: str) -> socket.AddressFamily:
    """The family of a numeric address; a name counts as IPv4."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def route_to(peer: str) -> str:
    """The address that packets to a numeric address leave by (no packet is sent); loopback without a route."""
    family = family_of(peer)
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        if is_numeric(peer):
            probe.connect((peer, 9))
            return str(probe.getsockname()[0])
    return _LOOPBACK[family]


def is_numeric(host: str) -> bool:
    """Whether a host is an address: anything else would be looked up by the socket, and block."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def interface_addresses() -> frozenset[str]:
    """The addresses of all interfaces that are up."""
    return frozenset((*_ipv4_addresses(), *_ipv6_addresses()))


def _ipv4_addresses() -> Iterable[str]:
    with suppress(OSError):
        yield from _LOCAL.findall(Path("/proc/net/fib_trie").read_text())


def _ipv6_addresses() -> Iterable[str]:
    with suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
