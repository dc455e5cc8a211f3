"""Sends and takes the audio of many legs from one socket, in bunches of a fifth of a millisecond: loss and delay.

Run by `media_relay.py`. Says its port on stdout, reads the worker's ports from stdin (JSON), says the figures (JSON).
sendmmsg and recvmmsg, called through ctypes, keep its own work far below the relay's.
"""

import ctypes
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

PACKET = 172
SLOTS = 100
"""Bunches in 20 ms."""
RECEIVED_AT_ONCE = 1024
_SO_RCVBUFFORCE = 33
_MSG_DONTWAIT = 0x40

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


@dataclass(frozen=True)
class Figures:
    """Of one run: packets, and milliseconds from sending to taking."""

    sent: int
    taken: int
    delay_median_ms: float
    delay_p99_ms: float
    delay_max_ms: float


class Generator:
    """One packet a leg and 20 ms, each with the time it was sent in its audio."""

    def __init__(self, payload_type: int = 8) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._payload_type = payload_type
        self._delays: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        self._first_sequence = 0
        self._since = 0
        """What was sent before, by an earlier run, is not counted."""
        self.port = int(self._socket.getsockname()[1])

    def prepare(self, ports: list[int]) -> None:
        """Make the packets for the legs at these ports, and room for what comes back."""
        count = len(ports)
        self._packets = np.zeros((count, PACKET), np.uint8)
        self._packets[:, 0], self._packets[:, 1], self._packets[:, 12:] = 0x80, self._payload_type, 0x55
        self._packets[:, 8:12] = np.arange(1, count + 1, dtype=">u4").view(np.uint8).reshape(count, 4)
        addresses = b"".join(struct.pack("=H", 2) + struct.pack("!H4B8x", port, 127, 0, 0, 1) for port in ports)
        self._addresses = np.frombuffer(addresses, np.uint8)
        self._out, self._out_iov = _messages(count, self._packets, self._addresses)
        self._space = np.zeros((RECEIVED_AT_ONCE, 256), np.uint8)
        self._in, self._in_iov = _messages(RECEIVED_AT_ONCE, self._space, None)
        self._bounds = [count * slot // SLOTS for slot in range(SLOTS + 1)]

    def run(self, seconds: float) -> Figures:
        """Send for so long, take for a little longer. What is still there of an earlier run is not counted."""
        self._take()
        while self._delays:
            self._delays = []
            self._take()
        start, slot, slots, sent = time.monotonic(), 0, int(seconds * 50) * SLOTS, 0
        self._since = time.monotonic_ns()
        while slot < slots:
            if time.monotonic() >= start + slot * 0.02 / SLOTS:
                sent += self._send(slot % SLOTS, self._first_sequence + slot // SLOTS)
                slot += 1
            self._take()
        self._first_sequence += slots // SLOTS  # the next run goes on with the same streams
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            self._take()
        delays = np.concatenate(self._delays) / 1e6 if self._delays else np.zeros(1)
        self._delays = []
        median, p99 = np.percentile(delays, [50, 99])
        return Figures(sent, len(delays), round(float(median), 3), round(float(p99), 3), round(float(delays.max()), 3))

    def _send(self, slot: int, sequence: int) -> int:
        first, last = self._bounds[slot], self._bounds[slot + 1]
        if first == last:
            return 0
        header = struct.pack("!HI", sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF)
        self._packets[first:last, 2:8] = np.frombuffer(header, np.uint8)
        self._packets[first:last, 12:20] = np.array([time.monotonic_ns()], "<i8").view(np.uint8)
        done = first
        while done < last:
            at = ctypes.byref(self._out, done * ctypes.sizeof(_Message))
            count = _libc.sendmmsg(self._socket.fileno(), at, last - done, 0)
            if count <= 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            done += count
        return last - first

    def _take(self) -> None:
        count = _libc.recvmmsg(self._socket.fileno(), ctypes.byref(self._in), RECEIVED_AT_ONCE, _MSG_DONTWAIT, None)
        if count > 0:
            now = time.monotonic_ns()
            audio = self._space[:count]
            audio = audio[(audio[:, 12:172] == 0x55).sum(axis=1) >= 150]  # not the relay's own silence
            at = audio[:, 12:20].copy().view("<i8")[:, 0]
            self._delays.append(now - at[at >= self._since])


def _messages(
    count: int,
    space: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    names: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None,
) -> tuple[ctypes.Array[_Message], ctypes.Array[_Iovec]]:
    messages, iovecs = (_Message * count)(), (_Iovec * count)()
    width = space.shape[1]
    for number in range(count):
        iovecs[number].base, iovecs[number].length = space.ctypes.data + width * number, width
        header = messages[number].header
        header.iov, header.iovlen = ctypes.addressof(iovecs) + ctypes.sizeof(_Iovec) * number, 1
        if names is not None:
            header.name, header.namelen = names.ctypes.data + 16 * number, 16
    return messages, iovecs


def main() -> None:
    generator = Generator()
    print(generator.port, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        generator.prepare(order["ports"])
        print(json.dumps(asdict(generator.run(order["seconds"]))), flush=True)


if __name__ == "__main__":
    main()
