"""Reliable provisional responses (RFC 3262), preconditions (RFC 3312) and UPDATE before the answer (RFC 3311)."""

import pytest

from siaga_pbx.sip.events import (
    Answered,
    AnswerSent,
    By,
    Confirmed,
    Counted,
    Ended,
    Failed,
    IncomingCall,
    Offered,
    OfferRefused,
    Reanswered,
    Ringing,
)
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer
from tests.flows.bench import OUR_SDP, THEIR_SDP, TRUNK, Bench, Peer
from tests.flows.test_caller import ANSWER
from tests.flows.test_offers import HOLD, OUR_ANSWER, THEIR_ANSWER
from tests.flows.test_seat_call import outbound

REQUIRED = ("Require", "100rel")
US = LocalAudio("192.0.2.10", 30000, 7, 1)


def with_lines(*lines: str) -> Sdp:
    """Their offer with these attributes."""
    return Sdp.parse(str(THEIR_SDP) + "".join(f"a={line}\r\n" for line in lines))


WAITING = with_lines(
    "curr:qos local none", "curr:qos remote none", "des:qos mandatory local sendrecv", "des:qos none remote sendrecv"
)
READY = with_lines(
    "curr:qos local sendrecv",
    "curr:qos remote sendrecv",
    "des:qos mandatory local sendrecv",
    "des:qos mandatory remote sendrecv",
)


def arrive(bench: Bench, peer: Peer, sdp: Sdp | None = THEIR_SDP, *headers: tuple[str, str]) -> str:
    peer.send(peer.request("INVITE", sdp=sdp, headers=headers or (REQUIRED,)))
    bench.response(100)
    return bench.event(IncomingCall).leg


def prack(peer: Peer, response: Response, sdp: Sdp | None = None, number: int = 0) -> None:
    peer.our_tag = response.to.tag or ""
    rseq = int(response.headers.get("RSeq") or "0") + number
    peer.send(peer.request("PRACK", headers=(("RAck", f"{rseq} {response.cseq.number} INVITE"),), sdp=sdp))


# Ours


def test_who_requires_100rel_hears_ringing_until_the_prack_and_again_after_a_minute() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now, ANSWER))
    ringing = bench.response(180)
    assert ringing.headers.get("Require") == "100rel"
    assert 1 <= int(ringing.headers.get("RSeq") or "0") < 2**31
    assert ringing.headers.get("Contact") == "<sip:siaga@192.0.2.10:5060>"
    bench.advance(3.6)
    assert bench.take() == ["180 INVITE"] * 3, "T1, doubling, with no end to the doubling"
    prack(peer, ringing)
    bench.response(200)
    bench.advance(55)
    assert bench.take() == []
    bench.advance(1.5)
    again = bench.response(180)
    assert int(again.headers.get("RSeq") or "0") == int(ringing.headers.get("RSeq") or "0") + 1
    prack(peer, again)
    assert bench.response(200).cseq.method == "PRACK"
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    ok = bench.response(200)
    assert ok.body == str(ANSWER).encode()
    peer.ack(cseq=ok.cseq.number)
    assert bench.event(Confirmed) == Confirmed(leg, None)
    bench.advance(100)
    assert bench.take() == []


def test_who_only_supports_100rel_gets_what_others_get() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer, THEIR_SDP, ("Supported", "100rel, precondition, timer"))
    bench.do(bench.stack.ring(leg, bench.now, ANSWER))
    ringing = bench.response(180)
    assert "RSeq" not in ringing.headers
    assert ringing.body == b""


def test_an_answer_at_once_needs_no_provisional_response() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    assert bench.response(200).body == str(ANSWER).encode()
    assert bench.events == []


def test_the_200_does_not_wait_for_the_prack_of_a_180_without_a_description() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now, ANSWER))
    ringing = bench.response(180)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    assert bench.response(200).body == str(ANSWER).encode()
    prack(peer, ringing)
    assert bench.response(200).cseq.method == "PRACK"
    peer.ack(cseq=peer.cseq - 1)
    assert bench.event(Confirmed).leg == leg
    bench.advance(100)
    assert bench.take() == []


def test_who_made_no_offer_gets_ours_in_the_180_and_answers_in_the_prack() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer, None)
    bench.do(bench.stack.ring(leg, bench.now, OUR_SDP))
    ringing = bench.response(180)
    assert ringing.body == str(OUR_SDP).encode(), "RFC 3262 5: the first reliable response has the offer"
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    assert bench.take() == [], "RFC 3262 3: no 2xx before the PRACK of a description"
    prack(peer, ringing, THEIR_ANSWER)
    assert bench.take() == ["200 PRACK", "200 INVITE"]
    answer, sent = bench.events
    assert isinstance(answer, Reanswered)
    assert str(answer.sdp) == str(THEIR_ANSWER)
    assert sent == AnswerSent(leg)
    bench.events.clear()
    peer.ack(cseq=peer.cseq - 1)
    assert bench.event(Confirmed) == Confirmed(leg, None)


def test_a_prack_that_never_comes_loses_no_caller() -> None:
    """RFC 3262 3 has a 5xx here."""
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer, None)
    bench.do(bench.stack.ring(leg, bench.now, OUR_SDP))
    bench.response(180)
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    bench.advance(31.9)
    assert set(bench.take()) == {"180 INVITE"}
    bench.advance(0.2)
    ok = bench.response(200)
    assert ok.body == str(OUR_SDP).encode()
    peer.our_tag = ok.to.tag or ""
    bench.event(AnswerSent)
    peer.ack(THEIR_ANSWER)
    assert str(bench.event(Confirmed).sdp) == str(THEIR_ANSWER)


def test_a_prack_is_answered_as_often_as_it_comes_and_one_for_nothing_gets_481() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now))
    ringing = bench.response(180)
    prack(peer, ringing, number=1)
    bench.response(481)
    prack(peer, ringing)
    bench.response(200)
    prack(peer, ringing)
    bench.response(200)
    for rack in ("", "1 2", "x 101 INVITE", f"{'9' * 40} 1 INVITE", "1 1 BYE"):
        peer.send(peer.request("PRACK", headers=(("RAck", rack),) if rack else ()))
        bench.response(481)
    assert bench.events == []
    assert bench.stack.lives(leg)


def test_a_caller_who_gives_up_is_rung_no_more() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now))
    bench.response(180)
    peer.send(peer.request("CANCEL", headers=(("Reason", "SIP;cause=487"), ("Reason", "Q.850;cause=31")), cseq=101))
    assert bench.take() == ["200 CANCEL", "487 INVITE"]
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 487, "SIP;cause=487, Q.850;cause=31")
    peer.ack(cseq=101, branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-1")
    bench.advance(100)
    assert bench.take() == []
    assert bench.is_empty()


# Preconditions


def waiting(*headers: tuple[str, str]) -> tuple[Bench, Peer, str]:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer, WAITING, *(headers or (("Require", "100rel, precondition"),)))
    return bench, peer, leg


@pytest.mark.parametrize(
    "headers", [("Require", "100rel, precondition, sec-agree"), ("Supported", "100rel, precondition, timer")]
)
def test_an_ims_phone_is_answered_when_its_bearer_is_there(headers: tuple[str, str]) -> None:
    """3GPP TS 24.228: 183 with our answer, PRACK, UPDATE with the bearer reserved, 200 to the INVITE."""
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=WAITING, headers=(headers,)))
    call, *_ = bench.events
    assert isinstance(call, IncomingCall)
    leg = call.leg
    bench.events.clear()
    bench.take()
    ours = make_answer(WAITING, US)[0]
    bench.do(bench.stack.answer(leg, ours, bench.now))
    progress = bench.response(183)
    lines = [value for letter, value in Sdp.parse(progress.body).media[0].lines if letter == "a" and ":qos" in value]
    assert lines == [
        "curr:qos local sendrecv",
        "curr:qos remote none",
        "des:qos mandatory remote sendrecv",
        "des:qos none local sendrecv",
        "conf:qos remote sendrecv",
    ]
    assert not bench.stack.is_answered(leg)
    prack(peer, progress)
    assert bench.response(200).cseq.method == "PRACK"
    bench.advance(0.8)
    assert bench.take() == [], "the bearer is not there yet"

    peer.send(peer.request("UPDATE", sdp=READY))
    offered = bench.event(Offered)
    assert offered.leg == leg
    bench.do(bench.stack.accept(leg, make_answer(READY, US)[0], bench.now))
    update, answer = [message for _, message in bench.sent]
    assert bench.take() == ["200 UPDATE", "200 INVITE"]
    assert b"curr:qos remote sendrecv" in update.body
    assert b"conf:" not in update.body
    assert answer.body == b"", "agreed before: said again it would be an offer"
    assert bench.event(AnswerSent) == AnswerSent(leg)
    assert bench.stack.is_answered(leg)
    peer.ack(cseq=answer.cseq.number)
    assert bench.event(Confirmed) == Confirmed(leg, None)
    bench.advance(100)
    assert bench.take() == []
    assert bench.events == []


def test_a_phone_that_never_says_that_it_is_ready_is_answered_all_the_same() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    prack(peer, bench.response(183))
    bench.response(200)
    bench.advance(3.9)
    assert bench.take() == []
    bench.advance(0.2)
    assert bench.response(200).cseq.method == "INVITE"


def test_a_phone_is_rung_for_when_it_is_ready() -> None:
    """RFC 3312 5.1.1: nobody is alerted before."""
    bench, peer, leg = waiting()
    ours = make_answer(WAITING, US)[0]
    bench.do(bench.stack.ring(leg, bench.now, ours))
    prack(peer, bench.response(183))
    bench.response(200)
    peer.send(peer.request("UPDATE", sdp=READY))
    bench.event(Offered)
    bench.do(bench.stack.accept(leg, make_answer(READY, US)[0], bench.now))
    ringing = bench.sent[-1][1]
    assert bench.take() == ["200 UPDATE", "180 INVITE"]
    assert isinstance(ringing, Response)
    assert ringing.body == b""
    bench.do(bench.stack.answer(leg, ours, bench.now))
    assert bench.response(200).body == b""
    assert bench.events == []


@pytest.mark.parametrize(
    "sdp",
    [
        READY,
        with_lines("curr:qos local none", "des:qos optional local sendrecv", "des:qos none remote sendrecv"),
        with_lines("curr:sec local none", "des:sec mandatory local sendrecv"),
        with_lines("des:qos", "curr:qos local", "des:qos mandatory local sideways"),
    ],
)
def test_who_waits_for_nothing_is_answered_at_once(sdp: Sdp) -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer, sdp, ("Require", "100rel, precondition"))
    bench.do(bench.stack.answer(leg, make_answer(sdp, US)[0], bench.now))
    bench.response(200)


def test_preconditions_without_100rel_are_answered_and_not_waited_for() -> None:
    bench, _, leg = waiting(("Require", "precondition"))
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    assert b"conf:qos remote sendrecv" in bench.response(200).body


def test_an_offer_in_the_prack_is_answered_in_its_200() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    prack(peer, bench.response(183), READY)
    assert bench.take() == []
    bench.event(Offered)
    bench.do(bench.stack.accept(leg, make_answer(READY, US)[0], bench.now))
    assert bench.take() == ["200 PRACK", "200 INVITE"]


def test_a_refused_early_offer_leaves_the_call_to_go_on() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    prack(peer, bench.response(183))
    bench.response(200)
    peer.send(peer.request("UPDATE", sdp=READY))
    bench.event(Offered)
    bench.do(bench.stack.refuse(leg, 488, bench.now))
    bench.response(488)
    bench.advance(4.1)
    assert bench.response(200).cseq.method == "INVITE"


def test_an_early_offer_before_the_first_is_agreed_gets_500() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    progress = bench.response(183)
    peer.our_tag = progress.to.tag or ""
    peer.send(peer.request("UPDATE", sdp=READY))
    bench.response(500)


def test_our_offer_before_the_answer_is_an_update() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    prack(peer, bench.response(183))
    bench.response(200)
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    update = bench.request("UPDATE")
    assert update.body == str(OUR_SDP).encode()
    peer.send(peer.request("UPDATE", sdp=READY))
    bench.response(491)
    peer.answer(update, 200, THEIR_ANSWER)
    assert str(bench.event(Reanswered).sdp) == str(THEIR_ANSWER)
    peer.answer(update, 200, THEIR_ANSWER)
    assert bench.events == []


def test_a_bye_while_the_answer_waits() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    prack(peer, bench.response(183))
    bench.response(200)
    peer.send(peer.request("BYE"))
    assert bench.take() == ["200 BYE", "487 INVITE"]
    bench.event(Ended)
    peer.ack(cseq=101, branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-1")
    bench.advance(100)
    assert bench.is_empty()


def test_hanging_up_while_the_answer_waits() -> None:
    bench, peer, leg = waiting()
    bench.do(bench.stack.answer(leg, make_answer(WAITING, US)[0], bench.now))
    bench.response(183)
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.response(480)
    bench.event(Ended)
    peer.ack(cseq=101, branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-1")
    bench.advance(100)
    assert bench.is_empty()


# Theirs


def reliably(peer: Peer, invite: Request, status: int, rseq: int, sdp: Sdp | None = None, tag: str = "") -> Response:
    headers = (("Require", "100rel"), ("RSeq", str(rseq)))
    return peer.answer(invite, status, sdp, headers=headers, tag=tag or None)


def test_their_reliable_responses_are_acknowledged_in_order_and_once() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK, routes=("<sip:198.51.100.7;lr>",))
    invite = outbound(bench)
    assert "100rel" in (invite.headers.get("Supported") or "")
    reliably(peer, invite, 183, 7, THEIR_ANSWER)
    assert str(bench.event(Ringing).sdp) == str(THEIR_ANSWER)
    prack = bench.request("PRACK")
    assert prack.headers.get("RAck") == f"7 {invite.cseq.number} INVITE"
    assert (prack.cseq.number, prack.to.tag) == (invite.cseq.number + 1, "theirs")
    assert str(prack.uri) == "sip:62811222333@198.51.100.1:5060"
    assert prack.headers.get("Route") == "<sip:198.51.100.7;lr>"
    reliably(peer, invite, 183, 7, THEIR_ANSWER)
    reliably(peer, invite, 180, 9)
    assert (bench.take(), bench.events) == ([], []), "it came already; it comes too early"
    reliably(peer, invite, 180, 8)
    bench.event(Ringing)
    assert bench.request("PRACK").headers.get("RAck") == f"8 {invite.cseq.number} INVITE"
    reliably(peer, invite, 180, 9)
    bench.event(Ringing)
    bench.request("PRACK")
    peer.answer(prack, 200)
    peer.answer(invite, 200)
    assert str(bench.event(Answered).sdp) == str(THEIR_ANSWER)
    ack = bench.request("ACK")
    assert ack.cseq.number == invite.cseq.number
    bench.do(bench.stack.hang_up("leg", bench.now))
    assert bench.request("BYE").cseq.number == invite.cseq.number + 4


def test_each_fork_counts_for_itself() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = outbound(bench)
    reliably(peer, invite, 183, 500, tag="a")
    reliably(peer, invite, 183, 3, tag="b")
    reliably(peer, invite, 180, 501, tag="a")
    assert [m.to.tag for _, m in bench.sent] == ["a", "b", "a"]
    assert bench.take() == ["PRACK"] * 3


def test_a_provisional_without_a_number_needs_no_prack() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = outbound(bench)
    peer.answer(invite, 180, headers=(("RSeq", "what"), ("Require", "100rel")))
    bench.event(Ringing)
    assert bench.take() == []


def test_their_offer_before_the_answer() -> None:
    """RFC 3311 5.2, RFC 3261 14.2: 183 with the answer, PRACK, an UPDATE with an offer, a 200 without a body."""
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = outbound(bench)
    peer.answer(invite, 180)
    bench.event(Ringing)
    peer.send(peer.request("UPDATE", sdp=HOLD))
    bench.response(491)
    reliably(peer, invite, 183, 1, THEIR_ANSWER)
    bench.event(Ringing)
    peer.answer(bench.request("PRACK"), 200)
    peer.send(peer.request("UPDATE"))
    bench.response(200)
    peer.send(peer.request("UPDATE", sdp=HOLD))
    assert bench.event(Offered).leg == "leg"
    bench.do(bench.stack.accept("leg", OUR_ANSWER, bench.now))
    bench.response(200)
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.response(491)
    peer.answer(invite, 200)
    bench.event(Answered)
    bench.request("ACK")


def test_our_offer_in_an_early_dialog_that_they_began() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = outbound(bench)
    bench.do(bench.stack.offer("leg", OUR_SDP, bench.now))
    assert bench.take() == [], "nothing is agreed yet"
    reliably(peer, invite, 183, 1, THEIR_ANSWER)
    bench.event(Ringing)
    peer.answer(bench.request("PRACK"), 200)
    bench.do(bench.stack.offer("leg", OUR_SDP, bench.now))
    first = bench.request("UPDATE")
    peer.answer(first, 491)
    start = bench.now
    while not bench.sent:
        bench.advance((bench.stack.next_deadline() or bench.now) - bench.now)
    assert 2.1 <= bench.now - start <= 4.0, "RFC 3311 5.3, RFC 3261 14.1"
    second = bench.request("UPDATE")
    peer.answer(second, 488)
    assert bench.event(OfferRefused) == OfferRefused("leg", 488)
    peer.answer(invite, 200)
    bench.event(Answered)


def test_a_call_that_is_cancelled_after_a_reliable_response() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = outbound(bench)
    reliably(peer, invite, 183, 1, THEIR_ANSWER)
    bench.event(Ringing)
    peer.answer(bench.request("PRACK"), 200)
    bench.do(bench.stack.hang_up("leg", bench.now, "SIP;cause=487, Q.850;cause=31"))
    cancel = bench.request("CANCEL")
    assert cancel.cseq.number == invite.cseq.number
    assert cancel.headers.get("Reason") == "SIP;cause=487, Q.850;cause=31"
    peer.answer(cancel, 200)
    peer.answer(invite, 487)
    assert bench.event(Failed).status == 487
    bench.request("ACK")
    bench.advance(100)
    assert bench.is_empty()


def test_a_prack_where_nothing_was_sent_reliably_harms_nothing() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer, THEIR_SDP, ("Supported", "100rel"))
    bench.do(bench.stack.ring(leg, bench.now))
    peer.our_tag = bench.response(180).to.tag or ""
    peer.send(peer.request("PRACK", headers=(("RAck", "1 101 INVITE"),)))
    bench.response(200)
    assert bench.events == []
    assert Counted("dropped", "stray_response") not in bench.counted
