"""Times and identifiers: text that sorts as it came."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.records.ids import first_id, new_id
from siaga_pbx.records.times import normalise, parse_utc, utc_now, utc_text

moments = st.integers(min_value=0, max_value=4_000_000_000_000)  # milliseconds


def test_the_form() -> None:
    assert utc_text(1795478400.0) == "2026-11-24T00:00:00.000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", utc_now())


def test_never_rounded_into_the_next_second() -> None:
    assert utc_text(1795478400.9999) == "2026-11-24T00:00:00.999Z"


@given(moments, moments)
def test_texts_sort_as_the_moments_do(one: int, other: int) -> None:
    assert (utc_text(one / 1000 + 0.0001) < utc_text(other / 1000 + 0.0001)) == (one < other)


@given(moments)
def test_there_and_back(moment: int) -> None:
    text = utc_text(moment / 1000 + 0.0001)
    assert round(parse_utc(text).timestamp() * 1000) == moment
    assert normalise(text) == text


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("2026-11-24", "2026-11-24T00:00:00.000Z"),
        ("2026-11-24T07:00:00+07:00", "2026-11-24T00:00:00.000Z"),
        ("2026-11-24 01:02", "2026-11-24T01:02:00.000Z"),
        ("2026-11-24T00:00:00Z", "2026-11-24T00:00:00.000Z"),
    ],
)
def test_what_people_type(given_text: str, expected: str) -> None:
    assert normalise(given_text) == expected


def test_what_is_no_time() -> None:
    with pytest.raises(ValueError):
        normalise("yesterday")


def test_ids_are_version_7_and_sort() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(id).version for id in ids} == {7}


def test_the_first_id_of_a_moment_bounds_those_made_then() -> None:
    made = new_id()
    milliseconds = int(made.replace("-", "")[:12], 16)
    assert first_id(milliseconds) <= made < first_id(milliseconds + 1)
