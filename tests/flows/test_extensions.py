"""Allow, Supported and Require on every message (RFC 3261 8.2.2.3, 20.5, 20.32, 20.37, 20.40)."""

import pytest

from siaga_pbx.sip.events import Answered, Checked, Offered
from siaga_pbx.sip.message import Request, Response
from tests.flows.bench import OUR_SDP, SEAT, THEIR_SDP, TRUNK, Bench, Peer
from tests.flows.test_caller import ANSWER, arrive
from tests.flows.test_offers import HOLD, OUR_ANSWER, THEIR_ANSWER, caller
from tests.flows.test_seat_call import call, outbound, registered

METHODS = {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO", "REGISTER"}
ALL = {"100rel", "timer", "precondition", "replaces", "resource-priority"}


def allowed(message: Request | Response) -> set[str]:
    return set(message.headers.values("Allow"))


def supported(message: Request | Response) -> set[str]:
    return set(message.headers.values("Supported"))


def is_complete(message: Request | Response) -> bool:
    return (allowed(message), supported(message)) == (METHODS, ALL) and "Require" not in message.headers


def test_what_we_answer_to_a_call() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    leg = arrive(bench, peer)
    bench.do(bench.stack.ring(leg, bench.now))
    assert is_complete(bench.response(180))
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    assert is_complete(bench.response(200))


def test_what_we_answer_within_a_call() -> None:
    bench, peer, leg = caller()
    peer.send(peer.request("UPDATE"))
    assert is_complete(bench.response(200))
    peer.send(peer.request("OPTIONS"))
    options = bench.response(200)
    assert is_complete(options)
    assert options.headers.get("Accept") == "application/sdp"
    peer.send(peer.request("REFER"))
    assert allowed(bench.response(405)) == METHODS
    peer.send(peer.request("INVITE", sdp=HOLD))
    bench.response(100)
    bench.event(Offered)
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    assert is_complete(bench.response(200))


def test_what_we_ask_within_a_call() -> None:
    bench, peer, leg = caller()
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    reinvite = bench.request("INVITE")
    assert is_complete(reinvite)
    peer.answer(reinvite, 200, THEIR_ANSWER)
    bench.take()
    bench.events.clear()
    bench.do(bench.stack.check(leg, bench.now))
    options = bench.request("OPTIONS")
    assert is_complete(options)
    peer.answer(options, 200)
    bench.event(Checked)


def test_what_our_calls_say() -> None:
    bench = Bench()
    to_trunk = outbound(bench)
    assert allowed(to_trunk) == METHODS
    assert supported(to_trunk) == {"100rel", "timer", "replaces", "resource-priority"}
    bench = registered()
    to_seat = call(bench)
    assert allowed(to_seat) == METHODS
    assert supported(to_seat) == {"timer", "replaces"}, "a phone's 180 needs no PRACK"
    phone = Peer(bench, SEAT)
    phone.answer(to_seat, 200, ANSWER)
    bench.event(Answered)
    bench.request("ACK")


def test_what_we_say_to_who_asks_out_of_a_call() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("OPTIONS"))
    assert is_complete(bench.response(200))
    peer.send(peer.request("SUBSCRIBE"))
    assert allowed(bench.response(405)) == METHODS


@pytest.mark.parametrize("method", ["UPDATE", "INFO", "OPTIONS", "INVITE"])
def test_what_we_have_may_be_required_and_what_we_have_not_is_named(method: str) -> None:
    bench, peer, _ = caller()
    sdp = THEIR_SDP if method == "INVITE" else None
    peer.send(peer.request(method, sdp=sdp, headers=(("Require", "timer, precondition, Resource-Priority"),)))
    assert bench.take()[0] != f"420 {method}"
    bench.events.clear()
    if method != "INVITE":  # of a trunk's: see docs/adr/0005
        peer.send(peer.request(method, headers=(("Require", "timer, outbound"), ("Require", "gruu"))))
        assert bench.response(420).headers.get("Unsupported") == "outbound, gruu"
