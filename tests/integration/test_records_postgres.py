"""A PostgreSQL server fails in every way that can be had: nothing is lost, nothing comes twice, nobody waits."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.postgres_server import PASSWORD, PostgresServer
from tests.records_databases import PostgresDatabase
from tests.records_outages import Bell, kinds, numbered, opened, small_disk
from tests.records_support import arrival, event, order

OUT_AND_BACK = [("records", True), ("records", False)]


@pytest.fixture
def database(server: PostgresServer, tmp_path: Path) -> Iterator[PostgresDatabase]:
    made = PostgresDatabase(server, tmp_path)
    yield made
    server.start()  # if a test failed while it was down
    made.drop()


@pytest.fixture
def bell() -> Bell:
    return Bell()


def writers(database: PostgresDatabase) -> list[int]:
    """The process ids of the server's sessions that write."""
    with database.tampering() as run:
        return [pid for (pid,) in run("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'siaga-pbx %'")]


def test_the_server_is_stopped_and_started_again(
    server: PostgresServer, database: PostgresDatabase, bell: Bell
) -> None:
    pending: list[int] = []
    hooks = Hooks(on_alarm=bell.ring, on_pending=pending.append)
    store = database.store(hooks, busy_timeout_s=0.1, retry_s=0.05)
    store.open()
    store.write([event("e00000")])
    assert store.flush()
    server.stop()
    for kind in numbered(500, 1):
        store.write([event(kind)])
    bell.wait_for("records", True)
    assert not store.flush()
    assert pending[-1] == 500, "siaga_journal_pending"
    with pytest.raises(StoreUnavailable):
        store.commit([event("refused")]).result(10)
    server.start()
    bell.wait_for("records", False)
    store.write([event("e00501")])
    store.close()
    assert pending[-1] == 0
    assert kinds(database) == numbered(502)
    assert bell.rung == OUT_AND_BACK
    assert verify(database.url) == []


def test_there_is_no_server_at_the_start(server: PostgresServer, database: PostgresDatabase, bell: Bell) -> None:
    server.stop()
    with opened(database, bell) as store:
        assert bell.rung == [("records", True)]
        store.write([event("e00000")])
        assert not store.flush()
        server.start()
        bell.wait_for("records", False)
    assert kinds(database) == numbered(1)


@pytest.mark.parametrize("what", ["server", "session"])
def test_killed_while_it_is_written_to(
    server: PostgresServer, database: PostgresDatabase, bell: Bell, what: str
) -> None:
    """SIGKILL in the middle of everything, three times: what was told durable is there, what was refused is not."""
    told: dict[str, Future[None]] = {}
    stop = threading.Event()

    def load(store: Store) -> None:
        while not stop.is_set():
            call = new_id()
            store.write(arrival(call))
            dispatch, changes = order(call)
            told[dispatch] = store.commit(changes)
            with suppress(StoreUnavailable):
                told[dispatch].result(20)

    with opened(database, bell) as store:
        loader = threading.Thread(target=load, args=(store,))
        loader.start()
        for _ in range(3):
            before = len(told)
            while len(told) < before + 5:
                stop.wait(0.01)
            bell.rung.clear()
            if what == "server":
                server.kill()
                server.start()
            else:  # whose server then starts anew by itself
                for pid in writers(database):
                    os.kill(pid, signal.SIGKILL)
                server.start()
            bell.wait_for("records", True)
            bell.wait_for("records", False)
        stop.set()
        loader.join()
        assert store.flush()
    with Reader(database.url) as reader:
        there = {str(dispatch["id"]) for dispatch in reader.dispatches()}
        calls = len(reader.calls())
    assert there == {dispatch for dispatch, future in told.items() if future.exception() is None}
    assert calls == len(told), "every write()"
    assert verify(database.url) == []


def test_sessions_are_cut_again_and_again(database: PostgresDatabase, bell: Bell) -> None:
    with opened(database, bell) as store:
        for number, kind in enumerate(numbered(600)):
            store.write([event(kind)])
            if number % 200 == 100:
                database.server.cut(database.name)
        assert store.flush() or store.flush()
    assert kinds(database) == numbered(600)
    assert verify(database.url) == []


def test_a_server_that_hangs_is_an_outage_too(database: PostgresDatabase, bell: Bell) -> None:
    with opened(database, bell) as store:
        store.write([event("e00000")])
        assert store.flush()
        (pid,) = writers(database)
        os.kill(pid, signal.SIGSTOP)
        try:
            store.write([event("e00001")])
            bell.wait_for("records", True)
        finally:
            os.kill(pid, signal.SIGCONT)
        bell.wait_for("records", False)
        assert store.flush()
    assert kinds(database) == numbered(2)


def test_it_may_be_read_only_for_a_while(server: PostgresServer, database: PostgresDatabase, bell: Bell) -> None:
    with opened(database, bell) as store:
        store.write([event("e00000")])
        assert store.flush()
        server.administer(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        server.cut(database.name)
        store.write([event("e00001")])
        bell.wait_for("records", True)
        server.administer(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        bell.wait_for("records", False)
    assert kinds(database) == numbered(2)


def test_its_disk_is_full_for_a_while(server: PostgresServer, tmp_path: Path, bell: Bell) -> None:
    with TemporaryDirectory(dir=server.folder) as place, small_disk(Path(place), "24m") as disk:
        server.own(disk)
        server.administer(f"CREATE TABLESPACE small LOCATION '{disk}'")
        database = PostgresDatabase(server, tmp_path, options="TABLESPACE small")
        with opened(database, bell) as store:
            assert store.flush()
            filler = disk / "filler"
            filler.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize - 200_000))
            count = 0
            while ("records", True) not in bell.rung:
                store.write([event(f"e{count:05d}", data={"filling": "x" * 1000})])
                store.flush()
                count += 1
            filler.unlink()
            bell.wait_for("records", False)
        assert kinds(database) == numbered(count)
        assert verify(database.url) == []
        database.drop()
        server.administer("DROP TABLESPACE small")


def test_a_daemon_elsewhere_that_writes_to_the_same_database(database: PostgresDatabase, tmp_path: Path) -> None:
    other, bell = Bell(), Bell()
    with opened(database, bell) as store:
        store.write([event("e00000")])
        assert store.flush()
        elsewhere = Store(
            database.url,
            journal=tmp_path / "elsewhere" / "pending",
            hooks=Hooks(on_alarm=other.ring),
            busy_timeout_s=0.1,
            retry_s=0.05,
        )
        elsewhere.open()
        assert other.details == ["another process writes to this database"]
        elsewhere.write([event("e00001")])
        assert not elsewhere.flush()
        assert bell.rung == []
    other.wait_for("records", False)
    elsewhere.close()
    assert kinds(database) == numbered(2)
    assert verify(database.url) == []


def test_no_message_shows_the_password(server: PostgresServer, database: PostgresDatabase, tmp_path: Path) -> None:
    bell = Bell()
    server.administer("ALTER ROLE siaga PASSWORD 'another'")
    try:
        with opened(database, bell):
            pass
        with Reader(database.url) as reader, pytest.raises(StoreUnavailable) as caught:
            reader.calls()
    finally:
        server.administer(f"ALTER ROLE siaga PASSWORD '{PASSWORD}'")
    assert "password authentication failed" in bell.details[0]
    for text in (*bell.details, str(caught.value), repr(caught.value.__cause__)):
        assert PASSWORD not in text
        assert database.url.split(":")[2].split("@")[0] not in text


# --- the connection breaks in mid-commit ------------------------------------------------------------------------------


class Wire(threading.Thread):
    """Between the store and the server; when armed it breaks the next commit, before the server has it or after."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.break_at = ""  # "before" or "after"
        self.mended = threading.Event()
        self.mended.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()

    def run(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if not self.mended.is_set():
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._server.folder / ".s.PGSQL.5432"))
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
            threading.Thread(target=self._carry_back, args=(far, near), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, suppress(OSError):
            while data := near.recv(65536):
                if b"COMMIT" in data and self.break_at:
                    self.mended.clear()
                    near.shutdown(socket.SHUT_RDWR)  # whatever the server answers
                    if self.break_at == "after":
                        far.sendall(data)
                        far.shutdown(socket.SHUT_WR)
                        while far.recv(65536):
                            pass
                    self.break_at = ""
                    return
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def _carry_back(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)


@contextmanager
def wire(server: PostgresServer) -> Iterator[tuple[Wire, Path]]:
    with TemporaryDirectory() as folder:
        made = Wire(server, Path(folder))
        made.start()
        yield made, Path(folder)


@pytest.mark.parametrize("break_at", ["before", "after"])
def test_a_commit_that_breaks_half_way_is_told_once_it_is_known(
    server: PostgresServer, database: PostgresDatabase, bell: Bell, break_at: str
) -> None:
    with wire(server) as (line, folder):
        url = database.url.replace(str(server.folder), str(folder))
        hooks = Hooks(on_alarm=bell.ring)
        store = Store(url, journal=database.journal, hooks=hooks, busy_timeout_s=0.1, retry_s=0.05)
        store.open()
        call = new_id()
        store.write(arrival(call))
        assert store.flush()
        line.break_at = break_at
        dispatch, changes = order(call)
        future = store.commit([*changes, event("e00000")])
        bell.wait_for("records", True)
        store.write([event("e00001")])
        with pytest.raises(StoreUnavailable):
            store.commit([event("e00002")]).result(10)
        assert not future.done(), "nobody can know"
        line.mended.set()
        if break_at == "after":
            future.result(10)
        else:
            assert isinstance(future.exception(10), StoreUnavailable)
        assert store.flush()
        store.close()
    taken = break_at == "after"
    assert database.rows("SELECT id FROM dispatch") == ([(dispatch,)] if taken else [])
    assert kinds(database) == (["e00000", "e00001"] if taken else ["e00001"])
    assert verify(database.url) == []
