"""Proves the records: walks the chain of events from its beginning, and compares closed rows with their digests.

What it finds: an event changed, removed (at the end, too), inserted or moved; a closed call, incident or dispatch, or a
call-back, changed, removed or inserted; content removed without an erasure. What it cannot find by itself: a database
replaced as a whole by one that is consistent in itself. Against that, a head of the chain is known elsewhere, and told.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, cast

from sqlalchemy import Boolean, ColumnClause, Connection, column, inspect, select, table
from sqlalchemy.exc import DBAPIError, OperationalError

from siaga_pbx.records import closing
from siaga_pbx.records.chain import GENESIS, Head, event_digest, event_hash, row_digest
from siaga_pbx.records.database import reader_engine
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.models import tables

_MAX_PROBLEMS = 100  # after the first few, more of them tell nothing
_TEXT = {str, type(None)}
_STREAM = {"yield_per": 1000}  # rows at a time in memory


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


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: every problem, the first in the chain first, at most 100; and where the chain ends, and when.

    `erased` is how many calls have lost their content as the record itself says.
    """

    problems: list[Problem]
    head: Head
    last_at: str
    erased: int = 0


def verify(database: str, known: Iterable[Head] = ()) -> list[Problem]:
    """What is wrong, see `examine`; an empty list if all is as it was written."""
    return examine(database, known).problems


def examine(database: str, known: Iterable[Head] = ()) -> Finding:
    """Goes through all of it, in one snapshot, so it may run beside the daemon.

    `known`: heads that the chain had at some time, as they were published; it must still have them. Raises
    StoreUnavailable if the database cannot be read.
    """
    engine, heads = reader_engine(database), tuple(known)
    walk = _Walk()
    try:
        with engine.connect() as connection, connection.begin():
            try:
                problems = list(islice(_problems(connection, walk, heads), _MAX_PROBLEMS))
            except OperationalError as error:
                if "decode" not in str(error.orig):
                    raise
                walk = _Walk()
                _take_bytes_for_what_is_no_text(connection)
                problems = list(islice(_problems(connection, walk, heads), _MAX_PROBLEMS))
    except DBAPIError as error:
        place = f" (after event {walk.seq})" if walk.seq else ""
        raise StoreUnavailable(f"{error.orig}{place}") from error
    finally:
        engine.dispose()
    return Finding(problems, Head(walk.seq, walk.hash), walk.at, len(walk.erased))


def _take_bytes_for_what_is_no_text(connection: Connection) -> None:
    """SQLite holds any bytes as text, and its driver stops at those that are no UTF-8: they are to be told of instead.

    Not always so, since the driver asks us about each cell then: a third more time.
    """

    def decoded(data: bytes) -> str | bytes:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

    cast("sqlite3.Connection", connection.connection.driver_connection).text_factory = decoded


class _Event(NamedTuple):
    """A row of `event`, by the order of its columns."""

    seq: int
    id: str
    at: str
    subject: str
    subject_id: str
    call_id: str | None
    kind: str
    data: str | None
    salt: str | None
    digest: str
    hash: str

    def is_text(self) -> bool:
        """Whether every column has its kind: SQLite would hold anything."""
        return type(self.seq) is int and set(map(type, self[1:])) <= _TEXT

    @property
    def blank_of(self) -> str:
        """Under what its erasure is noted, unless it was erased by itself: its call, its dispatch, or nothing."""
        return self.call_id or (self.subject_id if self.subject == "dispatch" else self.id)

    def has_digest(self) -> bool:
        """Whether the digest is that of the content, which is text."""
        return event_digest(str(self.salt), str(self.data)) == self.digest

    def follows(self, previous: str) -> bool:
        """Whether the hash ties it to the event with the `previous` hash."""
        link = event_hash(
            previous, self.seq, self.id, self.at, self.subject, self.subject_id, self.call_id, self.kind, self.digest
        )
        return link == self.hash


@dataclass(slots=True)
class _Walk:
    """What is known after the events so far. `single`: the ids of events that are said to be erased by themselves."""

    single: frozenset[str] = frozenset()
    seq: int = 0
    hash: str = GENESIS
    at: str = ""
    digests: dict[tuple[str, str], str | None] = field(default_factory=dict)  # of closed rows; None: open again
    blank: dict[str, _Event] = field(default_factory=dict)  # the first event without content of each call or subject
    erased: set[str] = field(default_factory=set)  # calls

    def known(self, table: str) -> dict[str, str | None]:
        """The digests of this table's closed rows, by their ids."""
        return {id: digest for (name, id), digest in self.digests.items() if name == table}


def _problems(connection: Connection, walk: _Walk, known: Iterable[Head]) -> Iterator[Problem]:
    event = tables()["event"]
    walk.single = _erased_by_themselves(connection)
    columns = [event.c[name] for name in _Event._fields]
    for row in connection.execute(select(*columns).order_by(event.c.seq), execution_options=_STREAM):
        yield from _check_event(walk, _Event._make(row))
    yield from _check_head(connection, walk)
    for head in known:
        yield from _check_known(connection, walk, head)
    for blank in walk.blank.values():
        yield Problem("event", blank.id, blank.seq, "its content is gone, and no erasure says so")
    there = set(inspect(connection).get_table_names())
    for name in closing.CLOSING_COLUMNS:
        yield from _check_rows(connection, name, walk) if name in there else _removed(name, walk.known(name))


def _erased_by_themselves(connection: Connection) -> frozenset[str]:
    """As the chain says it; whether that is true of the chain, the walk finds out."""
    event = tables()["event"].c
    said = select(event.data).where(
        event.subject != "call", event.subject_id == "records", event.kind == closing.ERASED
    )
    ids: list[str] = []
    for data in connection.execute(said).scalars():
        with suppress(ValueError, TypeError, KeyError):
            ids += map(str, json.loads(data)["events"])
    return frozenset(ids)


def _check_event(walk: _Walk, event: _Event) -> Iterator[Problem]:
    text = event.is_text()
    if event.seq != walk.seq + 1:
        gap = "the one" if event.seq == walk.seq + 2 else f"those from {walk.seq + 1}"
        yield Problem("event", str(event.id), event.seq, f"{gap} before it removed")
    elif not text:
        yield Problem("event", str(event.id), event.seq, "changed: a column is not text")
    elif not event.follows(walk.hash):
        what = f"changed, inserted or moved: it does not follow from event {walk.seq}"
        yield Problem("event", str(event.id), event.seq, what)
    if event.data is None and event.salt is None:
        if event.kind in closing.LASTING:
            yield Problem("event", str(event.id), event.seq, "its content is gone, which no erasure takes")
        if event.id not in walk.single:
            walk.blank.setdefault(event.blank_of, event)
    elif not (text and event.has_digest()):
        yield Problem("event", str(event.id), event.seq, "its content was changed")
    else:
        _note_closing(walk, event)
    walk.seq, walk.hash, walk.at = event.seq, str(event.hash), str(event.at)


def _note_closing(walk: _Walk, event: _Event) -> None:
    """Remembers what an event says about a closed row, and that it accounts for content that is gone."""
    if event.kind not in closing.RESERVED:
        return
    row = json.loads(str(event.data))
    if "events" in row:
        return
    place = (row.get("table", event.subject), row.get("id", event.subject_id))
    walk.digests[place] = None if event.kind == closing.REOPENED else row["digest"]
    if event.kind == closing.ERASED:
        walk.blank.pop(str(event.call_id), None)
        walk.blank.pop(event.subject_id, None)
        walk.erased.add(str(event.call_id))


def _check_head(connection: Connection, walk: _Walk) -> Iterator[Problem]:
    """The writer's own note of the last event: without it, a chain cut short would look whole."""
    writer = tables()["writer"]
    head = connection.execute(select(writer.c.seq, writer.c.hash).order_by(writer.c.seq.desc()).limit(1)).first()
    if head is None and walk.seq:
        yield Problem("writer", "-", None, "the note of the last event was removed")
    elif head is not None and head.seq > walk.seq:
        yield Problem("event", "-", walk.seq + 1, f"removed, and all up to {head.seq}")
    elif head is not None and head.seq < walk.seq:
        yield Problem("event", "-", head.seq + 1, "inserted after the last that the daemon wrote")
    elif head is not None and head.hash != walk.hash:
        yield Problem("event", "-", walk.seq, "not what the daemon wrote: the chain was made anew")


def _check_known(connection: Connection, walk: _Walk, head: Head) -> Iterator[Problem]:
    """A head from elsewhere: what the chain was then it still is, up to there."""
    event = tables()["event"]
    found = connection.execute(select(event.c.id, event.c.hash).where(event.c.seq == head.seq)).first()
    if found is None and head.seq > walk.seq:
        yield Problem("event", "-", walk.seq + 1, f"removed, and all up to {head.seq}, which was published")
    elif found is not None and found.hash != head.hash:
        what = f"not the one whose hash {head.hash} was published: the chain was made anew"
        yield Problem("event", str(found.id), head.seq, what)


def _check_rows(connection: Connection, name: str, walk: _Walk) -> Iterator[Problem]:
    """Rows as stored, whatever version made the table: an old backup has fewer columns, which then are null in ours."""
    known = walk.known(name)
    flags = [column.name for column in tables()[name].c if isinstance(column.type, Boolean)]
    columns: list[ColumnClause[object]] = [
        column(str(found["name"])) for found in inspect(connection).get_columns(name)
    ]
    stored = select(*columns).select_from(table(name)).order_by(column("id"))
    for row in map(dict[str, object], connection.execute(stored, execution_options=_STREAM).mappings()):
        row |= {flag: bool(row[flag]) for flag in flags if row.get(flag) in (0, 1)}
        id = str(row["id"])
        digest = known.pop(id, None)
        if digest is not None and (bytes in map(type, row.values()) or row_digest(name, row) != digest):
            yield Problem(name, id, None, "changed since it was closed")
        elif digest is None and closing.is_closed(name, row):
            yield Problem(name, id, None, "closed, but not by the daemon: changed or inserted")
    yield from _removed(name, known)


def _removed(name: str, ids: Iterable[str]) -> Iterator[Problem]:
    return (Problem(name, id, None, "removed") for id in ids)
