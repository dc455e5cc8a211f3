"""An agency's end whose disk hangs: people see what comes, are told, and can leave."""

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from siaga_pbx.config import load_agency
from siaga_pbx.dispatch import station as module
from siaga_pbx.dispatch.agency_book import Entry, News
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.station import Listener, Station
from tests.dispatch_centre import until, write_config
from tests.unit.test_dispatch_message import DISPATCH

TOPIC = "siaga/cirebon/dispatch/damkar"
FIRST: dict[str, Any] = DISPATCH | {"agency": "damkar", "centre": "cirebon"}
SECOND: dict[str, Any] = FIRST | {"dispatch_id": "01919191-0000-7000-8000-00000000000b"}


class Disk:
    """A file that is written only while `works` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.works = threading.Event()
        self.held: list[str] = []
        monkeypatch.setattr(module, "write_private", self.write)
        monkeypatch.setattr(module, "_SHOWN_S", 0.05)

    def write(self, _: Path, text: str) -> None:
        assert self.works.wait(30)
        self.held = [one["message"]["dispatch_id"] for one in json.loads(text)["entries"]]


class People(Listener):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.faults: list[str] = []

    def hear(self, news: News, entry: Entry) -> None:
        self.heard.append(entry.message.dispatch_id)

    def kept(self, fault: str) -> None:
        self.faults.append(fault)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.works.set()


@pytest.fixture
def end(tmp_path: Path) -> tuple[Station, People]:
    """One that no broker answers."""
    config = load_agency(write_config(tmp_path, "mqtt://127.0.0.1:1", user="damkar"))
    station, people = Station(config, "damkar", tmp_path / "book.json", "Regu 1"), People()
    station.listeners.append(people)
    return station, people


def come(station: Station, message: dict[str, Any]) -> Coroutine[None, None, None]:
    return station._on_message(TOPIC, json.dumps(message).encode())


def bounded(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


def test_what_comes_is_shown_and_told_as_not_kept_and_the_next_comes_too(
    disk: Disk, end: tuple[Station, People]
) -> None:
    station, people = end

    async def scenario() -> None:
        station.start()
        await come(station, FIRST)
        await come(station, SECOND)
        assert people.heard == [FIRST["dispatch_id"], SECOND["dispatch_id"]]
        assert people.faults == [station.fault]
        assert "does not answer" in station.fault
        station.enter(SECOND["dispatch_id"], State.ACCEPTED)
        await until(lambda: station.book.unsent)
        assert station.book.unsent is not None
        assert station.book.unsent.kept is False, "people have it, their machine does not"
        disk.works.set()
        await until(lambda: station.fault == "")
        assert disk.held == people.heard
        await station.close()

    bounded(scenario())


def test_the_fault_is_over_once_the_file_holds_all_and_not_before(disk: Disk, end: tuple[Station, People]) -> None:
    station, people = end
    held: list[list[str]] = []
    people.kept = lambda fault: None if fault else held.append(list(disk.held))  # type: ignore[method-assign]

    async def scenario() -> None:
        station.start()
        await come(station, FIRST)  # its write hangs, and does not have the second
        await come(station, SECOND)
        disk.works.set()
        await until(lambda: held)
        await station.close()

    bounded(scenario())
    assert held == [[FIRST["dispatch_id"], SECOND["dispatch_id"]]]


def test_it_can_be_left_while_the_disk_hangs(disk: Disk, end: tuple[Station, People]) -> None:
    station, _ = end

    async def scenario() -> None:
        station.start()
        await come(station, FIRST)
        await station.close()

    bounded(scenario())
    assert not disk.works.is_set()


def test_what_was_entered_while_it_wrote_is_written_before_it_is_left(
    disk: Disk, end: tuple[Station, People], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHOWN_S", 15)
    station, _ = end

    async def scenario() -> None:
        disk.works.set()
        station.start()
        await come(station, FIRST)
        disk.works.clear()
        station.enter(FIRST["dispatch_id"], State.ACCEPTED)
        await until(lambda: any(thread.name == "book" for thread in threading.enumerate()))
        closing = asyncio.create_task(station.close())
        station.enter(FIRST["dispatch_id"], State.EN_ROUTE)
        await until(lambda: station._closing)
        disk.works.set()
        await closing
        assert station.book.written == station.book.version

    bounded(scenario())
