"""What verify() must find: anything that somebody changes in the evidence, and what it must not: our own work."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.records.chain import event_digest, event_hash
from siaga_pbx.records.changes import Erase, Update
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.records_support import AT, arrival, end, event, order, raw, rows, url_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all there can be: live, closed, amended and erased calls, closed and reopened dispatches."""
    file = tmp_path_factory.mktemp("whole") / "siaga.db"
    store = Store(url_of(file))
    store.open()
    live, answered, erased = new_id(), new_id(), new_id()
    for call in (live, answered, erased):
        store.write(arrival(call, caller_number="+6281234567890", callable=True, lat=-6.7, sip_call_id="a@b"))
    for call, agency in [(answered, "damkar"), (answered, "psc119"), (answered, "bpbd"), (erased, "damkar")]:
        dispatch, changes = order(call, agency)
        store.write(changes)
        store.write([Update("dispatch", dispatch, {"state": "cleared", "cleared_at": AT})])
        if agency == "psc119":
            store.write([Update("dispatch", dispatch, {"attempts": 2})])
        if agency == "bpbd":
            store.write([Update("dispatch", dispatch, {"state": "accepted"})])
    store.write(end(answered))
    store.write([Update("call", answered, {"disposition": "prank"}), event("disposition", answered)])
    store.write(end(erased))
    store.commit([Erase(erased)]).result(10)
    store.write([event("after the erasure", erased), event("last")])
    store.close()
    return file


@pytest.fixture
def file(whole: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copy(whole, tmp_path / "siaga.db"))


def problems(file: Path) -> list[str]:
    return [str(problem) for problem in verify(url_of(file))]


def run(file: Path, sql: str, *parameters: object) -> None:
    with raw(file) as connection:
        assert connection.execute(sql, parameters).rowcount > 0, "the test's own statement did nothing"


def test_untouched_it_is_whole(file: Path) -> None:
    assert problems(file) == []


def cells(file: Path) -> Iterator[tuple[str, str, str, object]]:
    """The cells that are evidence (of every fifth event): table, key column, column, key."""
    with raw(file) as connection:
        connection.row_factory = sqlite3.Row
        for table, key, which in [
            ("event", "seq", "seq % 5 = 1"),
            ("call", "id", "ended_at IS NOT NULL"),
            ("dispatch", "id", "state = 'cleared'"),
        ]:
            for row in connection.execute(f"SELECT * FROM {table} WHERE {which}"):
                for column in tuple(row.keys()):
                    yield table, key, column, row[key]


@pytest.mark.parametrize("other", [None, b"x"], ids=["another value", "another kind"])
def test_every_cell_that_is_changed_is_found(file: Path, other: bytes | None) -> None:
    missed = []
    for table, key, column, id in cells(file):
        with raw(file) as connection:
            (old,) = connection.execute(f"SELECT {column} FROM {table} WHERE {key} = ?", (id,)).fetchone()
            new = other or (77 if column == "seq" else 0 if old == 1 else "x")
            if column == "seq" and other:
                continue  # SQLite itself refuses it
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new, id))
            found = problems(file)
            now = new if column == key else id
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (old, now))
        if not any(str(id) in problem or str(new) in problem for problem in found):
            missed.append((table, column, id, found))
    assert missed == []
    assert problems(file) == []


def test_every_event_that_is_removed_is_found(file: Path) -> None:
    columns = "seq, id, at, subject, subject_id, call_id, kind, data, salt, digest, hash"
    for row in rows(file, f"SELECT {columns} FROM event"):
        run(file, "DELETE FROM event WHERE seq = ?", row[0])
        assert problems(file) != [], row
        run(file, f"INSERT INTO event ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
    assert problems(file) == []


def test_the_first_that_is_missing_is_named(file: Path) -> None:
    run(file, "DELETE FROM event WHERE seq = 5")
    (seq, id) = rows(file, "SELECT seq, id FROM event WHERE seq = 6")[0]
    assert problems(file)[0] == f"event {seq} ({id}): the one before it removed"
    run(file, "DELETE FROM event WHERE seq IN (4, 6)")
    assert "those from 4 before it removed" in problems(file)[0]


def test_the_end_cut_off(file: Path) -> None:
    (last,) = rows(file, "SELECT max(seq) FROM event")[0]
    run(file, "DELETE FROM event WHERE seq = ?", last)
    assert problems(file) == [f"event {last} (-): removed, and all up to {last}"]


def test_every_pair_of_events_swapped_is_found(file: Path) -> None:
    (last,) = rows(file, "SELECT max(seq) FROM event")[0]
    assert isinstance(last, int)
    for seq in range(1, last):
        for back in (False, True):
            run(file, "UPDATE event SET seq = -1 WHERE seq = ?", seq)
            run(file, "UPDATE event SET seq = ? WHERE seq = ?", seq, seq + 1)
            run(file, "UPDATE event SET seq = ? WHERE seq = -1", seq + 1)
            assert back or problems(file)[0].startswith(f"event {seq} ")
    assert problems(file) == []


def test_an_event_inserted_at_the_end_even_with_a_right_hash(file: Path) -> None:
    append(file)
    (last,) = rows(file, "SELECT max(seq) FROM event")[0]
    assert problems(file) == [f"event {last} (-): inserted after the last that the daemon wrote"]


def append(file: Path) -> None:
    """A forger's event, chained as it should be."""
    (seq, hash) = rows(file, "SELECT seq + 1, hash FROM event ORDER BY seq DESC LIMIT 1")[0]
    digest, id = event_digest("00", "{}"), new_id()
    link = event_hash(str(hash), int(str(seq)), id, AT, "call", "forged", None, "ended", digest)
    sql = "INSERT INTO event (seq, id, at, subject, subject_id, kind, data, salt, digest, hash) VALUES "
    run(file, sql + "(?, ?, ?, 'call', 'forged', 'ended', '{}', '00', ?, ?)", seq, id, AT, digest, link)


def test_a_chain_made_anew_from_the_middle(file: Path) -> None:
    run(file, "UPDATE event SET kind = 'answered' WHERE seq = 3")
    names = "seq, id, at, subject, subject_id, call_id, kind, digest"
    (hash,) = rows(file, "SELECT hash FROM event WHERE seq = 2")[0]
    for row in rows(file, f"SELECT {names} FROM event WHERE seq >= 3 ORDER BY seq"):
        seq, id, at, subject, subject_id, call_id, kind, digest = map(str, row)
        hash = event_hash(str(hash), int(seq), id, at, subject, subject_id, call_id if row[5] else None, kind, digest)
        run(file, "UPDATE event SET hash = ? WHERE seq = ?", hash, seq)
    (last,) = rows(file, "SELECT max(seq) FROM event")[0]
    assert problems(file) == [f"event {last} (-): not what the daemon wrote: the chain was made anew"]


@pytest.mark.parametrize("table", ["call", "dispatch"])
def test_a_closed_row_removed(file: Path, table: str) -> None:
    closed = "ended_at IS NOT NULL" if table == "call" else "state = 'cleared'"
    for (id,) in rows(file, f"SELECT id FROM {table} WHERE {closed}"):
        run(file, f"DELETE FROM {table} WHERE id = ?", id)
        assert f"{table} {id}: removed" in problems(file)


def test_a_closed_row_inserted(file: Path) -> None:
    run(file, "INSERT INTO call (id, received_at, ended_at, outcome) VALUES ('forged', ?, ?, 'answered')", AT, AT)
    assert problems(file) == ["call forged: closed, but not by the daemon: changed or inserted"]


def test_a_live_row_closed_by_somebody_else(file: Path) -> None:
    ((id,),) = rows(file, "SELECT id FROM call WHERE ended_at IS NULL")
    run(file, "UPDATE call SET ended_at = ? WHERE id = ?", AT, id)
    assert problems(file) == [f"call {id}: closed, but not by the daemon: changed or inserted"]


def test_content_blanked_without_an_erasure(file: Path) -> None:
    for (seq,) in rows(file, "SELECT seq FROM event WHERE data IS NOT NULL"):
        with raw(file) as connection:
            ((data, salt),) = connection.execute("SELECT data, salt FROM event WHERE seq = ?", (seq,)).fetchall()
            connection.execute("UPDATE event SET data = NULL, salt = NULL WHERE seq = ?", (seq,))
            found = problems(file)
            connection.execute("UPDATE event SET data = ?, salt = ? WHERE seq = ?", (data, salt, seq))
        assert found, seq


def test_the_writer_s_note_removed(file: Path) -> None:
    run(file, "DELETE FROM writer")
    assert problems(file) == ["writer -: the note of the last event was removed"]


def test_a_thousand_problems_are_told_as_a_hundred(file: Path) -> None:
    run(file, "UPDATE event SET at = 'never'")
    assert 10 < len(problems(file)) <= 100


def test_a_database_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        verify(url_of(tmp_path / "missing.db"))
    (tmp_path / "garbage.db").write_bytes(os.urandom(8192))
    with pytest.raises(StoreUnavailable):
        verify(url_of(tmp_path / "garbage.db"))
    assert not (tmp_path / "missing.db").exists()
