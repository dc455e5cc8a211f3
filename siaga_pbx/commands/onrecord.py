"""What the commands read from the database, in their own process: years of calls never pass through the daemon."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from siaga_pbx.commands.common import Row
from siaga_pbx.commands.failures import Failed
from siaga_pbx.commands.running import running_daemon, user
from siaga_pbx.config import Config
from siaga_pbx.records.accesses import Access
from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.errors import RecordsError, StoreInUse
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_now

COMMIT_S = 30.0
MOST_CALLS = 1000
"""Of one access, over HTTP."""


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


@contextmanager
def own_store(config: Config, reader: Reader) -> Iterator[Store]:
    """The records, for writing, while no daemon runs. Raises `Failed` when one does all the same."""
    store = Store(config.records.database, journal=config.journal_file)
    try:
        # Calls that a crash left open are the daemon's to close, or to take over, when it starts.
        store.open(keep=[str(call["id"]) for call in reader.calls(ended=False)])
        yield store
    except StoreInUse as error:
        raise Failed("a daemon runs but does not answer over HTTP yet: try again") from error
    except (RecordsError, TimeoutError) as error:
        raise Failed(str(error) or "the database does not answer in time") from error
    finally:
        store.close()


def note_access(config: Config, reader: Reader, what: str, calls: Sequence[str] = ()) -> None:
    """Notes that this user is about to see what is on record. Raises `Failed` if it cannot be: then it is not shown."""
    with running_daemon(config) as daemon:
        if daemon is not None:
            for start in range(0, max(1, len(calls)), MOST_CALLS):
                body = {"what": what, "calls": list(calls[start : start + MOST_CALLS])}
                daemon.post("/api/v1/accesses", body)
            return
    with own_store(config, reader) as store:
        accesses = [Access(f"user {user()}", what, call_id) for call_id in calls or (None,)]
        store.commit([access.event(utc_now()) for access in accesses]).result(COMMIT_S)


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
