"""The database fails in every way that can be had: the journal takes over, nobody waits, and nothing comes twice."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from siaga_pbx.records.changes import Event, Insert, Update
from siaga_pbx.records.errors import ChangeRefused, StoreInUse, StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.records_support import AT, arrival, end, event, order, rows, url_of


class Bell:
    """The alarms as they came, and a way to wait for one."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, bool]] = []
        self._change = threading.Condition()

    def ring(self, name: str, active: bool, detail: str) -> None:
        assert detail
        with self._change:
            self.rung.append((name, active))
            self._change.notify_all()

    def wait_for(self, name: str, active: bool) -> None:
        with self._change:
            assert self._change.wait_for(lambda: (name, active) in self.rung, 10), self.rung


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "siaga.db"


@contextmanager
def opened(file: Path, bell: Bell | None = None) -> Iterator[Store]:
    store = Store(url_of(file), hooks=Hooks(on_alarm=(bell or Bell()).ring), busy_timeout_s=0.1, retry_s=0.05)
    store.open()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process holds the database's lock."""
    command = [sys.executable, "-m", "tests.records_child", "lock", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        yield


def kinds(file: Path) -> list[str]:
    """The kinds of the tests' own events, in the order of the chain."""
    return [str(kind) for (kind,) in rows(file, "SELECT kind FROM event WHERE kind GLOB 'e[0-9]*' ORDER BY seq")]


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"e{number:05d}" for number in range(start, start + count)]


def test_locked_for_seconds(file: Path, bell: Bell) -> None:
    with opened(file, bell) as store:
        call = new_id()
        store.write([*arrival(call), event("e00000")])
        assert store.flush()
        with locked(file):
            for kind in numbered(2000, 1):
                store.write([event(kind)])
            bell.wait_for("records", True)
            store.write(end(call))
            assert not store.flush()
            dispatch, changes = order(call)
            with pytest.raises(StoreUnavailable):
                store.commit(changes).result(10)
            assert kinds(file) == ["e00000"]
            assert file.with_name("siaga.db.pending").stat().st_mode & 0o777 == 0o600
        bell.wait_for("records", False)
        store.write([event("e02001")])
        assert store.flush()
        store.commit(changes).result(10)
        assert rows(file, "SELECT outcome FROM call") == [("answered",)]
    assert kinds(file) == numbered(2002)
    assert bell.rung == [("records", True), ("records", False)]
    assert not file.with_name("siaga.db.pending").exists()
    assert rows(file, "SELECT id FROM dispatch") == [(dispatch,)]
    assert verify(url_of(file)) == []


def test_what_is_in_the_journal_at_the_end_is_replayed_by_the_next_run(file: Path) -> None:
    with opened(file) as store:
        store.write([event("e00000")])
        assert store.flush()
        with locked(file):
            store.write([event("e00001")])
            call = new_id()
            store.write(arrival(call))
            assert not store.flush()
            store.close()
            with opened(file) as second:
                second.write([event("e00002")])
                assert not second.flush()
                second.close()
            assert kinds(file) == ["e00000"]
    with opened(file) as store:
        assert store.flush()
        assert rows(file, "SELECT outcome FROM call") == [("interrupted",)]
        store.write([event("e00003")])
    assert kinds(file) == numbered(4)
    assert verify(url_of(file)) == []


def test_locked_for_less_than_the_timeout_is_no_outage(file: Path, bell: Bell) -> None:
    store = Store(url_of(file), hooks=Hooks(on_alarm=bell.ring), busy_timeout_s=10)
    store.open()
    with locked(file):
        future = store.commit([event("e00000")])
        assert not future.done()
    future.result(10)
    store.close()
    assert bell.rung == []


def test_a_full_disk(file: Path) -> None:
    command = [sys.executable, "-m", "tests.records_child", "limited", str(file)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    failed, commit, written = output
    assert failed.startswith("failed after ")
    assert failed.endswith(" [('records', True)]")
    assert commit == "commit: StoreUnavailable"
    count = int(written.split()[1])
    assert written == f"written {count} [('records', True), ('records', False)]"
    assert kinds(file) == numbered(count)
    assert verify(url_of(file)) == []


def test_no_folder_at_all_then_one(tmp_path: Path, bell: Bell) -> None:
    folder = tmp_path / "records"
    folder.write_text("a file where the folder should be: neither database nor journal can be written")
    with opened(folder / "siaga.db", bell) as store:
        assert bell.rung == [("records", True)]
        store.write([event("e00000")])
        assert not store.flush()
        folder.unlink()
        bell.wait_for("records", False)
        store.write([event("e00001")])
    assert kinds(folder / "siaga.db") == numbered(2)


def test_a_damaged_database_waits_for_the_operator(file: Path, bell: Bell) -> None:
    with opened(file) as store:
        store.write([event("e00000")])
    backup = Path(shutil.copy(file, file.with_name("backup.db")))
    file.write_bytes(b"SQLite format 3\0" + os.urandom(20_000))
    with opened(file, bell) as store:
        assert bell.rung == [("records", True)]
        store.write([event("e00001")])
        assert not store.flush()
        backup.replace(file)
        bell.wait_for("records", False)
        store.write([event("e00002")])
    assert kinds(file) == numbered(3)
    assert verify(url_of(file)) == []


def test_a_page_damaged_is_found_at_the_start(file: Path, bell: Bell) -> None:
    with opened(file) as store:
        for kind in numbered(500):
            store.write([event(kind)])
    size = file.stat().st_size
    with file.open("r+b") as raw:
        raw.seek(size // 8192 * 4096)
        raw.write(os.urandom(4096))
    with opened(file, bell):
        assert bell.rung == [("records", True)]


def test_the_file_removed_while_it_is_open(file: Path, bell: Bell) -> None:
    with opened(file, bell) as store:
        store.write([event("e00000")])
        assert store.flush()
        for path in (file, file.with_name("siaga.db-wal"), file.with_name("siaga.db-shm")):
            path.unlink()
        store.write([event("e00001")])
        assert store.flush()
    assert kinds(file) == ["e00001"], "not written into a file that nobody will find"
    assert bell.rung == [("records", True), ("records", False)]


def test_a_read_only_database() -> None:
    with TemporaryDirectory() as folder:  # not pytest's, which another user (see there) could not enter
        file = Path(folder) / "siaga.db"
        command = [sys.executable, "-m", "tests.records_child", "read-only", str(file)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert output == "failed [('records', True)]\nwritten [('records', True), ('records', False)]\n"
        assert kinds(file) == numbered(3)
        assert verify(url_of(file)) == []


def test_one_writer_a_database(file: Path) -> None:
    with opened(file), pytest.raises(StoreInUse):
        Store(url_of(file)).open()
    with opened(file) as store:
        assert store.flush()


def test_what_is_written_after_the_end_is_counted(file: Path) -> None:
    with opened(file) as store:
        pass
    store.write([event("e00000")])
    assert store.dropped == 1
    with pytest.raises(StoreUnavailable):
        store.commit([event("e00001")]).result(0)
    store.close()


def test_a_refused_commit_leaves_nothing_but_an_event(file: Path, bell: Bell) -> None:
    with opened(file, bell) as store:
        _, changes = order("unknown-call")
        future = store.commit(changes)
        store.write([event("e00000")])
        with pytest.raises(ChangeRefused, match="FOREIGN KEY"):
            future.result(10)
    assert rows(file, "SELECT * FROM incident") == []
    ((data, call_id),) = rows(file, "SELECT data, call_id FROM event WHERE kind = 'changes_refused'")
    assert '"insert","incident"' in str(data)
    assert call_id == "unknown-call"
    assert kinds(file) == ["e00000"]
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
def test_of_a_write_all_is_kept_that_can_be(file: Path, bell: Bell, wrong: Event | Insert | Update) -> None:
    with opened(file, bell) as store:
        for number in range(0, 20, 2):
            store.write([event(f"e{number:05d}"), wrong, event(f"e{number + 1:05d}")])
        assert store.flush()
    assert kinds(file) == numbered(20)
    assert rows(file, "SELECT count(*) FROM event WHERE kind = 'changes_refused'") == [(10,)]
    assert rows(file, "SELECT * FROM call") == []
    assert verify(url_of(file)) == []
