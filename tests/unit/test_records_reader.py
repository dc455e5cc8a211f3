"""The queries: what the API, the commands and the start see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.records.backup import back_up
from siaga_pbx.records.changes import Event, Insert, Update, Upsert
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_now
from tests.records_databases import Database, SqliteFile
from tests.records_support import AT, arrival, end, event, order, url_of


def day(number: int) -> str:
    return f"2026-11-{number:02d}T00:00:00.000Z"


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = database.store()
    store.open()
    yield store
    store.close()


@pytest.fixture
def reader(database: Database, store: Store) -> Iterator[Reader]:
    with Reader(database.url) as reader:
        yield reader


def write_calls(store: Store, count: int) -> list[str]:
    """One call a day from the first of the month."""
    calls = [new_id() for _ in range(count)]
    for number, call in enumerate(calls, 1):
        store.write([Insert("call", {"id": call, "received_at": day(number), "callable": True, "lat": -6.5})])
    store.flush()
    return calls


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["id"] for row in rows]


def test_calls_come_oldest_first_whatever_order_they_were_written_in(store: Store, reader: Reader) -> None:
    first, second = new_id(), new_id()
    store.write(
        [Insert("call", {"id": second, "received_at": day(2)}), Insert("call", {"id": first, "received_at": day(1)})]
    )
    store.flush()
    assert ids(reader.calls()) == [first, second]


def test_since_and_limit(store: Store, reader: Reader) -> None:
    calls = write_calls(store, 5)
    assert ids(reader.calls()) == calls
    assert ids(reader.calls(since=day(3))) == calls[2:]
    assert ids(reader.calls(limit=2)) == calls[3:], "the newest, oldest first"
    assert ids(reader.calls(since=day(2), limit=1)) == calls[4:]
    assert ids(reader.calls(limit=0)) == []


def test_a_row_has_the_columns_names_and_their_types(store: Store, reader: Reader) -> None:
    (call,) = write_calls(store, 1)
    row = reader.call(call)
    assert row is not None
    assert row | {"id": call, "callable": True, "lat": -6.5, "ended_at": None} == row
    assert len(row) == 31
    assert reader.call("unknown") is None


def test_calls_by_outcome_and_whether_they_are_over(store: Store, reader: Reader) -> None:
    live, over = write_calls(store, 2)
    store.write(end(over, "abandoned"))
    store.flush()
    assert ids(reader.calls(ended=False)) == [live]
    assert ids(reader.calls(ended=True)) == ids(reader.calls(outcome="abandoned")) == [over]


def test_events_of_a_call_with_their_content(store: Store, reader: Reader) -> None:
    store.write([event("received", "a", {"headers": ["x", None]}), event("received", "b"), event("answered", "a")])
    store.flush()
    found = reader.events(call_id="a")
    assert [(row["seq"], row["kind"], row["data"]) for row in found] == [
        (1, "received", {"headers": ["x", None]}),
        (3, "answered", {}),
    ]
    assert list(found[0]) == [
        "seq",
        "id",
        "at",
        "subject",
        "subject_id",
        "call_id",
        "kind",
        "data",
        "salt",
        "digest",
        "hash",
    ]


def test_events_page_forward(store: Store, reader: Reader) -> None:
    store.write([event(f"e{number}") for number in range(1, 8)])
    store.flush()
    pages, after = [], 0
    while page := reader.events(after=after, limit=3):
        pages.append([row["kind"] for row in page])
        after = int(str(page[-1]["seq"]))
    assert pages == [["e1", "e2", "e3"], ["e4", "e5", "e6"], ["e7"]]
    assert [row["kind"] for row in reader.events(limit=2)] == ["e6", "e7"]


def test_events_since_a_moment(store: Store, reader: Reader) -> None:
    now = utc_now()
    store.write([Event("2020-01-01T00:00:00.000Z", "system", "test", None, "of old")])
    store.write([Event(now, "system", "test", None, "now")])
    store.flush()
    assert [row["kind"] for row in reader.events(since=now)] == ["now"]
    assert [row["kind"] for row in reader.events(since="2019-01-01")] == ["of old", "now"]


def test_the_seats_history(store: Store, reader: Reader) -> None:
    for seat in ("101", "102"):
        store.write([Event(AT, "seat", seat, None, "registered"), Event(AT, "seat", seat, "call", "offered")])
    store.write([event("received", "101")])
    store.flush()
    assert [row["kind"] for row in reader.seats(seat="102")] == ["registered", "offered"]
    assert len(reader.seats()) == 4
    assert len(reader.seats(limit=1)) == 1


def test_incidents_dispatches_and_the_outbox(store: Store, reader: Reader) -> None:
    one, other = write_calls(store, 2)
    first, changes = order(one)
    store.commit(changes).result(10)
    second, changes = order(other, "psc119")
    store.commit(changes).result(10)
    assert ids(reader.dispatches()) == [first, second]
    assert ids(reader.dispatches(call_id=other)) == ids(reader.dispatches(agency="psc119")) == [second]
    (incident,) = reader.incidents(call_id=one)
    assert ids(reader.dispatches(incident_id=str(incident["id"]))) == [first]
    assert reader.incident(str(incident["id"])) == incident
    assert incident["protected"] is False
    dispatch = reader.dispatch(first)
    assert dispatch is not None
    assert dispatch["message"] == {"dispatch_id": first, "note": "asap", "callback": {"number": "+6281234567890"}}
    assert [entry["dispatch_id"] for entry in reader.outbox()] == [first, second]
    assert len(reader.incidents(limit=1)) == 1
    assert reader.incidents(since=day(25)) == reader.dispatches(since=day(25)) == []


def test_bindings_that_have_not_expired(store: Store, reader: Reader) -> None:
    def binding(id: str, expires_at: str) -> Upsert:
        row = {"id": id, "seat": "101", "contact": "sip:x@192.0.2.1", "flow": {"remote": ["192.0.2.1", 5060]}}
        return Upsert("seat_binding", {**row, "expires_at": expires_at, "call_id": "c", "cseq": 1})

    store.write([binding("a", day(1)), binding("b", day(3))])
    store.write([binding("b", day(4))])
    store.flush()
    (found,) = reader.bindings(day(2))
    assert (found["id"], found["expires_at"]) == ("b", day(4))
    assert found["flow"] == {"remote": ["192.0.2.1", 5060]}


def test_the_call_back_list(store: Store, reader: Reader) -> None:
    abandoned, called, dismissed, answered, no_number, live = write_calls(store, 6)
    for call in (abandoned, called, dismissed, no_number):
        store.write(end(call, "abandoned"))
    store.write(end(answered))
    store.write([Update("call", no_number, {"callable": False})])
    store.write([Upsert("callback", {"id": called, "state": "called", "at": AT, "seat_id": "101"})])
    store.write([Upsert("callback", {"id": dismissed, "state": "dismissed", "at": AT, "reason": "prank"})])
    store.flush()
    assert ids(reader.callbacks()) == [abandoned]
    assert reader.callbacks(since=day(2)) == []
    assert live not in ids(reader.callbacks())


def test_a_caller_that_a_crash_lost_is_on_the_call_back_list(database: Database, store: Store, reader: Reader) -> None:
    (call,) = write_calls(store, 1)
    store.close()
    again = database.store()
    again.open()
    again.close()
    assert [(row["id"], row["outcome"]) for row in reader.callbacks()] == [(call, "interrupted")]


def test_calls_that_go_on_and_those_of_another_node_are_not_closed_at_the_start(
    database: Database, store: Store
) -> None:
    calls = {name: new_id() for name in ("kept", "other", "lost", "nobody's")}
    for name, call in calls.items():
        store.write(arrival(call, node={"other": "b", "nobody's": None}.get(name, "a")))
    store.close()
    again = database.store(node="a")
    again.open(keep=[calls["kept"]])
    again.close()
    with Reader(database.url) as reader:
        assert ids(reader.calls(outcome="interrupted")) == [calls["lost"], calls["nobody's"]]


def test_no_database(tmp_path: Path) -> None:
    with Reader(url_of(tmp_path / "none.db")) as reader, pytest.raises(StoreUnavailable):
        reader.calls()
    assert not (tmp_path / "none.db").exists(), "a reader makes no database"


def test_a_reader_cannot_write(store: Store, reader: Reader) -> None:
    with reader._engine.connect() as connection, pytest.raises(Exception, match=r"read-?only"):
        connection.exec_driver_sql("DELETE FROM event")


def test_reading_goes_on_while_somebody_writes(store: Store, reader: Reader) -> None:
    (call,) = write_calls(store, 1)
    with reader._engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SELECT * FROM call").all()
        store.commit(end(call)).result(10)
        assert connection.exec_driver_sql("SELECT outcome FROM call").scalar() is None, "one snapshot"
    assert ids(reader.calls(ended=True)) == [call]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_was_replaced_is_read_anew(database: SqliteFile, store: Store, reader: Reader) -> None:
    write_calls(store, 1)
    back_up(database.url, database.file.with_name("backup.db"))
    write_calls(store, 2)
    store.close()
    assert len(reader.calls()) == 3
    database.file.with_name("backup.db").replace(database.file)
    assert len(reader.calls()) == 1
