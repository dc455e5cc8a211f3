"""The database fails in every way that can be had: the journal takes over, nobody waits, and nothing comes twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from siaga_pbx.records.backup import back_up
from siaga_pbx.records.changes import Event, Insert, Update
from siaga_pbx.records.errors import ChangeRefused, StoreInUse, StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.verify import verify
from tests.records_databases import Database, SqliteFile
from tests.records_outages import Bell, kinds, numbered, opened
from tests.records_support import AT, arrival, end, event, order


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "siaga.db"


@pytest.fixture
def database_file(file: Path) -> SqliteFile:
    """An SQLite database, for what happens to files only."""
    return SqliteFile(file)


def test_locked_for_seconds(database: Database, bell: Bell) -> None:
    with opened(database, bell) as store:
        call = new_id()
        store.write([*arrival(call), event("e00000")])
        assert store.flush()
        with database.locked():
            for kind in numbered(2000, 1):
                store.write([event(kind)])
            bell.wait_for("records", True)
            store.write(end(call))
            assert not store.flush()
            dispatch, changes = order(call)
            with pytest.raises(StoreUnavailable):
                store.commit(changes).result(10)
            assert kinds(database) == ["e00000"]
            assert database.journal.stat().st_mode & 0o777 == 0o600
        bell.wait_for("records", False)
        store.write([event("e02001")])
        assert store.flush()
        store.commit(changes).result(10)
        assert database.rows("SELECT outcome FROM call") == [("answered",)]
    assert kinds(database) == numbered(2002)
    assert bell.rung == [("records", True), ("records", False)]
    assert not database.journal.exists()
    assert database.rows("SELECT id FROM dispatch") == [(dispatch,)]
    assert verify(database.url) == []


def test_what_is_in_the_journal_at_the_end_is_replayed_by_the_next_run(database: Database) -> None:
    with opened(database) as store:
        store.write([event("e00000")])
        assert store.flush()
        with database.locked():
            store.write([event("e00001")])
            call = new_id()
            store.write(arrival(call))
            assert not store.flush()
            store.close()
            with opened(database) as second:
                second.write([event("e00002")])
                assert not second.flush()
                second.close()
            assert kinds(database) == ["e00000"]
    with opened(database) as store:
        assert store.flush()
        assert database.rows("SELECT outcome FROM call") == [("interrupted",)]
        store.write([event("e00003")])
    assert kinds(database) == numbered(4)
    assert verify(database.url) == []


def test_locked_for_less_than_the_timeout_is_no_outage(database: Database, bell: Bell) -> None:
    store = database.store(Hooks(on_alarm=bell.ring), busy_timeout_s=10)
    store.open()
    with database.locked():
        future = store.commit([event("e00000")])
        assert not future.done()
    future.result(10)
    store.close()
    assert bell.rung == []


def test_a_full_disk(database_file: SqliteFile, file: Path) -> None:
    command = [sys.executable, "-m", "tests.records_child", "limited", str(file)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    failed, commit, written = output
    assert failed.startswith("failed after ")
    assert failed.endswith(" [('records', True)]")
    assert commit == "commit: StoreUnavailable"
    count = int(written.split()[1])
    assert written == f"written {count} [('records', True), ('records', False)]"
    assert kinds(database_file) == numbered(count)
    assert verify(database_file.url) == []


def test_no_folder_at_all_then_one(tmp_path: Path, bell: Bell) -> None:
    folder = tmp_path / "records"
    folder.write_text("a file where the folder should be: neither database nor journal can be written")
    with opened(SqliteFile(folder / "siaga.db"), bell) as store:
        assert bell.rung == [("records", True)]
        store.write([event("e00000")])
        assert not store.flush()
        folder.unlink()
        bell.wait_for("records", False)
        store.write([event("e00001")])
    assert kinds(SqliteFile(folder / "siaga.db")) == numbered(2)


def test_a_damaged_database_waits_for_the_operator(database_file: SqliteFile, file: Path, bell: Bell) -> None:
    with opened(database_file) as store:
        store.write([event("e00000")])
    backup = Path(shutil.copy(file, file.with_name("backup.db")))
    file.write_bytes(b"SQLite format 3\0" + os.urandom(20_000))
    with opened(database_file, bell) as store:
        assert bell.rung == [("records", True)]
        store.write([event("e00001")])
        assert not store.flush()
        backup.replace(file)
        bell.wait_for("records", False)
        store.write([event("e00002")])
    assert kinds(database_file) == numbered(3)
    assert verify(database_file.url) == []


def test_a_page_damaged_is_found_at_the_start(database_file: SqliteFile, file: Path, bell: Bell) -> None:
    with opened(database_file) as store:
        for kind in numbered(500):
            store.write([event(kind)])
    size = file.stat().st_size
    with file.open("r+b") as raw:
        raw.seek(size // 8192 * 4096)
        raw.write(os.urandom(4096))
    with opened(database_file, bell):
        assert bell.rung == [("records", True)]


def test_the_file_removed_while_it_is_open(database_file: SqliteFile, file: Path, bell: Bell) -> None:
    with opened(database_file, bell) as store:
        store.write([event("e00000")])
        assert store.flush()
        for path in (file, file.with_name("siaga.db-wal"), file.with_name("siaga.db-shm")):
            path.unlink()
        store.write([event("e00001")])
        assert store.flush()
    assert kinds(database_file) == ["e00001"], "not written into a file that nobody will find"
    assert bell.rung == [("records", True), ("records_missed", True), ("records", False)]


def test_a_database_that_comes_back_without_what_it_had_says_so(
    database_file: SqliteFile, file: Path, tmp_path: Path, bell: Bell
) -> None:
    with opened(database_file, bell) as store:
        store.write([event("e00000")])
        assert store.flush()
        back_up(database_file.url, tmp_path / "backup.db")
        store.write([event("e00001")])
        assert store.flush()
        lost = store.head
        for name in ("siaga.db-wal", "siaga.db-shm"):
            (tmp_path / name).unlink()
        (tmp_path / "backup.db").replace(file)
        store.write([event("e00002")])
        bell.wait_for("records", False)
        assert store.flush()
    assert kinds(database_file) == ["e00000", "e00002"]
    ((data,),) = database_file.rows("SELECT data FROM event WHERE kind = 'head_missed'")
    assert data == f'{{"head":"{lost}"}}'
    assert bell.rung == [("records", True), ("records_missed", True), ("records", False)]
    assert verify(database_file.url) == []
    assert verify(database_file.url, [lost]) != []


def test_a_read_only_database() -> None:
    with TemporaryDirectory() as folder:  # not pytest's, which another user (see there) could not enter
        file = Path(folder) / "siaga.db"
        command = [sys.executable, "-m", "tests.records_child", "read-only", str(file)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert output == "failed [('records', True)]\nwritten [('records', True), ('records', False)]\n"
        assert kinds(SqliteFile(file)) == numbered(3)
        assert verify(SqliteFile(file).url) == []


def test_one_writer_a_database(database: Database) -> None:
    with opened(database), pytest.raises(StoreInUse):
        database.store().open()
    with opened(database) as store:
        assert store.flush()


def test_who_has_patience_waits_for_the_other_writer(database: Database, bell: Bell) -> None:
    """As a daemon that starts while a command of ours writes: it has callers to serve."""
    with opened(database) as other:
        other.write([event("e00000")])
        store = database.store(Hooks(on_alarm=bell.ring), retry_s=0.05)
        store.open((), 0.1)
        store.write([event("e00001")])
        future = store.commit([event("e00002")])
        bell.wait_for("records", True)
        assert (store.queued, store.behind_s > 0, future.done()) == (2, True, False)
    future.result(20)
    assert store.flush()
    store.close()
    assert bell.rung == [("records", True), ("records", False)]
    assert kinds(database) == numbered(3)


def test_whose_patience_is_not_rewarded_says_what_is_lost(database: Database) -> None:
    with opened(database):
        store = database.store()
        store.open((), 0.0)
        store.write([event("e00000")])
        future = store.commit([event("e00001")])
        store.close()
        with pytest.raises(StoreUnavailable, match="another process"):
            future.result(0)
    assert (store.dropped, store.queued) == (2, 0)
    assert kinds(database) == []


def test_what_is_written_after_the_end_is_counted(database: Database) -> None:
    with opened(database) as store:
        pass
    store.write([event("e00000")])
    assert store.dropped == 1
    with pytest.raises(StoreUnavailable):
        store.commit([event("e00001")]).result(0)
    store.close()


def test_a_refused_commit_leaves_nothing_but_an_event(database: Database, bell: Bell) -> None:
    with opened(database, bell) as store:
        _, changes = order("unknown-call")
        future = store.commit(changes)
        store.write([event("e00000")])
        with pytest.raises(ChangeRefused, match=r"(?i)foreign key"):
            future.result(10)
    assert database.rows("SELECT * FROM incident") == []
    ((data, call_id),) = database.rows("SELECT data, call_id FROM event WHERE kind = 'changes_refused'")
    assert '"insert","incident"' in str(data)
    assert call_id == "unknown-call"
    assert kinds(database) == ["e00000"]
    assert bell.rung == [("records_refused", True)]


@pytest.mark.parametrize(
    "wrong",
    [
        Update("call", "unknown", {"outcome": "answered"}),
        Insert("call", {"id": "a", "received_at": AT, "no_such_column": 1}),
        Insert("call", {"id": "a", "received_at": None}),
        Insert("call", {"id": "a", "received_at": AT, "lat": "north"}),
        Insert("nothing", {"id": "a"}),
        Insert("event", {"seq": 1}),
        Event(AT, "call", "a", "a", "row_closed", {}),
        Event(None, "call", "a", "a", "odd", {}),  # type: ignore[arg-type]  # what mypy would not let through
    ],
    ids=[
        "unknown row",
        "unknown column",
        "no time",
        "a word for a number",
        "unknown table",
        "half an event",
        "a kind of ours",
        "no time in an event",
    ],
)
def test_of_a_write_all_is_kept_that_can_be(database: Database, bell: Bell, wrong: Event | Insert | Update) -> None:
    with opened(database, bell) as store:
        for number in range(0, 20, 2):
            store.write([event(f"e{number:05d}"), wrong, event(f"e{number + 1:05d}")])
        assert store.flush()
    assert kinds(database) == numbered(20)
    assert database.rows("SELECT count(*) FROM event WHERE kind = 'changes_refused'") == [(10,)]
    assert database.rows("SELECT * FROM call") == []
    assert verify(database.url) == []
