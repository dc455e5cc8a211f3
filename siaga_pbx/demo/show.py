"""What a person sees of the demo: a table that lives while it runs, and a summary at the end."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from siaga_pbx.demo.callers import Report
from siaga_pbx.demo.centre import Centre, DemoFailed
from siaga_pbx.logs import mask_number

_COLOURS = {"ready": "green", "offered": "yellow", "talking": "cyan", "wrap_up": "blue", "offline": "red"}
_KINDS = {"subscriber": "subscriber", "no_credit": "no credit", "no_sim": "no SIM"}


class Show:
    """A context: within it the table is drawn four times a second; on no terminal, a line for each step."""

    def __init__(self, console: Console, centre: Centre, reports: list[Report]) -> None:
        self._centre, self._reports = centre, reports
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        self._seats = Text()

    def __enter__(self) -> None:
        self._live.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def _draw(self) -> Group:
        try:
            status = self._centre.get("/api/v1/status")
        except DemoFailed:
            return Group(calls_table(self._reports))
        line = Text(f"{status['name']}   waiting {status['queue']['waiting']}   ")
        for seat in status["seats"]:
            line.append(f" {seat['name']} ")
            line.append(f"{seat['state']}", style=_COLOURS.get(seat["state"], "white"))
            line.append("  ")
        return Group(line, calls_table(self._reports))


def calls_table(reports: Iterable[Report]) -> Table:
    """One row a call."""
    table = Table(expand=False)
    for name in ("caller", "class", "now", "seat", "waited"):
        table.add_column(name)
    for name in ("answered", "bridged", "recorded", "dispatched", "accepted"):
        table.add_column(name, justify="center")
    for one in reports:
        number = "-" if one.kind.value == "no_sim" else mask_number(one.number)
        waited = f"{one.waited_s:.1f} s" if one.answered else ""
        marks = (one.answered, one.bridged, one.recorded, one.dispatched, one.accepted)
        now = Text(one.doing, style="red" if one.failed else "")
        table.add_row(number, _KINDS[one.kind.value], now, one.seat, waited, *(_mark(mark) for mark in marks))
    return table


def _mark(done: bool) -> Text:
    return Text("yes", style="green") if done else Text(".", style="dim")


def summary(console: Console, reports: list[Report], folder: Path) -> bool:
    """Print what became of the calls; whether all of it was good."""
    console.print(calls_table(reports))
    good = [one for one in reports if one.good]
    for one in reports:
        if one.failed:
            console.print(f"{mask_number(one.number)}: {one.failed}", style="red")
        elif not one.good:
            what = f"heard by the seat {one.heard_by_seat:.2f}, by the caller {one.heard_by_caller:.2f}"
            console.print(f"{mask_number(one.number)}: {what}, told apart as {one.identity}", style="red")
    alike = min((min(one.heard_by_seat, one.heard_by_caller) for one in reports), default=0.0)
    waited = max((one.waited_s for one in reports), default=0.0)
    console.print(
        f"{len(good)} of {len(reports)} calls answered, bridged (audio alike at both ends, at least {alike:.2f}), "
        f"recorded, dispatched and accepted; the longest wait was {waited:.1f} s.",
        style="bold green" if len(good) == len(reports) else "bold red",
    )
    console.print(f"Recordings and logs: {folder}")
    return len(good) == len(reports)
