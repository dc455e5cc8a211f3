"""Callers who wait are told their place: when, which, and who is not."""

from dataclasses import dataclass, replace

import pytest

from siaga_pbx.call.announcements import FIRST_S
from siaga_pbx.call.commands import Announce, Command
from siaga_pbx.call.events import (
    CallArrived,
    CallerGone,
    Connected,
    EndedBy,
    Event,
    SeatAnswered,
    SeatGone,
    SeatRegistered,
)
from siaga_pbx.call.language import language_of
from siaga_pbx.call.queue import Queue
from siaga_pbx.sip.message import Request, parse


@dataclass(frozen=True)
class Settings:
    ring_s: float = 12.0
    rest_s: float = 20.0
    wrap_up_s: float = 10.0
    widen_s: float = 1000.0
    overflow_s: float = 1000.0
    overflow: str | None = None
    announce_every_s: float = 30.0


@dataclass(frozen=True)
class Seat:
    id: str
    skills: frozenset[str] = frozenset()


class Centre:
    """A queue driven by its own deadlines: `told` is what it announced, and when."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 1000.0
        self.settings = settings or Settings()
        self.queue = Queue(self.settings, [Seat("101")])
        self.told: list[tuple[float, str, int]] = []

    def do(self, *events: Event) -> None:
        for event in events:
            self._keep(self.queue.handle(event, self.now))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.queue.next_deadline()) is not None and deadline <= end:
            assert deadline >= self.now, "no deadline stays behind"
            self.now = max(deadline, self.now + 1e-6)
            self._keep(self.queue.handle_timer(self.now))
        self.now = end

    def _keep(self, commands: list[Command]) -> None:
        self.told += [
            (round(self.now - 1000.0, 3), command.call, command.place)
            for command in commands
            if isinstance(command, Announce)
        ]


def test_each_is_told_after_the_greeting_and_then_now_and_then() -> None:
    centre = Centre()
    centre.do(CallArrived("a"))
    centre.wait(5)
    centre.do(CallArrived("b"))
    centre.wait(60)
    assert centre.told == [(10, "a", 1), (15, "b", 2), (40, "a", 1), (45, "b", 2)]


def test_places_move_up_when_somebody_leaves() -> None:
    centre = Centre()
    centre.do(CallArrived("a"), CallArrived("b"), CallArrived("c"))
    centre.wait(20)
    centre.do(CallerGone("a", EndedBy.CALLER))
    centre.wait(25)
    assert centre.told == [(10, "a", 1), (10, "b", 2), (10, "c", 3), (40, "b", 1), (40, "c", 2)]


def test_nobody_is_told_that_they_fell_back() -> None:
    centre = Centre()
    centre.do(CallArrived("a"))
    centre.wait(20)
    centre.do(CallArrived("weighty", priority=9))
    centre.wait(60)
    assert centre.told == [(10, "a", 1), (30, "weighty", 1), (60, "weighty", 1)]
    centre.do(CallerGone("weighty", EndedBy.CALLER))
    centre.wait(30)
    assert centre.told[-1] == (100, "a", 1)


def test_who_is_answered_hears_no_more_and_begins_anew_if_the_seat_is_lost() -> None:
    centre = Centre()
    centre.do(CallArrived("a"), SeatRegistered("101"))
    centre.wait(5)
    centre.do(SeatAnswered("a", "101"), Connected("a", "101"))
    centre.wait(100)
    assert centre.told == []
    assert centre.queue.next_deadline() is None
    centre.do(SeatGone("a", "101", EndedBy.FAULT))
    centre.wait(FIRST_S)
    assert centre.told == [(115, "a", 1)]


def test_who_is_offered_to_a_seat_still_waits() -> None:
    centre = Centre()
    centre.do(SeatRegistered("101"), CallArrived("a"))
    centre.wait(11)
    assert centre.told == [(10, "a", 1)]


def test_from_where_there_are_no_words_for_the_place_nobody_is_told() -> None:
    centre = Centre()
    centre.do(*(CallArrived(f"{number}") for number in range(1, 302)))
    centre.wait(10)
    assert [place for _, _, place in centre.told] == list(range(1, 300))
    centre.do(CallerGone("1", EndedBy.CALLER), CallerGone("2", EndedBy.CALLER))
    centre.wait(30)
    assert centre.told[-1] == (40, "301", 299)


@pytest.mark.parametrize(("every", "told"), [(0.0, []), (5.0, [5, 10, 15, 20]), (12.0, [10, 22])])
def test_how_often_is_a_setting(every: float, told: list[int]) -> None:
    centre = Centre(Settings(announce_every_s=every))
    centre.do(CallArrived("a"))
    centre.wait(23)
    assert [at for at, _, _ in centre.told] == told


def test_a_reload_starts_and_stops_it() -> None:
    centre = Centre(Settings(announce_every_s=0.0))
    centre.do(CallArrived("a"))
    centre.wait(60)
    centre._keep(centre.queue.configure(Settings(), [Seat("101")], centre.now))
    assert centre.told == [(60, "a", 1)], "the first is long due"
    centre._keep(centre.queue.configure(replace(centre.settings), [Seat("101")], centre.now))
    centre.wait(100)
    assert len(centre.told) == 1


INVITE = (
    "INVITE sip:112@siaga.local SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
    "From: <sip:1@192.0.2.1>;tag=1\r\nTo: <sip:112@siaga.local>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{}"
    "Content-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("header", "route", "language"),
    [
        ("", None, None),
        ("", "jv", "jv"),
        ("Accept-Language: en\r\n", None, "en"),
        ("Accept-Language: EN-gb;q=0.7, id\r\n", None, "id"),
        ("Accept-Language: id;q=0.3, en;q=0.8\r\n", None, "en"),
        ("Accept-Language: en\r\n", "jv", "jv"),
        ("Accept-Language: *\r\n", None, None),
        ("Accept-Language: en;q=0\r\n", None, None),
        ("Accept-Language: ../../etc, 12, en;q=x\r\n", None, None),
    ],
)
def test_the_language_is_the_routes_or_what_the_device_asks_for(
    header: str, route: str | None, language: str | None
) -> None:
    request = parse(INVITE.format(header).encode())
    assert isinstance(request, Request)
    assert language_of(request, route) == language
