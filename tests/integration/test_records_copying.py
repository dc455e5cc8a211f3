"""A record moves from a file to a server, and back: the same rows, the same chain."""

from pathlib import Path

import pytest

from siaga_pbx.records.copying import copy_records
from siaga_pbx.records.errors import NotPossible
from siaga_pbx.records.models import tables
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.verify import examine
from tests.postgres_server import PostgresServer
from tests.records_databases import Database, PostgresDatabase, SqliteFile
from tests.records_outages import opened
from tests.records_support import event
from tests.unit.test_records_verify import fill


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for name, table in tables().items():
        columns = ", ".join(column.name for column in table.columns)
        rows = database.rows(f"SELECT {columns} FROM {table.name}")
        found[name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def test_to_a_server_and_back(server: PostgresServer, tmp_path: Path) -> None:
    file, there, back = (
        SqliteFile(tmp_path / "siaga.db"),
        PostgresDatabase(server, tmp_path),
        SqliteFile(tmp_path / "b.db"),
    )
    fill(file.store())
    head = examine(file.url).head
    for source, target in ((file, there), (there, back)):
        finding = copy_records(source.url, target.url)
        assert (finding.problems, finding.head) == ([], head)
        with Reader(source.url) as old, Reader(target.url) as new:
            assert old.calls() == new.calls()
            assert old.events() == new.events()
            assert old.outbox() == new.outbox()
    assert rows_of(file) == rows_of(back)
    with pytest.raises(NotPossible, match="has something"):
        copy_records(file.url, there.url)
    with opened(there) as store:
        store.write([event("e00000")])
        assert store.flush()
    assert examine(there.url, [head]).problems == [], "the daemon goes on from there"
    there.drop()


def test_one_of_an_earlier_version_and_of_a_later(tmp_path: Path) -> None:
    file, new = SqliteFile(tmp_path / "siaga.db"), SqliteFile(tmp_path / "new.db")
    fill(file.store())
    head = examine(file.url).head
    with file.tampering() as run:
        run("ALTER TABLE call DROP COLUMN rtp_mos")
        run("DROP TABLE hold")
    assert copy_records(file.url, new.url).head == head
    assert examine(new.url).problems == []
    with file.tampering() as run:
        run("ALTER TABLE call ADD COLUMN of_a_later_version TEXT")
    with pytest.raises(NotPossible, match="of_a_later_version"):
        copy_records(file.url, f"sqlite:///{tmp_path / 'newer.db'}")


def test_not_while_something_waits_to_be_written(server: PostgresServer, tmp_path: Path) -> None:
    file, there = SqliteFile(tmp_path / "siaga.db"), PostgresDatabase(server, tmp_path)
    fill(file.store())
    file.journal.write_text("[]\n")
    with pytest.raises(NotPossible, match="waits to be replayed"):
        copy_records(file.url, there.url)
    there.drop()
