"""The writer's few statements: built by SQLAlchemy's Core for the database's dialect, compiled once, run on its driver.

Handing the statement objects to SQLAlchemy each time costs some 60 us more apiece, most of what recording a call takes.
For the one query that a person waits for it is 250 us, its connection and transaction included.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Boolean, Column, Connection, Dialect, Engine, Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import Select

from siaga_pbx.records.plain import Plain

Values: TypeAlias = Mapping[str, Plain]
Verb: TypeAlias = Literal["insert", "update", "upsert", "delete", "select"]
Statement: TypeAlias = UpdateBase | Select[*tuple[object, ...]]

_KEY = "row_key"  # the parameter that finds the row; no column has this name


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    names: tuple[str, ...] | None  # the order of the parameters; None: the dialect takes them by name
    told: tuple[str, ...]  # the columns it returns

    def parameters(self, values: Values) -> Any:
        """What the driver takes: a tuple or a mapping (its type for many of them cannot say which)."""
        return values if self.names is None else tuple(map(values.__getitem__, self.names))


class Statements:
    """Runs each on the connection it is given; every one of these must have the same dialect."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def insert(self, connection: Connection, table: str, rows: Sequence[Values]) -> None:
        """New rows, all with the same columns."""
        compiled = self._statement(connection, "insert", table, "", tuple(rows[0]), ())
        parameters = [compiled.parameters(row) for row in rows]
        try:
            _cursor(connection).executemany(compiled.sql, parameters)
        except Exception as error:
            raise _translated(connection.dialect, compiled, error) from error

    def upsert(self, connection: Connection, table: str, key: str, row: Values) -> None:
        """The row as it shall be, whether there is one with this key or not."""
        self._run(connection, self._statement(connection, "upsert", table, key, tuple(row), ()), row)

    def update(
        self, connection: Connection, table: str, id: str, values: Values, told: tuple[str, ...]
    ) -> dict[str, object] | None:
        """New values; returns the columns `told` as they are then, None when there is no such row."""
        compiled = self._statement(connection, "update", table, "id", tuple(values), told)
        return self._run(connection, compiled, {**values, _KEY: id})

    def delete(self, connection: Connection, table: str, id: str) -> None:
        """The row goes, if it is there."""
        self._run(connection, self._statement(connection, "delete", table, "id", (), ()), {_KEY: id})

    def select(self, connection: Connection, table: str, id: str, told: tuple[str, ...]) -> dict[str, object] | None:
        """The columns `told` of the row, as the driver returns them."""
        return self._run(connection, self._statement(connection, "select", table, "id", (), told), {_KEY: id})

    def _run(self, connection: Connection, compiled: _Compiled, values: Values) -> dict[str, object] | None:
        cursor = _cursor(connection)
        try:
            cursor.execute(compiled.sql, compiled.parameters(values))
            row = cursor.fetchone() if compiled.told else None
        except Exception as error:
            raise _translated(connection.dialect, compiled, error) from error
        finally:
            cursor.close()
        return None if row is None else dict(zip(compiled.told, row, strict=True))

    def _statement(
        self, connection: Connection, verb: Verb, table: str, key: str, columns: tuple[str, ...], told: tuple[str, ...]
    ) -> _Compiled:
        name = (verb, table, *columns, "", *told)
        compiled = self._compiled.get(name)
        if compiled is None:
            dialect = connection.dialect
            statement = _build(dialect, verb, self._tables[table], key, columns, told)
            compiled = self._compiled[name] = _compile(dialect, statement, told)
        return compiled


class Prepared:
    """A reader's query, of the one parameter `id`."""

    def __init__(self, engine: Engine, query: Statement, columns: Sequence[Column[Any]]) -> None:
        """`columns`: those it returns."""
        self._engine, self._compiled = engine, _compile(engine.dialect, query, ())
        self._booleans = [n for n, column in enumerate(columns) if isinstance(column.type, Boolean)]

    def rows(self, id: str) -> list[list[Any]]:
        """By the order of the columns. Raises DBAPIError."""
        try:
            with closing(self._engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(self._compiled.sql, self._compiled.parameters({"id": id}))
                rows = [list(row) for row in cursor.fetchall()]
        except Exception as error:
            raise _translated(self._engine.dialect, self._compiled, error) from error
        for row in rows:
            for n in self._booleans:  # SQLite has none
                row[n] = None if row[n] is None else bool(row[n])
        return rows


def _build(
    dialect: Dialect, verb: Verb, table: Table, key: str, columns: tuple[str, ...], told: tuple[str, ...]
) -> Statement:
    changed: dict[str, object] = {column: bindparam(column) for column in columns}
    returned = [table.c[column] for column in told]
    match verb:
        case "insert":
            return insert(table).values(changed)
        case "update":
            return update(table).where(table.c[key] == bindparam(_KEY)).values(changed).returning(*returned)
        case "upsert":
            build = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
            statement = build(table).values(changed)
            new = {column: statement.excluded[column] for column in columns if column != key}
            return statement.on_conflict_do_update(index_elements=[key], set_=new)
        case "delete":
            return delete(table).where(table.c[key] == bindparam(_KEY))
        case "select":
            return select(*returned).where(table.c[key] == bindparam(_KEY))


def _compile(dialect: Dialect, statement: Statement, told: tuple[str, ...]) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    names = compiled.positiontup if compiled.positional else None
    return _Compiled(str(compiled), None if names is None else tuple(names), told)


def _cursor(connection: Connection) -> DBAPICursor:
    return connection.connection.cursor()


def _translated(dialect: Dialect, compiled: _Compiled, error: Exception) -> BaseException:
    """The driver's error as SQLAlchemy's, whatever the driver; any other as it is."""
    return DBAPIError.instance(compiled.sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect)
