"""Many sockets that are one reader of the event loop: a reader for each would be a seventh of a call's memory."""

import select
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from siaga_pbx.media.faults import Faults

Item = TypeVar("Item")


class Loop(Protocol):
    """The part of an event loop that calls back when a socket is readable."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> object: ...


class Sockets(Generic[Item]):
    """`add` whose socket it is by the descriptor, `remove` it before it is closed."""

    def __init__(self, loop: Loop, read: Callable[[Item], None], faults: Faults) -> None:
        """`read` is called with whose socket is readable: it reads a packet each time. What it raises is one of
        `faults`: it costs that socket's packet, not those behind it."""
        self._faults = faults
        self._epoll = select.epoll()
        self._of: dict[int, Item] = {}
        self._read_of = read
        loop.add_reader(self._epoll.fileno(), self._read)

    def add(self, fd: int, item: Item) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._of[fd] = item

    def remove(self, fd: int) -> None:
        if self._of.pop(fd, None) is not None:
            with suppress(OSError):  # a leg ends whatever became of its socket
                self._epoll.unregister(fd)

    def _read(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if (item := self._of.get(fd)) is not None:  # else one before it has ended that leg
                try:
                    self._read_of(item)
                except Exception:  # noqa: BLE001  a fault of ours in one must not cost those behind it
                    self._faults.add(item)
