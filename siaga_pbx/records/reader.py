"""Queries, for the API, the commands and the start. Rows are dicts keyed by the columns' names, oldest first.

JSON columns (`data`, `message`, `flow`) come decoded. Every method blocks for as long as its query takes (call it from
a thread) and raises StoreUnavailable when the database cannot be read.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeAlias

from sqlalchemy import ColumnElement, Row, Select, bindparam, select
from sqlalchemy.exc import DBAPIError

from siaga_pbx.records.chain import Head
from siaga_pbx.records.closing import LASTING, READ, RESERVED
from siaga_pbx.records.database import reader_engine
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import first_id
from siaga_pbx.records.models import tables
from siaga_pbx.records.statements import Prepared
from siaga_pbx.records.times import parse_utc

Record: TypeAlias = dict[str, object]
Query: TypeAlias = Select[*tuple[object, ...]]

# Who hung up before anybody spoke, and who was lost by a fault or in a crash of ours.
LOST_OUTCOMES = ("abandoned", "failed", "interrupted")

_JSON_COLUMNS = ("data", "message", "flow")
_IN_WORDS = {
    "call": ("called", "reason"),
    "incident": ("note", "address"),
    "dispatch": ("message", "reason"),
    "outbox": ("message",),
    "callback": ("reason",),
    "hold": ("reason",),
    "event": ("data",),
}
_ID_LEAD_MS = 60_000  # an event's id may be made this long before its time; then `since` still finds it


class Reader:
    """Read-only access; any thread may use it. Opens connections when they are needed: the database may come later."""

    def __init__(self, database: str) -> None:
        self._engine = reader_engine(database)
        self._tables = tables()
        call, incident = self._tables["call"], self._tables["incident"]
        opened = select(call, incident).outerjoin(incident, incident.c.call_id == call.c.id)
        opened = opened.where(call.c.id == bindparam("id")).order_by(incident.c.opened_at, incident.c.id)
        self._call_with_incidents = Prepared(self._engine, opened, [*call.c, *incident.c])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def calls(
        self,
        *,
        since: str | None = None,
        limit: int | None = None,
        outcome: str | None = None,
        ended: bool | None = None,
    ) -> list[Record]:
        """Calls by their arrival. `since`: UTC text; `limit`: the newest so many; `ended`: over, or still live."""
        call = self._tables["call"]
        query = select(call)
        if since is not None:
            query = query.where(call.c.received_at >= since)
        if outcome is not None:
            query = query.where(call.c.outcome == outcome)
        if ended is not None:
            query = query.where(call.c.ended_at.is_not(None) if ended else call.c.ended_at.is_(None))
        return self._newest(query, [call.c.received_at, call.c.id], limit)

    def call(self, id: str) -> Record | None:
        """One call."""
        return self._one("call", id)

    def call_with_incidents(self, id: str) -> tuple[Record, list[Record]] | None:
        """One call and the incidents it has opened, by one query: whoever orders a dispatch waits for it."""
        try:
            rows = self._call_with_incidents.rows(id)
        except DBAPIError as error:
            raise StoreUnavailable(str(error.orig)) from error
        if not rows:
            return None
        call, incident = self._tables["call"].c.keys(), self._tables["incident"].c.keys()
        opened = [dict(zip(incident, row[len(call) :], strict=True)) for row in rows if row[len(call)] is not None]
        return dict(zip(call, rows[0][: len(call)], strict=True)), opened

    def events(
        self,
        *,
        call_id: str | None = None,
        subject: str | None = None,
        subject_id: str | None = None,
        kind: str | None = None,
        since: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """Events by seq. `after`: only those of a higher seq, and `limit` takes the oldest of them (to page on)."""
        event = self._tables["event"]
        query = select(event)
        wanted = {"call_id": call_id, "subject": subject, "subject_id": subject_id, "kind": kind}
        query = query.where(*(event.c[name] == value for name, value in wanted.items() if value is not None))
        if after is not None:
            query = query.where(event.c.seq > after)
        if since is not None:
            earliest = int(parse_utc(since).timestamp() * 1000) - _ID_LEAD_MS
            query = query.where(event.c.at >= since, event.c.id >= first_id(earliest))
        if after is not None:
            return self._rows(query.order_by(event.c.seq).limit(limit))
        # "+ 0": a range of ids is to be looked up and then sorted, rather than all events gone through in order.
        return self._newest(query, [event.c.seq + 0 if since is not None else event.c.seq], limit)

    def seats(self, *, seat: str | None = None, since: str | None = None, limit: int | None = None) -> list[Record]:
        """The seats' history: the events whose subject is a seat."""
        return self.events(subject="seat", subject_id=seat, since=since, limit=limit)

    def incidents(
        self,
        *,
        call_id: str | None = None,
        status: str | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """Incidents by the time they were opened."""
        incident = self._tables["incident"]
        query = select(incident)
        if call_id is not None:
            query = query.where(incident.c.call_id == call_id)
        if status is not None:
            query = query.where(incident.c.status == status)
        if since is not None:
            query = query.where(incident.c.opened_at >= since)
        return self._newest(query, [incident.c.opened_at, incident.c.id], limit)

    def incident(self, id: str) -> Record | None:
        """One incident."""
        return self._one("incident", id)

    def dispatches(
        self,
        *,
        call_id: str | None = None,
        incident_id: str | None = None,
        agency: str | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """Dispatches by the time they were made."""
        dispatch, incident = self._tables["dispatch"], self._tables["incident"]
        query = select(dispatch)
        if call_id is not None:
            query = query.where(
                dispatch.c.incident_id.in_(select(incident.c.id).where(incident.c.call_id == call_id).scalar_subquery())
            )
        if incident_id is not None:
            query = query.where(dispatch.c.incident_id == incident_id)
        if agency is not None:
            query = query.where(dispatch.c.agency == agency)
        if since is not None:
            query = query.where(dispatch.c.created_at >= since)
        return self._newest(query, [dispatch.c.created_at, dispatch.c.id], limit)

    def dispatch(self, id: str) -> Record | None:
        """One dispatch."""
        return self._one("dispatch", id)

    def outbox(self) -> list[Record]:
        """What is still to be published, in the order it was written."""
        outbox = self._tables["outbox"]
        return self._newest(select(outbox), [outbox.c.created_at, outbox.c.id], None)

    def bindings(self, now: str) -> list[Record]:
        """The stored registrations that have not expired at `now` (UTC text)."""
        binding = self._tables["seat_binding"]
        return self._newest(select(binding).where(binding.c.expires_at > now), [binding.c.seat, binding.c.id], None)

    def callbacks(self, *, since: str | None = None) -> list[Record]:
        """The call-back list: calls that were lost and can be called back, neither called nor dismissed yet."""
        call, callback = self._tables["call"], self._tables["callback"]
        done = select(callback.c.id).scalar_subquery()
        query = select(call).where(call.c.outcome.in_(LOST_OUTCOMES), call.c.callable, call.c.id.not_in(done))
        if since is not None:
            query = query.where(call.c.received_at >= since)
        return self._newest(query, [call.c.received_at, call.c.id], None)

    def accesses(
        self, *, call_id: str | None = None, since: str | None = None, limit: int | None = None
    ) -> list[Record]:
        """Who has read what: the events of kind `read`, of one call or of all."""
        return self.events(call_id=call_id, kind=READ, since=since, limit=limit)

    def calls_from(self, number: str) -> list[Record]:
        """The calls of a number (E.164) that still have it."""
        call = self._tables["call"]
        return self._newest(select(call).where(call.c.caller_number == number), [call.c.received_at, call.c.id], None)

    def words(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str, Record]]:
        """All that is recorded in words, as it is stored, and `wanted`: table, column, and `id, call_id, at, value`.

        Goes through everything, some rows at a time. An access is left out, and so is what the chain says of itself.
        """
        for table, column, query in self._in_words():
            for row in self._each(query):
                if wanted(row["value"]):
                    value = json.loads(row["value"]) if column in _JSON_COLUMNS else row["value"]
                    yield table, column, {**row, "value": value}

    def _in_words(self) -> Iterator[tuple[str, str, Query]]:
        t = self._tables
        call, incident, dispatch = t["call"], t["incident"], t["dispatch"]
        its_call = select(incident.c.call_id).where(incident.c.id == dispatch.c.incident_id).scalar_subquery()
        of_outbox = select(incident.c.call_id).join(dispatch, dispatch.c.incident_id == incident.c.id)
        of_outbox_call = of_outbox.where(dispatch.c.id == t["outbox"].c.dispatch_id).scalar_subquery()
        whose: dict[str, tuple[ColumnElement[Any], str]] = {
            "call": (call.c.id, "received_at"),
            "incident": (incident.c.call_id, "opened_at"),
            "dispatch": (its_call, "created_at"),
            "outbox": (of_outbox_call, "created_at"),
            "callback": (t["callback"].c.id, "at"),
            "hold": (t["hold"].c.id, "placed_at"),
            "event": (t["event"].c.call_id, "at"),
        }
        for table, columns in _IN_WORDS.items():
            call_id, at = whose[table]
            for name in columns:
                column = t[table].c[name]
                labelled = call_id.label("call_id"), t[table].c[at].label("at"), column.label("value")
                query = select(t[table].c.id, *labelled).where(column.is_not(None))
                if table == "event":
                    query = query.where(t[table].c.kind.not_in([*LASTING, *RESERVED]))
                yield table, name, query

    def callback(self, call_id: str) -> list[Record]:
        """What became of a call on the call-back list: a row, or none."""
        row = self._one("callback", call_id)
        return [] if row is None else [row]

    def head(self) -> Head:
        """The chain's last event."""
        event = self._tables["event"]
        rows = self._all(select(event.c.seq, event.c.hash).order_by(event.c.seq.desc()).limit(1))
        return Head(rows[0].seq, rows[0].hash) if rows else Head()

    def going_on(self, since: str) -> set[str]:
        """The calls that are not over, and those with an open incident that agencies may still need: opened since
        then (UTC text), or somebody was to be there since then, or has not received the latest.
        """
        call, incident, dispatch = self._tables["call"], self._tables["incident"], self._tables["dispatch"]
        under_way = dispatch.c.id.in_(select(self._tables["outbox"].c.dispatch_id))
        needed = (incident.c.opened_at >= since) | (dispatch.c.arrive_by >= since) | under_way
        followed = select(incident.c.call_id).outerjoin(dispatch, dispatch.c.incident_id == incident.c.id)
        followed = followed.where(incident.c.status == "open", needed)
        live = select(call.c.id).where(call.c.ended_at.is_(None))
        return {str(row[0]) for query in (live, followed) for row in self._all(query)}

    def holds(self, *, call_id: str | None = None) -> list[Record]:
        """The holds that stand, in the order they were placed."""
        hold = self._tables["hold"]
        query = select(hold).where(hold.c.released_at.is_(None))
        if call_id is not None:
            query = query.where(hold.c.id == call_id)
        return self._newest(query, [hold.c.placed_at, hold.c.id], None)

    def recorded(self, *, before: str) -> list[Record]:
        """The `id` and `recording` of calls with a recording that ended before that time."""
        call = self._tables["call"]
        query = select(call.c.id, call.c.recording).where(call.c.ended_at < before, call.c.recording.is_not(None))
        return self._newest(query, [call.c.received_at, call.c.id], None)

    def recordings(self, *, complete: bool) -> list[Record]:
        """The `id`, `recording` and `recording_sha256` of ended calls whose recording is complete, or is not."""
        call = self._tables["call"]
        digest = call.c.recording_sha256
        query = select(call.c.id, call.c.recording, digest).where(call.c.recording.is_not(None))
        known = digest.is_not(None) if complete else digest.is_(None)
        return self._newest(query.where(known, call.c.ended_at.is_not(None)), [call.c.received_at, call.c.id], None)

    def unerased(self, *, before: str) -> list[Record]:
        """The `id` and `recording` of calls that ended before that time and have content, still or again."""
        call, event = self._tables["call"], self._tables["event"]
        content = event.c.data.is_not(None) & event.c.kind.not_in([*LASTING, *RESERVED])
        has_content = select(event.c.seq).where(event.c.call_id == call.c.id, content).exists()
        query = select(call.c.id, call.c.recording).where(call.c.ended_at < before, has_content)
        return self._newest(query, [call.c.received_at, call.c.id], None)

    def calls_between(self, columns: Iterable[str], start: str, end: str) -> list[Row[Any]]:
        """Those columns of the calls that arrived from `start` until before `end`, and the state of their call-back."""
        call, callback = self._tables["call"], self._tables["callback"]
        query = select(*(call.c[name] for name in columns), callback.c.state)
        query = query.select_from(call.outerjoin(callback, callback.c.id == call.c.id))
        return self._all(query.where(call.c.received_at >= start, call.c.received_at < end))

    def dispatches_between(self, columns: Iterable[str], start: str, end: str) -> list[Row[Any]]:
        """Those columns of the dispatches that were ordered from `start` until before `end`."""
        dispatch = self._tables["dispatch"]
        query = select(*(dispatch.c[name] for name in columns))
        return self._all(query.where(dispatch.c.created_at >= start, dispatch.c.created_at < end))

    def categories_between(self, start: str, end: str) -> list[str]:
        """The category of each incident that was opened from `start` until before `end`."""
        incident = self._tables["incident"]
        query = select(incident.c.category).where(incident.c.opened_at >= start, incident.c.opened_at < end)
        return [str(row.category) for row in self._all(query)]

    def _one(self, table: str, id: str) -> Record | None:
        rows = self._rows(select(self._tables[table]).where(self._tables[table].c.id == id))
        return rows[0] if rows else None

    def _newest(self, query: Query, order: list[ColumnElement[object]], limit: int | None) -> list[Record]:
        if limit is None:
            return self._rows(query.order_by(*order))
        rows = self._rows(query.order_by(*(column.desc() for column in order)).limit(limit))
        rows.reverse()
        return rows

    def _rows(self, query: Query) -> list[Record]:
        return [_decoded(dict(row._mapping)) for row in self._all(query)]

    def _each(self, query: Query) -> Iterator[dict[str, Any]]:
        """As they come: all of them would not fit into memory."""
        try:
            with self._engine.connect() as connection:
                for row in connection.execute(query, execution_options={"yield_per": 1000}):
                    yield dict(row._mapping)
        except DBAPIError as error:
            raise StoreUnavailable(str(error.orig)) from error

    def _all(self, query: Query) -> list[Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(query))
        except DBAPIError as error:
            raise StoreUnavailable(str(error.orig)) from error


def _decoded(row: Record) -> Record:
    for name in _JSON_COLUMNS:
        value = row.get(name)
        if isinstance(value, str):
            row[name] = json.loads(value)
    return row
