"""A process that records without a pause is killed again and again: what it was told is durable is there, and whole."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.records_databases import Database
from tests.records_outages import kinds as outage_kinds
from tests.records_replay import CALLS, events_of
from tests.records_support import url_of

_ROUNDS = 4


def run_and_kill(database: Database, seconds: float) -> list[str]:
    """The dispatches that the process was told are durable before the kill."""
    command = [sys.executable, "-m", "tests.records_child", "write", database.url, str(database.journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        first = child.stdout.readline().removesuffix("\n")
        time.sleep(seconds)  # the length of its life is the test's input, not a wait for anything
        child.kill()
        lines = child.stdout.read().split("\n")
    return [first, *lines[:-1]]  # the last was cut off, or is empty


def test_killed_while_it_writes(database: Database) -> None:
    chance = random.Random(112)
    durable: list[str] = []
    for _ in range(_ROUNDS):
        told = run_and_kill(database, chance.uniform(0.05, 0.4))
        assert all(told), "it ended by itself"
        durable += told
        assert verify(database.url) == [], "as the crash left it"
    store = database.store()
    store.open()
    store.close()
    with Reader(database.url) as reader:
        dispatches = {str(dispatch["id"]) for dispatch in reader.dispatches()}
        assert set(durable) <= dispatches
        assert {str(entry["dispatch_id"]) for entry in reader.outbox()} == dispatches, (
            "committed together or not at all"
        )
        calls = reader.calls()
    assert {call["outcome"] for call in calls} == {"answered", "interrupted"}
    assert all(call["ended_at"] for call in calls)
    interrupted = [str(call["id"]) for call in calls if call["outcome"] == "interrupted"]
    marked = database.rows("SELECT call_id FROM event WHERE kind = 'interrupted' ORDER BY call_id")
    assert [(id,) for id in sorted(interrupted)] == marked
    assert verify(database.url) == []


def test_killed_while_it_replays(database: Database) -> None:
    replayed(database, 112, kills=6)


@pytest.mark.soak
def test_killed_hundreds_of_times_while_it_replays(database: Database) -> None:
    replayed(database, 911, kills=100)


def replayed(database: Database, seed: int, kills: int) -> None:
    """SIGKILL at so many points of replays: each call of each journal is there once, whole and in order."""
    command = [sys.executable, "-m", "tests.records_replay", database.url, str(database.journal), str(seed), str(kills)]
    calls = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=3600).stdout)
    assert calls > CALLS, "no replay came to its end"
    assert calls <= CALLS * kills, "no kill came in the middle of one"
    assert outage_kinds(database) == events_of(calls)
    assert database.rows("SELECT DISTINCT outcome FROM call") == [("answered",)]
    assert database.rows("SELECT count(*) FROM call") == [(calls,)]
    assert database.rows("SELECT count(*) FROM event WHERE kind = 'row_closed'") == [(calls,)]
    assert database.rows("SELECT data FROM event WHERE kind = 'changes_refused'") == []
    assert not database.journal.exists()
    assert verify(database.url) == []


def test_the_files_are_the_owner_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "records" / "siaga.db"
    before = os.umask(0)
    try:
        store = Store(url_of(file))
        store.open()
        assert store.flush()
        modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == {"siaga.db": 0o600, "siaga.db-wal": 0o600, "siaga.db-shm": 0o600, "siaga.db.lock": 0o600}
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    file = tmp_path / "siaga.db"
    file.touch(0o666)
    file.chmod(0o666)
    store = Store(url_of(file))
    store.open()
    store.close()
    assert file.stat().st_mode & 0o777 == 0o600
