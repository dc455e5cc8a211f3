"""What the commands print: JSON lines for programs, tables for people, tab-separated lines where stdout is a pipe."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence


def print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """One object a line. ASCII only, so that nothing a caller sent can steer a terminal."""
    for row in rows:
        sys.stdout.write(json.dumps(row) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table on a terminal; elsewhere lines with tabs, the column names first. `empty` is said when there are none."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in ([*columns], *cells):
            sys.stdout.write("\t".join(line) + "\n")
    elif not cells:
        sys.stdout.write(empty + "\n")
    else:
        _draw(columns, cells)


def clean(cell: object) -> str:
    """A value as text of one line: nothing in it moves a cursor or breaks a column."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return "".join(char if char.isprintable() else " " for char in str(cell))


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"  # an id that is cut off serves nobody
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
