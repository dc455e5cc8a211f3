"""One TCP or TLS connection: the bytes of the event loop's transport to SIP messages, and back."""

import asyncio
import socket
from typing import Literal, Protocol, TypeAlias, cast

from siaga_pbx.net.udp import mark
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.framing import PONG, Frame, KeepAlive, StreamFramer
from siaga_pbx.sip.message import Message

MAX_UNSENT = 512 * 1024
"""Bytes that wait for a peer that does not read; with more the connection is given up."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds and probes: a peer that vanished is found 90 s after its last byte, and a NAT in between stays open."""
UNACKNOWLEDGED_MS = 20_000
"""What the peer does not acknowledge in this time ends the connection, not after the kernel's quarter of an hour."""


Stream: TypeAlias = Literal["tcp", "tls"]
Key: TypeAlias = tuple[Stream, str, int]
"""What a connection is dialled by: transport, host (a name too), port."""


class Owner(Protocol):
    """Who holds the connections. Neither method raises."""

    def opened(self, connection: "Connection") -> None: ...
    def received(self, item: Message | RemoteError, flow: Flow) -> None: ...
    def failed(self) -> None:
        """Something of ours raised what it must not; the exception is being handled."""

    def lost(self, connection: "Connection") -> None: ...
    def now(self) -> float: ...


class Connection(asyncio.Protocol):
    """`flow` is known once `owner.opened` is called. The attributes are what time-outs are judged by."""

    def __init__(self, number: int, kind: Stream, owner: Owner, dialled: Key | None = None) -> None:
        self.number = number
        self.dialled = dialled is not None
        self.key = dialled
        """What a request for the same place finds it by; known with the flow, if we did not dial."""
        self.flow: Flow | None = None
        self.opened_at = self.last_message = owner.now()
        self.stalled_since: float | None = None
        """Since when the message that is arriving has been."""
        self.spoken = False
        """Whether a whole message ever came."""
        self._kind = kind
        self._owner = owner
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if not local or not remote:  # the peer was gone before we looked
            transport.abort()
            return
        _prepare(transport.get_extra_info("socket"), remote[0])
        self.flow = Flow(self._kind, local[:2], remote[:2], self.number)
        self.key = self.key or (self._kind, *self.flow.remote)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            items = self._framer.feed(data)
        except Exception:  # noqa: BLE001 - the owner logs it; no peer's bytes harm another's call
            self._owner.failed()
            self.abort()
            return
        now = self._owner.now()
        if items:
            self.last_message = now
        if not self._framer.midway:
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
            self._owner.received(item, self.flow)
            if isinstance(item, RemoteError) and item.fatal:
                self.close()

    def eof_received(self) -> bool:
        return False  # a peer that will not send any more has closed: half a connection carries no dialog

    def connection_lost(self, _exc: Exception | None) -> None:
        self._owner.lost(self)

    # What the owner calls

    def send(self, data: bytes) -> bool:
        """False when the connection is closed, or given up now because the peer reads nothing."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.abort()
            return False
        self._transport.write(data)
        return True

    def close(self) -> None:
        """What is written still goes out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


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
