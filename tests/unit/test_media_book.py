"""What media is to be: a worker made again from the book is what the dead one was."""

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media.book import Book
from siaga_pbx.media.protocol import (
    Bridge,
    Close,
    Closed,
    Command,
    Confer,
    Connect,
    Echo,
    FirstPacket,
    LegStats,
    Open,
    OpenFailed,
    Part,
    Play,
    Played,
    Record,
    RecordBegan,
    Recorded,
    RecordFailed,
    RelayEvents,
    Remote,
    Side,
    State,
    StopRecord,
    Unbridge,
)
from siaga_pbx.media.source import SourceLock

NOTHING = State((), (), ())
LEGS = ("a", "b", "c")
OPENED: list[Command] = [
    Open(leg, "call", Side.CALLER if leg == "a" else Side.SEAT, "127.0.0.1", 30000 + 2 * number, number)
    for number, leg in enumerate(LEGS)
]
REMOTE = Remote(host="192.0.2.1", port=4000)


def written(*commands: Command) -> Book:
    book = Book()
    for command in (*OPENED, *commands):
        book.obey(command)
    return book


def feeds(book: Book) -> dict[str, object]:
    return {name: leg.feed for name, leg in book.legs.items()}


legs = st.sampled_from(LEGS)
pairs = st.lists(legs, min_size=2, max_size=2, unique=True)
some_commands = st.one_of(
    st.builds(Connect, legs, st.builds(Remote, host=st.just("192.0.2.1"), port=st.sampled_from([4000, 4002]))),
    st.builds(Play, legs, st.sampled_from([(), ("greeting",)]), st.sampled_from([(), ("waiting",)])),
    pairs.map(lambda pair: Bridge(pair[0], pair[1])),
    st.builds(Confer, legs, st.sampled_from(Part), st.none() | legs),
    st.builds(Unbridge, legs),
    st.builds(Echo, legs),
    st.builds(RelayEvents, legs, st.booleans()),
    st.builds(Close, legs),
)


def timed(commands: list[Command], start: int = 1) -> list[Command]:
    """No two said at once."""
    return [
        replace(command, at=at) if isinstance(command, Play) else command for at, command in enumerate(commands, start)
    ]


@given(st.lists(some_commands, max_size=30), st.lists(some_commands, max_size=30))
def test_what_is_missing_makes_any_worker_what_the_book_says(before: list[Command], after: list[Command]) -> None:
    """Whether it knows nothing, or what was so some time ago: then but for the legs that are no more."""
    book, behind = written(*timed(before)), written(*timed(before))
    for command in timed(after, start=100):
        book.obey(command)
    for worker in (Book(), behind):
        for command in book.missing(worker.state(())):
            worker.obey(command)
        assert {name: leg for name, leg in worker.legs.items() if name in book.legs} == book.legs
        assert book.missing(worker.state(())) == []


@given(st.lists(some_commands, max_size=30))
def test_bridges_have_two_sides(commands: list[Command]) -> None:
    book = written(*commands)
    for name, leg in book.legs.items():
        if isinstance(leg.feed, Bridge):
            (other,) = {leg.feed.leg_a, leg.feed.leg_b} - {name}
            assert book.legs[other].feed == leg.feed


def test_who_loses_the_other_is_sent_silence() -> None:
    for ending in (Play("a", ("greeting",)), Unbridge("a"), Echo("a"), Close("a"), Bridge("a", "c")):
        book = written(Bridge("a", "b"), ending)
        assert book.legs["b"].feed == Play("b", ()), ending
    assert written(Bridge("a", "b"), Unbridge("a")).legs["a"].feed == Play("a", ())


def test_unbridging_who_is_not_bridged_changes_nothing() -> None:
    assert feeds(written(Play("a", ("greeting",)), Unbridge("a"), Unbridge("b"))) == {
        "a": Play("a", ("greeting",)),
        "b": None,
        "c": None,
    }


def test_a_bridge_is_made_after_both_legs_and_once() -> None:
    book = written(Bridge("b", "a"))
    assert book.missing(NOTHING) == [*OPENED, Bridge("b", "a")]


def test_prompts_that_are_through_are_not_played_again() -> None:
    book = written(Play("a", ("greeting",), ("waiting",)))
    behind = book.state(())
    book.learn(Played("a"))
    assert book.missing(NOTHING)[-1] == Play("a", (), ("waiting",))
    ahead = book.state(())
    assert written(Play("a", ("greeting",), ("waiting",))).missing(ahead) == [], "it only has not been told"
    assert book.missing(behind) == [Play("a", (), ("waiting",))]


def test_prompts_that_are_through_and_nobody_was_told() -> None:
    playing = written(Play("a", ("greeting",), ("waiting",)), Play("b", (), ("waiting",)), Bridge("b", "c"))
    worker = written(Play("a", ("greeting",), ("waiting",)), Play("b", (), ("waiting",)), Bridge("b", "c"))
    assert playing.untold(worker.state(())) == playing.untold(NOTHING) == [], "it still plays, or will again"
    worker.learn(Played("a"))
    assert playing.untold(worker.state(())) == [Played("a")]
    playing.learn(Played("a"))
    assert playing.untold(worker.state(())) == [], "told"
    playing.obey(Play("a", ("again",), (), at=1.0))
    assert playing.untold(worker.state(())) == [], "that was another"


remotes = st.builds(
    Remote,
    host=st.sampled_from(["192.0.2.1", "192.0.2.2", "0.0.0.0", "media.example"]),
    port=st.sampled_from([4000, 4002]),
    accept=st.sampled_from([(), (ip_network("192.0.2.0/24"),)]),
    strict=st.booleans(),
    sending=st.booleans(),
)
sources = st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.sampled_from([4000, 4002, 5000]))


@settings(max_examples=50)
@given(st.lists(remotes | sources | st.none(), max_size=12))
def test_the_book_knows_the_source_as_the_worker_does(history: list[Remote | tuple[str, int] | None]) -> None:
    """Of far sides that are agreed, sources that are found, and workers that are made again."""
    book, lock = written(), SourceLock()
    for now, one in enumerate(history):
        if isinstance(one, Remote):
            book.obey(Connect("a", one))
            lock.connect(one, now)
        elif one is not None and lock.gate is not None:
            book.learn(FirstPacket("a", *one, True))
            lock.take(one)
        known = book.legs["a"].connect
        if known is not None:
            if one is None:
                lock = SourceLock()
                lock.connect(known.remote, now, known.source, known.former)
            assert lock.gate is not None
            assert (lock.gate.remote, lock.source, lock.former) == (known.remote, known.source, known.former)


def test_the_source_found_stands_while_its_rule_does() -> None:
    book = written(Connect("a", REMOTE))
    book.learn(FirstPacket("a", "192.0.2.9", 5000, False))
    assert book.missing(NOTHING)[1] == Connect("a", REMOTE, ("192.0.2.9", 5000))
    book.obey(Connect("a", replace(REMOTE, sending=False)))
    assert book.missing(NOTHING)[1] == Connect("a", replace(REMOTE, sending=False), ("192.0.2.9", 5000))
    assert written(Connect("a", replace(REMOTE, sending=False))).missing(book.state(())) == [], "it knows more"
    book.obey(Connect("a", replace(REMOTE, host="0.0.0.0", sending=False)))
    held = replace(REMOTE, sending=False, nowhere=True)
    assert book.missing(NOTHING)[1] == Connect("a", held, ("192.0.2.9", 5000)), "no other far side"
    book.obey(Connect("a", replace(REMOTE, port=4002)))
    former = Connect("a", replace(REMOTE, port=4002), ("192.0.2.9", 5000), former=True)
    assert book.missing(NOTHING)[1] == former, "until the first packet from the new far side"
    book.obey(Connect("a", replace(REMOTE, port=4002, sending=False)))
    assert book.missing(NOTHING)[1] == replace(former, remote=replace(REMOTE, port=4002, sending=False))
    book.learn(FirstPacket("a", "192.0.2.9", 4002, True))
    assert book.legs["a"].connect == Connect("a", replace(REMOTE, port=4002, sending=False), ("192.0.2.9", 4002))


def test_a_recording_goes_on_and_ends() -> None:
    book = written(Record("call", "/a.wav"))
    assert book.missing(NOTHING)[-1] == Record("call", "/a.wav", again=True)
    book.learn(RecordBegan("call", 12.5))
    again = Record("call", "/a.wav", 12.5, again=True)
    assert book.missing(NOTHING)[-1] == again
    assert book.missing(book.state(())) == []
    book.learn(RecordFailed("call", "/a.wav", "No space left on device", final=False))
    book.obey(StopRecord("call"))
    assert book.missing(NOTHING)[-2:] == [again, StopRecord("call")], "what is on disk is to be made whole"
    book.learn(Recorded("call", "/a.wav", 1.0, "", 0))
    assert book.recordings == {}
    assert book.missing(NOTHING) == OPENED


def test_a_recording_whose_call_is_over_is_made_whole() -> None:
    book = written(Record("call", "/a.wav"), *(Close(leg) for leg in LEGS))
    assert book.missing(NOTHING) == [Record("call", "/a.wav", again=True), StopRecord("call")]
    book.learn(RecordFailed("call", "/a.wav", "Input/output error"))
    assert book.missing(NOTHING) == []


def test_a_leg_that_ended_by_itself_is_forgotten() -> None:
    book = written(Bridge("a", "b"))
    book.learn(Closed("a", LegStats()))
    book.learn(OpenFailed("c", "Address already in use"))
    assert feeds(book) == {"b": Play("b", ())}


def test_what_an_earlier_daemon_left() -> None:
    old = written(Connect("a", REMOTE), Bridge("a", "b"), Record("call", "/a.wav"))
    new = Book()
    state = old.state((("127.0.0.1", 30010),))
    new.adopt(state.legs, state.recordings)
    assert new.missing(state) == []
    assert new.missing(NOTHING) == old.missing(NOTHING)
