"""The client and a worker that it loses sight of, without a process."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from siaga_pbx.media.book import Book
from siaga_pbx.media.client import MediaClient, Side
from siaga_pbx.media.events import MediaUp
from siaga_pbx.media.protocol import VERSION, Bound, Bridge, Event, Hello, Open, Played, RecordFailed
from siaga_pbx.media.settings import socket_path
from siaga_pbx.media.wire import Lines, commands, events
from tests.media_kit import Events, new_settings

PING_S = 60.0
"""So that no pause of the machine is taken for a worker that hangs."""


class Worker:
    """Does as it is told, on paper; `drops` ends its connection, and whatever it says meanwhile is lost."""

    def __init__(self) -> None:
        self.book = Book()
        self.writer: asyncio.StreamWriter | None = None
        self._news = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.say(Hello(VERSION, 0, os.getpid()), self.book.state(()), Bound("127.0.0.1", 40000))
        lines = Lines()
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                for line in lines.feed(data):
                    self.book.obey(commands().decode(line))
                self._news.set()
        writer.close()

    def say(self, *said: Event) -> None:
        assert self.writer is not None
        self.writer.write(b"".join(map(events().encode, said)))

    def drop(self) -> None:
        assert self.writer is not None
        self.writer.close()

    async def end(self) -> None:
        assert self.writer is not None
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def until(self, so: Callable[[Book], bool]) -> None:
        while not so(self.book):
            self._news.clear()
            await self._news.wait()


def test_a_prompt_that_was_through_when_the_connection_broke(tmp_path: Path) -> None:
    """Who waits for its end waits no longer: the worker that is found again knows."""

    async def test(client: MediaClient, told: Events, worker: Worker) -> None:
        assert client.open("call", "seat", Side.SEAT) is not None
        client.play("seat", ("confirmed",))
        await worker.until(lambda book: "seat" in book.legs and book.legs["seat"].feed is not None)
        worker.book.learn(Played("seat"))
        worker.drop()
        assert await told.get(Played) == Played("seat")
        worker.drop()
        await told.get(MediaUp, 3)
        assert told.of(Played) == [Played("seat")], "once"

    with_worker(tmp_path, test)


def test_a_new_leg_of_a_call_that_nobody_has_claimed_yet_is_with_its_others(tmp_path: Path) -> None:
    """Only legs of one worker can be joined. Nor is it a failure that what is not there yet cannot be recorded."""

    async def test(client: MediaClient, told: Events, _: Worker) -> None:
        client.record("call-of-nobody", tmp_path / "a.wav")
        await told.get(MediaUp, 2)
        assert client.open("call", "seat", Side.SEAT) is not None
        assert client.claim("caller")
        client.bridge("caller", "seat")
        await busier.until(lambda book: "seat" in book.legs and isinstance(book.legs["seat"].feed, Bridge))
        assert told.of(RecordFailed) == []

    busier = Worker()
    busier.book.obey(Open("caller", "call", Side.CALLER, "127.0.0.1", 40002, 0))
    with_worker(tmp_path, test, busier)


def with_worker(folder: Path, test: Callable[[MediaClient, Events, Worker], Awaitable[None]], *others: Worker) -> None:
    async def run() -> None:
        workers = (Worker(), *others)
        settings, told = new_settings(folder, workers=len(workers)), Events()
        client = MediaClient(settings, told.take, spawn=(), ping_s=PING_S)
        servers = [
            await asyncio.start_unix_server(worker.serve, socket_path(settings, index))
            for index, worker in enumerate(workers)
        ]
        starting = asyncio.create_task(client.start())
        try:
            async with asyncio.timeout(30):
                await told.get(MediaUp)
                await test(client, told, workers[0])
        finally:
            starting.cancel()
            await client.stop(keep_workers=True)
            for server, worker in zip(servers, workers, strict=True):
                server.close()
                await worker.end()

    asyncio.run(run())
