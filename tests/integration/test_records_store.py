"""The store as its users see it: threads, futures, hooks, and the digests that it adds."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from siaga_pbx.records.changes import Event, Insert, Update
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.verify import verify
from tests.records_databases import Database
from tests.records_support import AT, arrival, end, event, order


def row_events(database: Database) -> list[object]:
    """The kinds of the events that the writer itself made, in order."""
    return [kind for (kind,) in database.rows("SELECT kind FROM event WHERE kind LIKE 'row%' ORDER BY seq")]


def test_many_threads(database: Database) -> None:
    store = database.store()
    store.open()

    def work(thread: int) -> None:
        for number in range(200):
            store.write([event(f"w{thread}-{number:03d}")])
            if number % 20 == 0:
                store.commit([event(f"c{thread}-{number:03d}")]).result(10)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    store.close()
    for thread in range(4):
        found = [
            kind for (kind,) in database.rows(f"SELECT kind FROM event WHERE kind LIKE 'w{thread}-%' ORDER BY seq")
        ]
        assert found == [f"w{thread}-{number:03d}" for number in range(200)], "each thread's own order"
    assert database.rows("SELECT count(*) FROM event") == [(4 * 210,)]
    assert verify(database.url) == []


def test_what_was_written_before_a_commit_is_durable_with_it(database: Database) -> None:
    store = database.store()
    store.open()
    call = new_id()
    store.write(arrival(call))
    store.commit([Update("call", call, {"priority": 1})]).result(10)
    assert database.rows("SELECT id, priority FROM call") == [(call, 1)]
    store.close()


def test_writes_before_the_store_is_open_are_kept(database: Database) -> None:
    store = database.store()
    store.write([event("early")])
    assert not store.flush(0)
    store.open()
    assert store.flush()
    store.close()
    assert database.rows("SELECT kind FROM event") == [("early",)]


def test_a_task_that_is_cancelled_does_not_call_its_commit_back(database: Database) -> None:
    store = database.store()
    store.open()

    async def give_up() -> None:
        waiting = asyncio.wrap_future(store.commit([event("committed")]))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wrap_future(store.commit([event("the next")]))

    asyncio.run(give_up())
    store.close()
    assert database.rows("SELECT kind FROM event ORDER BY seq") == [("committed",), ("the next",)]


def test_hooks_that_fail_harm_nothing(database: Database) -> None:
    called = threading.Event()

    def fail(*_: object) -> None:
        called.set()
        raise RuntimeError("the hook's own fault")

    store = database.store(Hooks(fail, fail, fail))
    store.open()
    store.write([Update("call", "unknown", {"priority": 1})])
    store.commit([event("committed")]).result(10)
    store.close()
    assert called.is_set()


def test_a_closed_call_is_followed_by_a_digest_and_so_is_every_later_change(database: Database) -> None:
    store = database.store()
    store.open()
    call = new_id()
    store.write(arrival(call))
    store.write([Update("call", call, {"answered_at": AT})])
    assert store.flush()
    assert row_events(database) == []
    store.write(end(call))
    store.write([Update("call", call, {"recording": "x.wav"})])
    store.write([Update("call", call, {"ended_at": AT, "rtp_lost": 3})])
    assert store.flush()
    assert row_events(database) == ["row_closed", "row_amended", "row_amended"]
    store.write([Insert("call", {"id": "missed", "received_at": AT, "ended_at": AT, "outcome": "failed"})])
    assert store.flush()
    assert row_events(database)[3:] == ["row_closed"]
    store.close()
    assert verify(database.url) == []


@pytest.mark.parametrize("state", ["rejected", "cleared", "failed", "cancelled"])
def test_a_closed_dispatch_and_one_that_goes_on_all_the_same(database: Database, state: str) -> None:
    store = database.store()
    store.open()
    call = new_id()
    store.write(arrival(call))
    dispatch, changes = order(call)
    store.commit(changes).result(10)
    for then in ("published", "received", state, state, "accepted", "cleared"):
        store.write([Update("dispatch", dispatch, {"state": then})])
    store.write([Update("dispatch", dispatch, {"attempts": 3})])
    assert store.flush()
    assert row_events(database) == ["row_closed", "row_amended", "row_reopened", "row_closed", "row_amended"]
    calls = database.rows("SELECT DISTINCT call_id, subject, subject_id FROM event WHERE kind LIKE 'row%'")
    assert calls == [(call, "dispatch", dispatch)]
    store.close()
    assert verify(database.url) == []


def test_content_as_the_wire_brings_it(database: Database) -> None:
    store = database.store()
    store.open()
    odd = b"\xff\x00\xc3(".decode("utf-8", "surrogateescape")
    call = new_id()
    store.write(
        [Insert("call", {"id": call, "received_at": AT, "reason": odd, "sip_status": True, "lat": float("nan")})]
    )
    store.write([Event(AT, "call", call, call, odd, {"header": odd, "nan": float("inf"), odd: {1, 2}})])
    store.write(end(call, odd))
    assert store.flush()
    store.close()
    assert database.rows("SELECT count(*) FROM event WHERE kind = 'changes_refused'") == [(0,)]
    assert database.rows("SELECT reason FROM call") == [("\\udcff\\x00\\udcc3(",)]
    assert verify(database.url) == []
