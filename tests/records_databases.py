"""The kinds of database that the tests of the records run on: an SQLite file, and one on a PostgreSQL server."""

import shutil
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.store import Store
from tests.postgres_server import PostgresServer


class Run(Protocol):
    """Runs a statement; its parameters stand as `?`."""

    def __call__(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]: ...


class Database(ABC):
    """One database, empty at first. `journal` is where its store's journal is."""

    kind: str
    url: str
    journal: Path

    def store(self, hooks: Hooks | None = None, **options: Any) -> Store:
        """A store on it; open() it."""
        return Store(self.url, journal=self.journal, hooks=hooks, **options)

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query; its parameters stand as `?`."""
        with self.tampering() as run:
            return run(sql, *parameters)

    def run(self, sql: str, *parameters: object) -> None:
        """A statement that changes something, as anybody with rights could run it."""
        with self.tampering() as run:
            assert run(f"{sql} RETURNING 1", *parameters), "the test's own statement did nothing"

    @abstractmethod
    def tampering(self) -> AbstractContextManager[Run]:
        """A session in which each statement is a transaction, and foreign keys bind nobody."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Somebody else holds it: nobody can write."""

    @abstractmethod
    def copy(self) -> "Database":
        """Another one with the same content."""

    @abstractmethod
    def drop(self) -> None:
        """It is not needed any more."""


class SqliteFile(Database):
    kind = "sqlite"

    def __init__(self, file: Path) -> None:
        self.file = file
        self.url = f"sqlite:///{file}"
        self.journal = file.with_name(f"{file.name}.pending")

    @contextmanager
    def tampering(self) -> Iterator[Run]:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:

            def run(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
                return connection.execute(sql, parameters).fetchall()

            yield run

    @contextmanager
    def locked(self) -> Iterator[None]:
        command = [sys.executable, "-m", "tests.records_child", "lock", str(self.file)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "locked\n"
            yield

    def copy(self) -> "SqliteFile":
        return SqliteFile(Path(shutil.copy(self.file, Path(mkdtemp(dir=self.file.parent)) / "siaga.db")))

    def drop(self) -> None:
        for path in self.file.parent.glob(f"{self.file.name}*"):
            path.unlink()


class PostgresDatabase(Database):
    kind = "postgresql"

    def __init__(self, server: PostgresServer, folder: Path, template: str = "template1", options: str = "") -> None:
        self.server, self._folder = server, folder
        self.name = server.create(template, options)
        self.url = server.url(self.name)
        self.journal = folder / f"{self.name}.pending"

    @contextmanager
    def tampering(self) -> Iterator[Run]:
        with self.server.connect(self.name, "postgres") as connection:
            connection.execute("SET session_replication_role = replica")  # no foreign keys

            def run(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
                cursor = connection.execute(sql.replace("?", "%s").encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []

            yield run

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self.server.connect(self.name) as connection, connection.transaction():
            connection.execute('LOCK TABLE "event", "writer" IN EXCLUSIVE MODE')
            yield

    def copy(self) -> "PostgresDatabase":
        self.server.cut(self.name)  # a database is copied when nobody uses it
        return PostgresDatabase(self.server, self._folder, self.name)

    def drop(self) -> None:
        self.server.drop(self.name)
