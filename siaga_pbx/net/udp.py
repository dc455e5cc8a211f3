"""One UDP socket: datagrams in and out, and the network's word that nobody listens at the other end.

The socket is read by hand and not by a transport of the event loop. Only so can the kernel's queue of ICMP errors be
read (IP_RECVERR, ip(7)), which tells at once that a seat's phone is gone, and uvloop's own datagram transport crashes
when that option is on. The socket is watched through an epoll of its own, because the event loops stop to watch a
descriptor that is in error.
"""

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable

from siaga_pbx.net.addresses import family_of
from siaga_pbx.sip.flow import Address, Way

CS3 = 24 << 2
"""DSCP for signalling (RFC 4594) as the byte that IP_TOS takes."""

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes asked for: a third of a second of 20,000 messages a second, longer than our loop ever stands still."""

MAX_DATAGRAM = 65_536
READS_PER_TURN = 512
"""Datagrams read before timers and other sockets have their turn: a millisecond or two of those that are shed."""
MESSAGES_PER_TURN = 32
"""Of them, those that are taken: some milliseconds."""

ERRORS_PER_TURN = 64

MAX_REMEMBERED = 1024
"""Peers whose last datagram is remembered, to believe an ICMP error."""
KIND_BYTES = 4
"""So many of a datagram's first bytes tell its kind."""
MIN_QUOTED = 256
"""Bytes of ours that an ICMP error must quote to be believed (RFC 1812 4.3.2.3: routers quote 500). They hold the
branch that nobody can guess, so that a forged error cannot end a call."""

_IP_RECVERR = 11
_IPV6_RECVERR = 25
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_MEMINFO_DROPS = 8
_ORIGIN_ICMP = (2, 3)
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_GONE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOPROTOOPT})
"""Port, host, network and protocol unreachable (RFC 3261 18.4); the rest is not for us to act on."""


def open_socket(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """A bound, non-blocking socket with the marks of signalling. Raises OSError."""
    family = family_of(host)
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        mark(opened, family)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except BaseException:
        opened.close()
        raise
    return opened


def mark(marked: socket.socket, family: int) -> None:
    """DSCP CS3 on what the socket sends."""
    if family == socket.AF_INET6:
        marked.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CS3)
    else:
        marked.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CS3)


def enlarge(opened: socket.socket) -> int:
    """Asks for RECEIVE_BUFFER; returns the bytes it got: without CAP_NET_ADMIN at most net.core.rmem_max."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    # The kernel counts its own overhead too, and says twice what may be used (socket(7)).
    return opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _everyone(_source: Address, _start: bytes) -> bool:
    return True


class UdpSocket:
    """Opened by its making (OSError), read from `start` to `close`. `send` neither blocks nor raises."""

    def __init__(
        self,
        host: str,
        port: int,
        on_datagram: Callable[["UdpSocket", bytes, Address], None],
        on_unreachable: Callable[[Way], None],
        admits: Callable[[Address, bytes], bool] = _everyone,
    ) -> None:
        """None may raise. `on_datagram(socket, data, source)`; `on_unreachable(way)`: what was last sent for `way` did
        not arrive; `admits(source, start)`: whether a datagram, by its first KIND_BYTES, is worth the reading."""
        self._socket = opened = open_socket(socket.SOCK_DGRAM, host, port)
        self.family = family_of(host)
        self._on_datagram = on_datagram
        self._on_unreachable = on_unreachable
        self._admits = admits
        self.room = enlarge(opened)
        """Bytes that may wait to be read."""
        self._overruns = 0
        if self.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        self.local: Address = opened.getsockname()[:2]
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._sent: dict[Address, tuple[bytes, Way]] = {}
        self._epoll = select.epoll()
        self._epoll.register(opened, select.EPOLLIN)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._read)

    def close(self) -> None:
        if self._socket.fileno() != -1:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._socket.close()

    def send(self, data: bytes, peer: Address, way: Way) -> bool:
        """False when it cannot go there at all. A full buffer is a loss on the way: retransmission is for that.

        `way` is what the sender calls `peer`; on_unreachable is given it.
        """
        if len(self._sent) >= MAX_REMEMBERED:
            self._sent.clear()
        self._sent[peer] = data, way
        for _ in range(2):
            try:
                self._socket.sendto(data, peer)
            except BlockingIOError:
                return True
            except OSError:
                # Perhaps not this packet's error but an earlier one's, which only now is reported.
                if not self._read_errors():
                    return False
            else:
                return True
        return False

    def overruns(self) -> int:
        """How many datagrams the kernel dropped since the last time because the buffer was full; 0 if it cannot say."""
        try:
            told = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            drops = int(_MEMINFO.unpack(told)[_MEMINFO_DROPS])
        except (OSError, struct.error):
            return 0
        new, self._overruns = (drops - self._overruns) % 2**32, drops
        return new

    def _read(self) -> None:
        receive, buffer, view, admits = self._socket.recvfrom_into, self._buffer, self._view, self._admits
        taken = 0
        for turn in range(READS_PER_TURN):
            try:
                size, source = receive(buffer)
            except BlockingIOError:
                if turn == 0:  # woken, yet nothing to read: it was an error, and it wakes us until it is taken
                    self._read_errors()
                return
            except OSError:
                self._read_errors()
                continue
            # What is shed is not even copied: of 20,000 a second none may cost more than some microseconds.
            if not admits(source[:2], bytes(view[: min(size, KIND_BYTES)])):
                continue
            self._on_datagram(self, bytes(view[:size]), source[:2])
            taken += 1
            if taken == MESSAGES_PER_TURN or self._socket.fileno() == -1:
                return

    def _read_errors(self) -> bool:
        """Empties the queue of errors and tells of the peers that are gone. Whether there was any error."""
        gone: dict[Way, None] = {}
        any_error = False
        for _ in range(ERRORS_PER_TURN):
            try:
                quoted, ancillary, _, peer = self._socket.recvmsg(
                    MAX_DATAGRAM, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except OSError:
                break
            any_error = True
            if _says_gone(ancillary) and (way := self._way_of(quoted, peer[:2])) is not None:
                gone[way] = None
        for way in gone:
            self._on_unreachable(way)
        return any_error

    def _way_of(self, quoted: bytes, peer: Address) -> Way | None:
        """The way of what an error quotes, if it really was sent: anyone can send ICMP, but who forges it has not seen
        what we send."""
        sent, way = self._sent.get(peer, (b"", None))
        return way if len(quoted) >= min(len(sent), MIN_QUOTED) and sent.startswith(quoted) else None


def _says_gone(ancillary: list[tuple[int, int, bytes]]) -> bool:
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            number, origin, *_ = _EXTENDED_ERROR.unpack_from(data)
            return origin in _ORIGIN_ICMP and number in _GONE
    return False
