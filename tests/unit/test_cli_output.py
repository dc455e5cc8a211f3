"""What the commands print where stdout is no terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.commands.output import clean, print_json, print_table


def test_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"id": "c1", "note": "a\nb", "data": {"x": [1]}}, {"id": "c2", "note": None}]
    print_json(rows)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


def test_a_table_in_a_pipe_is_lines_with_tabs_and_names_its_columns_even_when_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("id", "note"), [("c1", "a\tb\nc"), ("c2", None)], "None.")
    assert capsys.readouterr().out == "id\tnote\nc1\ta b c\nc2\t\n"
    print_table(("id", "note"), [], "None.")
    assert capsys.readouterr().out == "id\tnote\n"


@given(st.text())
def test_no_text_breaks_a_line_or_steers_a_terminal(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) == len(text)
