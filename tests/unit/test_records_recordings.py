"""What the row of a call says of its recording, when that was not written at the call's end."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.media.g711 import RATE
from siaga_pbx.media.wav import FRAME_SIZE, mend, wav_header
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.recordings import complete_left, faults
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from tests.records_databases import SqliteFile
from tests.records_support import arrival, end, event


@pytest.fixture
def database(tmp_path: Path) -> SqliteFile:
    return SqliteFile(tmp_path / "siaga.db")


@pytest.fixture
def store(database: SqliteFile) -> Iterator[Store]:
    store = database.store()
    store.open()
    yield store
    store.close()


@pytest.fixture
def reader(database: SqliteFile, store: Store) -> Iterator[Reader]:
    with Reader(database.url) as reader:
        yield reader


def left(store: Store, folder: Path) -> tuple[str, Path]:
    """An ended call with a second of recording and no digest in its row."""
    call = new_id()
    path = folder / f"{call}.wav"
    path.write_bytes(wav_header(RATE * FRAME_SIZE) + bytes(RATE * FRAME_SIZE))
    store.write(arrival(call) + end(call, recording=path.name))
    return call, path


def test_a_digest_that_the_chain_has_counts(database: SqliteFile, store: Store, reader: Reader, tmp_path: Path) -> None:
    """Not that of the file as it is now, which may have been changed since."""
    call, path = left(store, tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    store.write([event("recorded", call, {"seconds": 1.0, "sha256": digest})])
    store.flush()
    path.write_bytes(path.read_bytes() + b"another word")
    changed = path.read_bytes()
    assert complete_left(store, reader, tmp_path, lambda _: False, mend) == 1
    store.flush()
    assert [row["recording_sha256"] for row in reader.recordings(complete=True)] == [digest]
    assert list(faults(reader, tmp_path)) == [f"recording of call {call}: changed since it was complete"]
    assert path.read_bytes() == changed, "evidence"
    assert len(reader.events(call_id=call, kind="recorded")) == 1
    assert verify(database.url) == []


def test_one_that_is_taken_later_says_so(store: Store, reader: Reader, tmp_path: Path) -> None:
    call, path = left(store, tmp_path)
    store.flush()
    assert complete_left(store, reader, tmp_path, lambda _: True, mend) == 0, "a worker still has it"
    assert complete_left(store, reader, tmp_path, lambda _: False, mend) == 1
    store.flush()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (recorded,) = reader.events(call_id=call, kind="recorded")
    assert recorded["data"] == {"seconds": 1.0, "sha256": digest, "after_crash": True}
    assert [row["recording_sha256"] for row in reader.recordings(complete=True)] == [digest]
    assert complete_left(store, reader, tmp_path, lambda _: False, mend) == 0
