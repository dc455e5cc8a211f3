"""The account of a leg that several workers carried."""

from dataclasses import fields

from siaga_pbx.media.book import Book
from siaga_pbx.media.protocol import Account, LegStats, Open, Recall, Side, State
from siaga_pbx.media.stats import together


def test_what_is_summed_and_what_is_not() -> None:
    before = LegStats(received=100, sent=90, lost=3, jitter_ms=2.0, longest_gap_ms=50.0, remote_lost=4, late=1)
    now = LegStats(received=10, sent=9, lost=1, jitter_ms=1.0, longest_gap_ms=40.0, remote_jitter_ms=3.0, rejected=2)
    both = together(before, now)
    assert (both.received, both.sent, both.lost, both.late, both.rejected) == (110, 99, 4, 1, 2)
    assert (both.jitter_ms, both.longest_gap_ms) == (1.0, 50.0)
    assert (both.remote_lost, both.remote_jitter_ms, both.round_trip_ms) == (4, 3.0, None)
    assert together(before, LegStats()).jitter_ms == 2.0
    assert together(before, LegStats(remote_lost=2)).remote_lost == 6


def test_nothing_of_it_is_forgotten() -> None:
    """Whatever is counted anew has its place there too."""
    whole = LegStats(**{field.name: 1 for field in fields(LegStats)})
    assert together(whole, LegStats()) == whole
    assert together(LegStats(), whole) == whole


def test_another_worker_is_told() -> None:
    book = Book()
    book.obey(Open("a", "call", Side.CALLER, "127.0.0.1", 30000, 0))
    book.learn(Account("a", LegStats(received=7)))
    book.learn(Account("gone", LegStats(received=7)))
    there, *missing = book.missing(State((), (), ()))
    assert missing == [Recall("a", LegStats(received=7))]
    again = Book()
    for command in (there, *missing):
        again.obey(command)
    assert again.legs == book.legs
    assert book.missing(book.state(())) == []
