"""The end of data: content goes on its day, and the chain still verifies."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.records.changes import Event, Insert, Upsert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.retention import Keep, Purged, purge
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import parse_utc, utc_text
from siaga_pbx.records.verify import verify
from tests.records_databases import Database
from tests.records_support import AT, end, event, order

_DAY = 86_400.0
_NOW = parse_utc(AT).timestamp()
_NUMBER = "+6281234567890"


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = database.store()
    store.open()
    yield store
    store.close()


@pytest.fixture
def reader(database: Database, store: Store) -> Iterator[Reader]:
    with Reader(database.url) as reader:
        yield reader


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    return folder


def call_of(store: Store, recordings: Path, days_ago: float) -> str:
    """A call with all that can be on record of one, which ended so many days ago."""
    call, ended = new_id(), utc_text(_NOW - days_ago * _DAY)
    recording = recordings / "2026" / f"{call}.wav"
    recording.parent.mkdir(exist_ok=True)
    recording.write_bytes(b"RIFF")
    who = {"caller_number": _NUMBER, "sip_call_id": "x@192.0.2.1", "callable": True, "lat": -6.7, "lon": 108.5}
    store.write([Insert("call", {"id": call, "received_at": ended, "trunk": "telkomsel", "called": "112", **who})])
    store.write([event("received", call, {"from": _NUMBER})])
    store.write(order(call)[1])
    store.write(end(call, "abandoned", ended_at=ended, recording=f"2026/{call}.wav", reason="said his name"))
    store.write([Upsert("callback", {"id": call, "state": "dismissed", "at": AT, "reason": "name of the caller"})])
    store.flush()
    return call


def purged(store: Store, reader: Reader, recordings: Path, calls: int, files: int) -> Purged:
    return purge(store, reader, Keep(calls, files, recordings), _NOW)


def test_a_call_is_erased_on_its_day(database: Database, store: Store, reader: Reader, recordings: Path) -> None:
    old, young = (call_of(store, recordings, days) for days in (11, 9))
    before = reader.call(young)
    assert purged(store, reader, recordings, 10, 100) == Purged(1, 1)
    erased = reader.call(old)
    assert erased is not None
    gone = ("caller_number", "sip_call_id", "callable", "lat", "lon", "reason", "recording", "seat_id")
    assert {erased[column] for column in gone} == {None}
    assert (erased["outcome"], erased["trunk"], erased["called"]) == ("abandoned", "telkomsel", "112"), "for statistics"
    (incident,) = reader.incidents(call_id=old)
    assert (incident["note"], incident["category"]) == (None, "fire")
    (dispatch,) = reader.dispatches(call_id=old)
    assert (dispatch["message"], dispatch["agency"]) == (None, "damkar")
    assert {row["data"] is None for row in reader.events(call_id=old) if row["kind"] != "erased"} == {True}
    assert reader.call(young) == before
    assert verify(database.url) == []
    assert purged(store, reader, recordings, 10, 100) == Purged(0, 0), "only once"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nothing_of_an_erased_caller_is_left_in_the_files(
    tmp_path: Path, store: Store, reader: Reader, recordings: Path
) -> None:
    call_of(store, recordings, 11)
    purged(store, reader, recordings, 10, 100)
    store.close()
    reader.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            for secret in (_NUMBER, "said his name", "name of the caller", "asap"):
                assert secret.encode() not in path.read_bytes(), path


def test_what_is_written_about_an_erased_call_later_is_whole(
    database: Database, store: Store, reader: Reader, recordings: Path
) -> None:
    call = call_of(store, recordings, 11)
    purged(store, reader, recordings, 10, 100)
    store.write([Event(AT, "call", call, call, "looked at")])
    store.write(end(call, "abandoned", disposition="prank"))
    store.flush()
    assert verify(database.url) == []


def test_recordings_go_before_their_calls(database: Database, store: Store, reader: Reader, recordings: Path) -> None:
    old, young = (call_of(store, recordings, days) for days in (11, 9))
    assert purged(store, reader, recordings, 100, 10) == Purged(0, 1)
    kept = reader.call(old)
    assert kept is not None
    assert (kept["recording"], kept["caller_number"]) == (None, _NUMBER)
    assert [path.stem for path in recordings.rglob("*.wav")] == [young]
    assert [row["kind"] for row in reader.events(call_id=old)][-2:] == ["recording_erased", "row_amended"]
    assert verify(database.url) == []


def test_a_live_call_stays_however_old(store: Store, reader: Reader, recordings: Path) -> None:
    call = new_id()
    store.write([Insert("call", {"id": call, "received_at": "2020-01-01T00:00:00.000Z", "caller_number": _NUMBER})])
    store.flush()
    assert purged(store, reader, recordings, 1, 1) == Purged(0, 0)
    kept = reader.call(call)
    assert kept is not None
    assert kept["caller_number"] == _NUMBER


def test_a_file_that_no_call_knows_goes_by_its_age(store: Store, reader: Reader, recordings: Path) -> None:
    for name, days in (("old", 11), ("young", 9)):
        path = recordings / f"{name}.wav"
        path.touch()
        os.utime(path, (_NOW - days * _DAY, _NOW - days * _DAY))
    assert purged(store, reader, recordings, 100, 10) == Purged(0, 1)
    assert [path.name for path in recordings.iterdir()] == ["young.wav"]


def test_a_row_cannot_name_a_file_elsewhere(tmp_path: Path, store: Store, reader: Reader, recordings: Path) -> None:
    precious = tmp_path / "precious.wav"
    precious.touch()
    for name in ("../precious.wav", str(precious)):
        call = new_id()
        store.write([Insert("call", {"id": call, "received_at": AT})])
        store.write(end(call, recording=name, ended_at="2020-01-01T00:00:00.000Z"))
    store.flush()
    purged(store, reader, recordings, 10, 10)
    assert precious.exists()


def test_many_calls(database: Database, store: Store, reader: Reader, recordings: Path) -> None:
    for _ in range(120):
        call_of(store, recordings, 11)
    assert purged(store, reader, recordings, 10, 10) == Purged(120, 120)
    assert database.rows("SELECT count(*) FROM call WHERE caller_number IS NOT NULL") == [(0,)]
    assert list(recordings.rglob("*.wav")) == []
    assert verify(database.url) == []
