"""sip/pace: so many a second for each key, some at once, and a table that does not grow."""

from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.sip.pace import Pace


def test_some_at_once_then_so_many_a_second() -> None:
    pace = Pace(10, 5, 100)
    assert [pace.takes("a", 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert pace.takes("b", 100.0), "each key has its own"
    assert not pace.takes("a", 100.05)
    assert pace.takes("a", 100.1)
    assert not pace.takes("a", 100.1)
    assert [pace.takes("a", 200.0) for _ in range(6)] == [True] * 5 + [False], "and never more than that at once"


def test_looking_takes_nothing() -> None:
    pace = Pace(1, 1, 10)
    assert [pace.has("a", 0.0) for _ in range(3)] == [True] * 3
    assert len(pace) == 0
    assert pace.takes("a", 0.0)
    assert not pace.has("a", 0.5)
    assert pace.has("a", 1.0)


def test_who_share_a_key_have_a_measure_each() -> None:
    pace = Pace(1, 10, 10)
    assert sum(pace.takes("a", 0.0, heads=3) for _ in range(100)) in (28, 30)


def test_who_share_a_key_may_be_held_to_one_measure_at_once() -> None:
    pace = Pace(1, 10, 10)
    assert sum(pace.takes("a", 0.0, heads=4, at_once=10) for _ in range(100)) == 10
    assert sum(pace.takes("a", 1.0, heads=4, at_once=10) for _ in range(100)) == 4, "and each has its measure still"


def test_the_table_is_bounded_and_who_is_quiet_makes_room() -> None:
    pace = Pace(1, 2, 3)
    assert [pace.takes(key, 0.0) for key in "abcd"] == [True, True, True, False]
    assert pace.takes("a", 0.0), "who is in it is served"
    assert pace.takes("d", 1.5)
    assert len(pace) == 2
    assert not pace.takes("a", 0.9)


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ab")), max_size=200))
def test_never_more_than_the_measure(steps: list[tuple[float, str]]) -> None:
    """In any stretch of time: what may come at once and what that time brings."""
    pace, now = Pace(4, 3, 10), 0.0
    taken: dict[str, list[float]] = {"a": [], "b": []}
    for wait, key in steps:
        now += wait
        if pace.takes(key, now):
            taken[key].append(now)
    for times in taken.values():
        for first, begin in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= 3 + 4 * (times[last] - begin) + 1e-6
