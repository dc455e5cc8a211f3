"""When a message to the broker is written."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import aiomqtt
import pytest

from siaga_pbx.dispatch.mqtt import _write_at_once


class Paho:
    """Of whose socket so much can be written at once. It keeps a lock while it asks for that, as paho does."""

    def __init__(self, room: int, sock: socket.socket) -> None:
        self.room, self.sock = room, sock
        self.queued = self.written = self.waits = 0
        self.asking = False
        self.on_socket_register_write: Any = self._wait

    def publish(self) -> None:
        self.queued += 1
        self.asking = True
        self.on_socket_register_write(self, None, self.sock)
        self.asking = False

    def loop_write(self) -> None:
        assert not self.asking
        taken = min(self.room, self.queued)
        self.queued, self.written, self.room = self.queued - taken, self.written + taken, self.room - taken

    def want_write(self) -> bool:
        return self.queued > 0

    def _wait(self, *_: object) -> None:
        self.waits += 1


@pytest.mark.parametrize(("room", "waits"), [(1, 0), (0, 1)])
def test_a_message_is_written_before_what_comes_later_and_waits_only_for_a_full_socket(room: int, waits: int) -> None:
    with socket.socket() as sock:
        assert publish(paho := Paho(room, sock)) == room
    assert paho.waits == waits


def test_a_socket_that_writing_has_found_broken_is_not_waited_for() -> None:
    closed = socket.socket()
    closed.close()
    assert publish(paho := Paho(0, closed)) == 0
    assert paho.waits == 0


def publish(paho: Paho) -> int:
    """One message; how much was written before what the loop has to do next."""
    before: list[int] = []
    raised: list[object] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(context))
        _write_at_once(cast("aiomqtt.Client", SimpleNamespace(_client=paho)))
        paho.publish()
        loop.call_soon(lambda: before.append(paho.written))
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert raised == []
    (written,) = before
    return written
