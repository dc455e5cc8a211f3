"""What is PostgreSQL's own: how to connect, one writer at a time, one migration at a time, what is an outage."""

from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from siaga_pbx.records.errors import StoreUnavailable

T = TypeVar("T")

_WRITER_LOCK = 0x53494147_41000001  # "SIAGA": PostgreSQL's advisory locks are numbers, the same for every program
_MIGRATION_LOCK = 0x53494147_41000002
_LOCK_NOT_AVAILABLE = "55P03"
_CONNECT_S = 5
_SHORTEST_S = 0.1
_PATIENCE = 10  # times the wait for a lock, 20 s in the daemon; no statement of ours takes a second

_POLL_S = 0.1

# A peer that vanished without a word is noticed in half a minute, on both ends.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
_SESSION = (
    "SET SESSION synchronous_commit = on; SET SESSION tcp_keepalives_idle = 10; "
    "SET SESSION tcp_keepalives_interval = 5; SET SESSION tcp_keepalives_count = 4; "
    "SET SESSION lock_timeout = {lock_ms}; SET SESSION application_name = '{name}'"
)


class _Impatient(psycopg.Connection[Any]):
    """A connection that is given up when its server does not answer a statement in time."""

    patience_s: float | None = None

    def wait(self, gen: PQGen[T], interval: float = _POLL_S, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, timeout or self.patience_s)
        except psycopg.errors._WaitTimeout:  # it has no public name where it leaves wait()
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server has not answered for {self.patience_s} s") from None


def driver_url(url: str) -> URL:
    """The URL with the driver's name in it."""
    return make_url(url).set(drivername="postgresql+psycopg")


def writer_engine(url: str, name: str, lock_timeout_s: float, *, patient: bool = False) -> Engine:
    """For writing. Each commit is synced, whatever the server's default is; `name` tells the sessions apart.

    A statement waits `lock_timeout_s` for other sessions' locks, and ten times that for the server; when `patient` for
    ever.
    """
    engine = create_engine(driver_url(url), poolclass=NullPool, connect_args=_connect_args(url))

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> _Impatient:
        connection = _Impatient.connect(**parameters)
        connection.patience_s = None if patient else _PATIENCE * max(lock_timeout_s, _SHORTEST_S)
        return connection

    @event.listens_for(engine, "connect")
    def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(_SESSION.format(lock_ms=max(1, int(lock_timeout_s * 1000)), name=name))
        cursor.close()
        connection.commit()

    return engine


def reader_engine(url: str) -> Engine:
    """For queries: transactions that cannot write, and see one snapshot."""
    return create_engine(
        driver_url(url),
        pool_size=2,
        pool_pre_ping=True,  # a server that was restarted is no error for whoever asks next
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
        connect_args=_connect_args(url),
    )


def be_the_writer(connection: Connection, name: str) -> None:
    """Takes the lock that the database's one writer holds for as long as its session lives, or raises StoreUnavailable.

    Sessions of this very writer that broke, and that the server has not yet missed, are ended first.
    """
    broken = "application_name = :name AND pid <> pg_backend_pid() AND usename = current_user"
    ended = text(f"SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE {broken}")  # noqa: S608
    try:
        with connection.begin():
            connection.execute(ended, {"name": name})
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _WRITER_LOCK})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise StoreUnavailable("another process writes to this database") from error
        raise


def wait_for_migrations(connection: Connection) -> None:
    """Within a transaction: nobody else migrates until its end. Raises DBAPIError when it takes too long."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})


def is_the_schema(error: Exception) -> bool:
    """Whether a statement failed for what the server has or grants (a table is gone), not for its values."""
    return isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", None) is not None


def _connect_args(url: str) -> Mapping[str, int]:
    given = make_url(url).query
    return {key: value for key, value in {"connect_timeout": _CONNECT_S, **_KEEPALIVES}.items() if key not in given}
