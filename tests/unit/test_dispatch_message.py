"""The messages, and the JSON Schema that is shipped for those who write an end of their own."""

import json
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import MAX_PAYLOAD, Ack, Chain, Dispatch, Message, PayloadError, Presence, Status
from siaga_pbx.dispatch.schemas import MESSAGES, json_schema
from siaga_pbx.dispatch.topics import ALL, Topics
from siaga_pbx.records.ids import new_id

AT = "2026-11-24T00:00:00.000Z"
DISPATCH: dict[str, object] = {
    "schema": 1,
    "dispatch_id": new_id(),
    "incident_id": new_id(),
    "call_id": new_id(),
    "sequence": 1,
    "type": "alert",
    "status": "actual",
    "sent_at": AT,
    "expires_at": "2026-11-25T00:00:00.000Z",
    "accept_by": "2026-11-24T00:01:00.000Z",
    "priority": 0,
    "category": "fire",
    "agency": "damkar",
    "location": {"lat": -6.7, "lon": 108, "radius_m": 200, "method": "cell", "address": "Jl. Siliwangi 1"},
    "callback": {"number": "+6281200000789", "callable": True, "identity_class": "subscriber"},
    "protected": False,
    "people": 2,
    "callers": 1,
    "note": "Rumah terbakar",
    "seat": "101",
    "centre": "cirebon",
}
ACK: dict[str, object] = {"dispatch_id": new_id(), "state": "accepted", "at": AT, "by": "Regu 1"}
EXAMPLES: dict[type[Message], dict[str, object]] = {
    Dispatch: DISPATCH,
    Ack: ACK | {"state": "rejected", "reason": "no engine", "sequence": 2},
    Presence: {"schema": 1, "agency": "damkar", "state": "online", "at": AT},
    Chain: {"schema": 1, "centre": "cirebon", "seq": 112, "hash": "0f" * 32, "at": AT},
    Status: {"schema": 1, "centre": "cirebon", "state": "offline", "at": AT},
}


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def validator(message: type[Message]) -> Draft202012Validator:
    text = files("siaga_pbx").joinpath(f"schemas/{message.name}.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("message", MESSAGES)
def test_the_shipped_schema_is_that_of_the_model(message: type[Message]) -> None:
    shipped = files("siaga_pbx").joinpath(f"schemas/{message.name}.json").read_text(encoding="utf-8")
    copy = Path(__file__).parents[2] / "config" / "schemas" / f"{message.name}.json"
    assert shipped == json_schema(message)
    assert copy.read_text(encoding="utf-8") == shipped


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_read_and_written_as_its_schema_says(message: type[Message]) -> None:
    parsed = message.parse(encoded(EXAMPLES[message]))
    written = json.loads(parsed.encode())
    assert written == EXAMPLES[message]
    validator(message).validate(written)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_member_that_a_later_version_adds_is_no_error(message: type[Message]) -> None:
    later = EXAMPLES[message] | {"colour": "red"}
    assert message.parse(encoded(later)) == message.parse(encoded(EXAMPLES[message]))
    validator(message).validate(later)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("member", ["schema", "dispatch_id", "sequence", "state", "at", "by", "agency", "centre"])
def test_a_missing_member_is_an_error_that_names_it(message: type[Message], member: str) -> None:
    required = message is not Ack or member != "sequence"
    if member not in EXAMPLES[message] or not required:
        return
    broken = {key: value for key, value in EXAMPLES[message].items() if key != member}
    with pytest.raises(PayloadError, match=f"^{member}: "):
        message.parse(encoded(broken))
    assert not validator(message).is_valid(broken)


WRONG = [
    {"state": "arrived"},
    {"state": "pending"},
    {"dispatch_id": "1"},
    {"sequence": 0},
    {"sequence": "1"},
    {"sequence": 1.5},
    {"reason": "because"},
    {"at": 1},
    {"by": "x" * 101},
    {"by": None},
]


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_answer_is_an_error_for_the_model_and_for_the_schema(change: dict[str, object]) -> None:
    with pytest.raises(PayloadError):
        Ack.parse(encoded(ACK | change))
    assert not validator(Ack).is_valid(ACK | change)


@pytest.mark.parametrize("change", [{"reason": None}, {"reason": ""}, {"sequence": None}, {"at": "yesterday"}])
def test_what_says_nothing_is_no_error(change: dict[str, object]) -> None:
    assert Ack.parse(encoded(ACK | change)).state is State.ACCEPTED
    assert validator(Ack).is_valid(ACK | change)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": NaN}', b"[" * 10_000, b"1" * 5_000, b" " * (MAX_PAYLOAD + 1)],
)
def test_what_is_no_message_is_the_one_error(payload: bytes) -> None:
    for message in MESSAGES:
        with pytest.raises(PayloadError):
            message.parse(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(-91, 91) | st.sampled_from(["", "x", "fire", AT]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["lat", "number"]), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)
@given(message=st.sampled_from(MESSAGES), data=st.data())
def test_model_and_schema_agree_about_every_member(message: type[Message], data: st.DataObject) -> None:
    member = data.draw(st.sampled_from(sorted(EXAMPLES[message])))
    changed = EXAMPLES[message] | {member: data.draw(json_values)}
    try:
        message.parse(encoded(changed))
        accepted = True
    except PayloadError:
        accepted = False
    # JSON Schema takes 1.0 for an integer, pydantic's strict mode does not; a sender that counts in floats is wrong.
    whole = any(isinstance(value, float) and value.is_integer() for value in [changed[member]])
    assert accepted == validator(message).is_valid(changed) or whole


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_the_one_error(payload: bytes) -> None:
    for message in MESSAGES:
        with suppress(PayloadError):
            message.parse(payload)


def test_topics_are_read_as_they_are_written() -> None:
    topics = Topics("siaga/cirebon")
    assert topics.parse(topics.ack("damkar")) == ("ack", "damkar")
    assert topics.parse(topics.presence("damkar")) == ("presence", "damkar")
    assert topics.parse(topics.dispatch("damkar")) == ("dispatch", "damkar")
    assert topics.parse(topics.status) == ("status", "")
    assert topics.ack(ALL) == "siaga/cirebon/ack/+"
    for other in ("siaga/cirebon", "siaga/cirebon/ack", "siaga/cirebon/ack/a/b", "siaga/x/ack/damkar", "ack/damkar"):
        assert topics.parse(other) is None
