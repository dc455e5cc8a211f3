"""Copies of a record that is written to all the while: whole, proven, and the writer does not wait."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from siaga_pbx.records.backup import NoBackup, back_up
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.verify import examine, verify
from tests.postgres_server import PASSWORD, PostgresServer, binary
from tests.records_databases import Database, PostgresDatabase, SqliteFile

# One that stops after its first page.
_STOPS = """
import pathlib, signal, sys
from siaga_pbx.records import backup
backup._PAGES = 1
backup.time.sleep = lambda _: (print("copying", flush=True), signal.pause())
backup.back_up(sys.argv[1], pathlib.Path(sys.argv[2]))
"""


class Scribe:
    """A process that writes calls and dispatches without a pause, some thousand events a second; `told` are durable."""

    def __init__(self, database: Database) -> None:
        command = [sys.executable, "-m", "tests.records_child", "write", database.url, str(database.journal)]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.told = 0
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for _ in self._child.stdout:
            with self._news:
                self.told += 1
                self._news.notify_all()

    def wait(self, more: int) -> None:
        """Returns when so many more are durable."""
        with self._news:
            least = self.told + more
            assert self._news.wait_for(lambda: self.told >= least, 60)

    def end(self) -> None:
        with self._child:
            self._child.kill()
            self._reader.join()


@contextmanager
def busy(database: Database) -> Iterator[Scribe]:
    scribe = Scribe(database)
    try:
        scribe.wait(500)
        yield scribe
    finally:
        scribe.end()


def test_backups_of_a_record_that_is_written_to(tmp_path: Path) -> None:
    database = SqliteFile(tmp_path / "siaga.db")
    copies = [tmp_path / f"backup{number}.db" for number in range(3)]
    during = 0
    with busy(database) as scribe, Reader(database.url) as reader:
        for copy in copies:
            before = scribe.told
            back_up(database.url, copy)
            during += scribe.told - before
            reached = reader.head().seq
            while reader.head().seq == reached:  # the next one has something to have more than this
                scribe.wait(1)
    assert during > 0, "the writer waited"
    findings = [examine(f"sqlite:///{copy}") for copy in copies]
    assert [finding.problems for finding in findings] == [[], [], []]
    heads = [finding.head for finding in findings]
    assert 0 < heads[0].seq < heads[1].seq < heads[2].seq
    whole = examine(database.url, heads)
    assert whole.problems == [], "each of them is the beginning of the whole"
    assert whole.head.seq > heads[2].seq
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}
    assert not list(tmp_path.glob("*.part*"))


def test_a_backup_that_was_killed_is_none_and_keeps_nobody_from_the_next(tmp_path: Path) -> None:
    database, copy = SqliteFile(tmp_path / "siaga.db"), tmp_path / "backup.db"
    with busy(database):
        pass
    part = copy.with_name("backup.db.part")
    command = [sys.executable, "-c", _STOPS, database.url, str(copy)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"copying\n"
        with pytest.raises(NoBackup, match="another backup"):
            back_up(database.url, copy)
        process.kill()
    assert part.exists()
    assert not copy.exists()
    part.with_name(f"{part.name}-journal").write_bytes(os.urandom(8192))
    back_up(database.url, copy)
    assert verify(f"sqlite:///{copy}") == []
    assert not list(tmp_path.glob("*.part*"))


def test_what_pg_dump_saves_pg_restore_brings_back_and_it_verifies(server: PostgresServer, tmp_path: Path) -> None:
    """What `siaga-pbx backup` tells whose record is on a server."""
    database = PostgresDatabase(server, tmp_path)
    with pytest.raises(NoBackup, match="pg_dump"):
        back_up(database.url, tmp_path / "backup.db")
    environment = {**os.environ, "PGHOST": str(server.folder), "PGUSER": "siaga", "PGPASSWORD": PASSWORD}
    dump = [str(binary("pg_dump")), "--format=custom", f"--file={tmp_path / 'siaga.dump'}", database.name]
    with busy(database) as scribe:
        subprocess.run(dump, check=True, env=environment)
        scribe.wait(100)
    restored = PostgresDatabase(server, tmp_path)
    restore = [str(binary("pg_restore")), "--exit-on-error", f"--dbname={restored.name}", str(tmp_path / "siaga.dump")]
    subprocess.run(restore, check=True, env=environment)
    finding = examine(restored.url)
    assert finding.problems == []
    assert examine(database.url, [finding.head]).problems == [], "the beginning of the whole"
    for one in (restored, database):
        one.drop()
