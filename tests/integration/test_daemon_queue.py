"""The queue by way of real phones: by-seat answering, widening, overflow, and people who leave at the wrong moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, carrier, hear_each_other, pick_up, registered
from tests.interop.centres import ended, kinds, row, running, seat_state, until
from tests.interop.uac import Dialog, Ua

QUEUE = """ring_s = 30
rest_s = 1
wrap_up_s = 0
widen_s = 1
overflow_s = 4
overflow = "sip:112@192.0.2.9"
answer = "by-seat"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Centre, Ua]]:
    """A centre, and the carrier's end of the calls that go out."""
    made = Centre(tmp_path_factory.mktemp("queue"), agencies={}, queue=QUEUE)
    with Ua((DAEMON, made.sip_port), TRUNK, "sbc") as hop:
        made.trunk = f'outbound = "sip:{hop.host}:{hop.port}"'
        with running(made):
            yield made, hop


@pytest.fixture
def centre(place: tuple[Centre, Ua]) -> Centre:
    return place[0]


@pytest.fixture
def hop(place: tuple[Centre, Ua]) -> Ua:
    return place[1]


def test_no_seat_so_the_overflow_target_takes_the_call(centre: Centre, hop: Ua) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 50) as mouth, Rtp(TRUNK, 51) as far:
        began = monotonic()
        call = caller.invite(mouth.sdp)
        for _ in range(2):
            call.rings()
        target = hop.offered()
        assert monotonic() - began > 3.5
        assert target.request is not None
        assert target.request.start == "INVITE sip:112@192.0.2.9 SIP/2.0"
        assert target.request["Priority"] == "emergency"
        far.start(target.offer)
        target.answer(far.sdp)
        mouth.start(call.final().body)
        hear_each_other(mouth, far)
        call.bye()
        target.hung_up()
        over = ended(centre, call.call_id)
        assert (over["outcome"], over["ended_by"], over["seat_id"]) == ("overflowed", "caller", None)


def test_the_overflow_target_hangs_up(centre: Centre, hop: Ua) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 52) as mouth, Rtp(TRUNK, 53) as far:
        call = caller.invite(mouth.sdp)
        target = hop.offered()
        target.answer(far.sdp)
        call.final()
        target.bye()
        call.hung_up()
        over = ended(centre, call.call_id)
        assert (over["outcome"], over["ended_by"]) == ("overflowed", "overflow")


def test_a_seat_that_comes_takes_the_call_from_the_ringing_overflow_target(centre: Centre, hop: Ua) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 54) as mouth, Rtp(SEAT, 55) as ear:
        call = caller.invite(mouth.sdp)
        target = hop.offered()
        target.ring()
        with late_seat(centre, "101") as seat:
            pick_up(seat, ear)
            target.cancelled()
            assert call.final().status == 200
            call.bye()
            over = ended(centre, call.call_id)
            assert (over["outcome"], over["seat_id"]) == ("answered", "101")


@contextmanager
def late_seat(centre: Centre, seat: str) -> Iterator[Ua]:
    """A seat that a waiting call is offered to as soon as it registers, so that it is never seen ready."""
    with Ua((DAEMON, centre.sip_port), SEAT, seat) as ua:
        assert ua.register(seat, centre.password(seat)).status == 200
        yield ua
        ua.register(seat, centre.password(seat), expires=0)


def test_answered_only_when_the_seat_answers(centre: Centre) -> None:
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 56) as mouth,
        Rtp(SEAT, 57) as ear,
    ):
        call = caller.invite(mouth.sdp)
        offered = seat.offered()
        offered.ring()
        for _ in range(2):  # every 3 s
            call.rings()
        assert caller.hears_nothing(lambda message: message.status >= 200, 0.1)
        ear.start(offered.offer)
        offered.answer(ear.sdp)
        mouth.start(call.final().body)
        hear_each_other(mouth, ear)
        offered.bye()  # the call-taker ends it
        call.hung_up()
        over = ended(centre, call.call_id)
        assert (over["outcome"], over["ended_by"]) == ("answered", "seat")


def test_two_seats_answer_at_once(centre: Centre) -> None:
    """After the widening both ring; one has the call, the other is told so, and is free again."""
    with (
        registered(centre, "101") as first,
        registered(centre, "102") as second,
        carrier(centre) as caller,
        Rtp(TRUNK, 58) as mouth,
        Rtp(SEAT, 59) as ear,
    ):
        call = caller.invite(mouth.sdp)
        rung = [seat.offered() for seat in (first, second)]
        for offered in rung:
            offered.ring()
        for offered in rung:
            offered.answer(ear.sdp, wait=False)
        for offered in rung:
            offered.acknowledged()
        assert call.final().status == 200
        until(lambda: row(centre, call.call_id)["connected_at"], "the connection")
        taken = row(centre, call.call_id)["seat_id"]
        winner, loser = (rung[0], rung[1]) if taken == "101" else (rung[1], rung[0])
        loser.hung_up()
        other = "102" if taken == "101" else "101"
        until(lambda: seat_state(centre, other) == "ready", "the other seat's freedom")
        assert kinds(centre, call.call_id).count("connected") == 1
        call.bye()
        winner.hung_up()


def test_the_caller_gives_up_while_a_seat_rings(centre: Centre) -> None:
    with registered(centre, "101") as seat, carrier(centre) as caller, Rtp(TRUNK, 60) as mouth:
        call = caller.invite(mouth.sdp)
        offered = seat.offered()
        offered.ring()
        assert call.cancel().status == 487
        offered.cancelled()
        over = ended(centre, call.call_id)
        assert (over["outcome"], over["ended_by"]) == ("abandoned", "caller")
        assert over["id"] in {one["id"] for one in centre.get("/api/v1/callbacks")}
        until(lambda: seat_state(centre, "101") == "ready", "the seat's freedom")


def test_a_seat_leaves_while_it_rings(centre: Centre) -> None:
    """It may still answer, as its INVITE has reached it; the next seat to come rings beside it and has the call."""
    with (
        registered(centre, "101") as leaving,
        carrier(centre) as caller,
        Rtp(TRUNK, 61) as mouth,
        Rtp(SEAT, 62) as ear,
    ):
        call = caller.invite(mouth.sdp)
        offered = leaving.offered()
        offered.ring()
        leaving.register("101", centre.password("101"), expires=0)
        with late_seat(centre, "102") as staying:
            pick_up(staying, ear)
            offered.cancelled()
            assert call.final().status == 200
            call.bye()
            assert ended(centre, call.call_id)["seat_id"] == "102"
        until(lambda: seat_state(centre, "101") == "offline", "the end of the seat")


def test_a_seat_leaves_while_it_talks(centre: Centre) -> None:
    """A lost registration ends no call: they talk on, and the seat is offline after it."""
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 63) as mouth,
        Rtp(SEAT, 64) as ear,
    ):
        call, taken = by_seat(caller, seat, mouth, ear)
        seat.register("101", centre.password("101"), expires=0)
        hear_each_other(mouth, ear)
        call.bye()
        taken.hung_up()
        assert ended(centre, call.call_id)["outcome"] == "answered"
        until(lambda: seat_state(centre, "101") == "offline", "the end of the seat")


def by_seat(caller: Ua, seat: Ua, mouth: Rtp, ear: Rtp) -> tuple[Dialog, Dialog]:
    """As `bridged`, where a call is answered only when its seat answers."""
    call = caller.invite(mouth.sdp)
    taken = pick_up(seat, ear)
    mouth.start(call.final().body)
    return call, taken
