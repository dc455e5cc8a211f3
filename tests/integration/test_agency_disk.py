"""An agency's end whose disk is full: people see what comes, and nobody is told that it is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from siaga_pbx.config import load_agency
from siaga_pbx.dispatch.agency_book import Entry, News
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.order import Order
from siaga_pbx.dispatch.station import Listener, Station
from tests.dispatch_centre import centre_at, mosquitto, until, write_config
from tests.records_outages import small_disk


class People(Listener):
    """What they see."""

    def __init__(self) -> None:
        self.new: list[str] = []
        self.faults: list[str] = []

    def hear(self, news: News, entry: Entry) -> None:
        if news is News.NEW:
            self.new.append(entry.message.dispatch_id)

    def kept(self, fault: str) -> None:
        self.faults.append(fault)


@asynccontextmanager
async def an_end(config: Path, file: Path) -> AsyncIterator[tuple[Station, People]]:
    station, people = Station(load_agency(config), "damkar", file, "Regu 1"), People()
    station.listeners.append(people)
    station.start()
    try:
        yield station, people
    finally:
        await station.close()


def fill(disk: Path) -> Path:
    """Leaves no room on it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError


def test_what_cannot_be_kept_is_shown_and_never_called_kept(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        stack.enter_context(small_disk(disk, "128k"))
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        config = write_config(tmp_path, broker.url, user="damkar")

        async def order() -> str:
            return (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids[0]

        async with an_end(config, disk / "book.json") as (station, people):
            await until(lambda: station.connected)
            ballast = fill(disk)
            first, second = await order(), await order()
            await until(lambda: people.new == [first, second])
            station.enter(second, State.ACCEPTED)
            await until(lambda: centre.dispatch(second)["state"] == "accepted")
            assert "No space left on device" in station.fault
            assert people.faults == [station.fault]
            assert centre.dispatch(first)["state"] == "published", "answers come in order: it has not said received"
            assert {row["dispatch_id"] for row in centre.reader.outbox()} == {first, second}
            assert "delivered" not in centre.kinds(second), "people have it, their machine does not"
        async with an_end(config, disk / "book.json") as (station, people):
            # It has forgotten both, so both are new again; which is what the centre has them sent for.
            await until(lambda: sorted(people.new) == sorted([first, second]))
            assert centre.dispatcher.pending == 2
            ballast.unlink()
            await until(lambda: centre.dispatcher.pending == 0)
            assert (station.fault, people.faults[-1]) == ("", "")
            assert centre.dispatch(first)["state"] == "received"
            assert centre.dispatch(second)["state"] == "accepted"
        async with an_end(config, disk / "book.json") as (station, people):
            await until(lambda: station.connected)
            assert [entry.message.dispatch_id for entry in station.book.entries] == [first, second]
            assert people.new == []

    async def bounded() -> None:
        async with asyncio.timeout(40), AsyncExitStack() as stack:
            await scenario(stack)

    asyncio.run(bounded())
