"""Proves the records: walks the chain of events from its beginning, and compares closed rows with their digests.

What it finds: an event changed, removed (at the end, too), inserted or moved; a closed call or dispatch changed, removed or
inserted; content removed without an erasure. What it cannot find: a database replaced as a whole by one that is consistent
in itself. Against that, the head of the chain must be known elsewhere.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from siaga_pbx.records import closing
from siaga_pbx.records.chain import GENESIS, event_digest, event_hash, row_digest
from siaga_pbx.records.database import reader_engine
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.models import tables

_MAX_PROBLEMS = 100  # after the first few, more of them tell nothing
_FETCH = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that is not as it was written. `seq` is the event's; None for a row of another table."""

    table: str
    id: str
    seq: int | None
    what: str

    def __str__(self) -> str:
        place = f"event {self.seq} ({self.id})" if self.seq is not None else f"{self.table} {self.id}"
        return f"{place}: {self.what}"


def verify(database: str) -> list[Problem]:
    """Everything that is wrong, the first in the chain first, at most 100; an empty list if all is as it was written.

    Reads one snapshot, so it may run beside the daemon. Raises StoreUnavailable if the database cannot be read.
    """
    engine = reader_engine(database)
    try:
        with engine.connect() as connection, connection.begin():
            return list(islice(_problems(connection), _MAX_PROBLEMS))
    except DBAPIError as error:
        raise StoreUnavailable(str(error.orig)) from error
    finally:
        engine.dispose()


@dataclass(slots=True)
class _Walk:
    """What is known after the events so far."""

    seq: int = 0
    hash: str = GENESIS
    digests: dict[tuple[str, str], str | None] = field(default_factory=dict)  # of closed rows; None: open again
    blank: dict[str, tuple[str, int]] = field(default_factory=dict)  # owner of erased content -> its first event


def _problems(connection: Connection) -> Iterator[Problem]:
    walk = _Walk()
    event = tables()["event"]
    rows = connection.execution_options(yield_per=_FETCH).execute(select(event).order_by(event.c.seq))
    for row in rows.mappings():
        yield from _check_event(walk, row)
    yield from _check_head(connection, walk)
    for id, seq in walk.blank.values():
        yield Problem("event", id, seq, "its content is gone, and no erasure says so")
    for table in closing.CLOSING_COLUMNS:
        yield from _check_rows(connection, table, walk)


def _check_event(walk: _Walk, row: Mapping[str, object]) -> Iterator[Problem]:
    seq, id = int(str(row["seq"])), str(row["id"])
    if seq != walk.seq + 1:
        gap = f"event {walk.seq + 1}" if seq == walk.seq + 2 else f"events {walk.seq + 1} to {seq - 1}"
        yield Problem("event", id, seq, f"{gap} before it removed")
    elif row["hash"] != _hash(walk.hash, row):
        yield Problem("event", id, seq, "does not follow from the event before it: one of them was changed or moved")
    if row["data"] is None and row["salt"] is None:
        walk.blank.setdefault(_owner(row), (id, seq))
    elif row["data"] is None or row["salt"] is None or row["digest"] != _digest(row):
        yield Problem("event", id, seq, "its content was changed")
    else:
        _note_closing(walk, row)
    walk.seq, walk.hash = seq, str(row["hash"])


def _note_closing(walk: _Walk, row: Mapping[str, object]) -> None:
    """Remembers what an event says about a closed row, and that it accounts for content that is gone."""
    kind, place = row["kind"], (str(row["subject"]), str(row["subject_id"]))
    if kind in (closing.CLOSED, closing.AMENDED, closing.ERASED):
        walk.digests[place] = str(json.loads(str(row["data"])).get("digest"))
    elif kind == closing.REOPENED:
        walk.digests[place] = None
    if kind == closing.ERASED:
        walk.blank.pop(_owner(row), None)


def _owner(row: Mapping[str, object]) -> str:
    """Whose erasure takes an event's content: its call's, else its subject's."""
    return str(row["call_id"] or row["subject_id"])


def _check_head(connection: Connection, walk: _Walk) -> Iterator[Problem]:
    """The writer's own note of the last event: without it, a chain cut short would look whole."""
    writer = tables()["writer"]
    heads = connection.execute(select(writer.c.seq, writer.c.hash).order_by(writer.c.seq.desc()).limit(1)).first()
    if heads is None and walk.seq:
        yield Problem("writer", "-", None, "the note of the chain's last event was removed")
    elif heads is not None and heads.seq > walk.seq:
        yield Problem("event", "-", heads.seq, f"the events after {walk.seq} were removed")
    elif heads is not None and (heads.seq, heads.hash) != (walk.seq, walk.hash):
        yield Problem("event", "-", heads.seq + 1, "inserted after the last event that was written")


def _check_rows(connection: Connection, name: str, walk: _Walk) -> Iterator[Problem]:
    table = tables()[name]
    known = {id: digest for (subject, id), digest in walk.digests.items() if subject == name}
    rows = connection.execution_options(yield_per=_FETCH).execute(select(table).order_by(table.c.id))
    for row in rows.mappings():
        id = str(row["id"])
        digest = known.pop(id, None)
        if digest is not None and row_digest(name, row) != digest:
            yield Problem(name, id, None, "changed since it was closed")
        elif digest is None and closing.is_closed(name, row):
            yield Problem(name, id, None, "closed, but not by the daemon: changed or inserted")
    for id in known:
        yield Problem(name, id, None, "removed")


def _digest(row: Mapping[str, object]) -> str:
    return event_digest(str(row["salt"]), str(row["data"]))


def _hash(previous: str, row: Mapping[str, object]) -> str:
    columns = ("seq", "id", "at", "subject", "subject_id", "call_id", "kind", "digest")
    seq, id, at, subject, subject_id, call_id, kind, digest = (row[column] for column in columns)
    return event_hash(
        previous,
        int(str(seq)),
        str(id),
        str(at),
        str(subject),
        str(subject_id),
        None if call_id is None else str(call_id),
        str(kind),
        str(digest),
    )
