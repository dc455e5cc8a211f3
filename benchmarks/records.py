"""What recording costs: CPU of a call's worth of writes, for the caller and the writer thread, and commit latency.

Run: python -m benchmarks.records [--calls 2000] [--rate 50] [--folder DIR]
A call's worth is one insert, four updates and twelve events in seven batches; its end adds the row's digest.

     python -m benchmarks.records --events 1000000 [--database URL] [--folder DIR]
What proving a record of that many events costs: CPU, time and peak memory of `verify-records`, of SQLite's own check,
of a backup. The record is made first, by the store, as calls would make it, unless URL has it (default: a new file).
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from siaga_pbx.records.changes import Change, Event, Insert, Update
from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_now
from siaga_pbx.records.verify import verify

_CHECK = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA quick_check(1)'))"
_BACK_UP = """
import pathlib, sys
from siaga_pbx.records.backup import back_up
back_up(sys.argv[1], pathlib.Path(sys.argv[2]))
"""

# When, in seconds after its arrival, an answered call writes its seven batches.
_STEPS = (0.0, 0.01, 0.02, 0.1, 1.0, 1.1, 2.5)


def batches_of_a_call() -> Iterator[Sequence[Change]]:
    """The batches that one answered call writes."""
    call, at = new_id(), utc_now()

    def event(kind: str, subject: str = "call", subject_id: str = call) -> Event:
        return Event(at, subject, subject_id, call, kind, {"cause": "benchmark", "status": 200})

    row: dict[str, object] = {"id": call, "sip_call_id": f"{call}@192.0.2.1", "trunk": "telkomsel", "called": "112"}
    row |= {"caller_number": "+6281234567890", "identity_class": "subscriber", "callable": True, "received_at": at}
    end = {"ended_at": at, "outcome": "answered", "ended_by": "caller", "sip_status": 200, "rtp_lost": 0}
    talking = {"connected_at": at, "seat_id": "101"}
    yield [Insert("call", row), event("received"), event("identified")]
    yield [Update("call", call, {"answered_at": at}), event("answered"), event("queued")]
    yield [Update("call", call, {"offered_at": at}), event("offered"), event("offered", "seat", "101")]
    yield [event("ringing", "seat", "101")]
    yield [Update("call", call, talking), event("bridged"), event("talking", "seat", "101")]
    yield [event("recording")]
    yield [Update("call", call, end), event("ended"), event("wrap_up", "seat", "101")]


class Bench:
    """One store in a folder, with its transactions' times and the writer thread's CPU."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'siaga.db'}"
        self.transactions: list[float] = []
        self.writer_cpu = 0.0
        self.store = Store(self.url, hooks=Hooks(on_commit=self._committed))
        self.store.open()

    def _committed(self, seconds: float) -> None:
        self.transactions.append(seconds)
        self.writer_cpu = time.clock_gettime(time.pthread_getcpuclockid(threading.get_ident()))

    def load(self, calls: int, rate: float) -> tuple[float, float, float]:
        """That many calls at that rate (0: as fast as it goes). A call's seconds in write(), writer CPU, all CPU."""
        steps = [
            (number / rate + step if rate else 0.0, batch)
            for number in range(calls)
            for step, batch in zip(_STEPS, batches_of_a_call(), strict=True)
        ]
        steps.sort(key=lambda step: step[0])
        caller, writer, everything, started = 0.0, self.writer_cpu, cpu(), time.perf_counter()
        for at, batch in steps:
            if (wait := started + at - time.perf_counter()) > 0:
                time.sleep(wait)
            before = time.perf_counter()
            self.store.write(batch)
            caller += time.perf_counter() - before
        self.store.flush(60)
        return caller / calls, (self.writer_cpu - writer) / calls, (cpu() - everything) / calls

    def latencies(self, number: int) -> list[float]:
        """Seconds from commit() until it is durable, one after another."""
        found = []
        for _ in range(number):
            before = time.perf_counter()
            self.store.commit([Event(utc_now(), "system", "benchmark", None, "commit")]).result(10)
            found.append(time.perf_counter() - before)
        return found


def prove(url: str, events: int) -> None:
    """Makes a record of at least that many events, unless it is there, and shows what each proof of it costs."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(url, journal=Path(folder) / "pending")
        started, spent = time.perf_counter(), cpu()
        store.open()
        while store.head.seq < events:
            for _ in range(500):
                for batch in batches_of_a_call():
                    store.write(batch)
            assert store.flush(600)
        print(f"{store.head.seq} events, made in {time.perf_counter() - started:.0f} s, {cpu() - spent:.0f} s of CPU")
        store.close()
        measure("verify-records", "-m", "siaga_pbx", "verify-records", "--database", url)
        file = sqlite_file(url)
        if file is not None:
            print(f"the file has {file.stat().st_size / 1e6:.0f} MB")
            measure("quick_check", "-c", _CHECK, str(file))
            measure("a backup", "-c", _BACK_UP, url, f"{folder}/backup.db")


def measure(name: str, *python: str) -> None:
    """Runs Python so, and shows what it cost, all of its start included."""
    sys.stdout.flush()
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *python])
    _, status, usage = os.wait4(process.pid, 0)
    wall, spent = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    assert os.waitstatus_to_exitcode(status) == 0
    print(f"{name}: {spent:.1f} s of CPU, {wall:.1f} s in all, at most {usage.ru_maxrss / 1024:.0f} MiB")


def cpu() -> float:
    """The CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def shown(name: str, seconds: list[float]) -> str:
    """Median and p99 in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{name}: median {statistics.median(ordered) * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second of the paced load")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the database is made (default: a temporary one)"
    )
    parser.add_argument("--events", type=int, default=0, help="prove a record of so many events instead")
    parser.add_argument("--database", default="", help="the URL of the record that is proven")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.events:
            prove(options.database or f"sqlite:///{folder}/siaga.db", options.events)
            return
        bench = Bench(Path(folder))
        bench.load(50, 0)  # statements compiled, caches warm
        for name, calls, rate in [("flat out", options.calls, 0.0), ("paced", int(options.rate * 10), options.rate)]:
            bench.transactions.clear()
            caller, writer, everything = bench.load(calls, rate)
            spent = f"write() {caller * 1e6:.0f} us, writer thread {writer * 1e6:.0f} us of CPU"
            print(f"{name}, {calls} calls; a call: {spent} (all threads {everything * 1e6:.0f} us);")
            print(f"  {len(bench.transactions)} transactions")
            print("  " + shown("a transaction", bench.transactions))
        print(shown("commit()", bench.latencies(500)))
        bench.store.close()
        before = time.perf_counter()
        problems = verify(bench.url)
        print(f"verify: {problems or 'whole'} in {time.perf_counter() - before:.2f} s")


if __name__ == "__main__":
    main()
