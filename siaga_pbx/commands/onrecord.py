"""What the commands read from the database, in their own process: years of calls never pass through the daemon."""

from collections.abc import Iterator
from contextlib import contextmanager

from siaga_pbx.commands.common import Row
from siaga_pbx.commands.failures import Failed
from siaga_pbx.config import Config
from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.times import utc_now


@contextmanager
def records(config: Config) -> Iterator[Reader]:
    """The records, for reading. Raises `Failed` when there are none or they cannot be read."""
    file = sqlite_file(config.records.database)
    if file is not None and not file.exists():
        raise Failed(f"no database {file}: the daemon makes it at its first start")
    try:
        with Reader(config.records.database) as reader:
            yield reader
    except RecordsError as error:
        raise Failed(f"{file or 'the database'}: {error}") from error


def left_behind(config: Config) -> Row:
    """The centre while no daemon runs, in the form of GET /api/v1/status."""
    with records(config) as reader:
        open_calls = reader.calls(ended=False)
        pending = len(reader.outbox())
    gone = {"state": "offline", "reason": "no daemon runs", "since": None, "call_id": None}
    seats = [{"id": one.id, "name": one.name or one.id, "skills": sorted(one.skills)} | gone for one in config.seats]
    return {
        "centre": config.centre.id,
        "name": config.centre.name,
        "state": "stopped",
        "at": utc_now(),
        "started_at": None,
        "seats": seats,
        "calls": [call | {"state": "left open"} for call in open_calls],
        "outbox": {"pending": pending},
        "journal_pending": 0,
        "alarms": [],
    }
