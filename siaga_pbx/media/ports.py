"""The worker's port pairs: bound on demand, held back after use so that no stray packet meets the next call."""

import errno
import os
import random
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

HOLD_S = 5.0
"""How long a pair rests after a leg: far sides send on for a moment, and their packets must not meet another call."""
_EXPEDITED = 0xB8
"""DSCP EF (RFC 3246) in the traffic class byte."""
_BUFFER = 1 << 18
"""Bytes of a socket's receive buffer asked for: some seconds of audio, should the worker ever be held up."""


class NoPort(Exception):
    """No pair can be bound on an address now. `reason` is `exhausted` or the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class PortPair:
    """Two bound sockets, RTP on the even `port`, RTCP on the one above."""

    address: str
    port: int
    rtp: socket.socket
    rtcp: socket.socket

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """Hands out pairs in random order, so that nobody outside can guess the next, and takes them back."""

    def __init__(self, ports: Sequence[int], addresses: Sequence[str], hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._ports = frozenset(ports)
        chance = random.SystemRandom()
        self._free = {address: deque(chance.sample(ports, len(ports))) for address in addresses}
        self._resting: deque[tuple[float, str, int]] = deque()

    def free(self, now: float) -> int:
        """Pairs that could be bound now."""
        self._wake(now)
        return sum(map(len, self._free.values()))

    def take(self, address: str, now: float) -> PortPair:
        """Bind a pair. Raises `NoPort`."""
        self._wake(now)
        free = self._free.get(address)
        if free is None:
            raise NoPort(f"{address} is no address of ours")
        for _ in range(len(free)):
            port = free.popleft()
            try:
                return _bind(address, port)
            except OSError as error:
                self._rest(address, port, now)  # somebody else's; it may be free later
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise NoPort(os.strerror(error.errno) if error.errno else str(error)) from error
        raise NoPort("exhausted")

    def take_this(self, address: str, port: int) -> PortPair:
        """Bind this very pair, which a call has whose worker died. Raises `NoPort`."""
        if port not in self._ports or address not in self._free:
            raise NoPort(f"{address} {port} is none of ours")
        try:
            pair = _bind(address, port)
        except OSError as error:
            raise NoPort(os.strerror(error.errno) if error.errno else str(error)) from error
        with suppress(ValueError):
            self._free[address].remove(port)
        self._resting = deque(rest for rest in self._resting if rest[1:] != (address, port))
        return pair

    def give_back(self, pair: PortPair, now: float) -> None:
        """Close the pair; it rests before it is handed out again."""
        pair.close()
        self._rest(pair.address, pair.port, now)

    def _rest(self, address: str, port: int, now: float) -> None:
        self._resting.append((now + self._hold_s, address, port))

    def _wake(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            _, address, port = self._resting.popleft()
            self._free[address].append(port)


def _bind(address: str, port: int) -> PortPair:
    rtp = _socket(address, port)
    try:
        return PortPair(address, port, rtp, _socket(address, port + 1))
    except OSError:
        rtp.close()
        raise


def _socket(address: str, port: int) -> socket.socket:
    six = ip_address(address).version == 6
    bound = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        with suppress(OSError):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with suppress(OSError):  # marking is good manners, not worth a call
            if six:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _EXPEDITED)
            else:
                bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _EXPEDITED)
        if six:  # `::` is not IPv4 too: that is another socket, on the same port
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound
