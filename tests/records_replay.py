"""A process that replays a journal is killed at it, again and again.

`python -m tests.records_replay URL JOURNAL SEED KILLS` prints how many calls went into the journal.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from siaga_pbx.records.changes import Change, Insert, Update
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.journal import Entry, Journal
from siaga_pbx.records.store import Store
from tests.records_support import AT, event

CALLS = 400  # an outage, of three batches a call
_TRANSACTIONS = 3 * CALLS // 500  # and one for what is left


def events_of(calls: int, first: int = 0) -> list[str]:
    """The kinds of the events of so many calls, in their order."""
    return [f"e0{number:06d}" for number in range(3 * first, 3 * (first + calls))]


def fill(journal: Path, first: int, calls: int) -> None:
    """What a daemon left there that could not write for a while: calls with their events."""
    run, number, kinds = new_id(), 0, iter(events_of(calls, first))
    waiting = Journal(journal, 10 * calls)
    waiting.open()
    for _ in range(calls):
        call = new_id()
        changes: tuple[Change, ...] = (
            Insert("call", {"id": call, "received_at": AT}),
            Update("call", call, {"answered_at": AT}),
            Update("call", call, {"ended_at": AT, "outcome": "answered"}),
        )
        for change in changes:
            number += 1
            waiting.append([Entry(run, number, [change, event(next(kinds), call)])])
    waiting.close()


def replay(url: str, journal: Path, progress: int) -> None:
    """Opens the store and writes something of its own; a byte for each transaction."""

    def tell(_: float) -> None:
        os.write(progress, b".")

    store = Store(url, journal=journal, hooks=Hooks(on_commit=tell))
    store.open((), 0.0)
    store.write([event("own")])
    store.flush(60)
    store.close(60)


def main(url: str, journal: Path, seed: int, kills: int) -> None:
    chance, calls = random.Random(seed), 0
    for number in range(kills + 1):
        if not journal.exists():
            fill(journal, calls, CALLS)
            calls += CALLS
        listening, telling = os.pipe()
        child = os.fork()
        if not child:
            replay(url, journal, telling)
            os._exit(0)
        os.close(telling)
        if number < kills:  # at so many transactions, and somewhere in the next
            for _ in range(chance.randint(0, _TRANSACTIONS)):
                os.read(listening, 1)
            time.sleep(chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(listening)
        assert number < kills or status == 0
    print(calls)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
