"""A caller's leg: their INVITE, our answer, the end of it."""

import pytest

from siaga_pbx.sip.access import Trunk
from siaga_pbx.sip.events import By, Confirmed, Counted, Ended, IncomingCall, Noted, Unacknowledged
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import LocalAudio, make_answer
from tests.flows.bench import OTHER_TRUNK, OUR_SDP, STRANGER, THEIR_SDP, TRUNK, Bench, Peer, where

ANSWER = make_answer(THEIR_SDP, LocalAudio("192.0.2.10", 30000, 7, 1))[0]


def arrive(bench: Bench, peer: Peer) -> str:
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    bench.response(100)
    return bench.event(IncomingCall).leg


def answered(bench: Bench, peer: Peer) -> str:
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    peer.ack()
    assert bench.event(Confirmed) == Confirmed(leg, None)
    return leg


def test_a_call_from_its_invite_to_their_bye() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = peer.request("INVITE", sdp=THEIR_SDP, headers=(("P-Charge-Info", "<sip:x@y>;nocredit"),))
    peer.send(invite)
    trying = bench.response(100)
    assert trying.to.tag is None
    call = bench.event(IncomingCall)
    assert call.peer == Trunk("telkomsel")
    assert call.request.headers.get("p-charge-info") == "<sip:x@y>;nocredit"
    assert str(call.sdp) == str(THEIR_SDP)

    bench.do(bench.stack.answer(call.leg, ANSWER, bench.now))
    ok = bench.response(200)
    assert ok.body == str(ANSWER).encode()
    assert ok.headers.get("Contact") == "<sip:siaga@192.0.2.10:5060>"
    assert "UPDATE" in (ok.headers.get("Allow") or "")
    assert len(bytes.fromhex(ok.to.tag or "")) >= 8
    peer.our_tag = ok.to.tag or ""
    peer.ack()
    assert bench.event(Confirmed) == Confirmed(call.leg, None)

    peer.send(peer.request("BYE", headers=(("Reason", 'Q.850;cause=16;text="Terminated"'),)))
    bench.response(200)
    assert bench.event(Ended) == Ended(call.leg, By.REMOTE, 200, 'Q.850;cause=16;text="Terminated"')
    bench.advance(40)
    assert bench.take() == []
    assert bench.is_empty()


def test_we_hang_up_with_a_reason() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = answered(bench, peer)
    bench.do(bench.stack.hang_up(leg, bench.now, 'SIP;cause=200;text="Selesai"'))
    assert bench.event(Ended) == Ended(leg, By.LOCAL, None, 'SIP;cause=200;text="Selesai"')
    bye = bench.request("BYE")
    assert bye.headers.get("Reason") == 'SIP;cause=200;text="Selesai"'
    assert (bye.from_.tag, bye.to.tag) == (peer.our_tag, "theirs")
    assert str(bye.uri) == "sip:62811222333@198.51.100.1:5060"
    assert bye.via.param("rport") == ""
    peer.answer(bye, 200)
    bench.advance(40)
    assert bench.take() == []
    assert bench.events == []
    assert bench.is_empty()


def test_a_bye_that_nobody_answers_is_given_up_in_silence() -> None:
    bench = Bench()
    leg = answered(bench, Peer(bench, TRUNK))
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    bench.advance(40)
    assert bench.take() == ["BYE"] * 11
    assert bench.events == []
    assert bench.is_empty()


def test_both_hang_up_at_once() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = answered(bench, peer)
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    ours = bench.request("BYE")
    peer.send(peer.request("BYE"))
    bench.response(200)
    peer.answer(ours, 481)
    bench.advance(40)
    assert bench.events == []
    assert bench.is_empty()


def test_an_invite_that_comes_again_gets_the_last_response_and_is_no_second_call() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = peer.request("INVITE", sdp=THEIR_SDP)
    peer.send(invite)
    leg = bench.event(IncomingCall).leg
    bench.response(100)
    peer.send(invite)
    bench.response(100)
    bench.do(bench.stack.ring(leg, bench.now))
    bench.response(180)
    peer.send(invite)
    again = bench.response(180)
    assert bench.events == []
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    ok = bench.response(200)
    assert again.to.tag == ok.to.tag
    peer.send(invite)
    assert bench.take() == []
    assert bench.counted.count(Counted("retransmission", "received")) == 3


def test_ringing_is_repeated_every_three_seconds_for_as_long_as_it_takes() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now))
    bench.do(bench.stack.ring(leg, bench.now))
    bench.advance(300)
    assert bench.take() == ["180 INVITE"] * 101
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    peer.ack()
    bench.event(Confirmed)
    bench.advance(300)
    assert bench.take() == []


def test_a_200_is_sent_until_its_ack() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    bench.advance(1.6)
    assert bench.take() == ["200 INVITE"] * 2
    peer.ack()
    bench.event(Confirmed)
    peer.ack()
    bench.advance(100)
    assert bench.take() == []
    assert bench.events == []


def test_a_200_that_is_never_acknowledged_stops_and_the_leg_stays() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    start = bench.now
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    bench.advance(100)
    assert bench.take() == ["200 INVITE"] * 10
    assert bench.event(Unacknowledged) == Unacknowledged(leg)
    assert bench.now > start + 64 * 0.5
    peer.send(peer.request("BYE"))
    bench.response(200)
    assert bench.event(Ended).by is By.REMOTE
    bench.advance(40)
    assert bench.is_empty()


def test_our_bye_waits_for_the_ack_to_our_200() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    bench.do(bench.stack.hang_up(leg, bench.now))
    assert bench.event(Ended) == Ended(leg, By.LOCAL, None, None)
    bench.advance(0.6)
    assert bench.take() == ["200 INVITE"]
    peer.ack()
    peer.answer(bench.request("BYE"), 200)
    bench.advance(40)
    assert bench.events == []
    assert bench.is_empty()


def test_without_an_ack_our_bye_goes_after_64_t1() -> None:
    bench = Bench()
    leg = arrive(bench, Peer(bench, TRUNK))
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    bench.advance(32.1)
    assert bench.take() == ["200 INVITE"] * 11 + ["BYE"]
    bench.advance(40)
    assert bench.events == []
    assert bench.is_empty()


def test_the_caller_gives_up_while_ringing() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now))
    peer_tag = bench.response(180).to.tag
    peer.send(peer.request("CANCEL", headers=(("Reason", "SIP;cause=200"),)))
    assert bench.summary() == ["200 CANCEL", "487 INVITE"]
    assert {message.to.tag for _, message in bench.sent} == {peer_tag}
    bench.sent.clear()
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 487, "SIP;cause=200")
    bench.advance(1)
    assert bench.take() == ["487 INVITE"]
    peer.ack(branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-{peer.branches}")
    bench.advance(40)
    assert bench.take() == []
    assert bench.is_empty()


def test_a_cancel_that_crosses_our_200_changes_nothing() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    cancel = peer.request("CANCEL")
    cancel.headers.set("To", "<sip:112@192.0.2.10>")
    peer.send(cancel)
    bench.response(200)
    assert bench.events == []
    peer.ack()
    bench.event(Confirmed)


def test_a_cancel_from_elsewhere_is_dropped() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    arrive(bench, peer)
    cancel = peer.request("CANCEL")
    for flow in (STRANGER, OTHER_TRUNK):
        bench.receive(cancel, flow)
    assert bench.take() == []
    assert bench.events == []
    assert bench.counted == [Counted("dropped", "foreign_source")] * 2


def test_a_cancel_of_nothing_gets_481() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("CANCEL"))
    bench.response(481)


def test_a_caller_may_give_up_an_early_dialog_by_bye() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now))
    peer.our_tag = bench.response(180).to.tag or ""
    peer.send(peer.request("BYE"))
    assert bench.take() == ["200 BYE", "487 INVITE"]
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 487, None)


def test_a_call_is_refused_with_our_description() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(
        bench.stack.reject(leg, 488, bench.now, "No G.711", OUR_SDP, (("Warning", '305 siaga "No common codec"'),))
    )
    refusal = bench.response(488)
    assert refusal.reason == "No G.711"
    assert refusal.body == str(OUR_SDP).encode()
    assert refusal.headers.get("Warning") == '305 siaga "No common codec"'
    assert bench.event(Ended) == Ended(leg, By.LOCAL, 488, None)
    peer.ack(branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-{peer.branches}")
    bench.advance(40)
    assert bench.take() == []
    assert bench.is_empty()


def test_hanging_up_before_the_answer_is_a_refusal() -> None:
    bench = Bench()
    leg = arrive(bench, Peer(bench, TRUNK))
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.response(480)
    assert bench.event(Ended) == Ended(leg, By.LOCAL, 480, None)


def test_an_invite_without_an_offer_is_answered_with_one() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE"))
    bench.response(100)
    call = bench.event(IncomingCall)
    assert call.sdp is None
    bench.do(bench.stack.answer(call.leg, OUR_SDP, bench.now))
    ok = bench.response(200)
    assert ok.body == str(OUR_SDP).encode()
    peer.our_tag = ok.to.tag or ""
    answer = make_answer(OUR_SDP, LocalAudio("198.51.100.1", 40000, 1, 1))[0]
    peer.ack(answer)
    confirmed = bench.event(Confirmed)
    assert str(confirmed.sdp) == str(answer)


def test_a_body_that_cannot_be_read_is_a_call_all_the_same() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = peer.request("INVITE", headers=(("Content-Type", "application/sdp"),))
    invite.body = b"\xff\x00 no description"
    peer.send(invite)
    bench.response(100)
    call, noted = bench.events
    assert isinstance(call, IncomingCall)
    assert call.sdp is None
    assert noted == Noted(call.leg, "body", "application/sdp")


@pytest.mark.parametrize("required", ["sec-agree", "no-such-thing", "sec-agree, x"])
def test_an_extension_that_a_trunk_requires_is_noted_and_let_pass(required: str) -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP, headers=(("Require", required),)))
    bench.response(100)
    call, noted = bench.events
    assert isinstance(call, IncomingCall)
    assert noted == Noted(call.leg, "require", required)


def test_a_merged_request_is_refused() -> None:
    """RFC 3261 8.2.2.2: the same INVITE by two ways of a forking proxy."""
    bench = Bench()
    peer = Peer(bench, TRUNK)
    arrive(bench, peer)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP, cseq=peer.cseq, branch="z9hG4bK-another-way"))
    bench.response(482)
    assert bench.events == []


def test_commands_on_a_leg_that_is_gone_do_nothing() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    peer.send(peer.request("CANCEL"))
    bench.sent.clear()
    bench.events.clear()
    stack, now = bench.stack, bench.now
    assert stack.ring(leg, now) == []
    assert stack.answer(leg, ANSWER, now) == []
    assert stack.reject(leg, 500, now) == []
    assert stack.hang_up(leg, now) == []
    assert stack.offer(leg, OUR_SDP, now) == []
    assert stack.accept(leg, OUR_SDP, now) == []
    assert stack.refuse(leg, 488, now) == []
    assert stack.check(leg, now) == []


def test_a_leg_is_answered_once() -> None:
    bench = Bench()
    leg = arrive(bench, Peer(bench, TRUNK))
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    bench.response(200)
    assert bench.stack.answer(leg, ANSWER, bench.now) == []
    assert bench.stack.reject(leg, 486, bench.now) == []
    assert bench.stack.ring(leg, bench.now) == []


# Ways and route sets (RFC 3261 12.1.1, 12.2.1.1; RFC 3581)


def test_the_route_set_is_kept_in_order_and_goes_into_our_requests() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK, routes=("<sip:198.51.100.2;lr>", "<sip:198.51.100.3:5070;lr>"))
    peer.contact = "<sip:caller@10.0.0.7:5080>"
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    ok = bench.response(200)
    assert ok.headers.get_all("Record-Route") == ["<sip:198.51.100.2;lr>", "<sip:198.51.100.3:5070;lr>"]
    peer.our_tag = ok.to.tag or ""
    peer.ack()
    bench.events.clear()
    bench.do(bench.stack.hang_up(leg, bench.now))
    way, bye = bench.sent.pop()
    assert isinstance(bye, Request)
    assert str(bye.uri) == "sip:caller@10.0.0.7:5080"
    assert bye.headers.get_all("Route") == ["<sip:198.51.100.2;lr>", "<sip:198.51.100.3:5070;lr>"]
    assert where(way) == ("198.51.100.2", 5060)


def test_a_strict_router_gets_itself_as_the_request_uri() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK, routes=("<sip:198.51.100.2>", "<sip:198.51.100.3;lr>"))
    leg = answered(bench, peer)
    bench.do(bench.stack.hang_up(leg, bench.now))
    way, bye = bench.sent.pop()
    assert isinstance(bye, Request)
    assert str(bye.uri) == "sip:198.51.100.2"
    assert bye.headers.get_all("Route") == ["<sip:198.51.100.3;lr>", "<sip:62811222333@198.51.100.1:5060>"]
    assert where(way) == ("198.51.100.2", 5060)


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ("<sip:x@198.51.100.1:5070>", ("198.51.100.1", 5070)),
        ("<sip:x@198.51.100.77>", ("198.51.100.77", 5060)),
        ("<sip:x@10.1.2.3:5070>", ("198.51.100.1", 5060)),
        ("<sip:x@198.51.100.200:5070>", ("198.51.100.1", 5060)),
        ("<sip:x@sbc.carrier.example>", ("198.51.100.1", 5060)),
        ("<sip:x@198.51.100.1:5070;transport=tcp>", ("198.51.100.1", 5060)),
        ("<tel:+62811>", ("198.51.100.1", 5060)),
        ("<sip:siaga@192.0.2.10:5060>", ("198.51.100.1", 5060)),
        ("garbage", ("198.51.100.1", 5060)),
    ],
)
def test_a_trunk_is_reached_at_its_contact_if_that_is_its_own(contact: str, expected: tuple[str, int]) -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK, contact=contact)
    leg = answered(bench, peer)
    bench.do(bench.stack.hang_up(leg, bench.now))
    assert where(bench.sent[0][0]) == expected


@pytest.mark.parametrize(
    ("via", "port", "received", "rport"),
    [
        ("198.51.100.1:5060;branch=z9hG4bKx", 5060, None, None),
        ("198.51.100.1:6000;branch=z9hG4bKx", 6000, None, None),
        ("198.51.100.1:6000;branch=z9hG4bKx;rport", 5060, "198.51.100.1", "5060"),
        ("10.0.0.1:6000;branch=z9hG4bKx", 5060, "198.51.100.1", None),
        ("sbc.carrier.example;branch=z9hG4bKx;rport", 5060, "198.51.100.1", "5060"),
    ],
)
def test_responses_find_back(via: str, port: int, received: str | None, rport: str | None) -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    request = peer.request("OPTIONS")
    request.headers.set("Via", f"SIP/2.0/UDP {via}")
    peer.send(request)
    way, response = bench.sent.pop()
    assert isinstance(response, Response)
    assert where(way) == ("198.51.100.1", port)
    assert (response.via.received, response.via.param("rport")) == (received, rport)


def test_pyvoip_acknowledges_a_200_with_the_invites_branch_and_a_tag_of_its_own_invention() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    bench.response(200)
    peer.our_tag = "invented"
    peer.ack(branch=f"z9hG4bK-{peer.call_id}-{peer.tag}-{peer.branches}")
    assert bench.event(Confirmed) == Confirmed(leg, None)
    bench.advance(40)
    assert bench.take() == []
    assert bench.events == []


def test_a_bye_before_the_ack_ends_our_200() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    peer.send(peer.request("BYE"))
    bench.response(200)
    bench.event(Ended)
    bench.advance(40)
    assert bench.take() == []
    assert bench.events == []
    assert bench.is_empty()


def test_requests_after_our_bye_get_481() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = answered(bench, peer)
    bench.do(bench.stack.hang_up(leg, bench.now))
    bench.event(Ended)
    bench.request("BYE")
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    bench.response(481)
    assert bench.events == []


def test_a_description_without_its_content_type_is_read() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = peer.request("INVITE", sdp=THEIR_SDP)
    invite.headers.remove("Content-Type")
    peer.send(invite)
    assert str(bench.event(IncomingCall).sdp) == str(THEIR_SDP)


def test_a_description_beside_a_location_is_found() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    invite = peer.request("INVITE", headers=(("Content-Type", "multipart/mixed;boundary=b"),))
    invite.body = (
        "--b\r\nContent-Type: application/pidf+xml\r\n\r\n<presence/>\r\n"
        f"--b\r\nContent-Type: application/sdp\r\n\r\n{THEIR_SDP}\r\n--b--\r\n"
    ).encode()
    peer.send(invite)
    sdp = bench.event(IncomingCall).sdp
    assert sdp is not None
    assert sdp.media == THEIR_SDP.media
