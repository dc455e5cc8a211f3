"""`siaga-pbx agency ID`: the receiving end, as a terminal program that a fire station can leave running.

The machine answers each arrival with "received"; the rest is for people, by key, or in a drill for --auto.
"""

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from rich.console import Console

from siaga_pbx.config import AgencyEnd
from siaga_pbx.dispatch.agency_auto import Auto
from siaga_pbx.dispatch.agency_book import Entry, News
from siaga_pbx.dispatch.agency_screen import Screen
from siaga_pbx.dispatch.agency_sound import ALARM, Ringer, Sound
from siaga_pbx.dispatch.agency_view import in_a_line, printable
from siaga_pbx.dispatch.ladder import Answer, State
from siaga_pbx.dispatch.station import Listener, Station, state_file_of


class UnknownAgency(Exception):
    """The configuration has no such agency; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class AutoAnswers:
    """For drills. `pace` multiplies how long people take: 0 answers at once. `until`: the last state."""

    pace: float = 1.0
    until: Answer = State.CLEARED


def run(
    end: AgencyEnd,
    agency_id: str,
    *,
    auto: AutoAnswers | None = None,
    by: str | None = None,
    state_file: Path | None = None,
    sound: str = ALARM,
) -> int:
    """Runs until `q`, SIGINT or SIGTERM; the exit code. On a terminal it has a screen, else it prints a line for each.

    `by` signs the answers, by default with the agency's name; `sound`: see `agency_sound`. Raises UnknownAgency;
    OSError for the state file, also when another end of this agency uses it, and for a WAV file that is not there.
    """
    agency = next((one for one in end.agencies if one.id == agency_id), None)
    if agency is None:
        known = ", ".join(one.id for one in end.agencies)
        raise UnknownAgency(f"no agency {agency_id!r} in {end.path}: {known}")
    file = state_file or state_file_of(end.centre_id, agency_id)
    with contextlib.suppress(KeyboardInterrupt):
        station = Station(end, agency.id, file, by or agency.name or agency_id)
        asyncio.run(_run(station, f"{agency.name or agency.id} · {end.centre_id}", auto, sound))
    return 0


async def _run(station: Station, title: str, auto: AutoAnswers | None, sound: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal has gone
        loop.add_signal_handler(signal_, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        station.open()
        stack.push_async_callback(station.close)
        if sys.stdin.isatty() and sys.stdout.isatty():
            await stack.enter_async_context(_on_screen(station, title, stop, sound))
        else:
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
            station.listeners.append(_Lines())
        station.start()
        if auto is not None:
            answering = Auto(station, random.Random(), auto.pace, auto.until)  # noqa: S311  no secret is made of it
            stack.push_async_callback(answering.close)
            station.listeners.append(answering)
            answering.take_up()
        await stop.wait()


@contextlib.asynccontextmanager
async def _on_screen(station: Station, title: str, stop: asyncio.Event, sound: str) -> AsyncIterator[None]:
    """The screen, kept fresh, its keys and its sound, until it is left."""
    # What the screen does not show would only tear it.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console()
    player = Sound(sound, station.folder, console.bell)
    ringer = Ringer(player.sound)
    for entry in station.book.entries:
        ringer.take_up(entry)
    screen = Screen(station, title, ringer, console)
    loop = asyncio.get_running_loop()

    def pressed() -> None:
        screen.read_keys()
        if screen.quitting:
            stop.set()

    station.listeners.append(screen)
    with screen.shown():
        loop.add_reader(sys.stdin.fileno(), pressed)
        ticking = asyncio.create_task(_tick(screen), name="screen")
        try:
            yield
        finally:
            ticking.cancel()
            loop.remove_reader(sys.stdin.fileno())
            await player.close()


async def _tick(screen: Screen) -> None:
    while True:
        screen.tick()
        await asyncio.sleep(1.0)


class _Lines(Listener):
    """A line on stdout for each thing that happens."""

    def hear(self, news: News, entry: Entry) -> None:
        self._print(in_a_line(news, entry))

    def refused(self, reason: str) -> None:
        self._print(f"refused {reason}")

    def kept(self, fault: str) -> None:
        self._print(f"not kept {fault}" if fault else "kept again")

    def connection(self, connected: bool, reason: str) -> None:
        self._print("connected" if connected else f"disconnected {reason}".rstrip())

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more
            sys.stdout.write(f"{printable(line)}\n")
            sys.stdout.flush()
