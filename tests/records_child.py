"""Other processes in the tests of the records: `python -m tests.records_child write URL JOURNAL`, or
`lock|limited|read-only FILE`."""

import os
import resource
import signal
import sqlite3
import sys
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from siaga_pbx.records.changes import Update
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.store import Store
from tests.records_support import arrival, end, event, order, url_of

_NOBODY = 65534


def write(url: str, journal: str) -> None:
    """Writes calls and dispatches until it is killed; prints the id of each dispatch that was told durable."""
    store = Store(url, journal=Path(journal))
    store.open()
    room = threading.Semaphore(20)  # commits under way, so that the kill comes in the middle of some

    def tell(dispatch: str, future: Future[None]) -> None:
        future.result()
        os.write(1, f"{dispatch}\n".encode())
        room.release()

    print("ready", flush=True)
    while True:
        call = new_id()
        store.write(arrival(call, callable=True))
        store.write([Update("call", call, {"seat_id": "101"}), event("bridged", call)])
        room.acquire()
        dispatch, changes = order(call)
        store.commit(changes).add_done_callback(partial(tell, dispatch))
        if os.urandom(1)[0] % 4:
            store.write(end(call))


def lock(file: str) -> None:
    """Holds the database's write lock until its input ends."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.read()
    connection.execute("ROLLBACK")


def limited(file: str) -> None:
    """A disk that is full, as this process sees it: no file may grow past a limit. Prints what became of its writes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    alarms: list[tuple[str, bool]] = []
    store = Store(
        url_of(Path(file)), hooks=Hooks(on_alarm=lambda name, active, _: alarms.append((name, active))), retry_s=0
    )
    store.open()
    size = Path(f"{file}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
    count = 0
    while store.flush() and count < 10_000:
        store.write([event(f"e{count:05d}", data={"filling": "x" * 1000})])
        count += 1
    print("failed after", count, alarms, flush=True)
    for _ in range(50):
        store.write([event(f"e{count:05d}")])
        count += 1
    assert not store.flush()
    refused = store.commit([event("refused")])
    print("commit:", type(refused.exception()).__name__, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert store.flush()
    store.close()
    print("written", count, alarms, flush=True)


def read_only(file: str) -> None:
    """A database that may not be written, and then may. Prints what became of the writes."""
    path = Path(file)
    with_everything_loaded = Store(url_of(path))
    with_everything_loaded.open()
    with_everything_loaded.write([event("e00000")])
    with_everything_loaded.close()
    for place in (path.parent, *path.parent.iterdir()):
        if os.getuid() == 0:
            os.chown(place, _NOBODY, _NOBODY)
    if os.getuid() == 0:  # who may write whatever its mode says
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    path.chmod(0o400)
    alarms: list[tuple[str, bool]] = []
    hooks = Hooks(on_alarm=lambda name, active, _: alarms.append((name, active)))
    store = Store(url_of(path), hooks=hooks, retry_s=0)
    store.open()
    store.write([event("e00001")])
    assert not store.flush()
    print("failed", alarms)
    path.chmod(0o600)
    assert store.flush()
    store.write([event("e00002")])
    store.close()
    print("written", alarms)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        {"lock": lock, "limited": limited, "read-only": read_only}[sys.argv[1]](sys.argv[2])
