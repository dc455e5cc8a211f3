"""Values on their way into the database: nothing that is handed over can make a write fail."""

import json
import math
import sqlite3
from enum import Enum
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.records.plain import plain, to_json

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9) | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=8,
)
# Text as it comes off the wire: bytes that are no UTF-8 become halves of surrogate pairs.
wire_text = st.binary(max_size=20).map(lambda octets: octets.decode("utf-8", "surrogateescape"))


def no_number(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


class Colour(Enum):
    RED = "red"


@given(anything | wire_text)
def test_anything_can_be_stored(value: object) -> None:
    stored = plain(value)
    connection = sqlite3.connect(":memory:")
    try:
        (back,) = connection.execute("SELECT ?", (stored,)).fetchone()
    finally:
        connection.close()
    assert back == stored


@given(anything | st.dictionaries(wire_text, wire_text))
def test_anything_is_json_in_ascii(value: object) -> None:
    text = to_json(value)
    assert text.isascii()
    json.loads(text, parse_constant=no_number)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
    )
)
def test_json_stays_what_it_is(value: object) -> None:
    assert json.loads(to_json(value)) == value


def test_what_json_lacks_becomes_the_nearest() -> None:
    value = {"path": Path("/x"), "colour": Colour.RED, "nan": math.nan, "set": {1}, 5: b"\xff", "big": 1 << 80}
    expected = {"path": "/x", "colour": "red", "nan": None, "set": [1], "5": "b'\\xff'", "big": str(1 << 80)}
    assert json.loads(to_json(value)) == expected


def test_a_value_without_end_is_cut() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    assert to_json(loop).count("self") == 16


def test_text_that_utf8_lacks_is_shown_escaped() -> None:
    assert plain("a\udc80b\0c") == "a\\udc80b\\x00c"


def test_columns() -> None:
    assert plain(Colour.RED) == "red"
    assert plain({"a": [1]}) == '{"a":[1]}'
    assert plain(1 << 63) == str(1 << 63)
    assert plain(math.inf) is None
    assert plain(True) is True
