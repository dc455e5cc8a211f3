"""A report as tables for a person; plain text where stdout is no terminal."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from siaga_pbx.commands.output import clean
from siaga_pbx.records.report import AgencyReport, Deadline, Goal, Report

_PLAIN_WIDTH = 90
_BAR = 48
_OF_A_DEADLINE = ("in time", "missed", "median", "90 %")


@dataclass(frozen=True, slots=True)
class Heading:
    """Whose report it is; `over`: the period has ended. The names of agencies and categories by their ids."""

    title: str
    over: bool
    agencies: Mapping[str, str]
    categories: Mapping[str, str]


def show(report: Report, heading: Heading) -> None:
    """Prints it."""
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else _PLAIN_WIDTH)
    console.print(Rule(Text(heading.title, style="bold"), align="left"))
    notes = [f"{report.calls:,} calls", f"{report.tests:,} test calls besides"]
    console.print(Text("; ".join(notes if heading.over else [*notes, "not over yet"])), style="dim")
    for part in _parts(report, heading):
        console.print(part)


def _parts(report: Report, heading: Heading) -> Iterator[Table | Group]:
    yield _answers(report)
    yield _side_by_side(
        _counts("Outcome", report.outcomes),
        _counts("Identity", report.identities),
        _counts("Disposition", report.dispositions),
    )
    yield _side_by_side(
        _counts("Trunk", report.trunks),
        _counts("Category", report.categories, heading.categories),
        _lost(report),
    )
    if report.agencies:
        yield from _agencies(report.agencies, heading.agencies)
    if report.calls:
        yield _hours(report.hours)


def _answers(report: Report) -> Group:
    """Arrival to two-way talk, with the goals' verdicts."""
    answers = report.answers
    table = _table("Answer time", "calls", "median", "90 %", "95 %", "longest")
    times = (answers.median_s, answers.p90_s, answers.p95_s, answers.longest_s)
    table.add_row("arrival to two-way talk", f"{answers.count:,}", *map(_seconds, times))
    return Group(table, *map(_verdict, report.goals))


def _verdict(goal: Goal) -> Text:
    wanted = f"{goal.wanted_percent} % within {goal.within_s} s: "
    if goal.percent is None:
        return Text(f"{wanted}no calls to judge by", style="dim")
    word, style = ("reached", "bold green") if goal.reached else ("not reached", "bold red")
    found = f", {goal.percent:.2f} % ({goal.met:,} of {goal.judged:,})"
    return Text.assemble(wanted, (word, style), found)


def _counts(title: str, counts: Mapping[str, int], names: Mapping[str, str] | None = None) -> Table:
    table = _table(title, "", "")
    total = sum(counts.values())
    for key, count in counts.items():
        table.add_row(Text(clean((names or {}).get(key) or key)), f"{count:,}", f"{100 * count / total:.1f} %")
    return table


def _lost(report: Report) -> Table:
    lost = report.lost
    table = _table("Lost calls", "")
    table.add_row("all", f"{lost.calls:,}")
    table.add_row("that can be called back", f"{lost.callable:,}")
    table.add_row("  called back", f"{lost.called:,}")
    table.add_row("  dismissed", f"{lost.dismissed:,}")
    table.add_row("  still on the list", f"{lost.waiting:,}", style="bold red" if lost.waiting else None)
    return table


def _agencies(agencies: Mapping[str, AgencyReport], names: Mapping[str, str]) -> Iterator[Table]:
    accepted = _table("Accepted by", "sent", "called off", "rejected", *_OF_A_DEADLINE)
    arrived = _table("Arrived", *_OF_A_DEADLINE)
    for agency, found in agencies.items():
        name = clean(names.get(agency) or agency)
        counts = (f"{found.dispatches:,}", f"{found.called_off:,}", f"{found.rejected:,}")
        accepted.add_row(Text(name), *counts, *_deadline(found.accepted))
        arrived.add_row(Text(name), *_deadline(found.arrived))
    yield from (accepted, arrived)


def _deadline(deadline: Deadline) -> Sequence[Text | str]:
    missed = Text(f"{deadline.missed:,}", style="bold red" if deadline.missed else "")
    return f"{deadline.within:,}", missed, _seconds(deadline.times.median_s), _seconds(deadline.times.p90_s)


def _hours(hours: Sequence[int]) -> Table:
    table = Table("Hour", "calls", "", box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.columns[1].justify = "right"
    for hour, count in enumerate(hours):
        table.add_row(f"{hour:02d}", f"{count:,}", Text("█" * round(_BAR * count / max(hours)), style="cyan"))
    return table


def _table(title: str, *columns: str) -> Table:
    """Words left, numbers right."""
    table = Table(title, *columns, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    table.columns[0].overflow = "fold"
    return table


def _side_by_side(*tables: Table) -> Table:
    grid = Table.grid(padding=(0, 3))
    grid.add_row(*tables)
    return grid


def _seconds(seconds: float | None) -> str:
    """`4.2 s`; minutes from two on: `12:05`."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
