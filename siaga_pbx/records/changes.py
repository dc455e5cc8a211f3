"""What can be asked of the store: the changes. A batch of them is carried out as one, or not at all.

Rows are mappings keyed by the column names of `models`. Whoever hands a change over must not alter its mappings
afterwards: the writer thread reads them later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from siaga_pbx.records.ids import new_id

Row: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    table: str
    row: Row


@dataclass(frozen=True, slots=True)
class Update:
    """New values for some columns of the row with this id; the row must be there."""

    table: str
    id: str
    values: Row


@dataclass(frozen=True, slots=True)
class Upsert:
    """The row as it shall be, whether its id is there or not.

    For `call` (one whose row may not be written yet), `seat_binding`, `outbox`, `callback` and `hold`.
    """

    table: str
    row: Row


@dataclass(frozen=True, slots=True)
class Delete:
    """The row with this id goes, if it is there. For `seat_binding` and `outbox`: what is evidence is never deleted."""

    table: str
    id: str


@dataclass(frozen=True, slots=True)
class Event:
    """One step, appended to the chain of events. `at` is UTC text; subject is call, seat, dispatch or system."""

    at: str
    subject: str
    subject_id: str
    call_id: str | None
    kind: str
    data: Row = field(default_factory=dict)
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Erase:
    """The content of an ended call, its incidents, dispatches and events goes; the chain still verifies.

    Refused while the call is held.
    """

    call_id: str


@dataclass(frozen=True, slots=True)
class Blank:
    """The content of these events goes; the chain still verifies. Refused while a call of theirs is live or held."""

    event_ids: tuple[str, ...]


Change: TypeAlias = Insert | Update | Upsert | Delete | Event | Erase | Blank


def call_of(change: Change) -> str | None:
    """The call that it is about, if it says so."""
    match change:
        case Event(call_id=str(call_id)):
            return call_id
        case Insert("call", row) | Upsert("call", row) if "id" in row:
            return str(row["id"])
        case Update("call", id):
            return id
        case Insert(_, row) | Upsert(_, row) if "call_id" in row:
            return str(row["call_id"])
        case _:
            return None


def interruption(call_id: str, at: str) -> tuple[Change, ...]:
    """The end of a call whose daemon ended before it did."""
    return (
        Event(at, "call", call_id, call_id, "interrupted", {"cause": "the daemon ended before the call did"}),
        Update("call", call_id, {"ended_at": at, "outcome": "interrupted"}),
    )
