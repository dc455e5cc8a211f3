"""Where a packet came from and where one goes. Addresses are numeric; names are the shell's business."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Transport: TypeAlias = Literal["udp", "tcp", "tls", "ws", "wss"]
Address: TypeAlias = tuple[str, int]

DEFAULT_PORTS: dict[Transport, int] = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}
"""RFC 3261 19.1.2; RFC 7118 5.3 for WebSocket."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The way a packet came: replies go back down it.

    On UDP `local` names the socket and `remote` the other end. Elsewhere `connection` is the shell's number of the
    connection, never used twice; a flow whose connection is closed leads nowhere. `names` are those that the peer has
    proven by its certificate (RFC 5922), in lower case.
    """

    transport: Transport
    local: Address
    remote: Address
    connection: int | None = None
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: down `flow` while its connection is open, else to host and port (a new connection).

    `name` is what the certificate at the other end must be for, if that is not the host.
    """

    transport: Transport
    host: str
    port: int
    flow: Flow | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a request goes as its URI has it: a name, of which the shell finds the targets (RFC 3263).

    `port` and `transport` if the URI has them; `secure` for sips, which is by TLS only.
    """

    host: str
    port: int | None = None
    transport: Transport | None = None
    secure: bool = False


Way: TypeAlias = Flow | Target
"""What a packet can be sent to."""


def host_of(way: Way) -> str:
    """The numeric address at the other end."""
    return way.host if isinstance(way, Target) else way.remote[0]


def names_of(way: Way) -> frozenset[str]:
    """The names, in lower case, that the other end has proven by its certificate, or has to."""
    if isinstance(way, Flow):
        return way.names
    proven = way.flow.names if way.flow is not None else frozenset[str]()
    return proven | {way.name.lower()} if way.name else proven


def toward(way: Way, host: str, port: int) -> Way:
    """The same way to another address, from the same socket."""
    if isinstance(way, Target):
        return replace(way, host=host, port=port)
    return way if way.remote == (host, port) else replace(way, remote=(host, port))


def connection_of(way: Way) -> int | None:
    """The connection that a way leads down, None for none."""
    flow = way.flow if isinstance(way, Target) else way
    return flow.connection if flow is not None else None


def without_connection(way: Way) -> Target:
    """A way whose connection is closed: to the same address, by a new one."""
    return replace(way, flow=None) if isinstance(way, Target) else Target(way.transport, *way.remote)


def reliable(way: Way) -> bool:
    """Whether the transport retransmits for us (RFC 3261 17)."""
    return way.transport != "udp"
