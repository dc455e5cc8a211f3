"""The store: whatever is recorded goes through its one writer thread."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

from siaga_pbx.records.chain import Head
from siaga_pbx.records.changes import Change
from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.errors import StoreInUse, StoreUnavailable
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.journal import Journal
from siaga_pbx.records.times import utc_now
from siaga_pbx.records.writer import Batch, Writer, WriterSettings

_QUEUE_LIMIT = 50_000  # batches, some 100 MB: half a minute at 200 calls/s of a disk that hangs
_MEMORY_LIMIT = 50_000  # batches of the journal when its file fails as well
_GROUP_LIMIT = 500  # batches a transaction, which is then some 100 ms
_LOCK_S = 0.2  # between two attempts at the lock
_IDLE_S = 60.0  # after so long the writer sees whether something is due
_LINGER_S = 0.05  # how long a write() may wait for company: one sync for them all; a commit() ends the wait

_Marker: TypeAlias = Future[bool]  # in the queue: resolved when everything before it was dealt with
_Stop: TypeAlias = None


class Store:
    """The writer of the records. Everything but open(), flush() and close() may be called from any thread."""

    def __init__(
        self,
        database: str,
        *,
        node: str | None = None,
        journal: Path | None = None,
        hooks: Hooks | None = None,
        now: Callable[[], str] = utc_now,
        entropy: Callable[[int], bytes] = os.urandom,
        busy_timeout_s: float = 2.0,
        retry_s: float = 1.0,
    ) -> None:
        """`database`: its URL. `node`: the centre's node whose crashed calls open() closes; None: every open call.

        `journal`: the file that takes over when the database fails; beside an SQLite database, named `*.pending`, by
        default. Another kind needs it named.
        """
        if journal is None:
            file = sqlite_file(database)
            assert file is not None, "a database without a file of ours needs a journal"
            journal = file.with_name(f"{file.name}.pending")
        self._database, self._node = database, node
        self._times = (busy_timeout_s, retry_s)
        self._journal = Journal(journal, _MEMORY_LIMIT)
        self._hooks = hooks or Hooks()
        self._now, self._entropy = now, entropy
        self._queue: SimpleQueue[Batch | _Marker | _Stop] = SimpleQueue()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None
        self._writer: Writer | None = None
        self._lock: int | None = None
        self._closed = False
        self._busy_since: float | None = None
        self.dropped = 0
        """Batches that write() dropped because the writer thread was stuck or closed."""

    @property
    def queued(self) -> int:
        """How many batches wait for the writer thread."""
        return self._queue.qsize()

    @property
    def head(self) -> Head:
        """The last event that is known to be durable in the database; seq 0 before the first."""
        return Head() if self._writer is None else self._writer.head

    @property
    def behind_s(self) -> float:
        """How long the writer thread has been at what it does now; 0 when it has nothing to do.

        Much of it, and the database does not answer: what is written waits in memory.
        """
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def open(self, keep: Collection[str] = (), patience_s: float | None = None) -> None:
        """Migrates, checks, replays the journal, closes the rows of a crashed run (but for the calls to `keep`).

        Raises StoreInUse when another process writes to this database; for nothing else: a database that fails is an
        alarm, and the journal takes what is written until it works.

        With `patience_s` it returns after so many seconds at the latest and raises nothing: the rest of it, be it the
        wait for that other process, goes on in the writer thread, and what is written waits in memory.
        """
        if patience_s is None:
            self._take_lock()
        busy_timeout_s, retry_s = self._times
        settings = WriterSettings(self._database, self._node, frozenset(keep), busy_timeout_s, retry_s)
        writer = self._writer = Writer(settings, self._journal, self._hooks, self._now, self._entropy)
        opened, self._busy_since = threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(writer, opened), name="records", daemon=True)
        self._thread.start()
        opened.wait(patience_s)

    def write(self, changes: Iterable[Change]) -> None:
        """Records the changes soon, in the order of the calls, as one. Never blocks, never raises."""
        if self._closed or self._queue.qsize() >= _QUEUE_LIMIT:
            self.dropped += 1
            return
        self._queue.put(Batch(tuple(changes)))

    def commit(self, changes: Iterable[Change]) -> Future[None]:
        """The future is done once all the changes are durable in the database; what was written before is, too.

        It fails with StoreUnavailable or ChangeRefused; then none of them is in the database, now or later. When the
        connection breaks in mid-commit it is done once the database can be asked what came of it. Never blocks. In
        asyncio: `await asyncio.wrap_future(store.commit(changes))`.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what is handed over cannot be called back
        if self._closed or self._queue.qsize() >= _QUEUE_LIMIT:
            future.set_exception(StoreUnavailable("the records are closed, or their disk hangs"))
            return future
        self._put_urgently(Batch(tuple(changes), future))
        return future

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until all that was written is in the database (True); False: in the journal, or not within the time."""
        if self._thread is None or not self._thread.is_alive():
            return False
        marker: Future[bool] = Future()
        self._put_urgently(marker)
        try:
            return marker.result(timeout_s)
        except TimeoutError:
            return False

    def doubt(self) -> None:
        """Has the database's file checked, beside the writer; damage that is found is an outage."""
        if self._writer is not None:
            self._writer.doubt()
            self.write(())

    def close(self, timeout_s: float = 10.0) -> None:
        """Brings everything to the disk and ends the writer thread. Later writes are dropped, later commits fail."""
        self._closed = True
        if self._thread is not None:
            self._put_urgently(None)
            self._thread.join(timeout_s)
            self._thread = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _put_urgently(self, item: Batch | _Marker | _Stop) -> None:
        self._queue.put(item)
        self._urgent.set()

    def _take_lock(self) -> None:
        """One writer a database and journal; the kernel drops the lock of a process that dies."""
        file = sqlite_file(self._database) or self._journal.path
        with suppress(OSError):  # a disk that fails is the writer's to find and to tell
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise StoreInUse(f"{file}: another process writes to this database") from None
            self._lock = lock

    # --- the writer thread --------------------------------------------------------------------------------------------

    def _run(self, writer: Writer, opened: threading.Event) -> None:
        if self._lock is None and not self._wait_for_lock(writer):
            self._give_up()
            return
        writer.start()
        opened.set()
        self._busy_since = None
        going = True
        while going:
            batches, marker, going = self._gather(_IDLE_S if writer.at_rest else self._times[1])
            self._busy_since = self._busy_since or time.monotonic()
            writer.take(batches)
            writer.tell_dropped(self.dropped)
            if marker is not None:
                marker.set_result(writer.up or writer.recover())
            self._busy_since = None
        writer.close()

    def _wait_for_lock(self, writer: Writer) -> bool:
        """A command of ours may have it for a while. False: the store was closed before."""
        while not self._closed:
            try:
                self._take_lock()
            except StoreInUse as error:
                writer.tell_outage(str(error))
                time.sleep(_LOCK_S)
            else:
                return True
        return False

    def _give_up(self) -> None:
        """What waits is lost: without the lock neither database nor journal is ours."""
        with suppress(Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Batch):
                    self.dropped += 1
                    if item.future is not None:
                        item.future.set_exception(StoreUnavailable("another process writes to this database"))
                elif item is not None:
                    item.set_result(False)

    def _gather(self, wait_s: float) -> tuple[list[Batch], _Marker | None, bool]:
        """What is in the queue, up to a group; after the first a little time for others to join it, if nobody waits."""
        batches: list[Batch] = []
        with suppress(Empty):
            item = self._queue.get(timeout=wait_s)
            self._busy_since = time.monotonic()
            self._urgent.wait(_LINGER_S)
            self._urgent.clear()
            while isinstance(item, Batch):
                batches.append(item)
                if len(batches) == _GROUP_LIMIT:
                    return batches, None, True
                item = self._queue.get_nowait()
            return batches, item, item is not None
        return batches, None, True
