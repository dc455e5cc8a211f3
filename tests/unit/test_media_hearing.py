"""A far side that is not heard, second by second."""

from collections.abc import Callable, Iterator

from siaga_pbx.media.hearing import Hearing
from siaga_pbx.media.protocol import HeardAgain, Unheard


def looks(
    hearing: Hearing,
    seconds: int,
    last_at: Callable[[int], float],
    other_at: Callable[[int], float | None] = lambda _: None,
) -> Iterator[tuple[int, Unheard | HeardAgain]]:
    for second in range(1, seconds):
        if (news := hearing.look(last_at(second), other_at(second), float(second))) is not None:
            yield second, news


def expected() -> Hearing:
    hearing = Hearing("leg")
    hearing.expect(True, 0.0)
    return hearing


def test_who_never_says_a_word() -> None:
    assert list(looks(expected(), 60, lambda _: 0.0)) == [(2, Unheard("leg", 2.0, one_way=False))]


def test_one_way_is_told_within_three_seconds_of_the_last_packet() -> None:
    found = list(looks(expected(), 20, lambda at: min(at, 7.99), lambda at: at - 0.01))
    assert found == [(10, Unheard("leg", 2.0, one_way=True))]


def test_both_ways_then_one_way_then_well_again() -> None:
    """The other side comes back first, and is heard by nobody."""
    last = [0.0, *range(1, 5), *[4] * 10, *range(15, 20)]
    other = [0.0, *range(1, 5), *[4] * 4, *range(9, 20)]
    found = list(looks(expected(), 20, lambda at: last[at], lambda at: other[at]))
    assert found == [
        (6, Unheard("leg", 2, one_way=False)),
        (9, Unheard("leg", 5, one_way=True)),
        (15, HeardAgain("leg", 11)),
    ]


def test_a_held_leg_is_no_fault() -> None:
    hearing = expected()
    hearing.expect(False, 5.0)
    assert list(looks(hearing, 30, lambda at: min(at, 4.0), lambda at: at)) == []
    hearing.expect(True, 30.0)
    assert hearing.look(4.0, 30.9, 31.0) is None, "it has just been taken back"
    assert hearing.look(4.0, 31.9, 32.0) == Unheard("leg", 2.0, one_way=True)


def test_a_hold_ends_what_was_told() -> None:
    hearing = expected()
    assert hearing.look(0.0, None, 2.0) is not None
    hearing.expect(False, 3.0)
    assert hearing.look(0.0, None, 4.0) == HeardAgain("leg", 4.0)
    hearing.expect(True, 4.0)
    assert hearing.look(4.5, None, 5.0) is None, "nothing was missing meanwhile"


def test_nobody_is_expected_before_something_is_agreed() -> None:
    assert list(looks(Hearing("leg"), 20, lambda _: 0.0)) == []
