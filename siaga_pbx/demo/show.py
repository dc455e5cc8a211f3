"""What a person sees of the demo: what each call does while it runs, and a summary at the end."""

from collections.abc import Iterable
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from siaga_pbx.demo.callers import Report
from siaga_pbx.demo.centre import Centre, DemoFailed
from siaga_pbx.logs import mask_number

_COLOURS = {"ready": "green", "offered": "yellow", "talking": "cyan", "wrap_up": "blue", "offline": "red"}
_KINDS = {"subscriber": "subscriber", "no_credit": "no credit", "no_sim": "no SIM"}
_LOOK_S = 0.1


class Show:
    """A context: within it a table is drawn four times a second; on no terminal, a line for each step."""

    def __init__(self, console: Console, centre: Centre, reports: list[Report]) -> None:
        self._centre, self._reports = centre, reports
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        self._console, self._steps = console, Steps(console, reports)

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._live.__enter__()
        else:
            self._steps.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.__exit__(kind, error, trace)
        else:
            self._steps.stop()

    def _draw(self) -> Group:
        try:
            status = self._centre.get("/api/v1/status")
        except DemoFailed:
            return Group(_doing(self._reports))
        line = Text(f"{status['name']}   waiting {status['queue']['waiting']}   ")
        for seat in status["seats"]:
            line.append(f" {seat['name']} ")
            line.append(f"{seat['state']}", style=_COLOURS.get(seat["state"], "white"))
            line.append("  ")
        return Group(line, _doing(self._reports))


class Steps:
    """A line for each step of each call, from a thread of its own."""

    def __init__(self, console: Console, reports: list[Report]) -> None:
        self._console, self._reports = console, reports
        self._told = [one.doing for one in reports]
        self._began = 0.0
        self._stopped = Event()
        self._thread = Thread(target=self._watch)

    def start(self) -> None:
        self._began = monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            self._tell()

    def _tell(self) -> None:
        for index, one in enumerate(self._reports):
            if self._told[index] != one.doing:
                self._told[index] = one.doing
                line = f"{monotonic() - self._began:5.1f} s  {_number(one):8}{_KINDS[one.kind.value]:12}{one.doing}"
                self._console.print(line, highlight=False)


def _number(one: Report) -> str:
    return "-" if one.kind.value == "no_sim" else mask_number(one.number)[-6:]


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=False)
    for name in ("caller", "class", "seat", "waited", *columns):
        table.add_column(name, no_wrap=True)
    return table


def _row(one: Report) -> tuple[str, str, str, str]:
    waited = f"{one.waited_s:.1f} s" if one.answered else ""
    return _number(one), _KINDS[one.kind.value], one.seat, waited


def _doing(reports: Iterable[Report]) -> Table:
    """While they run."""
    table = _table("now")
    for one in reports:
        table.add_row(*_row(one), Text(one.doing, style="red" if one.failed else ""))
    return table


def _done(reports: Iterable[Report]) -> Table:
    """When they are over."""
    table = _table("answered", "bridged", "recorded", "sent", "accepted")
    for one in reports:
        marks = (one.answered, one.bridged, one.recorded, one.dispatched, one.accepted)
        table.add_row(*_row(one), *(_mark(mark) for mark in marks))
    return table


def _mark(done: bool) -> Text:
    return Text("yes", style="green") if done else Text("no", style="bold red")


def summary(console: Console, reports: list[Report], folder: Path) -> bool:
    """Print what became of the calls; whether all of it was good."""
    console.print(_done(reports))
    good = [one for one in reports if one.good]
    for one in reports:
        if one.failed:
            console.print(f"{_number(one)}: {one.failed}", style="red")
        elif not one.good:
            what = f"heard by the seat {one.heard_by_seat:.2f}, by the caller {one.heard_by_caller:.2f}"
            console.print(f"{_number(one)}: {what}, told apart as {one.identity}", style="red")
    alike = min((min(one.heard_by_seat, one.heard_by_caller) for one in reports), default=0.0)
    waited = max((one.waited_s for one in reports), default=0.0)
    console.print(
        f"{len(good)} of {len(reports)} calls answered, bridged (audio alike at both ends, at least {alike:.2f}), "
        f"recorded, dispatched and accepted; the longest wait was {waited:.1f} s.",
        style="bold green" if len(good) == len(reports) else "bold red",
        highlight=False,
    )
    console.print(f"Recordings and logs: {folder}", highlight=False, soft_wrap=True)
    return len(good) == len(reports)
