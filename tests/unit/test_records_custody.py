"""What must stay and what may go: holds, and the erasure of a call or a number."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.records.changes import Blank, Erase, Event, Insert, Update, Upsert
from siaga_pbx.records.custody import Custody, Erased
from siaga_pbx.records.errors import ChangeRefused, NotOnRecord, NotPossible
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.numbers import e164, national_digits
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import examine, verify
from tests.records_databases import Database
from tests.records_support import AT, end, event, order

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
def custody(store: Store, reader: Reader, tmp_path: Path) -> Custody:
    folder = tmp_path / "recordings"
    folder.mkdir()
    return Custody(store, reader, folder, lambda: AT)


def call_of(store: Store, custody: Custody, number: str = _NUMBER, outcome: str = "abandoned") -> str:
    """A call that is over, with its events, its closed incident, a recording, and a place on the call-back list."""
    call = new_id()
    who = {"caller_number": number, "callable": True, "trunk": "telkomsel", "identity_class": "subscriber"}
    store.write([Insert("call", {"id": call, "received_at": AT, **who}), event("received", call, {"from": number})])
    ordered = order(call, number=number)[1]
    incident = str(next(change.row["id"] for change in ordered if isinstance(change, Insert)))
    store.write([*ordered, Update("incident", incident, {"status": "closed", "closed_at": AT})])
    (custody.recordings / f"{call}.wav").write_bytes(b"RIFF")
    store.write(end(call, outcome, recording=f"{call}.wav", seat_id="101", disposition="prank"))
    store.flush()
    return call


def test_a_number_is_erased_and_nobody_else(database: Database, store: Store, reader: Reader, custody: Custody) -> None:
    calls = tuple(call_of(store, custody) for _ in range(2))
    other = call_of(store, custody, "+6281111111111")
    before = reader.call(other), reader.events(call_id=other), reader.dispatches(call_id=other)
    assert [row["id"] for row in reader.callbacks()] == [*calls, other]
    assert custody.erase_number(_NUMBER, "asked for on 24 November", "budi") == Erased(calls, files=2)
    assert reader.calls_from(_NUMBER) == []
    assert [row["id"] for row in reader.callbacks()] == [other], "nobody calls back whom nobody knows"
    assert [path.stem for path in custody.recordings.iterdir()] == [other]
    assert (reader.call(other), reader.events(call_id=other), reader.dispatches(call_id=other)) == before
    assert examine(database.url).problems == []
    assert examine(database.url).erased == 2


def test_nothing_of_the_number_is_left_in_the_tables(
    database: Database, store: Store, reader: Reader, custody: Custody
) -> None:
    call = call_of(store, custody)
    store.write([Upsert("callback", {"id": call, "state": "dismissed", "at": AT, "reason": f"{_NUMBER} rang again"})])
    loose = [
        Event(AT, "system", "records", None, "journal_line_damaged", {"line": f'["x",{_NUMBER}'}),
        Event(AT, "system", "mqtt", None, "quarantined", {"payload": json.dumps({"number": "0812 34567890"})}),
        Event(AT, "seat", "101", None, "feature_unknown", {"dialled": "sip:081234567890@siaga.local"}),
    ]
    store.write(loose)
    store.flush()
    erased = custody.erase_number(_NUMBER, "asked for", "budi")
    assert (erased.calls, erased.events, erased.texts) == ((call,), 3, 0)
    for table in ("call", "event", "incident", "dispatch", "outbox", "callback", "hold"):
        assert "34567890" not in str(database.rows(f'SELECT * FROM "{table}"')), table
    assert verify(database.url) == []


_SPELT = (
    *("+6281234567890", "6281234567890", "081234567890", "81234567890", "0812-3456-7890", "(+62) 812.3456.7890"),
    *("+62 (0)812 / 3456 / 7890", "0062 812 3456 7890", "0812\u00a03456\u20117890", "sip:%2B6281234567890@ims.example"),
    *("tel:+62-812-3456-7890;phone-context=+62", "call%20081234567890"),
)


_CHANCE = re.compile("[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{64}")  # ids and digests may have any four digits


def test_in_others_records_the_number_goes_however_it_is_written(
    database: Database, store: Store, reader: Reader, custody: Custody
) -> None:
    calls = [call_of(store, custody, "+6281111111111") for _ in _SPELT]
    for call, spelt in zip(calls, _SPELT, strict=True):
        (incident,), (dispatch,) = reader.incidents(call_id=call), reader.dispatches(call_id=call)
        said = f"Telepon tetangga: {spelt}, 2 orang"
        message = {"note": said, "callback": {"number": "+6281111111111"}, "location": {"address": spelt}}
        headers = {"headers": [["P-Asserted-Identity", f"<{spelt}>"]]}
        store.write([Event(AT, "call", call, call, "identities", headers)])
        store.write([Update("incident", str(incident["id"]), {"note": said, "address": spelt})])
        store.write([Update("dispatch", str(dispatch["id"]), {"message": message, "reason": said})])
        store.write([Upsert("callback", {"id": call, "state": "dismissed", "at": AT, "reason": said})])
    store.flush()
    erased = custody.erase_number(_NUMBER, "asked for", "budi")
    count = len(calls)
    assert (erased.calls, erased.events, erased.texts, erased.files) == ((), count, 5 * count, 0)
    words = ("data", "event"), ("note, address", "incident"), ("message, reason", "dispatch"), ("reason", "callback")
    for columns, table in words:
        rows = _CHANCE.sub("", str(database.rows(f"SELECT {columns} FROM {table}")))
        assert "7890" not in rows, table
    assert len(reader.calls_from("+6281111111111")) == count, "the other callers are on record as before"
    assert len(list(custody.recordings.iterdir())) == count
    for call in calls:
        (incident,), (dispatch,) = reader.incidents(call_id=call), reader.dispatches(call_id=call)
        note, sent = str(incident["note"]), dispatch["message"]
        assert note.startswith("Telepon tetangga: ")
        assert note.endswith(", 2 orang")
        assert isinstance(sent, dict)
        assert (sent["note"], sent["callback"]) == (note, {"number": "+6281111111111"})
    assert verify(database.url) == []
    with pytest.raises(NotOnRecord):
        custody.erase_number(_NUMBER, "asked for", "budi")


def test_an_event_of_a_call_without_a_row_goes_with_the_others(
    database: Database, store: Store, custody: Custody
) -> None:
    call = call_of(store, custody, number="+6281111111111")
    lost = new_id()
    store.write([Event(AT, "call", id, id, "identities", {"headers": [_NUMBER]}) for id in (call, lost)])
    store.flush()
    erased = custody.erase_number(_NUMBER, "asked for", "budi")
    assert (erased.calls, erased.events) == ((), 2)
    assert _NUMBER not in str(database.rows("SELECT data FROM event"))
    assert verify(database.url) == []


def test_an_erasure_that_fails_half_way_is_noted_as_far_as_it_came(
    store: Store, reader: Reader, custody: Custody
) -> None:
    _, second = sorted(call_of(store, custody) for _ in range(2))
    file = custody.recordings / f"{second}.wav"
    file.unlink()
    file.mkdir()  # no file, so it cannot be removed
    with pytest.raises(NotPossible, match="cannot be removed"):
        custody.erase_number(_NUMBER, "asked for", "budi")
    store.flush()
    (noted,) = reader.events(kind="erasure")
    assert isinstance(noted["data"], dict)
    assert (noted["data"]["by"], noted["data"]["calls"], noted["data"]["recordings"]) == ("budi", [], 1)


def test_other_numbers_are_left_alone(store: Store, custody: Custody) -> None:
    call = call_of(store, custody, "+6281111111111")
    others = ("+6281234567891", "0812345678901", "9981234567890", "0812 3456 789", "17 81234567890123")
    store.write([Event(AT, "call", call, call, "identities", {"from": other}) for other in others])
    store.flush()
    with pytest.raises(NotOnRecord):
        custody.erase_number(_NUMBER, "asked for", "budi")


def test_what_is_said_of_it_in_a_record_that_must_stay_stays(
    database: Database, store: Store, custody: Custody
) -> None:
    held, live = call_of(store, custody, "+6281111111111"), new_id()
    store.write([Insert("call", {"id": live, "received_at": AT})])
    said = [Event(AT, "call", call, call, "identities", {"from": "0812 3456 7890"}) for call in (held, live)]
    store.write(said)
    custody.hold(held, "the court", "budi")
    assert custody.erase_number(_NUMBER, "asked for", "budi") == Erased(held=(held,), going_on=(live,))
    for one in said:
        with pytest.raises(ChangeRefused, match=r"held|not over"):
            store.commit([Blank((one.id,))]).result(5)
    custody.release(held, "budi")
    assert custody.erase_number(_NUMBER, "asked for", "budi") == Erased(going_on=(live,), events=1)
    assert verify(database.url) == []


def test_what_remains_is_for_the_statistics(store: Store, reader: Reader, custody: Custody) -> None:
    call = call_of(store, custody, outcome="answered")
    custody.erase_call(call, "asked for", "budi")
    left = reader.call(call)
    assert left is not None
    kept = {name: value for name, value in left.items() if value is not None}
    times = {"id": call, "received_at": AT, "ended_at": AT}
    what = {"outcome": "answered", "disposition": "prank", "identity_class": "subscriber"}
    assert kept == times | what | {"trunk": "telkomsel", "seat_id": "101"}
    assert [event["kind"] for event in reader.events(call_id=call)][:3] == ["received", "committed", "row_closed"]
    (noted,) = reader.events(kind="erasure")
    data = {"by": "budi", "reason": "asked for", "calls": [call], "events": 0, "texts": 0, "recordings": 1}
    assert noted["data"] == data | {"held": [], "going_on": []}


def test_what_is_live_or_goes_on_is_not_erased(store: Store, reader: Reader, custody: Custody) -> None:
    over, live, going = call_of(store, custody), new_id(), call_of(store, custody)
    store.write([Insert("call", {"id": live, "received_at": AT, "caller_number": _NUMBER})])
    store.write(order(going, "bpbd")[1])
    for call in (live, going):
        with pytest.raises(NotPossible, match="goes on"):
            custody.erase_call(call, "asked for", "budi")
    erased = custody.erase_number(_NUMBER, "asked for", "budi")
    assert erased.calls == (over,)
    assert set(erased.going_on) == {live, going}
    assert {row["id"] for row in reader.calls_from(_NUMBER)} == {live, going}
    assert len(reader.outbox()) == 3 - 1, "what an agency has not received yet is still on its way"


def test_what_is_held_stays_until_it_is_released(
    database: Database, store: Store, reader: Reader, custody: Custody
) -> None:
    call, other = call_of(store, custody), call_of(store, custody)
    assert custody.hold(call, "the court of Cirebon", "budi") == call
    before = reader.call(call), reader.events(call_id=call)
    with pytest.raises(NotPossible, match=f"call {call} is held"):
        custody.erase_call(call, "asked for", "sari")
    assert custody.erase_number(_NUMBER, "asked for", "sari") == Erased((other,), held=(call,), files=1)
    assert (reader.call(call), reader.events(call_id=call)) == before
    assert (custody.recordings / f"{call}.wav").exists()
    with pytest.raises(ChangeRefused, match="held"):  # not by any other way
        store.commit([Erase(call)]).result(5)
    custody.release(call, "budi")
    assert custody.erase_call(call, "asked for", "sari").calls == (call,)
    ((reason, placed, released),) = database.rows("SELECT reason, placed_by, released_by FROM hold")
    assert (reason, placed, released) == (None, "budi", "budi"), "what the reason was may name somebody"
    steps = [(row["kind"], row["data"]) for row in reader.events(call_id=call) if row["kind"] in ("held", "released")]
    assert steps == [("held", {"by": "budi"}), ("released", {"by": "budi"})]
    assert verify(database.url) == []


def test_a_hold_by_the_incident_is_its_call_s(store: Store, reader: Reader, custody: Custody) -> None:
    call = call_of(store, custody)
    (incident,) = reader.incidents(call_id=call)
    assert custody.hold(str(incident["id"]), "an inquiry", "budi") == call
    assert [(row["id"], row["reason"]) for row in reader.holds()] == [(call, "an inquiry")]


def test_a_live_call_can_be_held(store: Store, reader: Reader, custody: Custody) -> None:
    call = new_id()
    store.write([Insert("call", {"id": call, "received_at": AT})])
    custody.hold(call, "an officer is on the line", "budi")
    assert [row["id"] for row in reader.holds()] == [call]


def test_a_hold_is_placed_again_and_released_once(store: Store, reader: Reader, custody: Custody) -> None:
    call = call_of(store, custody)
    with pytest.raises(NotPossible, match="not held"):
        custody.release(call, "budi")
    custody.hold(call, "the court", "budi")
    custody.hold(call, "the court, second letter", "sari")
    assert [(row["reason"], row["placed_by"]) for row in reader.holds()] == [("the court, second letter", "sari")]
    custody.release(call, "budi")
    assert reader.holds() == []
    custody.hold(call, "again", "budi")
    assert len(reader.holds(call_id=call)) == 1


@pytest.mark.parametrize("sql", ["DELETE FROM hold", "UPDATE hold SET released_at = placed_at"])
def test_a_hold_that_somebody_lifts_in_the_database_shows(
    database: Database, store: Store, custody: Custody, sql: str
) -> None:
    custody.hold(call_of(store, custody), "the court", "budi")
    assert verify(database.url) == []
    database.run(sql)
    assert [problem.table for problem in verify(database.url)] == ["hold"]


def test_what_is_unknown_is_refused(store: Store, custody: Custody) -> None:
    for act in (custody.hold, custody.erase_call):
        with pytest.raises(NotOnRecord, match="no call"):
            act("019a", "asked for", "budi")
    with pytest.raises(NotOnRecord, match=r"nothing of \+62811"):
        custody.erase_number("+62811", "asked for", "budi")


def test_who_has_read_it_outlasts_the_erasure(
    database: Database, store: Store, reader: Reader, custody: Custody
) -> None:
    call = call_of(store, custody)
    store.write([Event(AT, "call", call, call, "read", {"by": "sari", "what": "export"})])
    store.flush()
    custody.erase_call(call, "asked for", "budi")
    assert [row["data"] for row in reader.accesses(call_id=call)] == [{"by": "sari", "what": "export"}]
    assert verify(database.url) == []
    database.run("UPDATE event SET data = NULL, salt = NULL WHERE kind = ?", "read")
    assert [problem.what for problem in verify(database.url)] == ["its content is gone, which no erasure takes"]


def test_content_that_is_blanked_by_hand_shows(database: Database, store: Store, custody: Custody) -> None:
    store.write([Event(AT, "system", "mqtt", None, "quarantined", {"payload": _NUMBER}), event("started")])
    store.flush()
    custody.erase_number(_NUMBER, "asked for", "budi")
    assert verify(database.url) == []
    database.run("UPDATE event SET data = NULL, salt = NULL WHERE kind = ?", "started")
    assert [problem.what for problem in verify(database.url)] == ["its content is gone, and no erasure says so"]


def test_no_single_event_of_what_is_to_stay_is_blanked(store: Store, reader: Reader, custody: Custody) -> None:
    call = call_of(store, custody)
    closed = next(str(row["id"]) for row in reader.events(call_id=call) if row["kind"] == "row_closed")
    for ids in ((closed,), (new_id(),)):
        with pytest.raises(ChangeRefused, match="not there, or its content is to stay"):
            store.commit([Blank(ids)]).result(5)


def test_single_events_that_are_blanked_by_hand_show_although_others_were_erased(
    database: Database, store: Store, reader: Reader, custody: Custody
) -> None:
    call = call_of(store, custody, "+6281111111111")
    store.write([Event(AT, "call", call, call, "identities", {"from": _NUMBER})])
    store.flush()
    custody.erase_number(_NUMBER, "asked for", "budi")
    assert verify(database.url) == []
    database.run("UPDATE event SET data = NULL, salt = NULL WHERE kind = ? AND call_id = ?", "received", call)
    assert [problem.what for problem in verify(database.url)] == ["its content is gone, and no erasure says so"]


@pytest.mark.parametrize("text", ["0812-3456-7890", "+62 812 3456 7890", "+6281234567890", "081234567890"])
def test_a_number_as_people_write_it(text: str) -> None:
    assert e164(text, "ID") == _NUMBER
    assert national_digits(_NUMBER) == "81234567890"


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(NotOnRecord, match="'anybody' is no telephone number"):
        e164("anybody", "ID")
