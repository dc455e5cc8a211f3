"""What the tests of the records share: a database made once and copied, and changes as a call makes them."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from siaga_pbx.records.changes import Change, Event, Insert, Update
from siaga_pbx.records.ids import new_id

AT = "2026-11-24T00:00:00.000Z"


def url_of(file: Path) -> str:
    """The URL of a database file."""
    return f"sqlite:///{file}"


@contextmanager
def raw(file: Path) -> Iterator[sqlite3.Connection]:
    """The database as anybody with a shell can open it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def rows(file: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """The rows of a query."""
    with raw(file) as connection:
        return [tuple(row) for row in connection.execute(sql, parameters)]


def event(kind: str, call_id: str | None = None, data: Mapping[str, object] | None = None) -> Event:
    """An event of a call, or of the system."""
    return Event(AT, "call" if call_id else "system", call_id or "test", call_id, kind, data or {})


def arrival(call_id: str, **columns: object) -> list[Change]:
    """A call's row, with the event of its arrival."""
    return [Insert("call", {"id": call_id, "received_at": AT, **columns}), event("received", call_id)]


def end(call_id: str, outcome: str = "answered", **columns: object) -> list[Change]:
    """The end of a call."""
    return [Update("call", call_id, {"ended_at": AT, "outcome": outcome, **columns}), event("ended", call_id)]


def order(
    call_id: str, agency: str = "damkar", state: str = "pending", number: str = "+6281234567890"
) -> tuple[str, Sequence[Change]]:
    """A dispatch's id, and the incident, the dispatch and its entry in the outbox."""
    incident, dispatch = new_id(), new_id()
    opened = {"id": incident, "call_id": call_id, "category": "fire", "opened_at": AT, "status": "open", "note": "asap"}
    message = {"dispatch_id": dispatch, "note": "asap", "callback": {"number": number}}
    sent = {"id": dispatch, "incident_id": incident, "agency": agency, "sequence": 1, "state": state}
    queued = {"id": new_id(), "dispatch_id": dispatch, "agency": agency, "sequence": 1, "message": message}
    return dispatch, [
        Insert("incident", opened),
        Insert("dispatch", {**sent, "message": message, "created_at": AT}),
        Insert("outbox", {**queued, "created_at": AT}),
        Event(AT, "dispatch", dispatch, call_id, "committed", {"agency": agency}),
    ]
