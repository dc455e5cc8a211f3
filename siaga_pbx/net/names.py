"""Host names to addresses, off the hot path: what is known is answered at once, and refreshed beside the traffic."""

import asyncio
import socket
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from siaga_pbx.clock import Clock
from siaga_pbx.net.addresses import is_numeric

FRESH_S = 60.0
"""How long an answer is used before the name is asked again. A stale one is used until there is a better one."""

MAX_NAMES = 256
MAX_WAITING = 64
"""Packets that wait for one name; the sender's own retransmission covers more."""

Found = Callable[[str | None], None]


@dataclass(slots=True)
class _Name:
    address: str | None = None
    until: float = 0.0
    asking: asyncio.Task[None] | None = None


class Names:
    """What hosts are called, for the sockets of one endpoint."""

    def __init__(self, clock: Clock, usable: Callable[[str], bool]) -> None:
        """`usable(address)`: whether there is a socket of its family."""
        self._clock = clock
        self._usable = usable
        self._names: dict[str, _Name] = {}
        self._waiting: dict[str, list[Found]] = {}

    def look_up(self, host: str, found: Found) -> None:
        """Calls `found` with the address of a host, None if there is none: at once when it is known, else later."""
        if is_numeric(host):
            found(host)
            return
        name = self._names.get(host)
        if name is None:
            if len(self._names) >= MAX_NAMES:
                found(None)
                return
            name = self._names[host] = _Name()
        if self._clock.now() >= name.until and name.asking is None:
            name.asking = asyncio.get_running_loop().create_task(
                self._ask(host, name), name=f"look up {host}", context=Context()
            )
        if name.address is not None:
            found(name.address)
        elif len(waiting := self._waiting.setdefault(host, [])) < MAX_WAITING:
            waiting.append(found)
        else:
            found(None)

    async def close(self) -> None:
        tasks = [name.asking for name in self._names.values() if name.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._waiting.clear()

    async def _ask(self, host: str, name: _Name) -> None:
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
            found_here = [address for *_, (address, *_) in answers if self._usable(str(address))]
            if found_here:
                name.address = str(found_here[0])
                name.until = self._clock.now() + FRESH_S
        except (OSError, UnicodeError):
            pass  # the stale address, if there is one, is better than none; asked again with the next packet
        finally:
            name.asking = None
        for found in self._waiting.pop(host, []):
            found(name.address)
