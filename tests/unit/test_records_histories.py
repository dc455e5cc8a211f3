"""Random histories of the writer: batches, a locked database, crashes at any moment, restarts. Whatever happened,

- what take() returned for is in the database or in the journal, once, whole and in order;
- a commit() that was told durable is in the database, one that was told unavailable is nowhere;
- the rows of crashed runs are closed, and the chain verifies.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.records.changes import Change, Event, Insert, Update
from siaga_pbx.records.database import migrate
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.journal import Journal
from siaga_pbx.records.verify import verify
from siaga_pbx.records.writer import Batch, Writer, WriterSettings
from tests.postgres_server import PostgresServer
from tests.records_databases import Database, PostgresDatabase, SqliteFile
from tests.records_support import AT, event

# In memory, where there is such a folder: a disk's sync at every step would make these histories take minutes.
_MEMORY = Path("/dev/shm")


class Crash(BaseException):
    """The process dies here."""


@dataclass(frozen=True)
class Take:
    """A group of batches, of so many events each; the last may be a commit()."""

    sizes: Sequence[int]
    commit: bool
    arrives: bool  # before them a call arrives
    ends: bool  # before that the oldest live call ends


@dataclass(frozen=True)
class CrashAfter:
    """The process dies at the so-many-th of the moments at which it calls something that the test gave it."""

    moments: int


Step: TypeAlias = Take | CrashAfter | Literal["lock", "unlock", "restart"]
takes = st.builds(
    Take, st.lists(st.integers(1, 3), min_size=1, max_size=3), st.booleans(), st.booleans(), st.booleans()
)
steps = st.one_of(
    takes, takes, takes, st.builds(CrashAfter, st.integers(0, 12)), st.sampled_from(["lock", "unlock", "restart"])
)


@dataclass
class World:
    """A database with its journal, the writer of the moment, and what must be in the records."""

    database: Database
    writer: Writer | None = None
    journal: Journal | None = None
    locker: AbstractContextManager[None] | None = None
    fuse: int | None = None
    count: int = 0
    live: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)  # the events that must be there, by their kinds, in order
    uncertain: list[set[str]] = field(default_factory=list)  # batches taken when the crash came: whole or not at all

    def run(self, step: Step) -> None:
        match step:
            case Take():
                self.take(step)
            case CrashAfter(moments):
                self.fuse = moments
            case "lock" if self.locker is None:
                self.locker = locked(self.database)
                self.locker.__enter__()
            case "unlock" if self.locker is not None:
                self.locker.__exit__(None, None, None)
                self.locker = None
            case "restart":
                self.stop()
                self.start()

    def moment(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Crash

    def start(self) -> None:
        """A process starts on what the last one left."""

        def entropy(size: int) -> bytes:
            self.moment()
            return os.urandom(size)

        def now() -> str:
            self.moment()
            return AT

        hooks = Hooks(*[lambda *_: self.moment()] * 3)
        self.journal = Journal(self.database.journal, 1000)
        settings = WriterSettings(self.database.url, busy_timeout_s=0.0, retry_s=0.0)
        self.writer = Writer(settings, self.journal, hooks, now, entropy)
        try:
            self.writer.start()
        except Crash:
            self.die()

    def stop(self) -> None:
        """The process ends in order."""
        if self.writer is not None:
            try:
                self.writer.close()
                gone(self.database)
                self.writer, self.live = None, []
            except Crash:
                self.die()

    def die(self) -> None:
        """The process is gone: nothing is written any more, and its descriptors and locks go with it."""
        assert self.writer is not None
        assert self.journal is not None
        self.writer._disconnect()
        gone(self.database)
        if self.journal._fd is not None:
            os.close(self.journal._fd)
        self.writer = self.journal = self.fuse = None
        self.live = []

    def take(self, step: Take) -> None:
        while self.writer is None:
            self.start()
        batches, live = [], list(self.live)
        if step.ends and live:
            batches.append(Batch(self.end(live.pop(0))))
        if step.arrives:
            live.append(new_id())
            batches.append(Batch(self.arrival(live[-1])))
        batches += [Batch([self.event() for _ in range(size)]) for size in step.sizes]
        future = Future[None]() if step.commit else None
        batches[-1].future = future
        try:
            self.writer.take(batches)
        except Crash:
            self.uncertain += [set(kinds(batch)) for batch in batches]
            self.die()
            return
        self.live = live
        if future is not None and future.exception() is not None:
            assert isinstance(future.exception(), StoreUnavailable)
            assert self.locker is not None, "told unavailable, though nobody holds the database"
            batches.pop()
        self.expected += [kind for batch in batches for kind in kinds(batch)]

    def event(self, call_id: str | None = None) -> Event:
        self.count += 1
        return event(f"e{self.count:05d}", call_id)

    def arrival(self, call_id: str) -> Sequence[Change]:
        return Insert("call", {"id": call_id, "received_at": AT}), self.event(call_id)

    def end(self, call_id: str) -> Sequence[Change]:
        return Update("call", call_id, {"ended_at": AT, "outcome": "answered"}), self.event(call_id)


def kinds(batch: Batch) -> list[str]:
    return [change.kind for change in batch.changes if isinstance(change, Event)]


def check(world: World) -> None:
    """Everything that the docstring of this file promises."""
    database = world.database
    found = [str(kind) for (kind,) in database.rows("SELECT kind FROM event WHERE kind LIKE 'e0%' ORDER BY seq")]
    assert found == sorted(set(found)), "in order, and none twice"
    uncertain = set().union(*world.uncertain)
    assert [kind for kind in found if kind not in uncertain] == world.expected
    for batch in world.uncertain:
        assert batch <= set(found) or batch.isdisjoint(found), "a batch is whole"
    assert database.rows("SELECT id FROM call WHERE ended_at IS NULL") == []
    assert database.rows("SELECT data FROM event WHERE kind = 'changes_refused'") == []
    assert not database.journal.exists()
    assert verify(database.url) == []


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Somebody else holds it."""
    if not isinstance(database, SqliteFile):
        with database.locked():
            yield
        return
    with closing(sqlite3.connect(database.file, isolation_level=None, timeout=0)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        yield


def gone(database: Database) -> None:
    """Returns once a server has seen that the writer is gone: it needs a moment, in which nobody else could write."""
    if isinstance(database, PostgresDatabase):
        with database.tampering() as run:
            while run("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'siaga-pbx%'"):
                pass


@pytest.fixture(scope="module")
def template() -> Iterator[SqliteFile]:
    """A database in memory that has the schema."""
    with TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
        made = SqliteFile(Path(folder) / "template.db")
        migrate(made.url)
        yield made


@pytest.fixture(scope="module")
def postgres_template(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """The same on PostgreSQL."""
    made = PostgresDatabase(server, tmp_path_factory.mktemp("histories"))
    migrate(made.url)
    return made


def history(template: Database, steps: Sequence[Step]) -> None:
    database = template.copy()
    world = World(database)
    world.start()
    for step in steps:
        world.run(step)
    world.run("unlock")
    world.fuse = None
    world.run("restart")
    world.run("restart")
    assert world.writer is not None
    assert world.writer.up
    world.stop()
    check(world)
    database.drop()


@pytest.mark.parametrize("moment", range(12))
def test_a_crash_at_every_moment_of_a_replay(template: Database, moment: int) -> None:
    crash_in_a_replay(template, moment)


@pytest.mark.parametrize("moment", range(0, 12, 3))
def test_a_crash_in_a_replay_on_postgresql(postgres_template: Database, moment: int) -> None:
    crash_in_a_replay(postgres_template, moment)


def crash_in_a_replay(template: Database, moment: int) -> None:
    taken = Take([1, 2], commit=False, arrives=True, ends=False)
    history(template, [taken, "lock", taken, taken, "unlock", CrashAfter(moment), taken])
    history(template, [taken, "lock", taken, "restart", taken, "unlock", CrashAfter(moment), "restart", taken])


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25))
def test_any_history(template: Database, steps: list[Step]) -> None:
    history(template, steps)


@settings(max_examples=5, deadline=None)
@given(st.lists(steps, min_size=5, max_size=15))
def test_any_history_on_postgresql(postgres_template: Database, steps: list[Step]) -> None:
    history(postgres_template, steps)


@pytest.mark.soak
@settings(max_examples=3000, deadline=None)
@given(st.lists(steps, min_size=10, max_size=60))
def test_thousands_of_histories(template: Database, steps: list[Step]) -> None:
    history(template, steps)


@pytest.mark.soak
@settings(max_examples=300, deadline=None)
@given(st.lists(steps, min_size=5, max_size=40))
def test_hundreds_of_histories_on_postgresql(postgres_template: Database, steps: list[Step]) -> None:
    history(postgres_template, steps)
