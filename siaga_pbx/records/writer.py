"""The writer's work, without its thread: batches into the database, or into the journal while that fails, and back."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from siaga_pbx.records.chain import Head
from siaga_pbx.records.changes import Change, Event, call_of, interruption
from siaga_pbx.records.database import (
    FileIdentity,
    be_the_writer,
    empty_log,
    file_identity,
    is_outage,
    migrate,
    sqlite_file,
    writer_engine,
)
from siaga_pbx.records.errors import ChangeRefused, StoreUnavailable, first_line
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.inspection import Soundness
from siaga_pbx.records.journal import Entry, Journal, described
from siaga_pbx.records.ledger import Ledger

_REPLAY_GROUP = 500  # batches a transaction: each holds the write lock for some 100 ms


@dataclass(slots=True)
class Batch:
    """Changes to carry out as one. With a future: in the database, or refused; without: in the journal if need be."""

    changes: Sequence[Change]
    future: Future[None] | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """`node`: whose crashed calls are closed (None: all). `keep`: calls that go on. Times in seconds.

    `check_s`: how long the check of its file is waited for; one that is damaged is not written before that.
    """

    database: str
    node: str | None = None
    keep: Collection[str] = ()
    busy_timeout_s: float = 2.0
    retry_s: float = 1.0
    check_s: float = 1.0


class Writer:
    """Everything that touches the database for writing; used by one thread.

    Each run of the writer has an id, and its batches are numbered. The number of the last batch that a transaction
    carried out, the run's mark, is committed with it. So it is known of a batch in the journal whether it is in the
    database, whatever happened between.
    """

    def __init__(
        self,
        settings: WriterSettings,
        journal: Journal,
        hooks: Hooks,
        now: Callable[[], str],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.up = False
        self.head = Head()
        """The last event that is known to be durable in the database."""
        self.run = new_id()
        self._settings = settings
        self._journal = journal
        self._hooks = hooks
        self._now = now
        self._ledger = Ledger(now, entropy)
        self._file = sqlite_file(settings.database)
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._identity: FileIdentity | None = None
        self._soundness = Soundness(self._file)
        self._missed: Head | None = None  # the chain had it, and has not any more
        self._settled = False  # the rows of a crashed run are closed
        self._in_doubt = 0  # a commit up to this batch failed half-way: only the database can tell whether it took
        self._waiting: list[Batch] = []  # those with futures among them
        self._last = 0  # the number of the last batch taken
        self._marks: dict[str, int] = {}
        self._retry_at = 0.0
        self._alarmed: set[str] = set()
        self._told_lost = self._told_dropped = 0

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to do but what it is given."""
        return self.up and self._soundness.settled

    def doubt(self) -> None:
        """Has the database's file checked. From any thread."""
        self._soundness.doubt()

    def start(self) -> None:
        """The first attempt at the database. Never raises: if it fails, the journal takes over."""
        try:
            self._journal.open()
        except OSError as error:
            self._alarm("records_journal", True, str(error))
        self.recover()

    def take(self, batches: Sequence[Batch]) -> None:
        """Carries the batches out, in order, or puts them into the journal. Never raises.

        Then every future is done, but for those of a commit that failed half-way: they are when it is known.
        """
        for batch in batches:
            self._last += 1
            batch.number = self._last
        somebody_waits = any(batch.future is not None for batch in batches)  # a dispatch: worth an attempt of its own
        if self.up and not self._soundness.settled:
            self._look()
        if not self.up and (somebody_waits or time.monotonic() >= self._retry_at):
            self.recover()
        if self.up and batches:
            try:
                self._store(self.run, batches)
            except Exception as error:  # noqa: BLE001  whatever it is, the thread and the batches must survive it
                self._fall(error)
        done = self._marks.get(self.run, 0)
        self._tell_waiting(batch for batch in batches if batch.number <= done)
        self._divert([batch for batch in batches if batch.number > done])

    def tell_outage(self, why: str) -> None:
        """The database cannot be had yet."""
        self._alarm("records", True, why)

    def recover(self) -> bool:
        """Tries the database: opens it, replays the journal, closes a crashed run's rows. Never raises."""
        started = time.monotonic()
        try:
            self._connect()
            self._note_missed()
            self._replay()
        except Exception as error:  # noqa: BLE001  as in take()
            self._fall(error)
            self._retry_at += time.monotonic() - started  # an attempt that takes its time is not made all the time
            return False
        self.up = True
        self._alarm("records", False, "the database works")
        return True

    def tell_dropped(self, batches: int) -> None:
        """Batches that never came here are lost like those that the journal dropped."""
        if batches > self._told_dropped:
            self._told_dropped = batches
            self._alarm("records_lost", True, f"{batches} batches dropped: the writer was stuck")

    def close(self) -> None:
        """The last attempt at whatever is in the journal, then the end."""
        if not self.up:
            self.recover()
        self._journal.close()
        self._soundness.close()
        self._tell_journal()
        self._tell_waiting(self._waiting)  # the process ends: nobody confirms anything any more
        if self._connection is not None:
            with suppress(Exception):
                empty_log(self._connection)
        self._disconnect()

    # --- one group of batches -----------------------------------------------------------------------------------------

    def _store(self, run: str, batches: Sequence[Batch]) -> None:
        """All in one transaction; if one is refused, by halves, until it is found. Raises what is an outage."""
        try:
            self._transact(run, batches)
        except Exception as error:
            if is_outage(error):
                raise
            if len(batches) == 1:
                self._refuse(run, batches[0], error)
                return
            half = len(batches) // 2
            self._store(run, batches[:half])
            self._store(run, batches[half:])

    def _transact(self, run: str, batches: Sequence[Batch]) -> None:
        changes = chain.from_iterable(batch.changes for batch in batches)
        self._in_transaction(run, batches[-1].number, lambda connection: self._ledger.apply(connection, changes))

    def _in_transaction(self, run: str, number: int, work: Callable[[Connection], None]) -> None:
        """One transaction, with the run's mark in it. If its commit raises, only the mark tells whether it took."""
        connection, head, started = self._sound_connection(), self._ledger.head, time.perf_counter()
        transaction = connection.begin()
        try:
            work(connection)
            self._ledger.set_mark(connection, run, number)
            self._in_doubt = number if run == self.run else 0
            transaction.commit()
            self._in_doubt = 0
        except BaseException:
            self._ledger.head = head
            with suppress(DBAPIError):  # the first error tells more
                transaction.rollback()
            raise
        self._marks[run] = number
        self.head = self._ledger.head
        if self._ledger.erased:
            self._ledger.erased = False
            with suppress(Exception):  # a reader in the way: then the next one
                empty_log(connection)
        self._tell(self._hooks.on_commit, time.perf_counter() - started)

    def _refuse(self, run: str, batch: Batch, error: Exception) -> None:
        """A commit() is refused whole; of a write() whatever can be kept is kept. Either way an event says so."""
        refused: list[Change] = [] if batch.future is None else list(batch.changes)

        def work(connection: Connection) -> None:
            if batch.future is None:
                refused.extend(self._keep_what_fits(connection, batch.changes))
            self._ledger.apply(connection, [self._refusal(refused, error)])

        self._in_transaction(run, batch.number, work)
        if batch.future is not None:
            batch.future.set_exception(ChangeRefused(str(error)))
        self._alarm("records_refused", True, first_line(error))

    def _keep_what_fits(self, connection: Connection, changes: Sequence[Change]) -> Iterator[Change]:
        """Carries out each change for itself; yields those that are refused."""
        for change in changes:
            head, savepoint = self._ledger.head, connection.begin_nested()
            try:
                self._ledger.apply(connection, [change])
                savepoint.commit()
            except Exception as error:
                self._ledger.head = head
                savepoint.rollback()
                if is_outage(error):
                    raise
                yield change

    def _refusal(self, changes: Sequence[Change], error: Exception) -> Event:
        """The event that holds what was refused; it belongs to the call, so that it is erased with it."""
        data = {"error": first_line(error), "changes": [described(change) for change in changes]}
        call_id = next(filter(None, map(call_of, changes)), None)
        return Event(self._now(), "system", "records", call_id, "changes_refused", data)

    # --- the database fails and comes back ----------------------------------------------------------------------------

    def _connect(self) -> None:
        """Opens, checks and reads the database. Raises; a connection that is only half opened is then none."""
        if self._connection is not None:
            return
        try:
            self._open()
        except BaseException:
            self._disconnect()
            raise
        self._in_doubt = 0
        waiting, self._waiting = self._waiting, []
        self._tell_waiting(waiting)

    def _open(self) -> None:
        if not self._soundness.known:
            migrate(self._settings.database, self._settings.busy_timeout_s)
        name = f"siaga-pbx {self.run}"
        self._engine = writer_engine(self._settings.database, self._settings.busy_timeout_s, name)
        self._connection = connection = self._engine.connect()
        be_the_writer(connection, name)
        self._identity = file_identity(self._file)
        self._soundness.confirm(self._identity, self._settings.check_s)
        with connection.begin():
            if not self._ledger.has(connection, self.head):
                self._missed = self.head
            self._ledger.load(connection)
            self._marks = {self.run: self._ledger.mark(connection, self.run)}
            self.head = self._ledger.head

    def _look(self) -> None:
        """Begins the check that is due, or sees whether it has found something."""
        try:
            self._soundness.confirm(self._identity, 0)
        except StoreUnavailable as error:
            self._fall(error)

    def _sound_connection(self) -> Connection:
        if self._connection is None:
            raise StoreUnavailable("no connection")
        if file_identity(self._file) != self._identity:
            raise StoreUnavailable("the database's file was removed or replaced")
        return self._connection

    def _note_missed(self) -> None:
        """A backup was restored, a server lost what it had confirmed, or somebody made the chain anew: it says so."""
        if self._missed is None:
            return
        head = str(self._missed)
        told = Event(self._now(), "system", "records", None, "head_missed", {"head": head})
        self._in_transaction(self.run, self._marks[self.run], lambda connection: self._ledger.apply(connection, [told]))
        self._missed = None
        self._alarm("records_missed", True, f"the database had an event that it has not any more: {head}")

    def _fall(self, error: Exception) -> None:
        """The database failed: no connection until the next attempt, which tells what a half-way commit came to."""
        self.up = False
        self._soundness.note(error)
        self._disconnect()
        if self._in_doubt:
            with suppress(Exception):
                self._connect()
        self._retry_at = time.monotonic() + self._settings.retry_s
        self._alarm("records", True, first_line(error))

    def _disconnect(self) -> None:
        connection, engine, self._connection, self._engine = self._connection, self._engine, None, None
        with suppress(Exception):
            if connection is not None:
                connection.close()
        if engine is not None:
            engine.dispose()

    def _divert(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        self._journal.append(Entry(self.run, batch.number, batch.changes) for batch in batches if batch.future is None)
        waiting = [batch for batch in batches if batch.future is not None and not batch.future.done()]
        self._waiting += [batch for batch in waiting if batch.number <= self._in_doubt]
        self._tell_waiting([batch for batch in waiting if batch.number > self._in_doubt])
        self._tell_journal()

    def _tell_waiting(self, batches: Iterable[Batch]) -> None:
        """Whether each commit() is in the database, as its mark says."""
        done = self._marks.get(self.run, 0)
        for batch in batches:
            if batch.future is not None and not batch.future.done():
                if batch.number <= done:
                    batch.future.set_result(None)
                else:
                    batch.future.set_exception(StoreUnavailable("the database cannot be written now"))

    def _replay(self) -> None:
        """The whole journal, in order; between the earlier runs' batches and our own the crashed run's rows close."""
        for run, entries in groupby(self._journal.entries(), key=lambda entry: entry.run):
            if run == self.run:
                self._settle()
            while group := list(islice(entries, _REPLAY_GROUP)):
                self._replay_group(run, group)
        self._settle()
        if self._journal.pending:
            self._journal.clear()
            self._tell_journal()
        if not self._journal.path.exists():  # or it could not be read, and may be one day
            forget = partial(self._ledger.forget_other_runs, run=self.run)
            self._in_transaction(self.run, self._marks[self.run], forget)

    def _replay_group(self, run: str, entries: Sequence[Entry]) -> None:
        if run not in self._marks:
            with self._sound_connection().begin():
                self._marks[run] = self._ledger.mark(self._sound_connection(), run)
        mark = self._marks[run]
        batches = [Batch(entry.changes, number=entry.number) for entry in entries if entry.number > mark]
        if batches:
            self._store(run, batches)

    def _settle(self) -> None:
        """Closes the rows that a crashed run left open, once."""
        if self._settled:
            return
        with self._sound_connection().begin():
            open_calls = self._ledger.open_calls(self._sound_connection(), self._settings.node, self._settings.keep)
        changes = list(chain.from_iterable(interruption(call_id, self._now()) for call_id in open_calls))
        if changes:
            self._store(self.run, [Batch(changes, number=self._marks[self.run])])
        self._settled = True

    # --- hooks --------------------------------------------------------------------------------------------------------

    def _tell_journal(self) -> None:
        self._tell(self._hooks.on_pending, self._journal.pending)
        if self._journal.lost > self._told_lost:
            self._told_lost = self._journal.lost
            self._alarm("records_lost", True, f"{self._told_lost} batches dropped: database and journal fail")

    def _alarm(self, name: str, active: bool, detail: str) -> None:
        """Told when it changes; what is lost or refused stays so and is told each time."""
        if active == (name in self._alarmed) and name == "records":
            return
        (self._alarmed.add if active else self._alarmed.discard)(name)
        self._tell(self._hooks.on_alarm, name, active, detail)

    def _tell(self, hook: Callable[..., None], *values: object) -> None:
        with suppress(Exception):  # a hook's fault is not the records'
            hook(*values)
