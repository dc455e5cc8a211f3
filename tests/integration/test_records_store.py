"""The store as its users see it: threads, futures, hooks, and the digests that it adds."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from siaga_pbx.records.changes import Event, Insert, Update
from siaga_pbx.records.hooks import Hooks
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.records_support import AT, arrival, end, event, order, rows, url_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "siaga.db"


def row_events(file: Path) -> list[object]:
    """The kinds of the events that the writer itself made, in order."""
    return [kind for (kind,) in rows(file, "SELECT kind FROM event WHERE kind GLOB 'row_*' ORDER BY seq")]


def test_many_threads(file: Path) -> None:
    store = Store(url_of(file))
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
        found = [kind for (kind,) in rows(file, f"SELECT kind FROM event WHERE kind GLOB 'w{thread}-*' ORDER BY seq")]
        assert found == [f"w{thread}-{number:03d}" for number in range(200)], "each thread's own order"
    assert rows(file, "SELECT count(*) FROM event") == [(4 * 210,)]
    assert verify(url_of(file)) == []


def test_what_was_written_before_a_commit_is_durable_with_it(file: Path) -> None:
    store = Store(url_of(file))
    store.open()
    call = new_id()
    store.write(arrival(call))
    store.commit([Update("call", call, {"priority": 1})]).result(10)
    assert rows(file, "SELECT id, priority FROM call") == [(call, 1)]
    store.close()


def test_writes_before_the_store_is_open_are_kept(file: Path) -> None:
    store = Store(url_of(file))
    store.write([event("early")])
    assert not store.flush(0)
    store.open()
    assert store.flush()
    store.close()
    assert rows(file, "SELECT kind FROM event") == [("early",)]


def test_a_task_that_is_cancelled_does_not_call_its_commit_back(file: Path) -> None:
    store = Store(url_of(file))
    store.open()

    async def give_up() -> None:
        waiting = asyncio.wrap_future(store.commit([event("committed")]))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wrap_future(store.commit([event("the next")]))

    asyncio.run(give_up())
    store.close()
    assert rows(file, "SELECT kind FROM event ORDER BY seq") == [("committed",), ("the next",)]


def test_hooks_that_fail_harm_nothing(file: Path) -> None:
    called = threading.Event()

    def fail(*_: object) -> None:
        called.set()
        raise RuntimeError("the hook's own fault")

    store = Store(url_of(file), hooks=Hooks(fail, fail, fail))
    store.open()
    store.write([Update("call", "unknown", {"priority": 1})])
    store.commit([event("committed")]).result(10)
    store.close()
    assert called.is_set()


def test_a_closed_call_is_followed_by_a_digest_and_so_is_every_later_change(file: Path) -> None:
    store = Store(url_of(file))
    store.open()
    call = new_id()
    store.write(arrival(call))
    store.write([Update("call", call, {"answered_at": AT})])
    assert store.flush()
    assert row_events(file) == []
    store.write(end(call))
    store.write([Update("call", call, {"recording": "x.wav"})])
    store.write([Update("call", call, {"ended_at": AT, "rtp_lost": 3})])
    assert store.flush()
    assert row_events(file) == ["row_closed", "row_amended", "row_amended"]
    store.write([Insert("call", {"id": "missed", "received_at": AT, "ended_at": AT, "outcome": "failed"})])
    assert store.flush()
    assert row_events(file)[3:] == ["row_closed"]
    store.close()
    assert verify(url_of(file)) == []


@pytest.mark.parametrize("state", ["rejected", "cleared", "failed", "cancelled"])
def test_a_closed_dispatch_and_one_that_goes_on_all_the_same(file: Path, state: str) -> None:
    store = Store(url_of(file))
    store.open()
    call = new_id()
    store.write(arrival(call))
    dispatch, changes = order(call)
    store.commit(changes).result(10)
    for then in ("published", "received", state, state, "accepted", "cleared"):
        store.write([Update("dispatch", dispatch, {"state": then})])
    store.write([Update("dispatch", dispatch, {"attempts": 3})])
    assert store.flush()
    assert row_events(file) == ["row_closed", "row_amended", "row_reopened", "row_closed", "row_amended"]
    calls = rows(file, "SELECT DISTINCT call_id, subject, subject_id FROM event WHERE kind GLOB 'row_*'")
    assert calls == [(call, "dispatch", dispatch)]
    store.close()
    assert verify(url_of(file)) == []


def test_content_as_the_wire_brings_it(file: Path) -> None:
    store = Store(url_of(file))
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
    assert rows(file, "SELECT count(*) FROM event WHERE kind = 'changes_refused'") == [(0,)]
    assert rows(file, "SELECT reason FROM call") == [("\\udcff\\x00\\udcc3(",)]
    assert verify(url_of(file)) == []
