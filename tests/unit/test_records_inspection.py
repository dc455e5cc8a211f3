"""A file is checked beside the writer: nobody waits for that of a large one, and what it finds counts when it comes."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from siaga_pbx.records.database import file_identity
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.inspection import Soundness
from siaga_pbx.records.journal import Journal
from siaga_pbx.records.verify import verify
from siaga_pbx.records.writer import Batch, Writer, WriterSettings
from tests.records_databases import SqliteFile
from tests.records_outages import Bell, kinds, numbered, opened
from tests.records_support import AT, event

PAGE = 4096


@pytest.fixture
def database(tmp_path: Path) -> SqliteFile:
    """Some megabytes, in one file without a log."""
    made = SqliteFile(tmp_path / "siaga.db")
    with opened(made) as store:
        for kind in numbered(2000):
            store.write([event(kind, data={"filling": "x" * 500})])
        assert store.flush(60)
    return made


def damage(database: SqliteFile) -> None:
    """A page of the events is not what it was."""
    with database.tampering() as run:
        ((page,),) = run("SELECT rootpage FROM sqlite_schema WHERE name = 'ix_event_call_id'")
    with database.file.open("r+b") as raw:
        raw.seek((page - 1) * PAGE)
        raw.write(os.urandom(PAGE))


def told(ask: Callable[[], object]) -> StoreUnavailable:
    """What `ask` raises in the end."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            ask()
        except StoreUnavailable as error:
            return error
    raise AssertionError("nothing was raised")


def caught_going_on(soundness: Soundness, database: SqliteFile, begin: Callable[[], None]) -> StoreUnavailable | None:
    """What is raised while a check goes on. It may be over at once: then it is begun again."""
    for _ in range(1000):
        begin()
        try:
            soundness.confirm(file_identity(database.file), 0)
        except StoreUnavailable as error:
            assert not soundness.settled
            return error
        if not soundness.settled:
            return None
    raise AssertionError("each was over at once")


def test_a_whole_file_is_known_in_the_end(database: SqliteFile) -> None:
    soundness = Soundness(database.file)
    while not soundness.known:
        soundness.confirm(file_identity(database.file), 0)
    assert soundness.settled
    soundness.note(OSError("I/O error"))
    assert not soundness.known
    refused = caught_going_on(soundness, database, lambda: soundness.note(OSError("I/O error")))
    assert "is being checked" in str(refused), "not to be written before that is over"
    soundness.confirm(file_identity(database.file), 60)
    assert soundness.settled


def test_damage_that_comes_later_is_found_by_the_next_check(database: SqliteFile) -> None:
    soundness = Soundness(database.file)
    soundness.confirm(file_identity(database.file), 60)
    damage(database)
    soundness.confirm(file_identity(database.file), 60)
    assert soundness.settled, "nobody has looked"
    soundness.doubt()
    assert "damaged" in str(told(lambda: soundness.confirm(file_identity(database.file), 0)))


def test_a_damaged_one_is_told_and_found_mended_when_it_is(database: SqliteFile) -> None:
    whole = Path(shutil.copy(database.file, database.file.with_name("whole.db")))
    damage(database)
    soundness = Soundness(database.file)
    for _ in range(3):
        assert "damaged" in str(told(lambda: soundness.confirm(file_identity(database.file), 0)))
        soundness.note(StoreUnavailable("damaged"))
    whole.replace(database.file)
    soundness.confirm(file_identity(database.file), 60)
    assert soundness.known


def test_a_check_that_goes_on_is_ended(database: SqliteFile) -> None:
    soundness = Soundness(database.file)
    assert caught_going_on(soundness, database, soundness.doubt) is None, "nothing speaks against the file"
    soundness.close()
    assert not soundness.settled


def test_a_server_checks_its_own() -> None:
    soundness = Soundness(None)
    soundness.confirm(None, 0)
    assert soundness.known


def test_the_writer_writes_while_it_is_checked_and_stops_when_damage_is_found(database: SqliteFile) -> None:
    whole = Path(shutil.copy(database.file, database.file.with_name("whole.db")))
    damage(database)
    bell = Bell()
    journal = Journal(database.journal, 1000)
    settings = WriterSettings(database.url, retry_s=0.0, check_s=0.0)
    writer = Writer(settings, journal, Hooks(on_alarm=bell.ring), lambda: AT, os.urandom)
    writer.start()
    count = 2000
    while not journal.pending:
        writer.take([Batch([event(f"e{count:05d}")])])
        count += 1
    assert (bell.rung, "damaged" in bell.details[0]) == ([("records", True)], True)
    for name in ("siaga.db-wal", "siaga.db-shm"):
        database.file.with_name(name).unlink(missing_ok=True)
    whole.replace(database.file)
    while not writer.up:
        writer.take([Batch([event(f"e{count:05d}")])])
        count += 1
    writer.close()
    assert bell.rung[-1] == ("records", False)
    found = kinds(database)
    assert found == sorted(set(found))
    assert found[:2000] == numbered(2000)
    assert found[2000:] == numbered(len(found) - 2000, count - len(found) + 2000), "all since it was found"
    assert verify(database.url) == []
