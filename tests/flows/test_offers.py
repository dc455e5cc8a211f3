"""Offer and answer in a running dialog (RFC 3261 14, RFC 3311), and the other requests within one."""

import pytest

from siaga_pbx.sip.digest import Challenge, Credentials, verify
from siaga_pbx.sip.events import (
    Answered,
    By,
    Checked,
    Confirmed,
    Ended,
    IncomingCall,
    Info,
    Offered,
    OfferRefused,
    Reanswered,
    Unacknowledged,
)
from siaga_pbx.sip.flow import Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.sdp import Direction, LocalAudio, make_answer, make_offer
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OUR_SDP, SEAT, STRANGER, THEIR_SDP, TRUNK, Bench, Peer, register, where
from tests.flows.test_caller import answered
from tests.flows.test_seat_call import outbound, talking

HOLD = make_offer(LocalAudio("198.51.100.1", 40000, 1, 2), Direction.SENDONLY)
OUR_ANSWER = make_answer(HOLD, LocalAudio("192.0.2.10", 30000, 7, 2))[0]
THEIR_ANSWER = make_answer(OUR_SDP, LocalAudio("198.51.100.1", 40002, 1, 3))[0]


def caller() -> tuple[Bench, Peer, str]:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    return bench, peer, answered(bench, peer)


# Theirs


def test_a_reinvite_is_offered_and_accepted() -> None:
    bench, peer, leg = caller()
    reinvite = peer.request("INVITE", sdp=HOLD)
    peer.send(reinvite)
    bench.response(100)
    offered = bench.event(Offered)
    assert (offered.leg, str(offered.sdp)) == (leg, str(HOLD))
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    ok = bench.response(200)
    assert ok.body == str(OUR_ANSWER).encode()
    assert ok.to.tag == peer.our_tag
    bench.advance(0.6)
    assert bench.take() == ["200 INVITE"]
    peer.ack()
    bench.advance(100)
    assert bench.take() == []
    assert bench.events == []


def test_a_reinvite_is_refused_and_the_session_stays() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.response(100)
    bench.event(Offered)
    bench.do(bench.stack.refuse(leg, 488, bench.now))
    bench.response(488)
    peer.ack(branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-{peer.branches}")
    bench.advance(40)
    assert bench.take() == []
    peer.send(peer.request("BYE"))
    bench.response(200)
    bench.event(Ended)


def test_a_reinvite_without_an_offer_gets_ours_and_their_answer_comes_in_the_ack() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("INVITE"))
    bench.response(100)
    assert bench.event(Offered).sdp is None
    bench.do(bench.stack.accept(leg, OUR_SDP, bench.now))
    bench.response(200)
    peer.ack(THEIR_ANSWER)
    again = bench.event(Reanswered)
    assert (again.leg, str(again.sdp)) == (leg, str(THEIR_ANSWER))


def test_a_reinvite_of_which_the_ack_is_lost_is_told_and_the_leg_stays() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.events.clear()
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    bench.advance(40)
    assert bench.event(Unacknowledged) == Unacknowledged(leg)


def test_a_reinvite_before_the_ack_of_the_first_200_is_served_too() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    leg = bench.event(IncomingCall).leg
    bench.do(bench.stack.answer(leg, OUR_ANSWER, bench.now))
    bench.take()
    first = peer.cseq
    peer.our_tag = bench.stack._core.legs[leg].dialog.local_tag
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.event(Offered)
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    assert bench.take() == ["100 INVITE", "200 INVITE"]
    bench.advance(0.6)
    assert bench.take() == ["200 INVITE"] * 2
    peer.ack(cseq=first)
    assert bench.event(Confirmed).leg == leg
    peer.ack()
    bench.advance(100)
    assert bench.take() == []
    assert bench.events == []


def test_an_update_with_an_offer_is_offered_and_one_without_is_answered() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("UPDATE"))
    ok = bench.response(200)
    assert ok.headers.get("Contact") == "<sip:siaga@192.0.2.10:5060>"
    assert bench.events == []
    peer.send(peer.request("UPDATE", sdp=HOLD))
    assert str(bench.event(Offered).sdp) == str(HOLD)
    assert bench.take() == []
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    ok = bench.response(200)
    assert (ok.cseq.method, ok.body) == ("UPDATE", str(OUR_ANSWER).encode())
    bench.advance(100)
    assert bench.take() == []
    assert bench.events == []


def test_an_offer_before_ours_is_answered_gets_500_with_retry_after() -> None:
    bench, peer, _ = caller()
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.response(100)
    bench.event(Offered)
    for method in ("INVITE", "UPDATE"):
        peer.send(peer.request(method, sdp=HOLD))
        assert 0 <= int(bench.response(500).headers.get("Retry-After") or "-1") < 10


def test_an_early_update_with_an_offer_gets_500() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    leg = bench.event(IncomingCall).leg
    bench.take()
    bench.do(bench.stack.ring(leg, bench.now))
    peer.our_tag = bench.response(180).to.tag or ""
    peer.send(peer.request("UPDATE", sdp=HOLD))
    bench.response(500)


def test_a_bye_while_their_offer_is_open() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.take()
    bench.events.clear()
    peer.send(peer.request("BYE"))
    assert bench.take() == ["200 BYE", "487 INVITE"]
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 200, None)


def test_a_target_refresh_moves_the_dialog() -> None:
    bench, peer, leg = caller()
    peer.contact = "<sip:new@198.51.100.9:5070>"
    peer.send(peer.request("UPDATE"))
    bench.take()
    bench.do(bench.stack.hang_up(leg, bench.now))
    way, bye = bench.sent.pop()
    assert isinstance(bye, Request)
    assert str(bye.uri) == "sip:new@198.51.100.9:5070"
    assert where(way) == ("198.51.100.9", 5070)


def test_a_request_out_of_order_gets_500_but_a_bye_ends_the_call() -> None:
    bench, peer, _ = caller()
    for method in ("INVITE", "UPDATE", "INFO"):
        peer.send(peer.request(method, sdp=HOLD, cseq=50))
        bench.response(500)
    assert bench.events == []
    peer.send(peer.request("BYE", cseq=50))
    bench.response(200)
    bench.event(Ended)


# Ours


def test_our_offer_is_answered() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    reinvite = bench.request("INVITE")
    assert (reinvite.from_.tag, reinvite.to.tag) == (peer.our_tag, peer.tag)
    assert reinvite.body == str(OUR_SDP).encode()
    ok = peer.answer(reinvite, 200, THEIR_ANSWER)
    ack = bench.request("ACK")
    assert ack.cseq.number == reinvite.cseq.number
    again = bench.event(Reanswered)
    assert (again.leg, str(again.sdp)) == (leg, str(THEIR_ANSWER))
    bench.receive(ok, TRUNK)
    assert bytes(bench.request("ACK")) == bytes(ack)
    bench.advance(100)
    assert bench.take() == []
    assert bench.events == []


def test_our_offer_waits_for_the_ack_to_our_200() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    leg = bench.event(IncomingCall).leg
    bench.do(bench.stack.answer(leg, OUR_ANSWER, bench.now))
    bench.sent.clear()
    bench.do(bench.stack.offer(leg, HOLD, bench.now))
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    assert bench.take() == []
    peer.our_tag = bench.stack._core.legs[leg].dialog.local_tag
    peer.ack()
    bench.event(Confirmed)
    assert bench.request("INVITE").body == str(OUR_SDP).encode()


def test_our_offer_waits_for_theirs() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("UPDATE", sdp=HOLD))
    bench.event(Offered)
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    assert bench.take() == []
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    assert bench.take() == ["200 UPDATE", "INVITE"]


def test_their_offer_while_ours_is_open_gets_491() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    bench.request("INVITE")
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.response(491)
    peer.send(peer.request("UPDATE", sdp=HOLD))
    bench.response(491)
    assert bench.events == []


@pytest.mark.parametrize(("ours", "earliest", "latest"), [(False, 0.0, 2.0), (True, 2.1, 4.0)])
def test_a_491_makes_us_try_again(ours: bool, earliest: float, latest: float) -> None:
    """RFC 3261 14.1: who made the Call-ID waits longer."""
    if ours:
        bench, leg, peer = Bench(), "leg", Peer(Bench(), SEAT)
        register(bench)
        bench.events.clear()
        peer = Peer(bench, SEAT)
        talking(bench, peer)
    else:
        bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    peer.answer(bench.request("INVITE"), 491)
    bench.request("ACK")
    start = bench.now
    at = bench.stack.next_deadline()
    while not bench.sent:
        assert at is not None
        bench.advance(at - bench.now)
        at = bench.stack.next_deadline()
    assert earliest <= bench.now - start <= latest
    peer.answer(bench.request("INVITE"), 200, THEIR_ANSWER)
    bench.event(Reanswered)


@pytest.mark.parametrize("status", [408, 488, 500])
def test_a_refused_offer_leaves_the_session(status: int) -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    peer.answer(bench.request("INVITE"), status)
    assert bench.event(OfferRefused) == OfferRefused(leg, status)
    bench.request("ACK")


def test_an_offer_that_nobody_answers_leaves_the_session() -> None:
    bench, _, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    bench.advance(33)
    assert bench.event(OfferRefused) == OfferRefused(leg, 408)


def test_an_offer_that_is_never_finally_answered_is_given_up() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    peer.answer(bench.request("INVITE"), 100)
    bench.advance(33)
    assert bench.event(OfferRefused) == OfferRefused(leg, 408)
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.event(Offered)


def test_a_peer_that_knows_the_dialog_no_more_ends_the_leg() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    peer.answer(bench.request("INVITE"), 481)
    assert bench.event(Ended) == Ended(leg, By.FAULT, 481, None)
    assert bench.take() == ["ACK", "BYE"]


def test_a_200_to_an_offer_of_a_leg_that_we_hung_up() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    reinvite = bench.request("INVITE")
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    bye = bench.request("BYE")
    peer.answer(bye, 200)
    peer.answer(reinvite, 200, THEIR_ANSWER)
    assert bench.take() == ["ACK"]
    bench.advance(100)
    assert bench.events == []
    assert bench.is_empty()


# Others


def test_info_and_options_within_a_dialog() -> None:
    bench, peer, leg = caller()
    request = peer.request("INFO", headers=(("Content-Type", "application/dtmf-relay"),))
    request.body = b"Signal=5\r\nDuration=160\r\n"
    peer.send(request)
    bench.response(200)
    assert bench.event(Info) == Info(leg, "application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n")
    peer.send(peer.request("OPTIONS"))
    assert "UPDATE" in (bench.response(200).headers.get("Allow") or "")
    peer.send(peer.request("REFER"))
    bench.response(405)
    peer.send(peer.request("INFO", headers=(("Require", "x"),)))
    assert bench.response(420).headers.get("Unsupported") == "x"


def test_a_leg_that_answers_our_question_lives() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.check(leg, bench.now))
    options = bench.request("OPTIONS")
    assert options.to.tag == peer.tag
    peer.answer(options, 405)
    assert bench.event(Checked) == Checked(leg, 405)


@pytest.mark.parametrize("status", [481, 408])
def test_a_leg_that_the_peer_does_not_know_is_over(status: int) -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.check(leg, bench.now))
    peer.answer(bench.request("OPTIONS"), status)
    assert bench.event(Ended) == Ended(leg, By.FAULT, status, None)


def test_a_leg_that_is_silent_is_over() -> None:
    bench, _, leg = caller()
    bench.do(bench.stack.check(leg, bench.now))
    bench.advance(33)
    assert bench.event(Ended) == Ended(leg, By.FAULT, 408, None)


def test_answers_to_no_offer_do_nothing() -> None:
    bench, _, leg = caller()
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    bench.do(bench.stack.refuse(leg, 488, bench.now))
    assert bench.take() == []


def test_after_a_491_a_newer_offer_takes_the_place_of_the_old_one() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, HOLD, bench.now))
    peer.answer(bench.request("INVITE"), 491)
    bench.request("ACK")
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    assert bench.take() == []
    bench.advance(2.1)
    assert bench.sent[0][1].body == str(OUR_SDP).encode()


def test_a_refusal_of_an_offer_of_a_leg_that_we_hung_up() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    reinvite = bench.request("INVITE")
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    bench.take()
    peer.answer(reinvite, 487)
    assert bench.take() == ["ACK"]
    assert bench.events == []


def test_a_trunk_that_challenges_an_offer() -> None:
    bench = Bench()
    trunk = Peer(bench, TRUNK)
    trunk.answer(outbound(bench), 200, THEIR_ANSWER)
    bench.take()
    bench.events.clear()
    bench.do(bench.stack.offer("leg", OUR_SDP, bench.now))
    challenge = str(Challenge("carrier", "nonce-1"))
    trunk.answer(bench.request("INVITE"), 407, headers=(("Proxy-Authenticate", challenge),))
    _, again = bench.sent.pop()
    assert isinstance(again, Request)
    assert verify(
        Credentials.parse(again.headers.get("Proxy-Authorization") or ""),
        "INVITE",
        "kunci",
        "carrier",
        {"198.51.100.1"},
    )
    bench.take()
    trunk.answer(again, 200, THEIR_ANSWER)
    assert bench.event(Reanswered).leg == "leg"


def test_a_call_to_a_trunk_by_name_is_the_trunks_whichever_address_answers() -> None:
    bench = Bench()
    uri = Uri.parse("sip:+62811@sbc.carrier.example")
    call = Invite(Target("udp", "sbc.carrier.example", 5060), uri, NameAddr("", uri), NameAddr("", uri), OUR_SDP)
    bench.do(bench.stack.invite("leg", call, bench.now))
    trunk = Peer(bench, TRUNK)
    trunk.answer(bench.request("INVITE"), 200, THEIR_ANSWER)
    bench.event(Answered)
    bench.request("ACK")
    reinvite = trunk.request("INVITE", sdp=HOLD)
    bench.receive(reinvite, STRANGER)
    assert bench.take() == []
    trunk.send(reinvite)
    bench.response(100)
    bench.event(Offered)
