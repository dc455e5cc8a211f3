"""An INVITE that takes the place of a dialog (RFC 3891)."""

import pytest

from siaga_pbx.sip.events import (
    Answered,
    By,
    Confirmed,
    Ended,
    IncomingCall,
    Noted,
    Offered,
    Reanswered,
    Ringing,
)
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer, make_offer
from tests.flows.bench import OTHER_TRUNK, OUR_SDP, SEAT, THEIR_SDP, TRUNK, US, Bench, Peer
from tests.flows.test_caller import arrive
from tests.flows.test_offers import THEIR_ANSWER, caller
from tests.flows.test_seat_call import call, outbound, registered

GATEWAY = Flow("udp", US, ("198.51.100.9", 5060))
NEW_SDP = make_offer(LocalAudio("198.51.100.9", 42000, 5, 1))
NEW_ANSWER = make_answer(NEW_SDP, LocalAudio("192.0.2.10", 30000, 7, 2))[0]


def replacing(old: Peer, flow: Flow = GATEWAY, more: str = "", sdp: Sdp | None = NEW_SDP) -> tuple[Peer, Request]:
    """The INVITE of another gateway that takes over what `old` has."""
    heir = Peer(old.bench, flow, call_id="new-call", tag="heir")
    header = f"{old.call_id};to-tag={old.our_tag};from-tag={old.tag}{more}"
    return heir, heir.request("INVITE", headers=(("Replaces", header), ("Require", "replaces")), sdp=sdp)


def test_a_carrier_moves_a_call_to_another_gateway() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old)
    heir.send(invite)
    bench.response(100)
    offered = bench.event(Offered)
    assert (offered.leg, str(offered.sdp)) == (leg, str(NEW_SDP))

    bench.do(bench.stack.accept(leg, NEW_ANSWER, bench.now))
    ok, bye = [message for _, message in bench.sent]
    assert bench.take() == ["200 INVITE", "BYE"]
    assert isinstance(bye, Request)
    assert (bye.call_id, bye.to.tag) == ("their-call", "theirs")
    assert "Reason" in bye.headers
    assert ok.body == str(NEW_ANSWER).encode()
    assert bench.event(Noted) == Noted(leg, "replaced", "new-call")

    heir.our_tag = ok.to.tag or ""
    heir.ack()
    old.answer(bye, 200)
    assert bench.events == [], "for the user it is the same leg"
    bench.advance(40)
    assert bench.take() == []

    old.send(old.request("BYE"))
    bench.response(481)
    heir.send(heir.request("BYE"))
    bench.response(200)
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 200, None)
    bench.advance(40)
    assert bench.is_empty()


def test_a_moved_call_is_hung_up_where_it_is() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old)
    heir.send(invite)
    bench.events.clear()
    bench.do(bench.stack.accept(leg, NEW_ANSWER, bench.now))
    bench.events.clear()
    ok = bench.sent[-2][1]
    bench.sent.clear()
    heir.our_tag = ok.to.tag or ""
    heir.ack()
    bench.do(bench.stack.hang_up(leg, bench.now))
    bye = bench.request("BYE")
    assert (bye.call_id, str(bye.uri)) == ("new-call", "sip:62811222333@198.51.100.9:5060")
    assert bench.event(Ended).leg == leg


def test_who_takes_over_without_an_offer_gets_ours() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old, sdp=None)
    heir.send(invite)
    assert bench.event(Offered).sdp is None
    bench.take()
    bench.do(bench.stack.accept(leg, OUR_SDP, bench.now))
    ok = bench.sent[0][1]
    bench.take()
    bench.events.clear()
    heir.our_tag = ok.to.tag or ""
    heir.ack(THEIR_ANSWER)
    assert str(bench.event(Reanswered).sdp) == str(THEIR_ANSWER)


def test_a_refused_heir_leaves_the_call_as_it_was() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old)
    heir.send(invite)
    bench.event(Offered)
    bench.take()
    bench.do(bench.stack.refuse(leg, 488, bench.now))
    bench.response(488)
    heir.ack(branch="z9hG4bK-new-call-heir-1")
    bench.advance(40)
    old.send(old.request("BYE"))
    bench.response(200)
    assert bench.event(Ended).leg == leg
    bench.advance(40)
    assert bench.is_empty()


def test_an_heir_who_gives_up_leaves_the_call_as_it_was() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old)
    heir.send(invite)
    bench.event(Offered)
    bench.take()
    heir.send(heir.request("CANCEL"))
    assert bench.take() == ["200 CANCEL", "487 INVITE"]
    assert bench.events == []
    bench.do(bench.stack.accept(leg, NEW_ANSWER, bench.now))
    assert bench.take() == []


def test_a_call_that_ends_before_its_heir_is_accepted() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old)
    heir.send(invite)
    bench.event(Offered)
    bench.take()
    old.send(old.request("BYE"))
    assert bench.take() == ["200 BYE", "603 INVITE"]
    bench.event(Ended)
    bench.do(bench.stack.accept(leg, NEW_ANSWER, bench.now))
    heir.ack(branch="z9hG4bK-new-call-heir-1")
    bench.advance(40)
    assert bench.is_empty()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("their-call", "their-kall"), 481),
        (("from-tag=theirs", "from-tag=mine"), 481),
        (("to-tag=", "to-tag=f"), 481),
        (("to-tag=", "too-tag="), 400),
        (("theirs", "theirs;early-only"), 486),
    ],
)
def test_what_names_no_dialog_that_can_be_replaced(change: tuple[str, str], status: int) -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old)
    invite.headers.set("Replaces", (invite.headers.get("Replaces") or "").replace(*change))
    heir.send(invite)
    bench.response(status)
    assert bench.events == []
    assert bench.stack.lives(leg)


def test_two_of_them_are_refused() -> None:
    bench, old, _ = caller()
    heir, invite = replacing(old)
    invite.headers.add("Replaces", "a;to-tag=b;from-tag=c")
    heir.send(invite)
    bench.response(400)


def test_another_carrier_takes_nothing_over() -> None:
    bench, old, leg = caller()
    heir, invite = replacing(old, OTHER_TRUNK)
    heir.send(invite)
    bench.response(403)
    assert bench.events == []
    assert bench.stack.lives(leg)


def test_a_call_that_has_ended_cannot_be_taken_over() -> None:
    bench, old, leg = caller()
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    bye = bench.request("BYE")
    heir, invite = replacing(old)
    heir.send(invite)
    bench.response(603)
    old.answer(bye, 200)
    second = Peer(bench, GATEWAY, call_id="third-call", tag="heir")
    header = f"{old.call_id};to-tag={old.our_tag};from-tag={old.tag}"
    second.send(second.request("INVITE", headers=(("Replaces", header),), sdp=NEW_SDP))
    bench.response(481)


def test_a_caller_who_only_rings_cannot_be_taken_over() -> None:
    """RFC 3891 3: an early dialog that we did not begin."""
    bench = Bench()
    old = Peer(bench, TRUNK)
    leg = arrive(bench, old)
    bench.do(bench.stack.ring(leg, bench.now))
    old.our_tag = bench.response(180).to.tag or ""
    heir, invite = replacing(old)
    heir.send(invite)
    bench.response(481)


@pytest.mark.parametrize("more", ["", ";early-only"])
def test_another_phone_picks_up_what_rings_by_our_call(more: str) -> None:
    bench = Bench()
    old = Peer(bench, TRUNK)
    ours = outbound(bench)
    old.answer(ours, 180)
    bench.event(Ringing)
    heir, invite = replacing(old, more=more)
    heir.send(invite)
    bench.response(100)
    assert bench.event(Offered).leg == "leg"
    bench.do(bench.stack.accept("leg", NEW_ANSWER, bench.now))
    ok, cancel = [message for _, message in bench.sent]
    assert bench.take() == ["200 INVITE", "CANCEL"]
    noted, answered = bench.events
    assert isinstance(noted, Noted)
    assert answered == Answered("leg", None, None)
    bench.events.clear()
    heir.our_tag = ok.to.tag or ""
    heir.ack()
    assert isinstance(cancel, Request)
    old.answer(cancel, 200)
    old.answer(ours, 487)
    bench.request("ACK")
    assert bench.events == []
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.event(Ended)
    heir.answer(bench.request("BYE"), 200)
    bench.advance(40)
    assert bench.is_empty()


def test_the_phone_that_rang_picks_up_all_the_same() -> None:
    bench = Bench()
    old = Peer(bench, TRUNK)
    ours = outbound(bench)
    old.answer(ours, 180)
    bench.events.clear()
    heir, invite = replacing(old)
    heir.send(invite)
    bench.do(bench.stack.accept("leg", NEW_ANSWER, bench.now))
    bench.take()
    bench.events.clear()
    old.answer(ours, 200, THEIR_ANSWER)
    assert bench.take() == ["ACK", "BYE"]
    assert bench.events == []


def test_a_seat_cannot_take_a_carriers_call_over() -> None:
    bench = registered()
    old = Peer(bench, TRUNK)
    old.send(old.request("INVITE", sdp=THEIR_SDP))
    leg = bench.event(IncomingCall).leg
    bench.take()
    bench.do(bench.stack.answer(leg, NEW_ANSWER, bench.now))
    old.our_tag = bench.response(200).to.tag or ""
    old.ack()
    bench.event(Confirmed)
    heir, invite = replacing(old, SEAT)
    heir.send(invite)
    bench.response(407)
    assert bench.stack.lives(leg)
    call(bench)
