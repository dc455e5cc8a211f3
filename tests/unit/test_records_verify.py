"""What verify() must find: anything that somebody changes in the evidence, and what it must not: our own work."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from siaga_pbx.records.chain import event_digest, event_hash
from siaga_pbx.records.changes import Change, Erase, Insert, Update, Upsert
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.models import tables
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.records_databases import Database, PostgresDatabase, SqliteFile
from tests.records_support import AT, arrival, end, event, order, url_of


def fill(store: Store) -> None:
    """All there can be: live, closed, amended and erased calls, closed and reopened dispatches."""
    store.open()
    live, answered, erased = new_id(), new_id(), new_id()
    for call in (live, answered, erased):
        store.write(arrival(call, caller_number="+6281234567890", callable=True, lat=-6.7, sip_call_id="a@b"))
    for call, agency in [(answered, "damkar"), (answered, "psc119"), (answered, "bpbd"), (erased, "damkar")]:
        dispatch, changes = order(call, agency)
        store.write(changes)
        store.write([Update("dispatch", dispatch, {"state": "cleared", "cleared_at": AT})])
        store.write([Update("incident", incident_of(changes), {"status": "closed", "closed_at": AT})])
        if agency == "psc119":
            store.write([Update("dispatch", dispatch, {"attempts": 2})])
        if agency == "bpbd":
            store.write([Update("dispatch", dispatch, {"state": "accepted"})])
    store.write(end(answered))
    store.write([Update("call", answered, {"disposition": "prank"}), event("disposition", answered)])
    store.write([Upsert("callback", {"id": answered, "state": "dismissed", "at": AT, "reason": "prank"})])
    store.write(end(erased))
    store.commit([Erase(erased)]).result(10)
    store.write([event("after the erasure", erased), event("last")])
    store.close()


def incident_of(changes: Sequence[Change]) -> str:
    """The id of the incident that is opened."""
    return next(
        str(change.row["id"]) for change in changes if isinstance(change, Insert) and change.table == "incident"
    )


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Filled once; nobody changes it."""
    folder = tmp_path_factory.mktemp("whole")
    made: Database = SqliteFile(folder / "siaga.db")
    if request.param == "postgresql":
        made = PostgresDatabase(request.getfixturevalue("server"), folder)
    fill(made.store())
    return made


@pytest.fixture
def database(whole: Database) -> Database:
    """A copy to tamper with."""
    return whole.copy()


def problems(database: Database) -> list[str]:
    return [str(problem) for problem in verify(database.url)]


def test_untouched_it_is_whole(database: Database) -> None:
    assert problems(database) == []


def columns_of(table: str) -> list[str]:
    """The names of the table's columns."""
    return [column.name for column in tables()[table].columns]


def cells(database: Database) -> Iterator[tuple[str, str, str, Any, Any]]:
    """The cells that are evidence (of some events): table, key column, column, key, value."""
    some = {"sqlite": 5, "postgresql": 20}[database.kind]
    for table, key, which in [
        ("event", "seq", f"seq % {some} = 1"),
        ("call", "id", "ended_at IS NOT NULL"),
        ("incident", "id", "closed_at IS NOT NULL"),
        ("dispatch", "id", "state = 'cleared'"),
        ("callback", "id", "true"),
    ]:
        columns = columns_of(table)
        for row in database.rows(f"SELECT {', '.join(columns)} FROM {table} WHERE {which}"):
            for column, value in zip(columns, row, strict=True):
                yield table, key, column, row[columns.index(key)], value


def another(table: str, column: str, value: object) -> object:
    """A value that the column takes and does not have now."""
    kind = tables()[table].c[column].type.python_type
    return not value if kind is bool else 77 if kind in (int, float) else "x"


def test_every_cell_that_is_changed_is_found(database: Database) -> None:
    assert missed_of(database, another) == []
    assert problems(database) == []


@pytest.mark.parametrize("whole", ["sqlite"], indirect=True)  # which takes a value of any kind in any column
def test_every_cell_of_another_kind_is_found(database: Database) -> None:
    assert missed_of(database, lambda table, column, value: value if column == "seq" else b"x") == []
    assert problems(database) == []


def missed_of(database: Database, other: Callable[[str, str, object], object]) -> list[object]:
    """The cells whose change to another value is not found, or not named."""
    missed: list[object] = []
    with database.tampering() as run:
        for table, key, column, id, old in list(cells(database)):
            if (new := other(table, column, old)) == old:
                continue
            run(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", new, id)
            found = problems(database)
            run(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", old, new if column == key else id)
            if not any(str(id) in problem or str(new) in problem for problem in found):
                missed.append((table, column, id, found))
    return missed


def test_every_event_that_is_removed_is_found(database: Database) -> None:
    columns = "seq, id, at, subject, subject_id, call_id, kind, data, salt, digest, hash"
    for row in database.rows(f"SELECT {columns} FROM event"):
        database.run("DELETE FROM event WHERE seq = ?", row[0])
        assert problems(database) != [], row
        database.run(f"INSERT INTO event ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
    assert problems(database) == []


def test_the_first_that_is_missing_is_named(database: Database) -> None:
    database.run("DELETE FROM event WHERE seq = 5")
    (seq, id) = database.rows("SELECT seq, id FROM event WHERE seq = 6")[0]
    assert problems(database)[0] == f"event {seq} ({id}): the one before it removed"
    database.run("DELETE FROM event WHERE seq IN (4, 6)")
    assert "those from 4 before it removed" in problems(database)[0]


def test_the_end_cut_off(database: Database) -> None:
    (last,) = database.rows("SELECT max(seq) FROM event")[0]
    database.run("DELETE FROM event WHERE seq = ?", last)
    assert problems(database) == [f"event {last} (-): removed, and all up to {last}"]


def test_every_pair_of_events_swapped_is_found(database: Database) -> None:
    (last,) = database.rows("SELECT max(seq) FROM event")[0]
    assert isinstance(last, int)
    for seq in range(1, last):
        for back in (False, True):
            database.run("UPDATE event SET seq = -1 WHERE seq = ?", seq)
            database.run("UPDATE event SET seq = ? WHERE seq = ?", seq, seq + 1)
            database.run("UPDATE event SET seq = ? WHERE seq = -1", seq + 1)
            assert back or problems(database)[0].startswith(f"event {seq} ")
    assert problems(database) == []


def test_an_event_inserted_at_the_end_even_with_a_right_hash(database: Database) -> None:
    append(database)
    (last,) = database.rows("SELECT max(seq) FROM event")[0]
    assert problems(database) == [f"event {last} (-): inserted after the last that the daemon wrote"]


def append(database: Database) -> None:
    """A forger's event, chained as it should be."""
    (seq, hash) = database.rows("SELECT seq + 1, hash FROM event ORDER BY seq DESC LIMIT 1")[0]
    digest, id = event_digest("00", "{}"), new_id()
    link = event_hash(str(hash), int(str(seq)), id, AT, "call", "forged", None, "ended", digest)
    sql = "INSERT INTO event (seq, id, at, subject, subject_id, kind, data, salt, digest, hash) VALUES "
    database.run(sql + "(?, ?, ?, 'call', 'forged', 'ended', '{}', '00', ?, ?)", seq, id, AT, digest, link)


def test_a_chain_made_anew_from_the_middle(database: Database) -> None:
    database.run("UPDATE event SET kind = 'answered' WHERE seq = 3")
    names = "seq, id, at, subject, subject_id, call_id, kind, digest"
    (hash,) = database.rows("SELECT hash FROM event WHERE seq = 2")[0]
    for row in database.rows(f"SELECT {names} FROM event WHERE seq >= 3 ORDER BY seq"):
        seq, id, at, subject, subject_id, call_id, kind, digest = map(str, row)
        hash = event_hash(str(hash), int(seq), id, at, subject, subject_id, call_id if row[5] else None, kind, digest)
        database.run("UPDATE event SET hash = ? WHERE seq = ?", hash, seq)
    (last,) = database.rows("SELECT max(seq) FROM event")[0]
    assert problems(database) == [f"event {last} (-): not what the daemon wrote: the chain was made anew"]


@pytest.mark.parametrize(
    ("table", "closed"),
    [
        ("call", "ended_at IS NOT NULL"),
        ("incident", "closed_at IS NOT NULL"),
        ("dispatch", "state = 'cleared'"),
        ("callback", "true"),
    ],
)
def test_a_closed_row_removed(database: Database, table: str, closed: str) -> None:
    for (id,) in database.rows(f"SELECT id FROM {table} WHERE {closed}"):
        database.run(f"DELETE FROM {table} WHERE id = ?", id)
        assert f"{table} {id}: removed" in problems(database)


def test_a_closed_row_inserted(database: Database) -> None:
    database.run("INSERT INTO call (id, received_at, ended_at, outcome) VALUES ('forged', ?, ?, 'answered')", AT, AT)
    assert problems(database) == ["call forged: closed, but not by the daemon: changed or inserted"]


def test_a_live_row_closed_by_somebody_else(database: Database) -> None:
    ((id,),) = database.rows("SELECT id FROM call WHERE ended_at IS NULL")
    database.run("UPDATE call SET ended_at = ? WHERE id = ?", AT, id)
    assert problems(database) == [f"call {id}: closed, but not by the daemon: changed or inserted"]


def test_content_blanked_without_an_erasure(database: Database) -> None:
    with database.tampering() as run:
        for seq, data, salt in run("SELECT seq, data, salt FROM event WHERE data IS NOT NULL"):
            run("UPDATE event SET data = NULL, salt = NULL WHERE seq = ?", seq)
            found = problems(database)
            run("UPDATE event SET data = ?, salt = ? WHERE seq = ?", data, salt, seq)
            assert found, seq


def test_the_writer_s_note_removed(database: Database) -> None:
    database.run("DELETE FROM writer")
    assert problems(database) == ["writer -: the note of the last event was removed"]


def test_a_thousand_problems_are_told_as_a_hundred(database: Database) -> None:
    database.run("UPDATE event SET at = 'never'")
    assert 10 < len(problems(database)) <= 100


def test_a_database_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        verify(url_of(tmp_path / "missing.db"))
    (tmp_path / "garbage.db").write_bytes(os.urandom(8192))
    with pytest.raises(StoreUnavailable):
        verify(url_of(tmp_path / "garbage.db"))
    assert not (tmp_path / "missing.db").exists()
