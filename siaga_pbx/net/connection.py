"""One connection: the bytes of the loop's transport to SIP messages, and back. TCP, TLS, and WebSocket on both."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, cast

from siaga_pbx.net.tls import names_of
from siaga_pbx.net.udp import mark
from siaga_pbx.net.websocket import WebSocket
from siaga_pbx.settings import Listen
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.framing import PING, PONG, Frame, KeepAlive, StreamFramer
from siaga_pbx.sip.message import Message

MAX_UNSENT = 512 * 1024
"""Bytes that wait for a peer that does not read; with more the connection is given up."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds and probes: a peer that vanished is found 90 s after its last byte, and a NAT in between stays open."""
UNACKNOWLEDGED_MS = 20_000
"""What the peer does not acknowledge in this time ends the connection, not after the kernel's quarter of an hour."""
PING_S = 25.0
"""Firewalls, NATs and proxies for HTTP forget what is silent for a minute, some for half of one."""


Stream: TypeAlias = Literal["tcp", "tls", "ws", "wss"]
Key: TypeAlias = tuple[Stream, str, int, str]
"""What a connection is found by: transport, host, port, and the name that its certificate is for ("": any)."""


class Owner(Protocol):
    """Who holds the connections. No method raises."""

    def opened(self, connection: "Connection") -> None: ...
    def received(self, connection: "Connection", item: Message | RemoteError) -> None: ...
    def refused(self, reason: str) -> None:
        """The peer was not let in, for the metrics."""

    def failed(self) -> None:
        """Something of ours raised what it must not; the exception is being handled."""

    def lost(self, connection: "Connection") -> None: ...
    def now(self) -> float: ...


class Connection(asyncio.Protocol):
    """`flow` is known once `owner.opened` is called. The attributes are what time-outs are judged by."""

    def __init__(self, number: int, kind: Stream, owner: Owner, dialled: Key | None = None) -> None:
        self.number = number
        self.dialled = dialled is not None
        self.keys: list[Key] = [] if dialled is None else [dialled]
        """What a request for the same place finds it by; the first is known with the flow, if we did not dial."""
        self.flow: Flow | None = None
        self.opened_at = self.last_message = owner.now()
        self.listen: Listen | None = None
        """Where it was accepted, as configured; None if we dialled."""
        self.stalled_since: float | None = None
        """Since when the message that is arriving has been."""
        self.unread_since: float | None = None
        """Since when something that was written has waited for the peer to read."""
        self.spoken = False
        """Whether a whole message ever came."""
        self._kind = kind
        self._owner = owner
        self._framer = StreamFramer()
        self._pinged_at = self.opened_at
        self._transport: asyncio.Transport | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if not local or not remote:  # the peer was gone before we looked
            transport.abort()
            return
        _prepare(transport.get_extra_info("socket"), remote[0])
        # From the first byte that waits to the last that is taken: see pause_writing.
        transport.set_write_buffer_limits(high=1)
        self.flow = Flow(self._kind, local[:2], remote[:2], self.number, self._names(transport))
        if not self.dialled:
            self.keys.append((self._kind, *self.flow.remote, ""))
        self._owner.opened(self)

    def _names(self, transport: asyncio.Transport) -> frozenset[str]:
        """Of a peer that we dialled only the name that we dialled: any authority may have vouched for the others."""
        if self.dialled:
            *_, name = self.keys[0]
            return frozenset({name.lower()}) if name else frozenset()
        return names_of(transport.get_extra_info("peercert"))

    def data_received(self, data: bytes) -> None:
        try:
            items = self._read(data)
        except Exception:  # noqa: BLE001 - the owner logs it; no peer's bytes harm another's call
            self._owner.failed()
            self.abort()
            return
        now = self._owner.now()
        if items:
            self.last_message = now
        if not self._midway:
            self.stalled_since = None
        elif items or self.stalled_since is None:
            self.stalled_since = now
        for item in items:
            self._take(item)

    def _take(self, item: Frame) -> None:
        if isinstance(item, KeepAlive):
            self.send(PONG)
        elif self.flow is not None:
            self.spoken = True
            self._owner.received(self, item)
            if isinstance(item, RemoteError) and item.fatal:
                self.close()

    def pause_writing(self) -> None:
        self.unread_since = self._owner.now()

    def resume_writing(self) -> None:
        self.unread_since = None

    def eof_received(self) -> bool:
        return False  # a peer that will not send any more has closed: half a connection carries no dialog

    def connection_lost(self, _exc: Exception | None) -> None:
        self._owner.lost(self)

    # What the owner calls

    def send(self, data: bytes) -> bool:
        """False when the connection is closed, or given up now because the peer reads nothing."""
        return self._write(data)

    def keep_open(self) -> None:
        """Called from time to time: who opened a connection pings (RFC 5626 4.4.1).

        The pong is not waited for, not every peer knows it: TCP tells whether the ping arrived (UNACKNOWLEDGED_MS).
        """
        now = self._owner.now()
        if self._pings and now - self._pinged_at >= PING_S:
            self._pinged_at = now
            self._ping()

    def close(self) -> None:
        """What is written still goes out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # What a WebSocket does differently

    @property
    def _pings(self) -> bool:
        return self.dialled

    def _ping(self) -> None:
        self._write(PING)

    def _read(self, data: bytes) -> list[Frame]:
        return self._framer.feed(data)

    @property
    def _midway(self) -> bool:
        return self._framer.midway

    def _write(self, data: bytes) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.abort()
            return False
        self._transport.write(data)
        return True


class WebConnection(Connection):
    """A WebSocket (RFC 7118). We take them and dial none."""

    def __init__(self, number: int, kind: Stream, owner: Owner, origins: Sequence[str]) -> None:
        super().__init__(number, kind, owner)
        self._web = WebSocket(origins)

    def send(self, data: bytes) -> bool:
        packed = self._web.pack(data)
        return bool(packed) and self._write(packed)

    def close(self) -> None:
        self._write(self._web.close())
        super().close()

    @property
    def _pings(self) -> bool:
        return True

    def _ping(self) -> None:
        self._write(self._web.ping())

    def _read(self, data: bytes) -> list[Frame]:
        items = self._web.feed(data)
        self._write(self._web.owed())
        if self._web.over:
            if not self.spoken and not items:
                self._owner.refused("websocket")
            super().close()
        return items

    @property
    def _midway(self) -> bool:
        return self._web.midway


def _prepare(opened: socket.socket | None, remote_host: str) -> None:
    """Options of a connection; a socket that refuses one is used as it is."""
    if opened is None:
        return
    try:
        mark(opened, socket.AF_INET6 if ":" in remote_host else socket.AF_INET)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        for option, value in KEEPALIVE:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        pass
