"""The agency's book: what is news, what is answered, what is kept."""

import pytest

from siaga_pbx.dispatch.agency_book import KEPT, Book, News, NotPossible, Saved, Signature
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import Ack, Dispatch, Kind
from siaga_pbx.records.ids import new_id
from tests.unit.test_dispatch_message import DISPATCH, encoded

FIRST = Dispatch.parse(encoded(DISPATCH))
ID = FIRST.dispatch_id
NOW = Signature("Regu 1", "2026-11-24T00:00:05.000Z")


def later(sequence: int, kind: Kind = Kind.UPDATE) -> Dispatch:
    return FIRST.model_copy(update={"sequence": sequence, "type": kind})


def sent(book: Book) -> list[Ack]:
    """What it sends, and the broker takes."""
    acks = []
    while (ack := book.unsent) is not None:
        acks.append(ack)
        book.confirm(ack)
    return acks


def answers(book: Book) -> list[tuple[str, int | None]]:
    return [(ack.state.value, ack.sequence) for ack in sent(book)]


def test_what_arrives_is_new_once_and_answered_each_time() -> None:
    book = Book()
    assert book.receive(FIRST, NOW)[0] is News.NEW
    assert book.receive(FIRST, NOW)[0] is News.REMINDER
    assert answers(book) == [("received", 1), ("received", 1)]
    assert len(book.entries) == 1


def test_a_repetition_is_answered_with_the_present_state() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.EN_ROUTE, NOW)
    sent(book)
    assert book.receive(FIRST, NOW)[0] is News.REPETITION
    assert answers(book) == [("en_route", 1)]


def test_an_update_keeps_the_state_and_an_older_version_changes_nothing() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.ACCEPTED, NOW)
    sent(book)
    assert book.receive(later(2), NOW)[0] is News.UPDATE
    assert book.receive(FIRST, NOW)[0] is News.REPETITION
    assert answers(book) == [("accepted", 2), ("accepted", 2)]


def test_an_update_may_come_first() -> None:
    book = Book()
    assert book.receive(later(3), NOW)[0] is News.NEW
    assert book.receive(FIRST, NOW)[0] is not News.NEW
    assert book.entries[0].message.sequence == 3


def test_an_alert_asks_anew_what_was_closed_and_an_update_does_not() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.REJECTED, NOW, "no engine")
    assert book.receive(later(2), NOW)[0] is News.UPDATE
    assert book.entries[0].state is State.REJECTED
    assert sent(book)[-1].reason == "no engine"
    assert book.receive(later(3, Kind.ALERT), NOW)[0] is News.NEW
    assert [state.value for state, _ in book.entries[0].history] == ["received", "rejected", "received"]
    assert answers(book) == [("received", 3)]


def test_a_cancellation_closes_and_is_no_reminder() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    assert book.receive(later(2, Kind.CANCEL), NOW)[0] is News.CANCEL
    assert book.entries[0].closed
    assert book.receive(later(2, Kind.CANCEL), NOW)[0] is News.REPETITION


def test_states_never_go_back_but_acceptance_and_rejection_take_each_other_back() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.REJECTED, NOW, "no engine")
    book.enter(ID, State.ACCEPTED, NOW)
    book.enter(ID, State.ON_SCENE, NOW)
    for state in (State.ON_SCENE, State.ACCEPTED, State.REJECTED, State.EN_ROUTE):
        with pytest.raises(NotPossible, match="it is on_scene already"):
            book.enter(ID, state, NOW)
    with pytest.raises(NotPossible, match="no such dispatch"):
        book.enter(new_id(), State.ACCEPTED, NOW)
    assert [ack.reason for ack in sent(book)] == [None, "no engine", None, None]


def test_what_is_not_sent_survives_and_is_sent_in_order() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.ACCEPTED, NOW)
    again = Book(Saved.model_validate_json(book.saved().model_dump_json()))
    assert again.entries == book.entries
    assert answers(again) == [("received", 1), ("accepted", 1)]


def test_only_what_is_sent_is_confirmed() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    first = book.unsent
    assert first is not None
    book.confirm(first.model_copy(update={"sequence": 9}))
    assert book.unsent == first


def test_nothing_is_answered_before_the_file_holds_it() -> None:
    book = Book()
    book.written = book.version
    book.receive(FIRST, NOW)
    book.enter(ID, State.ACCEPTED, NOW)
    assert book.unsent is None
    book.written = 1
    assert answers(book) == [("received", 1)]
    book.written = book.version
    assert answers(book) == [("accepted", 1)]
    book.receive(FIRST, NOW)
    assert answers(book) == [("accepted", 1)], "it is in the file already"


def test_what_the_file_does_not_hold_is_not_called_kept() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.ACCEPTED, NOW)
    book.receive(later(2), NOW)
    book.not_kept()
    assert [(ack.state, ack.sequence, ack.kept) for ack in sent(book)] == [(State.ACCEPTED, 1, False)]
    book.enter(ID, State.EN_ROUTE, NOW)
    book.not_kept()
    book.restate(NOW)
    assert [(ack.state, ack.sequence, ack.kept) for ack in sent(book)] == [
        (State.EN_ROUTE, 2, False),
        (State.EN_ROUTE, 2, None),
    ]


def test_after_a_broken_connection_the_centre_is_told_what_is_not_history_once() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.receive(FIRST.model_copy(update={"dispatch_id": new_id(), "expires_at": "2026-11-23T00:00:00.000Z"}), NOW)
    sent(book)
    book.enter(ID, State.REJECTED, NOW)
    book.restate(NOW)
    assert answers(book) == [("rejected", 1)], "it waits already"
    book.restate(NOW)
    assert answers(book) == [("rejected", 1)]


def test_the_book_is_bounded_and_forgets_what_is_closed_first() -> None:
    book = Book()
    ids = [new_id() for _ in range(KEPT + 1)]
    for number, id in enumerate(ids):
        book.receive(FIRST.model_copy(update={"dispatch_id": id}), NOW)
        if number == 5:
            book.enter(id, State.CLEARED, NOW)
    assert len(book.entries) == KEPT
    assert book.get(ids[5]) is None
    assert book.get(ids[0]) is not None
    for _ in range(50):
        book.receive(FIRST.model_copy(update={"dispatch_id": new_id()}), NOW)
    assert len(book.entries) == KEPT + 50, "what is open is never turned over"


def test_what_is_turned_over_is_still_known_until_it_expires() -> None:
    book = Book()
    book.receive(FIRST, NOW)
    book.enter(ID, State.CLEARED, NOW)
    others = [FIRST.model_copy(update={"dispatch_id": new_id()}) for _ in range(KEPT)]
    for other in others:
        book.receive(other, NOW)
    assert book.get(ID) is None
    book = Book(Saved.model_validate_json(book.saved().model_dump_json()))
    answers(book)
    assert book.receive(FIRST, NOW)[0] is News.REPETITION
    assert answers(book) == [("cleared", 1)]
    book.restate(NOW, ID)
    assert answers(book) == [("cleared", 1)]
    news, entry = book.receive(later(2), NOW)
    assert (news, entry.state, entry.message.sequence) == (News.UPDATE, State.CLEARED, 2)
    assert book.receive(later(3, Kind.ALERT), NOW)[0] is News.NEW, "they are asked anew"
    a_day_later = Signature("Regu 1", "2026-11-25T00:00:05.000Z")
    for _ in range(2):
        book.receive(FIRST.model_copy(update={"dispatch_id": new_id()}), a_day_later)
    assert len(book.saved().turned) <= 2, "what has expired is forgotten"
