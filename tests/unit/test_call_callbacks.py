"""Whom a seat calls back next."""

from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.callbacks import next_to_call, same_caller

Row = dict[str, object]


def row(id: str, number: str | None = None, **more: object) -> Row:
    return {"id": id, "caller_number": number or f"+62{id}", "received_at": id, "priority": 0, "callable": True} | more


def test_who_was_lost_first_is_called_first() -> None:
    assert next_to_call([row("2"), row("1"), row("3")]) == row("1")


def test_nobody_is_on_the_list() -> None:
    assert next_to_call(list[Row]()) is None


def test_a_higher_priority_goes_first() -> None:
    assert next_to_call([row("1"), row("2", priority=5)]) == row("2", priority=5)


def test_who_cannot_be_called_is_passed_over() -> None:
    rows = [row("1", callable=False), row("2") | {"caller_number": None}, row("3")]
    assert next_to_call(rows) == row("3")


def test_nobody_is_called_by_two_seats() -> None:
    rows = [row("1"), row("2", "+621"), row("3")]
    assert next_to_call(rows, calling=["1"]) == row("3")
    assert next_to_call(rows, calling=["1", "3"]) is None


def test_a_number_that_does_not_answer_holds_nobody_up() -> None:
    rows = [row("1"), row("2")]
    assert next_to_call(rows, attempts={"1": 1}) == row("2")
    assert next_to_call(rows, attempts={"1": 1, "2": 1}) == row("1")


def test_one_conversation_settles_all_lost_calls_of_a_caller() -> None:
    rows = [row("1"), row("2", "+621"), row("3")]
    assert same_caller(rows, rows[0]) == [rows[1]]


@given(st.lists(st.builds(row, st.uuids().map(str), st.sampled_from(["+621", "+622", "+623"])), max_size=8))
def test_calling_them_one_by_one_reaches_everybody_once(rows: list[Row]) -> None:
    reached: list[object] = []
    while (found := next_to_call(rows)) is not None:
        reached.append(found["caller_number"])
        settled = [found, *same_caller(rows, found)]
        rows = [each for each in rows if each not in settled]
    assert sorted(set(map(str, reached))) == sorted(map(str, reached))
    assert rows == []
