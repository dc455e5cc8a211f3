"""`report`: what a centre reports of a day, a month or a year. It shows no caller."""

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

from siaga_pbx.commands.common import load_config, zone_of
from siaga_pbx.commands.failures import Misused
from siaga_pbx.commands.forms import ReportForm
from siaga_pbx.commands.onrecord import records
from siaga_pbx.commands.report_table import Heading, show
from siaga_pbx.config import Config
from siaga_pbx.records.report import Report, read
from siaga_pbx.records.times import normalise, utc_now

Tree: TypeAlias = Mapping[str, object]

_PERIOD = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")
_SHAPES = {"year": "2026", "month": "2026-11", "day": "2026-11-24"}


@dataclass(frozen=True, slots=True)
class Period:
    """A day, month or year of the centre's calendar: from `start` until before `end`."""

    name: str
    start: datetime
    end: datetime


def report(file: Path | None, asked: Mapping[str, str | None], form: ReportForm) -> int:
    """`asked`: day, month or year, of which one is given."""
    given = [(unit, text) for unit, text in asked.items() if text is not None]
    if len(given) != 1:
        raise Misused("name one of --day, --month and --year")
    config = load_config(file)
    period = parse_period(*given[0], zone_of(config))
    now = utc_now()
    with records(config) as reader:
        found = read(reader, period.start, period.end, zone_of(config), now)
    match form:
        case ReportForm.JSON:
            sys.stdout.write(json.dumps(_tree(found, period, config)) + "\n")
        case ReportForm.CSV:
            lines = csv.writer(sys.stdout, lineterminator="\n")
            lines.writerow(("what", "value"))
            lines.writerows(_leaves(_tree(found, period, config)))
        case ReportForm.TABLE:
            title = f"{config.centre.name}, {period.name} ({config.centre.timezone})"
            categories: dict[str, str] = {category.id: category.name for category in config.dialplan.categories}
            over = normalise(period.end.isoformat()) <= now
            show(found, Heading(title, over, {one.id: one.name for one in config.agencies}, categories))
    return 0


def parse_period(unit: str, text: str, zone: ZoneInfo) -> Period:
    """The period of that unit which the text names. Raises Misused."""
    parts = _PERIOD.fullmatch(text)
    year, month, day = (int(part) if part else None for part in parts.groups()) if parts else (None, None, None)
    try:
        match unit, year, month, day:
            case "year", int(), None, None:
                first, after = date(year, 1, 1), date(year + 1, 1, 1)
            case "month", int(), int(), None:
                first, after = date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)
            case "day", int(), int(), int():
                first = date(year, month, day)
                after = date.fromordinal(first.toordinal() + 1)
            case _:
                raise ValueError
    except (ValueError, OverflowError):
        raise Misused(f"--{unit} {text!r}: not a {unit} such as {_SHAPES[unit]}") from None
    return Period(text, *(datetime.combine(one, time(), zone) for one in (first, after)))


def _tree(found: Report, period: Period, config: Config) -> Tree:
    """The report as JSON has it, its centre and period first."""
    limits = {"start": _utc(period.start), "end": _utc(period.end), "timezone": config.centre.timezone}
    return {"centre": config.centre.id, "period": period.name, **limits, **asdict(found)}


def _utc(moment: datetime) -> str:
    return normalise(moment.astimezone(UTC).isoformat())


def _leaves(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Each value with its path: `goals.15.percent`, `hours.07`."""
    match tree:
        case Mapping():
            for key, value in tree.items():
                yield from _leaves(value, f"{path}.{key}" if path else str(key))
        case tuple() | list():
            for number, value in enumerate(tree):
                key = f"{value['within_s']}" if isinstance(value, Mapping) else f"{number:02d}"
                yield from _leaves(value, f"{path}.{key}")
        case _:
            yield path, "" if tree is None else json.dumps(tree) if isinstance(tree, bool) else tree
