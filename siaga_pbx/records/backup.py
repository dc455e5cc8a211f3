"""A copy of the database while the daemon goes on writing: SQLite's online backup, of one snapshot, in small steps."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.errors import RecordsError

_PAGES = 1000  # a step, some 4 MB
_REST_S = 0.005  # between two steps: the disk is the writer's before ours


class NoBackup(RecordsError):
    """There is no backup, and no file that looks like one."""


def back_up(database: str, target: Path) -> None:
    """Makes `target`, a database of its own in one file, readable by its owner alone. It is whole, or not there.

    The writer is not held up: in WAL mode a reader's snapshot keeps nobody from writing. Raises NoBackup.
    """
    source = sqlite_file(database)
    if source is None:
        raise NoBackup("the database is on a PostgreSQL server: back it up with pg_dump, restore it with pg_restore")
    part = target.with_name(f"{target.name}.part")
    try:
        if target.exists():
            raise NoBackup(f"{target} is there already")
        with _alone(part):
            _copy(source, part)
            _sync(part)
            os.link(part, target)  # unlike a rename it replaces nothing that came in the meantime
            _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise NoBackup(str(error)) from error


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """The file is there, empty, for its owner alone, and no other backup's; gone at the end, unless we are killed."""
    file = os.open(part, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(file).st_nlink:
            raise BlockingIOError
        part.with_name(f"{part.name}-journal").unlink(missing_ok=True)  # SQLite would play it back
        os.ftruncate(file, 0)
        try:
            yield
        finally:
            part.unlink()
    except BlockingIOError:
        raise NoBackup(f"{part}: another backup is being made there") from None
    finally:
        os.close(file)


def _copy(source: Path, part: Path) -> None:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)) as origin,
        closing(sqlite3.connect(part, isolation_level=None)) as copy,
    ):
        # One read transaction around all the steps: without it each commit of the writer would begin the copy anew.
        origin.execute("BEGIN")
        origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        origin.backup(copy, pages=_PAGES, progress=lambda *_: time.sleep(_REST_S))
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, which can be read where nothing can be written


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
