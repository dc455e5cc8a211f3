"""The end of data: content goes on its day, and the chain still verifies."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from siaga_pbx.records.changes import Event, Insert, Update, Upsert
from siaga_pbx.records.custody import Custody
from siaga_pbx.records.errors import NotPossible
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.retention import Keep, Purged, purge
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import parse_utc, utc_text
from siaga_pbx.records.verify import examine, verify
from tests.records_databases import Database
from tests.records_support import AT, end, event, order

_DAY = 86_400.0
_NOW = parse_utc(AT).timestamp()
_NUMBER = "+6281234567890"

Purge = Callable[[int, int], Purged]


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


@pytest.fixture
def custody(store: Store, reader: Reader, recordings: Path) -> Custody:
    return Custody(store, reader, recordings, lambda: AT)


def call_of(store: Store, recordings: Path, days_ago: float) -> str:
    """A call with all that can be on record of one, which ended so many days ago; its incident is closed."""
    call, ended = new_id(), utc_text(_NOW - days_ago * _DAY)
    recording = recordings / "2026" / f"{call}.wav"
    recording.parent.mkdir(exist_ok=True)
    recording.write_bytes(b"RIFF")
    who = {"caller_number": _NUMBER, "sip_call_id": "x@192.0.2.1", "callable": True, "lat": -6.7, "lon": 108.5}
    store.write([Insert("call", {"id": call, "received_at": ended, "trunk": "telkomsel", "called": "112", **who})])
    store.write([event("received", call, {"from": _NUMBER})])
    _, ordered = order(call)
    incident = str(next(change.row["id"] for change in ordered if isinstance(change, Insert)))
    store.write([*ordered, Update("incident", incident, {"status": "closed", "closed_at": ended})])
    store.write(end(call, "abandoned", ended_at=ended, recording=f"2026/{call}.wav", reason="said his name"))
    store.write([Upsert("callback", {"id": call, "state": "dismissed", "at": AT, "reason": "name of the caller"})])
    store.flush()
    return call


@pytest.fixture
def purged(store: Store, reader: Reader, custody: Custody) -> Purge:
    def purged(calls_days: int, recordings_days: int) -> Purged:
        return purge(store, reader, custody, Keep(calls_days, recordings_days), _NOW)

    return purged


def test_a_call_is_erased_on_its_day(
    database: Database, store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    old, young = (call_of(store, recordings, days) for days in (11, 9))
    before = reader.call(young)
    assert purged(10, 100) == Purged(1, 1)
    erased = reader.call(old)
    assert erased is not None
    gone = ("caller_number", "sip_call_id", "callable", "lat", "lon", "reason", "recording")
    assert {erased[column] for column in gone} == {None}
    assert (erased["outcome"], erased["trunk"], erased["called"]) == ("abandoned", "telkomsel", "112"), "for statistics"
    (incident,) = reader.incidents(call_id=old)
    assert (incident["note"], incident["category"]) == (None, "fire")
    (dispatch,) = reader.dispatches(call_id=old)
    assert (dispatch["message"], dispatch["agency"]) == (None, "damkar")
    assert {row["data"] is None for row in reader.events(call_id=old) if row["kind"] != "erased"} == {True}
    assert reader.call(young) == before
    assert verify(database.url) == []
    assert purged(10, 100) == Purged(0, 0), "only once"
    assert examine(database.url).erased == 1


def test_each_run_is_in_the_chain(store: Store, reader: Reader, recordings: Path, purged: Purge) -> None:
    call_of(store, recordings, 11)
    purged(10, 9)
    store.flush()
    (run,) = reader.events(kind="retention")
    limits = {"keep_calls_days": 10, "keep_recordings_days": 9}
    assert (run["subject"], run["data"]) == ("system", {"calls": 1, "recordings": 1, "kept": 0} | limits)


def test_a_held_call_stays_with_its_recording(
    database: Database, store: Store, reader: Reader, recordings: Path, custody: Custody, purged: Purge
) -> None:
    call, other = (call_of(store, recordings, 11) for _ in range(2))
    os.utime(recordings / "2026" / f"{call}.wav", (0, 0))
    stray = recordings / f"{call}.part.wav"  # one that its row does not know
    stray.touch()
    os.utime(stray, (0, 0))
    custody.hold(call, "the police ask for it", "budi")
    before = reader.call(call)
    assert purged(10, 5) == Purged(1, 1, kept=1)
    assert reader.call(call) == before
    assert {path.stem for path in recordings.rglob("*.wav")} == {call, f"{call}.part"}
    assert None not in [event["data"] for event in reader.events(call_id=call)]
    custody.release(call, "budi")
    assert purged(10, 5) == Purged(1, 2)
    assert examine(database.url).problems == []
    assert examine(database.url).erased == 2
    assert {other, call} == {str(row["id"]) for row in reader.calls() if row["caller_number"] is None}


def test_what_an_order_says_of_an_erased_call_goes_on_the_next_day(
    database: Database, store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    call = call_of(store, recordings, 11)
    purged(10, 100)
    store.write([Event(AT, "call", call, call, "incident_updated", {"note": "a name"})])
    store.flush()
    assert purged(10, 100) == Purged(1, 0)
    assert "a name" not in str(reader.events(call_id=call))
    assert verify(database.url) == []


def test_a_call_whose_incident_goes_on_stays(
    store: Store, reader: Reader, recordings: Path, custody: Custody, purged: Purge
) -> None:
    call = call_of(store, recordings, 11)
    store.write(order(call, "bpbd")[1])
    store.flush()
    assert purged(10, 100) == Purged(0, 0, kept=1)
    assert len(list(recordings.rglob("*.wav"))) == 1


def test_a_recording_that_cannot_be_removed_keeps_its_call(
    store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    call = call_of(store, recordings, 11)
    file = recordings / "2026" / f"{call}.wav"
    file.unlink()
    file.mkdir()
    with pytest.raises(NotPossible, match=call):
        purged(10, 100)
    kept = reader.call(call)
    assert kept is not None
    assert kept["recording"] is not None


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nothing_of_an_erased_caller_is_left_in_the_files(
    tmp_path: Path, store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    call_of(store, recordings, 11)
    purged(10, 100)
    store.close()
    reader.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            for secret in (_NUMBER, "said his name", "name of the caller", "asap"):
                assert secret.encode() not in path.read_bytes(), path


def test_what_is_written_about_an_erased_call_later_is_whole(
    database: Database, store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    call = call_of(store, recordings, 11)
    purged(10, 100)
    store.write([Event(AT, "call", call, call, "looked at")])
    store.write(end(call, "abandoned", disposition="prank"))
    store.flush()
    assert verify(database.url) == []


def test_recordings_go_before_their_calls(
    database: Database, store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    old, young = (call_of(store, recordings, days) for days in (11, 9))
    assert purged(100, 10) == Purged(0, 1)
    kept = reader.call(old)
    assert kept is not None
    assert (kept["recording"], kept["caller_number"]) == (None, _NUMBER)
    assert [path.stem for path in recordings.rglob("*.wav")] == [young]
    assert [row["kind"] for row in reader.events(call_id=old)][-2:] == ["recording_erased", "row_amended"]
    assert verify(database.url) == []


def test_a_live_call_stays_however_old(store: Store, reader: Reader, recordings: Path, purged: Purge) -> None:
    call = new_id()
    store.write([Insert("call", {"id": call, "received_at": "2020-01-01T00:00:00.000Z", "caller_number": _NUMBER})])
    store.flush()
    assert purged(1, 1) == Purged(0, 0)
    kept = reader.call(call)
    assert kept is not None
    assert kept["caller_number"] == _NUMBER


def test_a_file_that_no_call_knows_goes_by_its_age(
    store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    for name, days in (("old", 11), ("young", 9)):
        path = recordings / f"{name}.wav"
        path.touch()
        os.utime(path, (_NOW - days * _DAY, _NOW - days * _DAY))
    assert purged(100, 10) == Purged(0, 1)
    assert [path.name for path in recordings.iterdir()] == ["young.wav"]


def test_a_row_cannot_name_a_file_elsewhere(
    tmp_path: Path, store: Store, reader: Reader, recordings: Path, purged: Purge
) -> None:
    precious = tmp_path / "precious.wav"
    precious.touch()
    for name in ("../precious.wav", str(precious)):
        call = new_id()
        store.write([Insert("call", {"id": call, "received_at": AT})])
        store.write(end(call, recording=name, ended_at="2020-01-01T00:00:00.000Z"))
    store.flush()
    purged(10, 10)
    assert precious.exists()


def test_many_calls(database: Database, store: Store, reader: Reader, recordings: Path, purged: Purge) -> None:
    for _ in range(120):
        call_of(store, recordings, 11)
    assert purged(10, 10) == Purged(120, 120)
    assert database.rows("SELECT count(*) FROM call WHERE caller_number IS NOT NULL") == [(0,)]
    assert list(recordings.rglob("*.wav")) == []
    assert verify(database.url) == []
