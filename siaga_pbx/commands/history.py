"""`calls` and `dispatches`: what is on record."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from siaga_pbx.commands.common import Row, Selection, load_config, zone_of
from siaga_pbx.commands.forms import Form
from siaga_pbx.commands.onrecord import note_access, records
from siaga_pbx.commands.output import print_json, print_table
from siaga_pbx.commands.times import between, duration, local

TABLE_ROWS = 50
"""Rows of a table when neither --since nor --limit is given; --json gives every row."""

_CALLS = (
    "id",
    "received",
    "caller",
    "class",
    "trunk",
    "seat",
    "outcome",
    "answered in",
    "talked",
    "MOS",
    "disposition",
)
_DISPATCHES = ("id", "created", "agency", "category", "state", "attempts", "accepted in", "arrived in", "note")


def calls(file: Path | None, selection: Selection) -> int:
    """List calls, oldest first."""
    config = load_config(file)
    with records(config) as reader:
        rows = reader.calls(since=selection.start(config), limit=_limit(selection))
        note_access(config, reader, described("calls", selection))
    if selection.as_json:
        print_json(rows)
    else:
        print_table(_CALLS, _call_cells(rows, zone_of(config)), "No calls.")
    return 0


def dispatches(file: Path | None, selection: Selection, form: Form | None = None) -> int:
    """List dispatches, oldest first; or write every one in another system's form."""
    config = load_config(file)
    with records(config) as reader:
        limit = selection.limit if form is not None else _limit(selection)
        rows = reader.dispatches(since=selection.start(config), limit=limit)
        note_access(config, reader, described("dispatches", selection))
        if form is not None:
            from siaga_pbx.commands import exporting

            make = exporting.as_cap(config, rows) if form is Form.CAP else exporting.as_eido(config, reader, rows)
            exporting.print_lines(make)
            return 0
    if selection.as_json:
        print_json(rows)
    else:
        print_table(_DISPATCHES, _dispatch_cells(rows, zone_of(config)), "No dispatches.")
    return 0


def described(command: str, selection: Selection) -> str:
    """The listing as it was asked for."""
    since = "" if selection.since is None else f" --since {selection.since}"
    return f"{command}{since}" + ("" if selection.limit is None else f" --limit {selection.limit}")


def _limit(selection: Selection) -> int | None:
    everything = selection.as_json or selection.since is not None
    return selection.limit or (None if everything else TABLE_ROWS)


def _call_cells(rows: Iterable[Row], zone: ZoneInfo) -> Iterator[tuple[object, ...]]:
    for row in rows:
        yield (
            row["id"],
            local(row["received_at"], zone),
            row["caller_number"],
            row["identity_class"],
            row["trunk"],
            row["seat_id"],
            row["outcome"] or "live",
            duration(between(row["received_at"], row["connected_at"])),
            duration(between(row["connected_at"], row["ended_at"])),
            row["rtp_mos"],
            row["disposition"],
        )


def _dispatch_cells(rows: Iterable[Row], zone: ZoneInfo) -> Iterator[tuple[object, ...]]:
    for row in rows:
        message = row["message"] if isinstance(row["message"], Mapping) else {}
        yield (
            row["id"],
            local(row["created_at"], zone),
            row["agency"],
            message.get("category"),
            row["state"],
            row["attempts"],
            duration(between(row["created_at"], row["accepted_at"])),
            duration(between(row["created_at"], row["arrived_at"])),
            message.get("note"),
        )
