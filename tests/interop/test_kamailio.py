"""Calls through two proxies in a row that record their route (RFC 3261 16.12.1.1): nothing goes past them."""

from collections.abc import Iterator

import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, hear_each_other, registered, take
from tests.interop.centres import ended, kinds, running
from tests.interop.kamailio import proxy
from tests.interop.uac import Message, Ua

ALLOW = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK")


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    made = Centre(tmp_path_factory.mktemp("kamailio"), agencies={}, queue="wrap_up_s = 0")
    with running(made):
        yield made


@pytest.fixture(scope="module")
def outer(centre: Centre, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("proxies")
    with (
        proxy(TRUNK, (DAEMON, centre.sip_port), folder / "inner") as inner,
        proxy(TRUNK, inner, folder / "outer") as place,
    ):
        yield place


def through(message: Message) -> int:
    """How many proxies a request of ours has passed."""
    return len(message.all("Via")) - 1


def test_a_call_and_all_that_is_asked_within_it(centre: Centre, outer: tuple[str, int]) -> None:
    with Ua(outer, TRUNK) as caller, registered(centre, "101") as seat, Rtp(TRUNK, 0) as mouth, Rtp(SEAT, 1) as ear:
        call = caller.invite(
            mouth.sdp, headers=[("Supported", "timer"), ("Session-Expires", "10;refresher=uas"), ALLOW]
        )
        taken = take(call, seat, mouth, ear)
        assert len(call.routes) == 2
        hear_each_other(mouth, ear)

        update = caller.wait(lambda message: message.status == 0 and message.method == "UPDATE")
        assert through(update) == 2
        assert update["Session-Expires"] == "10;refresher=uac"
        caller.reply(update, 200, headers=[("Session-Expires", "10;refresher=uac"), ("Contact", caller.contact), ALLOW])

        assert call.ask("INFO", [("Content-Type", "application/dtmf-relay")], "Signal=5\r\n").status == 200
        assert call.ask("UPDATE", [("Contact", caller.contact)]).status == 200
        call.invite(mouth.sdp)
        assert call.final().status == 200

        assert taken.bye().status == 200
        assert through(call.hung_up()) == 2
        caller.drop(call)
        row = ended(centre, call.call_id)
        assert (row["outcome"], row["ended_by"]) == ("answered", "seat")
        assert "session_missed" not in kinds(centre, call.call_id)


def test_a_caller_hangs_up_through_the_proxies(centre: Centre, outer: tuple[str, int]) -> None:
    with Ua(outer, TRUNK) as caller, registered(centre, "101") as seat, Rtp(TRUNK, 0) as mouth, Rtp(SEAT, 1) as ear:
        call = caller.invite(mouth.sdp)
        taken = take(call, seat, mouth, ear)
        assert call.bye().status == 200
        taken.hung_up()
        assert ended(centre, call.call_id)["ended_by"] == "caller"


def test_reliable_ringing_through_the_proxies(centre: Centre, outer: tuple[str, int]) -> None:
    """Preconditions: the 183, its PRACK and the UPDATE take the recorded route before there is a 200."""
    with Ua(outer, TRUNK) as caller, Rtp(TRUNK, 0) as mouth:
        waits = "a=curr:qos local none\r\na=des:qos mandatory local sendrecv\r\n"
        require = [("Require", "100rel, precondition"), ALLOW]
        call = caller.invite(mouth.sdp + waits, headers=require)
        progress = call.rings(183)
        assert "conf:qos remote sendrecv" in progress.body
        call.remote, call.target = progress["To"], progress["Contact"].strip("<>")
        call.routes = [one.strip() for line in progress.all("Record-Route") for one in line.split(",")][::-1]
        assert call.ask("PRACK", [("RAck", f"{progress['RSeq']} 1 INVITE")]).status == 200
        ready = waits.replace("local none", "local sendrecv")
        assert "curr:qos remote sendrecv" in call.ask("UPDATE", [("Contact", caller.contact)], mouth.sdp + ready).body
        call.number = 1
        answer = call.final()
        assert (answer.status, answer.body) == (200, "")
        call.number = 3
        assert call.bye().status == 200
        assert ended(centre, call.call_id)["outcome"] == "abandoned"
