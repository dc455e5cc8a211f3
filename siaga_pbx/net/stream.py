"""TCP, TLS and WebSocket: connections accepted and dialled, found by number or address, and none of them for ever.

streams = Streams(...)
bound = streams.listen(Listen("tcp", "0.0.0.0", 5060))
streams.send(way, data)          # down the flow's connection, else a new one for a Target
streams.sweep()                  # every SWEEP_S
await streams.close()
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol, cast

import structlog
from structlog.typing import FilteringBoundLogger

from siaga_pbx.net.addresses import WILDCARDS, first_listen
from siaga_pbx.net.admission import Admission, StreamLimits
from siaga_pbx.net.connection import Connection, Key, Stream, WebConnection
from siaga_pbx.net.tls import TlsContexts
from siaga_pbx.net.udp import open_socket
from siaga_pbx.settings import Listen
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.flow import DEFAULT_PORTS, Address, Flow, Target, Way
from siaga_pbx.sip.message import Message, Request

log: FilteringBoundLogger = structlog.get_logger()

SWEEP_S = 5.0
BACKLOG = 512
ACCEPT_AGAIN_S = 0.5
MAX_DIALS = 64
"""Connections in the making at once."""
MAX_DIAL_WAITING = 256
"""Messages that wait for one connection to be made."""
MAX_ALIASES = 8
"""Ports of a peer that one connection of its own serves."""


class StreamPeers(Protocol):
    """What is asked about a peer (`net.peers.Peers`)."""

    @property
    def theirs(self) -> frozenset[Listen]:
        """The sockets that trunks have for themselves."""

    def is_trunk(self, who: str) -> bool: ...
    def may_use(self, listen: Listen, host: str) -> bool: ...
    def may_stay(self, listen: Listen, host: str, names: frozenset[str]) -> bool: ...
    def listen_for(self, transport: str, host: str, name: str = "") -> Listen | None: ...


class User(Protocol):
    """Whom the connections serve. Nothing here may raise."""

    def received(self, item: Message | RemoteError, flow: Flow) -> None: ...
    def closed(self, flow: Flow) -> None: ...
    def unreachable(self, way: Way) -> None: ...
    def refused(self, reason: str) -> None:
        """A connection was not taken or was cut off, for the metrics."""

    def failed(self) -> None:
        """Something of ours raised what it must not; the exception is being handled."""

    def now(self) -> float: ...


@dataclass(slots=True)
class _Dial:
    """A connection in the making, and what waits for it."""

    waiting: list[tuple[Way, bytes]] = field(default_factory=list)


class Streams:
    """All connections of an endpoint; the `Owner` of each."""

    def __init__(
        self,
        user: User,
        tls: TlsContexts,
        limits: StreamLimits,
        peers: StreamPeers,
        origins: Sequence[str] = (),
    ) -> None:
        """`peers` tells trunks by an address, or by a name proven by a certificate."""
        self._user = user
        self._limits = limits
        self._is_trunk = peers.is_trunk
        self._peers = peers
        self._origins = tuple(origins)
        self.tls = tls
        """For handshakes from now on."""
        self._bound: list[Listen] = []
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._open: dict[int, Connection] = {}
        self._by_key: dict[Key, Connection] = {}
        self._dials: dict[Key, _Dial] = {}
        self._admission = Admission(limits, peers.is_trunk)
        self._none_open = asyncio.Event()

    def listen(self, listen: Listen) -> Listen:
        """Accept from now on. Returns where, with the port. Raises OSError."""
        kind = cast(Stream, listen.transport)
        listener = open_socket(socket.SOCK_STREAM, listen.host, listen.port)
        self._listeners.append(listener)
        listener.listen(BACKLOG)
        bound = Listen(kind, *listener.getsockname()[:2])
        self._bound.append(bound)
        self._run(self._accept(listener, kind, listen), f"accept {kind}")
        return bound

    def send(self, way: Way, data: bytes) -> bool:
        """False when it cannot go there. True is no promise: what fails later is told as unreachable or closed."""
        if isinstance(way, Flow):
            return way.connection in self._open and self._open[way.connection].send(data)
        if way.transport == "udp":
            return False
        key: Key = way.transport, way.host, way.port, way.name
        own = way.flow.connection if way.flow is not None else None
        for connection in (self._open.get(own) if own is not None else None, self._by_key.get(key)):
            if connection is not None and connection.send(data):
                return True
        # A browser takes no connections: who lost its WebSocket opens another (RFC 7118 5).
        return way.transport in ("tcp", "tls") and self._dial(key, way, data)

    def sweep(self) -> None:
        """Ends the connections that are silent, stalled or idle for too long."""
        now, limits = self._user.now(), self._limits
        for connection in list(self._open.values()):
            if connection.stalled_since is not None and now - connection.stalled_since > limits.message_s:
                self._cut(connection, "stalled")
            elif connection.unread_since is not None and now - connection.unread_since > limits.message_s:
                self._cut(connection, "unread")
            elif (
                not connection.spoken and not connection.dialled and now - connection.opened_at > limits.first_message_s
            ):
                self._cut(connection, "silent")
            elif now - connection.last_message > limits.idle_s:
                connection.close()
            else:
                connection.keep_open()

    async def close(self, within_s: float = 1.0) -> None:
        """Stop accepting, send what is written, close; what does not close in time is cut."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for connection in list(self._open.values()):
            connection.close()
        if self._open:
            self._none_open.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_open.wait(), within_s)
        for connection in list(self._open.values()):
            connection.abort()

    # As the owner of connections

    def opened(self, connection: Connection) -> None:
        flow, listen = connection.flow, connection.listen
        if flow is None or (listen and not self._peers.may_stay(listen, flow.remote[0], flow.names)):
            self._cut(connection, "foreign_trunk")
            return
        self._open[connection.number] = connection
        self._by_key[connection.keys[0]] = connection
        if connection.dialled and (dial := self._dials.pop(connection.keys[0], None)) is not None:
            # At once, so that nothing that is sent from now on overtakes what waited.
            for _, data in dial.waiting:
                connection.send(data)
        if self._is_known(connection):
            self._admission.recognise(connection.number)

    def received(self, connection: Connection, item: Message | RemoteError) -> None:
        if connection.flow is None:
            return
        if isinstance(item, Request) and not connection.dialled and item.via.param("alias") is not None:
            self._alias(connection, connection.flow, item.via.port)
        self._user.received(item, connection.flow)

    def _alias(self, connection: Connection, flow: Flow, port: int | None) -> None:
        """The peer serves requests to its own port by this connection too (RFC 5923).

        Believed of trunks only: behind a NAT, one could take another's calls so. For a certificate's names as well.
        """
        if len(connection.keys) > MAX_ALIASES or flow.transport not in ("tcp", "tls") or not self._is_known(connection):
            return
        place = flow.remote[0], port or DEFAULT_PORTS[flow.transport]
        for name in ("", *sorted(flow.names)):
            key: Key = flow.transport, *place, name
            if key not in connection.keys:
                connection.keys.append(key)
            self._by_key[key] = connection

    def _is_known(self, connection: Connection) -> bool:
        """Whether a trunk is at the other end."""
        flow = connection.flow
        return flow is not None and (self._is_trunk(flow.remote[0]) or any(map(self._is_trunk, flow.names)))

    def cut(self, number: int) -> None:
        """Ends a connection at once; who has it is told as ever."""
        if (connection := self._open.get(number)) is not None:
            connection.abort()

    def refused(self, reason: str) -> None:
        self._user.refused(reason)

    def failed(self) -> None:
        self._user.failed()

    def lost(self, connection: Connection) -> None:
        self._admission.release(connection.number)
        flow = connection.flow
        if flow is None or self._open.pop(connection.number, None) is None:
            return
        if not self._open:
            self._none_open.set()
        self._user.closed(flow)
        for key in connection.keys:
            if self._by_key.get(key) is connection:
                del self._by_key[key]
                if connection.dialled or key is not connection.keys[0]:
                    # What went to that place named no flow: without an answer by now it is lost too (RFC 3261 18.4).
                    transport, host, port, name = key
                    self._user.unreachable(Target(transport, host, port, name=name))

    def now(self) -> float:
        return self._user.now()

    # Accepting

    async def _accept(self, listener: socket.socket, kind: Stream, listen: Listen) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, source = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor left, most likely: others will close some
                log.error("net.accept_failed", transport=kind, error=str(error))
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            try:
                self._decide(accepted, source[0], kind, listen)
            except Exception:  # noqa: BLE001 - ours, and logged: who comes next may be a caller
                self._user.failed()
                accepted.close()

    def _decide(self, accepted: socket.socket, host: str, kind: Stream, listen: Listen) -> None:
        refusal = self._admission.refusal(host) if self._peers.may_use(listen, host) else "foreign_trunk"
        if refusal is not None:
            _reset(accepted)
            self._user.refused(refusal)
            return
        number = self._next_number()
        web = kind in ("ws", "wss")
        connection = WebConnection(number, kind, self, self._origins) if web else Connection(number, kind, self)
        connection.listen = listen
        self._admission.admit(connection.number, host)
        self._run(self._admit(connection, accepted, kind), "admit")

    async def _admit(self, connection: Connection, accepted: socket.socket, kind: Stream) -> None:
        context = {"tls": self.tls.server, "wss": self.tls.web}.get(kind)
        limit = self._limits.handshake_s if context is not None else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, accepted, ssl=context, ssl_handshake_timeout=limit
            )
        except OSError:  # the handshake failed, or the peer is gone
            self._user.refused("handshake")
        finally:
            if connection.flow is None:
                self._admission.release(connection.number)
                accepted.close()

    # Dialling

    def _dial(self, key: Key, way: Target, data: bytes) -> bool:
        dial = self._dials.get(key)
        if dial is None:
            if len(self._dials) >= MAX_DIALS:
                return False
            dial = self._dials[key] = _Dial()
            self._run(self._connect(key, dial), f"dial {key[1]}")
        if len(dial.waiting) >= MAX_DIAL_WAITING:
            return False
        dial.waiting.append((way, data))
        return True

    async def _connect(self, key: Key, dial: _Dial) -> None:
        kind, host, port, name = key
        connection = Connection(self._next_number(), kind, self, key)
        context = self.tls.client if kind == "tls" else None
        local = self._leaving_by(kind, host, name)
        try:
            async with asyncio.timeout(self._limits.dial_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    host,
                    port,
                    ssl=context,
                    server_hostname=(name or host) if context is not None else None,
                    local_addr=local,
                )
        except (OSError, UnicodeError) as error:
            log.info("net.dial_failed", transport=kind, host=host, port=port, error=str(error) or type(error).__name__)
            if self._dials.get(key) is dial:
                del self._dials[key]
                for way in dict.fromkeys(way for way, _ in dial.waiting):
                    self._user.unreachable(way)

    def _leaving_by(self, kind: Stream, host: str, name: str) -> Address | None:
        """The address that we listen on, so that the peer knows us by it."""
        own = self._peers.listen_for(kind, host, name) or first_listen(self._bound, kind, host, self._peers.theirs)
        return (own.host, 0) if own is not None and own.host not in WILDCARDS else None

    # Small things

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _cut(self, connection: Connection, reason: str) -> None:
        self._user.refused(reason)
        connection.abort()

    def _run(self, work: Coroutine[None, None, None], name: str) -> None:
        # In a context of its own: a connection outlives the call that it was made for, and must not log under its id.
        task = asyncio.get_running_loop().create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _reset(accepted: socket.socket) -> None:
    """Closes with RST: nothing lingers for a peer that is not wanted."""
    with suppress(OSError):
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
