"""The inbox of the bus: what is taken in comes out, and a full one ends the connection once."""

import asyncio

import aiomqtt
import pytest

from siaga_pbx.dispatch.inbox import Inbox


def message(size: int) -> aiomqtt.Message:
    return aiomqtt.Message(topic="siaga/ack/damkar", payload=b"x" * size, qos=1, retain=False, mid=1, properties=None)


def test_what_does_not_fit_ends_the_connection_once_and_nothing_is_taken_in_after() -> None:
    async def play() -> tuple[int, int]:
        ended: list[str] = []
        inbox = Inbox()
        inbox.bind(lambda: ended.append("full"), limit=10_000)
        taken = 10
        for _ in range(taken):
            inbox.put_nowait(message(500))
        with pytest.raises(asyncio.QueueFull):
            inbox.put_nowait(message(500))
        for _ in range(taken):
            assert len(str((await inbox.get()).payload)) > 500
        with pytest.raises(asyncio.QueueFull):  # the broker gives it again on the next connection
            inbox.put_nowait(message(1))
        return taken, len(ended)

    assert asyncio.run(play()) == (10, 1)


def test_what_is_handled_makes_room() -> None:
    async def play() -> None:
        inbox = Inbox()
        inbox.bind(lambda: pytest.fail("not full"), limit=2_000)
        for _ in range(100):
            inbox.put_nowait(message(1_000))
            await inbox.get()

    asyncio.run(play())
