"""Sockets that are seldom readable, RTCP's: together they are one reader of the event loop. A reader of its own would
cost each a tenth of what a call takes in memory."""

import select
from collections.abc import Callable
from typing import Protocol


class Loop(Protocol):
    """The part of an event loop that calls back when a socket is readable."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> object: ...


class Seldom:
    """`add` a socket by its descriptor, `remove` it before it is closed."""

    def __init__(self, loop: Loop) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._read)

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Have it called while the socket is readable: it reads a packet each time."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._callbacks[fd]

    def _read(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if (callback := self._callbacks.get(fd)) is not None:  # else one before it has ended that leg
                callback()
