"""Connections: one for the writer, read-only ones for everybody else, and the schema's migrations."""

import errno
import os
import re
import threading
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from siaga_pbx.records import postgres
from siaga_pbx.records.errors import StoreUnavailable

FileIdentity: TypeAlias = tuple[int, int]
"""Device and inode."""

_MODE = 0o600  # callers' numbers: for the daemon's user alone
_REFUSALS = (IntegrityError, DataError, ProgrammingError, NotSupportedError)

_MIGRATIONS = Path(__file__).with_name("migrations")

# Alembic keeps the migration that runs in module-level proxies; two stores of one process must take turns.
_migrating = threading.Lock()


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for another kind."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def file_identity(file: Path | None) -> FileIdentity | None:
    """What tells one file from another at the same path; None without a file. Raises OSError."""
    if file is None:
        return None
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def is_outage(error: Exception) -> bool:
    """Whether the database fails (locked, full, read-only, damaged, gone), rather than the one statement."""
    match error:
        case DBAPIError():
            return not isinstance(error, _REFUSALS) or postgres.is_the_schema(error)
        case OSError() | StoreUnavailable():
            return True
        case _:
            return False


def is_harmless(error: Exception) -> bool:
    """Whether an outage cannot have damaged the database: it is locked, full or read-only."""
    if isinstance(error, PermissionError):
        return True
    name = getattr(error.orig, "sqlite_errorname", "") if isinstance(error, DBAPIError) else ""
    return str(name).startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_READONLY"))


def writer_engine(url: str, busy_timeout_s: float, name: str) -> Engine:
    """For the one writer, whose `name` no other has: each commit is synced, foreign keys are checked."""
    if sqlite_file(url) is None:
        return postgres.writer_engine(url, name, busy_timeout_s)
    return _sqlite_writer(url, busy_timeout_s, foreign_keys=True)


def be_the_writer(connection: Connection, name: str) -> None:
    """One writer a database: StoreUnavailable while there is another. For an SQLite file the store sees to it."""
    if connection.dialect.name == "postgresql":
        postgres.be_the_writer(connection, name)


def _sqlite_writer(url: str, busy_timeout_s: float, *, foreign_keys: bool) -> Engine:
    """In WAL mode; a transaction begins with the write lock. Raises OSError, see `prepare_file`."""
    prepare_file(url)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": busy_timeout_s, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        cursor.execute("PRAGMA secure_delete = ON")  # what is erased shall not linger in free pages
        cursor.execute("PRAGMA journal_size_limit = 67108864")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(url: str) -> Engine:
    """For queries: opened read-only, so that no reader can hold up the writer or make an empty database."""
    file = sqlite_file(url)
    if file is None:
        return postgres.reader_engine(url)
    uri = f"{file.absolute().as_uri()}?mode=ro"
    engine = create_engine(
        f"sqlite:///{uri}&uri=true", pool_size=2, connect_args={"timeout": 5.0, "isolation_level": None}
    )

    @event.listens_for(engine, "connect")
    def _note_file(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = file_identity(file)

    @event.listens_for(engine, "checkout")
    def _check_file(_: DBAPIConnection, record: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        if record.info["file"] != file_identity(file):  # a backup was put in its place
            raise DisconnectionError("the database's file was replaced")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")  # one snapshot for all the queries of a transaction

    return engine


def prepare_file(url: str) -> None:
    """The database's file and folder are there, the file for its owner alone (its -wal and -shm take the same mode).

    Raises OSError; PermissionError for a file that cannot be written: SQLite would open it all the same, for reading,
    and leave a -shm behind that could not be written when the file can be again. A file that is there is not opened to
    find that out: when a process closes one, all its locks on it are gone, SQLite's among them.
    """
    file = sqlite_file(url)
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not file.exists():
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
    if file.stat().st_mode & 0o077:
        file.chmod(_MODE)
    if not os.access(file, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, "the database cannot be written", str(file))


def empty_log(connection: Connection) -> None:
    """Moves all of SQLite's write-ahead log into the database, so that no erased content is left in it. Best effort."""
    if connection.dialect.name == "sqlite":
        # On the driver's own cursor: SQLAlchemy's would begin a transaction, in which this cannot be done.
        connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def migrate(url: str, busy_timeout_s: float = 5.0) -> None:
    """Brings the schema to this version's, in one transaction under the write lock: several may start at once.

    Raises DBAPIError when the database fails, StoreUnavailable when the schema is of a later version than this program.
    """
    if sqlite_file(url) is None:
        engine = postgres.writer_engine(url, "siaga-pbx migration", busy_timeout_s, patient=True)
    else:
        # A step that rebuilds a table (batch mode) needs foreign keys off; that cannot be changed in its transaction.
        engine = _sqlite_writer(url, busy_timeout_s, foreign_keys=False)
    try:
        with _migrating, engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                postgres.wait_for_migrations(connection)
            current, known = _revision(connection), _revisions()
            if current == known[-1]:
                return
            if current is not None and current not in known:
                raise StoreUnavailable(f"the database has schema {current}, which this version does not know")
            _upgrade(connection)
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None for a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _revisions() -> list[str]:
    """Those that this version knows, by the names of their files, oldest first."""
    names = (path.name for path in (_MIGRATIONS / "versions").glob("v*.py"))
    return sorted(found[1] for name in names if (found := re.match(r"v(\d+)_", name)))


def _upgrade(connection: Connection) -> None:
    # Here and not above: a start that has nothing to migrate, with callers on the line, is spared a third of a second.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
