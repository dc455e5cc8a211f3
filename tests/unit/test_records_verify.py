"""What verify() must find: anything that somebody changes in the evidence, and what it must not: our own work."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from siaga_pbx.records.chain import Head, event_digest, event_hash
from siaga_pbx.records.changes import Change, Erase, Insert, Update, Upsert
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.models import tables
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import Finding, examine, verify
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
def database(whole: Database) -> Iterator[Database]:
    """A copy to tamper with."""
    copy = whole.copy()
    yield copy
    copy.drop()


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


def rewrite_from_the_third(database: Database) -> None:
    """Somebody changes the third event, and makes the chain anew from there."""
    database.run("UPDATE event SET kind = 'answered' WHERE seq = 3")
    names = "seq, id, at, subject, subject_id, call_id, kind, digest"
    ((hash,),) = database.rows("SELECT hash FROM event WHERE seq = 2")
    with database.tampering() as run:
        for row in run(f"SELECT {names} FROM event WHERE seq >= 3 ORDER BY seq"):
            hash = event_hash(hash, *row)
            run("UPDATE event SET hash = ? WHERE seq = ?", hash, row[0])


def test_a_chain_made_anew_from_the_middle(database: Database) -> None:
    rewrite_from_the_third(database)
    last = head_of(database).seq
    assert problems(database) == [f"event {last} (-): not what the daemon wrote: the chain was made anew"]


def head_of(database: Database) -> Head:
    """The last event."""
    ((seq, hash),) = database.rows("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1")
    return Head(seq, hash)


def test_a_chain_that_was_rewritten_with_the_writer_s_note_shows_by_a_head_that_was_published(
    database: Database,
) -> None:
    published = head_of(database)
    rewrite_from_the_third(database)
    now = head_of(database)
    database.run("UPDATE writer SET hash = ? WHERE seq = ?", now.hash, now.seq)
    assert problems(database) == [], "consistent in itself"
    (found,) = verify(database.url, [published])
    assert found.seq == published.seq
    assert str(found).endswith(f"not the one whose hash {published.hash} was published: the chain was made anew")


def test_the_end_cut_off_with_the_writer_s_note_shows_by_a_head_that_was_published(database: Database) -> None:
    published = head_of(database)
    database.run("DELETE FROM event WHERE seq = ?", published.seq)
    now = head_of(database)
    database.run("UPDATE writer SET seq = ?, hash = ? WHERE seq = ?", now.seq, now.hash, published.seq)
    assert problems(database) == [], "consistent in itself"
    found = [str(problem) for problem in verify(database.url, [published])]
    assert found == [f"event {published.seq} (-): removed, and all up to {published.seq}, which was published"]


def test_the_heads_of_before_are_in_the_chain_for_ever(database: Database) -> None:
    heads = [Head(seq, hash) for seq, hash in database.rows("SELECT seq, hash FROM event")]
    assert examine(database.url, heads) == Finding([], head_of(database), AT, erased=1)


@pytest.mark.parametrize(
    "text", ["", "1", "0:" + "a" * 64, "1:" + "A" * 64, "1:abc", "-1:" + "a" * 64, "x:" + "a" * 64]
)
def test_what_is_no_head(text: str) -> None:
    with pytest.raises(ValueError, match="no head"):
        Head.parse(text)
    assert Head.parse(f" 7:{'a' * 64}\n") == Head(7, "a" * 64)


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


@pytest.mark.parametrize("whole", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("table", "column", "what"),
    [
        ("event", "data", "changed: a column is not text"),
        ("event", "kind", "changed: a column is not text"),
        ("call", "outcome", "changed since it was closed"),
        ("dispatch", "message", "changed since it was closed"),
    ],
)
def test_bytes_that_are_no_text_are_found_and_named(database: Database, table: str, column: str, what: str) -> None:
    """As when a bit of the disk turns over: SQLite does not mind, and its driver would stop at the first."""
    ((id, old),) = database.rows(
        f"SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL AND {EVIDENCE[table]} LIMIT 1"
    )
    damaged = str(old).encode()[:-1] + b"\xff"
    database.run(f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE id = ?", damaged, id)
    (first, *_) = problems(database)
    assert str(id) in first
    assert first.endswith(what)


@pytest.mark.parametrize("whole", ["sqlite"], indirect=True)
def test_a_page_that_is_damaged_is_no_proof_of_anything(database: Database) -> None:
    assert isinstance(database, SqliteFile)
    with database.tampering() as run:
        ((page,),) = run("SELECT rootpage FROM sqlite_schema WHERE name = 'event'")
        ((size,),) = run("PRAGMA page_size")
    with database.file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(os.urandom(size))
    with pytest.raises(StoreUnavailable, match="malformed"):
        verify(database.url)


@pytest.mark.parametrize("columns", [("rtp_mos", "recording_sha256"), ()])
def test_a_backup_of_an_earlier_version_verifies_and_so_does_one_of_a_later(
    database: Database, columns: Sequence[str]
) -> None:
    """Years later the copy that a court has is read by another version: columns that one lacks are null there."""
    with database.tampering() as run:
        for column in columns:
            run(f"ALTER TABLE call DROP COLUMN {column}")
        if not columns:
            run("ALTER TABLE call ADD COLUMN of_a_later_version TEXT")
    assert problems(database) == []
    with database.tampering() as run:
        run("DROP TABLE hold")
    assert problems(database) == []


def test_a_database_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        verify(url_of(tmp_path / "missing.db"))
    (tmp_path / "garbage.db").write_bytes(os.urandom(8192))
    with pytest.raises(StoreUnavailable):
        verify(url_of(tmp_path / "garbage.db"))
    assert not (tmp_path / "missing.db").exists()


# --- any one mutation -------------------------------------------------------------------------------------------------

EVIDENCE = {
    "event": "true",
    "call": "ended_at IS NOT NULL",
    "incident": "closed_at IS NOT NULL",
    "dispatch": "state IN ('rejected', 'cleared', 'failed', 'cancelled')",
    "callback": "true",
}
values = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3) | st.binary()


@pytest.fixture(scope="module")
def mutable(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Each example leaves it as it was."""
    made = SqliteFile(tmp_path_factory.mktemp("mutated") / "siaga.db")
    fill(made.store())
    return made


@settings(max_examples=60)
@given(data=st.data())
def test_any_one_mutation_is_found_and_named(mutable: Database, data: st.DataObject) -> None:
    database = mutable
    table = data.draw(st.sampled_from(sorted(EVIDENCE)), "table")
    key, columns = "seq" if table == "event" else "id", columns_of(table)
    listed, marks = ", ".join(columns), ", ".join("?" * len(columns))
    rows = database.rows(f"SELECT {listed} FROM {table} WHERE {EVIDENCE[table]} ORDER BY {key}")
    victim = dict(zip(columns, data.draw(st.sampled_from(rows), "row"), strict=True))
    names = {str(victim[key]), victim["id"]}
    with database.tampering() as run:
        run("BEGIN")
        saved = run(f"SELECT {listed} FROM {table}")
        match data.draw(st.sampled_from(["change", "remove", "insert", "swap"]), "what"):
            case "change":
                column = data.draw(st.sampled_from(columns), "column")
                new = data.draw(values.filter(lambda value: value != victim[column]), "value")
                try:
                    run(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", new, victim[key])
                except sqlite3.Error:  # not even SQLite takes that
                    reject()
                if run(f"SELECT {column} FROM {table} WHERE {key} = ?", new if column == key else victim[key]) == [
                    (victim[column],)
                ]:
                    reject()  # the column's affinity made the old value of it
                names.add(str(new))
            case "remove":
                run(f"DELETE FROM {table} WHERE {key} = ?", victim[key])
                names.add(str(int(victim["seq"]) + 1) if table == "event" else "")
            case "insert":
                keys: dict[str, dict[str, Any]] = {"event": {"seq": len(rows) + 1}, "dispatch": {"agency": "forged"}}
                forged = victim | {"id": "forged"} | keys.get(table, {})
                run(f"INSERT INTO {table} ({listed}) VALUES ({marks})", *forged.values())
                names = {"forged", str(len(rows) + 1)}
            case "swap" if table == "event":
                other = data.draw(st.sampled_from(rows).filter(lambda row: row[0] != victim["seq"]), "with")
                run("UPDATE event SET seq = -1 WHERE seq = ?", victim["seq"])
                run("UPDATE event SET seq = ? WHERE seq = ?", victim["seq"], other[0])
                run("UPDATE event SET seq = ? WHERE seq = -1", other[0])
            case _:
                reject()
        run("COMMIT")
        try:
            found = problems(database)
        finally:
            run(f"DELETE FROM {table}")
            for row in saved:
                run(f"INSERT INTO {table} ({listed}) VALUES ({marks})", *row)
    assert any(name in problem for problem in found for name in names - {""}), found
