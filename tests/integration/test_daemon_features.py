"""What a call-taker keys in a call and dials when idle, and the call back to a caller who was lost."""

from collections.abc import Iterator
from typing import Any

import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, hear_each_other, registered
from tests.interop.centres import ended, kinds, row, running, seat_state, until
from tests.interop.uac import Dialog, Message, Ua

DIALPLAN = """
[[feature]]
dial = "*60"
action = "ready"

[[feature]]
dial = "*61"
action = "pause"
reason = "istirahat"

[[feature]]
dial = "*71"
action = "disposition"
disposition = "prank"

[[feature]]
dial = "*9"
action = "callback"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Centre, Ua]]:
    """A centre, and the carrier's end of the calls that go out."""
    made = Centre(tmp_path_factory.mktemp("features"), agencies={}, queue="wrap_up_s = 0", dialplan=DIALPLAN)
    with Ua((DAEMON, made.sip_port), TRUNK, "sbc") as hop:
        made.trunk = f'outbound = "sip:{hop.host}:{hop.port}"\nfrom_number = "+62231112"'
        with running(made):
            yield made, hop


@pytest.fixture
def centre(place: tuple[Centre, Ua]) -> Centre:
    return place[0]


@pytest.fixture
def hop(place: tuple[Centre, Ua]) -> Ua:
    return place[1]


@pytest.fixture
def seat(centre: Centre) -> Iterator[Ua]:
    with registered(centre, "101") as ua:
        yield ua


def test_a_code_keyed_in_the_call_dispatches(centre: Centre, seat: Ua) -> None:
    """RFC 4733: read, carried out, and not for the caller's ear; what the caller keys is the seat's to hear."""
    with carrier(centre) as caller, Rtp(TRUNK, 30) as mouth, Rtp(SEAT, 31) as ear:
        call, _ = bridged(caller, seat, mouth, ear)
        hear_each_other(mouth, ear)
        ear.press("*1")
        sent = dispatches(centre, call)
        assert [(one["agency"], one["message"]["category"], one["message"]["seat"]) for one in sent] == [
            ("damkar", "fire", "101")
        ]
        mouth.press("5" * 8)
        until(lambda: ear.events, "the caller's key at the seat, after the beep")
        assert set(ear.events) == {5}
        assert not mouth.events
        call.bye()
        assert ended(centre, call.call_id)["outcome"] == "answered"


def test_a_code_by_info_dispatches(centre: Centre, seat: Ua) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 32) as mouth, Rtp(SEAT, 33) as ear:
        call, taken = bridged(caller, seat, mouth, ear)
        for key in "*1":
            assert info(taken, key).status == 200
        assert len(dispatches(centre, call)) == 1
        for key in "*8#":
            info(taken, key)
        until(lambda: "feature_unknown" in kinds(centre, call.call_id), "the note of an unknown code")
        for key in "*71":
            info(taken, key)
        until(lambda: row(centre, call.call_id)["disposition"] == "prank", "the disposition")
        call.bye()


def test_an_idle_seat_dials_pause_and_ready(centre: Centre, seat: Ua) -> None:
    for code, state, reason in (("*61", "paused", "istirahat"), ("*60", "ready", None)):
        with Rtp(SEAT, 34) as ear:
            line = dial(centre, seat, code, ear)
            until(lambda wanted=state: seat_state(centre, "101") == wanted, f"the seat {state}")  # type: ignore[misc]
            line.hung_up()  # once it has been told in words
            assert len(ear.heard()) > 4000
            assert next(one for one in centre.get("/api/v1/seats") if one["id"] == "101")["reason"] == reason
    with Rtp(SEAT, 35) as ear:
        assert seat.invite(ear.sdp, uri=f"sip:*99@{DAEMON}:{centre.sip_port}", caller=OWN).final().status == 407
        line = call_out(centre, seat, "*99", ear)
        assert line.final().status == 404


def test_a_lost_caller_is_called_back(centre: Centre, hop: Ua) -> None:
    """RFC 7090: by the trunk's outbound, with the headers that let it through; then it is off the list."""
    with carrier(centre) as caller, Rtp(TRUNK, 36) as mouth:
        lost = caller.invite(mouth.sdp)
        lost.final()
        lost.bye()
        assert ended(centre, lost.call_id)["outcome"] == "abandoned"
    listed = [one["id"] for one in centre.get("/api/v1/callbacks")]
    assert row(centre, lost.call_id)["id"] in listed
    with registered(centre, "101") as seat, Rtp(SEAT, 37) as ear, Rtp(TRUNK, 38) as mouth:
        line = dial(centre, seat, "*9", ear)
        called = hop.offered()
        assert called.request is not None
        assert called.request.start == f"INVITE sip:+6281230000099@{hop.host}:{hop.port};user=phone SIP/2.0"
        assert called.request["Priority"] == "psap-callback"
        assert called.request["Resource-Priority"] == "esnet.0"
        assert "+62231112" in called.request["From"]
        called.ring()
        mouth.start(called.offer)
        called.answer(mouth.sdp)
        hear_each_other(mouth, ear)
        assert seat_state(centre, "101") == "talking"
        assert centre.get("/api/v1/callbacks") == []
        line.bye()
        called.hung_up()
        until(lambda: seat_state(centre, "101") == "ready", "the seat's freedom")


def test_a_call_back_that_fails_stays_on_the_list(centre: Centre, hop: Ua) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 39) as mouth:
        lost = caller.invite(mouth.sdp)
        lost.final()
        lost.bye()
        ended(centre, lost.call_id)
    with registered(centre, "101") as seat, Rtp(SEAT, 40) as ear:
        line = dial(centre, seat, "*9", ear)
        hop.offered().reject(486)
        line.hung_up()
        assert [one["id"] for one in centre.get("/api/v1/callbacks")] == [row(centre, lost.call_id)["id"]]
        until(lambda: seat_state(centre, "101") == "ready", "the seat's freedom")


OWN = "<sip:101@siaga.local>"


def dial(centre: Centre, seat: Ua, code: str, ear: Rtp) -> Dialog:
    """A code that the idle seat dials; the call is up."""
    line = call_out(centre, seat, code, ear)
    answer = line.final()
    assert answer.status == 200, answer.start
    ear.start(answer.body)
    return line


def call_out(centre: Centre, seat: Ua, code: str, ear: Rtp) -> Dialog:
    """The seat's INVITE with the credentials that it is asked for."""
    line = seat.invite(ear.sdp, uri=f"sip:{code}@{DAEMON}:{centre.sip_port}", caller=OWN)
    challenge = line.final()
    assert challenge.status == 407, challenge.start
    line.authorise(challenge, "101", centre.password("101"), ear.sdp)
    return line


def info(taken: Dialog, key: str) -> Message:
    body = f"Signal={key}\r\nDuration=160\r\n"
    return taken.ask("INFO", [("Content-Type", "application/dtmf-relay")], body)


def dispatches(centre: Centre, call: Dialog) -> list[dict[str, Any]]:
    """Those of the call, once there are any."""
    path = f"/api/v1/calls/{row(centre, call.call_id)['id']}"
    return until(lambda: list(centre.get(path)["dispatches"]), "the dispatch")
