"""Datagrams in batches made beforehand (sendmmsg(2)): a flood costs its sender little more than the kernel takes."""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from errno import EADDRNOTAVAIL, EINVAL, EPERM

_libc = ctypes.CDLL(None, use_errno=True)


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_uint),
        ("pieces", ctypes.POINTER(_Piece)),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_char_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr: a header, and how much of its message was sent."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class Batches:
    """`send` the next ones of a round. `sources`, if any, are IPv4 addresses to send from, one a message."""

    def __init__(self, out: socket.socket, messages: Sequence[bytes], sources: Sequence[str] = ()) -> None:
        """`out` is connected."""
        self._out = out
        self._at = 0
        self._kept = tuple(messages)
        self._pieces = (_Piece * len(messages))(*[_Piece(one, len(one)) for one in messages])
        self._controls = [_from(source) for source in sources]
        self._messages = (_Message * len(messages))()
        for number, message in enumerate(self._messages):
            header = message.header
            header.pieces, header.piece_count = ctypes.pointer(self._pieces[number]), 1
            if self._controls:
                header.control, header.control_length = self._controls[number], len(self._controls[number])

    def send(self, count: int) -> int:
        """How many of `count` messages went out; a full buffer, or an error that an earlier one met, ends it."""
        count = min(count, len(self._messages) - self._at)
        start = ctypes.byref(self._messages, self._at * ctypes.sizeof(_Message))
        sent: int = _libc.sendmmsg(self._out.fileno(), start, count, socket.MSG_DONTWAIT)
        if sent < 0:
            if (error := ctypes.get_errno()) in (EPERM, EINVAL, EADDRNOTAVAIL):
                raise OSError(error, os.strerror(error))
            return 0
        self._at = (self._at + sent) % len(self._messages)
        return sent


def _from(source: str) -> bytes:
    """The control message that names a source (IP_PKTINFO, ip(7))."""
    head = struct.pack("=Qii", 28, socket.IPPROTO_IP, 8)
    return head + struct.pack("=I4s4s", 0, socket.inet_aton(source), bytes(4)) + bytes(4)
