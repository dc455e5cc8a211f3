"""What holds for every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres_server import PostgresServer
from tests.records_databases import Database, PostgresDatabase, SqliteFile

# A test has no time limit of its own: how long an example takes says more about the machine than about us. Where CI is
# set the examples are the same each time, so that what lands does not depend on luck; elsewhere each run searches anew.
settings.register_profile("siaga", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("siaga")


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that runs."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    made: Database
    if request.param == "sqlite":
        made = SqliteFile(tmp_path / "siaga.db")
    else:
        made = PostgresDatabase(request.getfixturevalue("server"), tmp_path)
    yield made
    made.drop()
