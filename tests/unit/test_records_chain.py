"""The chain's encoding, against the one that its documentation describes."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.records.chain import GENESIS, event_digest, event_hash, row_digest

texts = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
Link = tuple[str, int, str, str, str, str, str | None, str, str]
links = st.tuples(texts, st.integers(), texts, texts, texts, texts, st.none() | texts, texts, texts)


@given(links)
def test_the_hash_is_that_of_the_json_array(link: Link) -> None:
    text = json.dumps(list(link), ensure_ascii=True, separators=(",", ":"))
    assert event_hash(*link) == hashlib.sha256(text.encode("ascii")).hexdigest()


@given(links, links)
def test_two_links_share_a_hash_only_if_they_are_the_same(one: Link, other: Link) -> None:
    assert (event_hash(*one) == event_hash(*other)) == (one == other)


def test_no_call_differs_from_a_call_named_null() -> None:
    def link(call_id: str | None) -> str:
        return event_hash(GENESIS, 1, "id", "at", "seat", "101", call_id, "ready", "digest")

    assert len({link(None), link(""), link("null")}) == 3


def test_the_digest_is_that_of_salt_and_data() -> None:
    assert event_digest("00ff", '{"a":"\u00e9"}') == hashlib.sha256('00ff{"a":"\u00e9"}'.encode()).hexdigest()


@given(st.dictionaries(texts, scalars, max_size=5))
def test_a_row_s_digest_does_not_know_order_or_null_columns(row: dict[str, object]) -> None:
    other = dict(reversed(row.items())) | {f"{key}_new": None for key in row}
    other |= {key: value for key, value in row.items() if value is not None}
    assert row_digest("call", other) == row_digest("call", row)


@pytest.mark.parametrize(
    "changed", [{"id": "1", "a": 2}, {"id": "1"}, {"id": "1", "a": 1, "b": 0}, {"id": "1", "a": "1"}]
)
def test_a_row_s_digest_knows_every_column(changed: dict[str, object]) -> None:
    assert row_digest("call", changed) != row_digest("call", {"id": "1", "a": 1})


def test_a_row_s_digest_knows_its_table() -> None:
    assert row_digest("call", {"id": "1"}) != row_digest("dispatch", {"id": "1"})
