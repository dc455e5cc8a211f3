"""Changes carried out in a transaction: rows by Core statements, events chained, closed rows' digests among them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

from sqlalchemy import Connection, delete, select, update

from siaga_pbx.records import closing
from siaga_pbx.records.chain import Head, event_digest, event_hash, row_digest
from siaga_pbx.records.changes import Blank, Change, Delete, Erase, Event, Insert, Row, Update, Upsert
from siaga_pbx.records.errors import ChangeRefused
from siaga_pbx.records.models import tables
from siaga_pbx.records.plain import Plain, plain, to_json
from siaga_pbx.records.statements import Statements

Values: TypeAlias = dict[str, Plain]

_SALT_BYTES = 16
_WRITABLE = frozenset({"call", "incident", "dispatch", "outbox", "seat_binding", "callback", "hold"})
_UPSERTABLE = frozenset({"call", "outbox", "seat_binding", "callback", "hold"})
_DELETABLE = frozenset({"outbox", "seat_binding"})

# What may identify the caller goes; times, outcome, trunk, seat, agency and category stay for the statistics.
_ERASED_COLUMNS: dict[str, tuple[str, ...]] = {
    "call": (
        *("sip_call_id", "caller_number", "callable", "language", "lat", "lon", "radius_m", "location_method"),
        *("reason", "recording", "recording_sha256", "address"),
    ),
    "incident": ("note", "address", "lat", "lon", "radius_m", "location_method", "people"),
    "dispatch": ("message", "reason"),
    "callback": ("reason",),
    "hold": ("reason",),
}


class Ledger:
    """Knows the chain's head and carries changes out after it. One thread's; it works in the caller's transaction.

    After a rollback the caller sets `head` back to what it was.
    """

    def __init__(self, now: Callable[[], str], entropy: Callable[[int], bytes]) -> None:
        self.head = Head()
        self.erased = False
        """Whether something was erased since whoever looks after that has reset it."""
        self._now = now
        self._entropy = entropy
        self._tables = tables()
        self._statements = Statements(self._tables)
        self._kinds = {
            name: {column.name: column.type.python_type for column in table.columns}
            for name, table in self._tables.items()
        }
        self._events: list[Values] = []

    def load(self, connection: Connection) -> None:
        """Reads the head from the database."""
        event = self._tables["event"]
        row = connection.execute(select(event.c.seq, event.c.hash).order_by(event.c.seq.desc()).limit(1)).first()
        self.head = Head(row.seq, row.hash) if row else Head()

    def has(self, connection: Connection, head: Head) -> bool:
        """Whether the chain has this head, now or further back."""
        event = self._tables["event"]
        found = connection.execute(select(event.c.hash).where(event.c.seq == head.seq)).scalar()
        return found == head.hash or head == Head()

    def open_calls(self, connection: Connection, node: str | None, keep: Collection[str]) -> list[str]:
        """The calls of that node, and of none, that are not over (None: of all), but for those to keep."""
        call = self._tables["call"].c
        query = select(call.id).where(call.ended_at.is_(None), call.id.not_in(keep)).order_by(call.id)
        if node is not None:
            query = query.where((call.node == node) | call.node.is_(None))
        return [str(id) for id in connection.execute(query).scalars()]

    def mark(self, connection: Connection, run: str) -> int:
        """The last batch of this run that is in the database; 0 for none."""
        writer = self._tables["writer"]
        return int(connection.execute(select(writer.c.batch).where(writer.c.run == run)).scalar() or 0)

    def set_mark(self, connection: Connection, run: str, batch: int) -> None:
        """Notes, in the transaction that carried them out, that this run's batches up to this one are in."""
        row: Values = {"run": run, "batch": batch, "seq": self.head.seq, "hash": self.head.hash}
        self._statements.upsert(connection, "writer", "run", row)

    def forget_other_runs(self, connection: Connection, run: str) -> None:
        """Removes the marks of earlier runs, once the journal holds nothing of theirs."""
        writer = self._tables["writer"]
        connection.execute(delete(writer).where(writer.c.run != run))

    def apply(self, connection: Connection, changes: Iterable[Change]) -> None:
        """Carries the changes out in order. Raises ChangeRefused or an error of SQLAlchemy; then roll back."""
        self._events.clear()
        for change in changes:
            match change:
                case Event(kind=kind):
                    _require(kind not in closing.RESERVED, f"{kind}: a kind of the writer's own")
                    self._append(change)
                case Insert(table, row):
                    self._insert(connection, table, row)
                case Update(table, id, values):
                    self._update(connection, table, id, values)
                case Upsert(table, row):
                    self._upsert(connection, table, row)
                case Delete(table, id):
                    _require(table in _DELETABLE, f"{table}: a row is never deleted")
                    self._statements.delete(connection, table, id)
                case Erase(call_id):
                    self._erase(connection, call_id)
                case Blank(event_ids):
                    self._blank(connection, event_ids)
        self._flush(connection)

    def _append(self, event: Event) -> None:
        """Chains the event; the rows of a transaction are inserted together at its end."""
        seq, salt, data = self.head.seq + 1, self._entropy(_SALT_BYTES).hex(), to_json(event.data)
        subject, subject_id, kind = str(plain(event.subject)), str(plain(event.subject_id)), str(plain(event.kind))
        call_id = None if event.call_id is None else str(plain(event.call_id))
        digest = event_digest(salt, data)
        link = event_hash(self.head.hash, seq, event.id, event.at, subject, subject_id, call_id, kind, digest)
        row: Values = {"seq": seq, "id": event.id, "at": event.at, "subject": subject, "subject_id": subject_id}
        row |= {"call_id": call_id, "kind": kind, "data": data, "salt": salt, "digest": digest, "hash": link}
        self._events.append(row)
        self.head = Head(seq, link)

    def _flush(self, connection: Connection) -> None:
        if self._events:
            self._statements.insert(connection, "event", self._events)
            self._events = []

    def _insert(self, connection: Connection, table: str, row: Row) -> None:
        _require(table in _WRITABLE, f"{table}: not a table that is written")
        values = self._values(table, row)
        self._statements.insert(connection, table, [values])
        if table in closing.CLOSING_COLUMNS and closing.is_closed(table, values):
            self._note_closing(connection, table, str(values["id"]), closing.CLOSED)

    def _update(self, connection: Connection, table: str, id: str, changed: Row) -> None:
        _require(table in _WRITABLE, f"{table}: not a table that is written")
        _require(bool(changed) and "id" not in changed, f"{table} {id}: an update of nothing, or of its id")
        values = self._values(table, changed)
        columns = closing.CLOSING_COLUMNS.get(table, ())
        closes = not values.keys().isdisjoint(columns)
        before = closes and self._is_closed(connection, table, id)
        row = self._statements.update(connection, table, id, values, columns or ("id",))
        _require(row is not None, f"{table} {id}: no such row")
        if table in closing.CLOSING_COLUMNS and row is not None:
            after = closing.is_closed(table, row)
            kind = closing.kind_of_change(before if closes else after, after)
            if kind is not None:
                self._note_closing(connection, table, id, kind)

    def _upsert(self, connection: Connection, table: str, row: Row) -> None:
        _require(table in _UPSERTABLE, f"{table}: a row cannot be upserted")
        values = self._values(table, row)
        closes, id = table in closing.CLOSING_COLUMNS, str(values["id"])
        before = closes and self._is_closed(connection, table, id)
        self._statements.upsert(connection, table, "id", values)
        kind = closing.kind_of_change(before, closes and self._is_closed(connection, table, id))
        if kind is not None:
            self._note_closing(connection, table, id, kind)

    def _is_closed(self, connection: Connection, table: str, id: str) -> bool:
        row = self._statements.select(connection, table, id, closing.CLOSING_COLUMNS[table] or ("id",))
        return row is not None and closing.is_closed(table, row)

    def _note_closing(self, connection: Connection, table: str, id: str, kind: str) -> None:
        """Appends the digest of the row as it is now.

        Rows that are no subject of events (incidents, call-backs) are named in the event, which is their call's.
        """
        kinds = self._kinds[table]
        raw = self._statements.select(connection, table, id, tuple(kinds)) or {}
        row = {name: bool(value) if kinds[name] is bool and value is not None else value for name, value in raw.items()}
        data: dict[str, object] = {"digest": row_digest(table, row)}
        match table:
            case "call":
                place = ("call", id, id)
            case "dispatch":
                place = ("dispatch", id, self._call_of(connection, str(row["incident_id"])))
            case _:
                call_id = str(row.get("call_id", id))  # the id of a call-back is its call's
                place = ("call", call_id, call_id)
                data |= {"table": table, "id": id}
        self._append(Event(self._now(), *place, kind, data))

    def _call_of(self, connection: Connection, incident_id: str) -> str:
        row = self._statements.select(connection, "incident", incident_id, ("call_id",))
        return str(row["call_id"]) if row else ""

    def _erase(self, connection: Connection, call_id: str) -> None:
        """Blanks the rows, drops the events' content, and notes the digests of what is left."""
        self._require_erasable(connection, call_id)
        self._flush(connection)
        t = self._tables
        incidents = select(t["incident"].c.id).where(t["incident"].c.call_id == call_id).scalar_subquery()
        dispatches = select(t["dispatch"].c.id).where(t["dispatch"].c.incident_id.in_(incidents))
        ids = [str(id) for id in connection.execute(dispatches).scalars()]
        of = {"call": t["call"].c.id == call_id, "incident": t["incident"].c.call_id == call_id}
        of |= {"dispatch": t["dispatch"].c.id.in_(ids), "callback": t["callback"].c.id == call_id}
        of |= {"hold": t["hold"].c.id == call_id}
        for table, columns in _ERASED_COLUMNS.items():
            connection.execute(update(t[table]).where(of[table]).values(dict.fromkeys(columns)))
        connection.execute(delete(t["outbox"]).where(t["outbox"].c.dispatch_id.in_(ids)))
        event = t["event"].c
        theirs = (event.call_id == call_id) | ((event.subject != "call") & event.subject_id.in_(ids))
        content = theirs & event.kind.not_in(closing.LASTING)
        connection.execute(update(t["event"]).where(content).values(data=None, salt=None))
        for table, where in of.items():
            for id in connection.execute(select(t[table].c.id).where(where).order_by(t[table].c.id)).scalars():
                if self._is_closed(connection, table, str(id)):
                    self._note_closing(connection, table, str(id), closing.ERASED)
        self.erased = True

    def _blank(self, connection: Connection, event_ids: Sequence[str]) -> None:
        """Drops the content of single events, and says of which."""
        self._flush(connection)
        event = self._tables["event"]
        these = event.c.id.in_(event_ids) & event.c.kind.not_in([*closing.LASTING, *closing.RESERVED])
        # Of a call without a row (it was refused, or lost) there may be events all the same: those can go.
        there = event.c.call_id.in_(select(self._tables["call"].c.id))
        calls = select(event.c.call_id).where(these, there).distinct()
        for call_id in connection.execute(calls).scalars().all():
            self._require_erasable(connection, str(call_id))
        done = connection.execute(update(event).where(these).values(data=None, salt=None)).rowcount
        _require(done == len(event_ids), "an event is not there, or its content is to stay")
        self._append(Event(self._now(), "system", "records", None, closing.ERASED, {"events": list(event_ids)}))
        self.erased = True

    def _require_erasable(self, connection: Connection, call_id: str) -> None:
        _require(self._is_closed(connection, "call", call_id), f"call {call_id}: not there, or not over")
        hold = self._statements.select(connection, "hold", call_id, ("released_at",))
        _require(hold is None or hold["released_at"] is not None, f"call {call_id}: it is held")

    def _values(self, table: str, row: Row) -> Values:
        kinds = self._kinds[table]
        try:
            return {name: _fitting(name, kinds[name], value) for name, value in row.items()}
        except KeyError as error:
            raise ChangeRefused(f"{table}: no column {error}") from None
        except ValueError as error:
            raise ChangeRefused(f"{table}: {error}") from None


def _fitting(name: str, kind: type, value: object) -> Plain:
    """The value as the column's kind, which SQLite would not insist on. Raises ValueError, without the value in it."""
    if value is None:
        return None
    fit = plain(value)
    if fit is None or isinstance(fit, kind):
        return fit
    if kind is str:
        return str(fit)
    if kind is float and isinstance(fit, int):
        return float(fit)
    raise ValueError(f"{name} is a {kind.__name__}, not a {type(value).__name__}")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ChangeRefused(otherwise)
