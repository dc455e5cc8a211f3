"""A record moves to another database, such as a server: every row as it is, so that the same chain holds there."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from siaga_pbx.records.database import migrate, reader_engine, sqlite_file, writer_engine
from siaga_pbx.records.errors import NotPossible, StoreUnavailable
from siaga_pbx.records.models import METADATA
from siaga_pbx.records.verify import Finding, examine

_BUSY_S = 5.0
_ROWS = 1000  # at a time


def copy_records(source: str, target: str) -> Finding:
    """Copies all of it, in one transaction, into a database that has nothing yet; then proves the copy.

    Both are URLs. What is written to `source` meanwhile is missing. Raises NotPossible, StoreUnavailable; with nothing
    copied.
    """
    file = sqlite_file(source)
    if file is not None and file.with_name(f"{file.name}.pending").exists():
        raise NotPossible(f"{file}.pending waits to be replayed: start the daemon once more with the old database")
    try:
        migrate(target)
        with (
            _connected(reader_engine(source)) as origin,
            _connected(writer_engine(target, _BUSY_S, "siaga-pbx copy")) as copy,
        ):
            _copy(origin, copy)
    except DBAPIError as error:
        raise StoreUnavailable(str(error.orig)) from error
    except OSError as error:
        raise StoreUnavailable(str(error)) from error
    return examine(target, [examine(source).head])


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    """A transaction."""
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def _copy(origin: Connection, copy: Connection) -> None:
    for table in METADATA.sorted_tables:
        if copy.execute(select(func.count()).select_from(table)).scalar_one():
            raise NotPossible(f"the new database has something in its table {table.name} already")
    there = inspect(origin)
    for table in METADATA.sorted_tables:  # those first that others refer to
        if not there.has_table(table.name):
            continue  # of an earlier version, which has fewer columns, too
        names = [str(column["name"]) for column in there.get_columns(table.name)]
        if unknown := set(names) - set(table.c.keys()):
            raise NotPossible(f"a later version made the old database: column {min(unknown)} of its table {table.name}")
        rows = origin.execute(select(*(table.c[name] for name in names)), execution_options={"yield_per": _ROWS})
        for part in rows.mappings().partitions():
            copy.execute(insert(table), [dict(row) for row in part])
