"""Session timers (RFC 4028): who refreshes, what is negotiated, and what a missed refresh does."""

import pytest

from siaga_pbx.sip.digest import Challenge
from siaga_pbx.sip.events import (
    Answered,
    Confirmed,
    Ended,
    Failed,
    IncomingCall,
    Offered,
    OfferRefused,
    Reanswered,
    SessionMissed,
    SessionRefreshed,
)
from siaga_pbx.sip.flow import Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.options import Account, Invite
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OUR_SDP, THEIR_SDP, TRUNK, Bench, Peer
from tests.flows.test_caller import ANSWER
from tests.flows.test_offers import HOLD, OUR_ANSWER, THEIR_ANSWER

TIMER = ("Supported", "timer, 100rel")
UPDATES = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")
Extra = tuple[tuple[str, str], ...]


def called(*headers: tuple[str, str]) -> tuple[Bench, Peer, str, Response]:
    """A call that came in with these headers and is answered; our 200."""
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP, headers=headers))
    bench.response(100)
    leg = bench.event(IncomingCall).leg
    bench.do(bench.stack.answer(leg, ANSWER, bench.now))
    ok = bench.response(200)
    peer.our_tag = ok.to.tag or ""
    peer.ack()
    bench.event(Confirmed)
    return bench, peer, leg, ok


def calling(session_s: int = 1800, account: Account | None = None) -> tuple[Bench, Peer, Request]:
    """A call of ours that asks for a session; our INVITE."""
    bench = Bench()
    uri = Uri.parse("sip:+62811@198.51.100.1")
    to = NameAddr("", uri)
    target = Target("udp", "198.51.100.1", 5060)
    call = Invite(target, uri, to, to, OUR_SDP, (), account, session_s)
    bench.do(bench.stack.invite("leg", call, bench.now))
    return bench, Peer(bench, TRUNK), bench.request("INVITE")


def talks(bench: Bench, peer: Peer, invite: Request, *headers: tuple[str, str]) -> None:
    peer.answer(invite, 200, THEIR_ANSWER, headers=headers)
    bench.event(Answered)
    bench.request("ACK")


def expires(message: Request | Response) -> str | None:
    return message.headers.get("Session-Expires")


# Their INVITE (RFC 4028 9)


@pytest.mark.parametrize(
    ("headers", "said", "required"),
    [
        ((TIMER, ("Session-Expires", "1800;refresher=uac")), "1800;refresher=uac", "timer"),
        ((TIMER, ("x", "600;refresher=uas")), "600;refresher=uas", None),
        ((TIMER, ("Session-Expires", "1800")), "1800;refresher=uac", "timer"),
        ((("Session-Expires", "1800"),), "1800;refresher=uas", None),
        ((TIMER, ("Session-Expires", "10;refresher=uac"), ("Min-SE", "5")), "10;refresher=uac", "timer"),
        ((("Require", "timer"), ("Session-Expires", "1800")), "1800;refresher=uac", "timer"),
        ((TIMER, ("Session-Expires", "99999999999999;refresher=UAC")), "86400;refresher=uac", "timer"),
        ((TIMER,), None, None),
        ((TIMER, ("Session-Expires", "often")), None, None),
        ((TIMER, ("Session-Expires", "0")), None, None),
    ],
)
def test_what_they_ask_for_is_granted_and_never_refused(headers: Extra, said: str | None, required: str | None) -> None:
    _, _, _, ok = called(*headers)
    assert expires(ok) == said
    assert ok.headers.get("Require") == required
    assert "timer" in (ok.headers.get("Supported") or "")


def test_who_never_refreshes_is_told_of_again_and_again_and_the_leg_stays() -> None:
    bench, peer, leg, _ = called(TIMER, ("Session-Expires", "90;refresher=uac"))
    bench.advance(89)
    assert bench.events == []
    bench.advance(2)
    assert bench.event(SessionMissed) == SessionMissed(leg, None)
    bench.advance(90)
    assert bench.event(SessionMissed) == SessionMissed(leg, None)
    assert bench.take() == []
    peer.send(peer.request("UPDATE", headers=(TIMER, ("Session-Expires", "90;refresher=uac"))))
    assert expires(bench.response(200)) == "90;refresher=uac"
    assert bench.event(SessionRefreshed) == SessionRefreshed(leg)
    bench.advance(80)
    assert bench.events == []


def test_a_session_of_a_second_is_not_missed_every_second() -> None:
    bench, _, _, _ = called(TIMER, ("Session-Expires", "1;refresher=uac"))
    bench.advance(31)
    assert bench.events == []
    bench.advance(2)
    bench.event(SessionMissed)
    bench.advance(30)
    assert bench.events == []


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_their_refresh_begins_the_interval_anew(method: str) -> None:
    bench, peer, leg, _ = called(TIMER, ("Session-Expires", "90;refresher=uac"))
    for _ in range(5):
        bench.advance(45)
        sdp = THEIR_SDP if method == "INVITE" else None
        peer.send(peer.request(method, sdp=sdp, headers=(TIMER, ("Session-Expires", "90;refresher=uac"))))
        if method == "INVITE":
            bench.response(100)
            bench.event(Offered)
            bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
        ok = bench.response(200)
        assert (expires(ok), ok.headers.get("Require")) == ("90;refresher=uac", "timer")
        if method == "INVITE":
            peer.ack()
    assert bench.events == []


@pytest.mark.parametrize(
    ("headers", "said"),
    [((TIMER,), "90;refresher=uac"), ((), None), ((TIMER, ("Session-Expires", "120")), "120;refresher=uac")],
)
def test_a_hold_that_does_not_mention_who_refreshes_leaves_it_with_whoever_did(
    headers: Extra, said: str | None
) -> None:
    bench, peer, leg, _ = called(TIMER, ("Session-Expires", "90;refresher=uac"))
    bench.advance(60)
    peer.send(peer.request("INVITE", sdp=HOLD, headers=headers))
    bench.response(100)
    bench.event(Offered)
    bench.do(bench.stack.accept(leg, OUR_ANSWER, bench.now))
    assert expires(bench.response(200)) == said
    peer.ack()
    bench.advance(89)
    assert bench.events == []


def test_a_call_without_a_session_has_no_timer() -> None:
    bench, peer, _, _ = called(TIMER, UPDATES)
    bench.advance(40)
    assert bench.stack.next_deadline() is None
    peer.send(peer.request("UPDATE"))
    assert expires(bench.response(200)) is None
    bench.advance(40)
    assert bench.stack.next_deadline() is None


# We refresh (RFC 4028 7.2, 10)


def test_we_refresh_by_update_at_half_the_interval() -> None:
    bench, peer, _, _ = called(TIMER, UPDATES, ("Session-Expires", "90;refresher=uas"))
    for _ in range(4):
        bench.advance(44.9)
        assert bench.take() == []
        bench.advance(0.2)
        update = bench.request("UPDATE")
        assert expires(update) == "90;refresher=uac"
        assert (update.body, "timer" in (update.headers.get("Supported") or "")) == (b"", True)
        assert update.headers.get("Contact") == "<sip:siaga@192.0.2.10:5060>"
        peer.answer(update, 200, headers=(("Session-Expires", "90;refresher=uac"), UPDATES))
    assert bench.events == []


def test_we_refresh_by_reinvite_where_update_is_not_allowed() -> None:
    bench, peer, leg, _ = called(TIMER, ("Allow", "INVITE, ACK, BYE"), ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    reinvite = bench.request("INVITE")
    assert expires(reinvite) == "90;refresher=uac"
    assert reinvite.body == str(ANSWER).encode(), "the session as it is, in the same version (RFC 4028 7.4)"
    peer.answer(reinvite, 200, THEIR_SDP, headers=(("Session-Expires", "90;refresher=uac"),))
    bench.request("ACK")
    assert bench.event(Reanswered).leg == leg
    bench.advance(44)
    assert bench.take() == []


@pytest.mark.parametrize("status", [405, 501])
def test_a_peer_that_allows_update_but_does_not_know_it_gets_a_reinvite(status: int) -> None:
    bench, peer, _, _ = called(TIMER, UPDATES, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    peer.answer(bench.request("UPDATE"), status)
    reinvite = bench.request("INVITE")
    peer.answer(reinvite, 200, THEIR_SDP, headers=(("Session-Expires", "90;refresher=uac"),))
    bench.request("ACK")


def test_a_refresh_that_is_not_answered_is_tried_again_and_then_missed() -> None:
    bench, peer, leg, _ = called(TIMER, UPDATES, ("Session-Expires", "1800;refresher=uas"))
    bench.advance(1799)
    assert bench.events == []
    tries = bench.take()
    assert set(tries) == {"UPDATE"}
    assert len(tries) > 30, "several transactions of eleven packets each"
    bench.advance(2)
    assert bench.event(SessionMissed) == SessionMissed(leg, None)
    bench.advance(900)
    update = [m for _, m in bench.sent if isinstance(m, Request)][-1]
    bench.sent.clear()
    peer.answer(update, 200, headers=(("Session-Expires", "1800;refresher=uac"),))
    assert bench.event(SessionRefreshed) == SessionRefreshed(leg)


@pytest.mark.parametrize("updates", [True, False])
def test_a_peer_that_knows_the_call_no_more_is_missed_and_the_leg_stays(updates: bool) -> None:
    bench, peer, leg, _ = called(TIMER, *[UPDATES] * updates, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    peer.answer(bench.request("UPDATE" if updates else "INVITE"), 481)
    missed = bench.events.pop(0)
    assert missed == SessionMissed(leg, 481)
    assert [type(event) for event in bench.events] == ([] if updates else [OfferRefused])
    assert bench.stack.lives(leg)


@pytest.mark.parametrize("status", [408, 500, 503])
def test_another_refusal_of_a_refresh_means_another_try(status: int) -> None:
    bench, peer, _, _ = called(TIMER, UPDATES, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    peer.answer(bench.request("UPDATE"), status)
    bench.advance(22.5)
    peer.answer(bench.request("UPDATE"), 200, headers=(("Session-Expires", "90;refresher=uac"),))
    bench.advance(44)
    assert bench.events == []


def test_they_take_the_refreshing_over() -> None:
    bench, peer, leg, _ = called(TIMER, UPDATES, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    peer.answer(bench.request("UPDATE"), 200, headers=(("Session-Expires", "90;refresher=uas"), UPDATES))
    bench.advance(89)
    assert bench.take() == []
    bench.advance(2)
    assert bench.event(SessionMissed).leg == leg


def test_a_peer_that_drops_the_timer_has_none() -> None:
    bench, peer, _, _ = called(TIMER, UPDATES, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    peer.answer(bench.request("UPDATE"), 200)
    bench.advance(40)
    assert bench.stack.next_deadline() is None
    assert bench.events == []


def test_the_timer_ends_with_the_call() -> None:
    bench, peer, _, _ = called(TIMER, UPDATES, ("Session-Expires", "1800;refresher=uas"))
    peer.send(peer.request("BYE"))
    bench.response(200)
    bench.event(Ended)
    bench.advance(40)
    assert bench.is_empty()


# Our INVITE (RFC 4028 7.1, 7.4)


def test_our_invite_asks_for_a_session_and_they_refresh() -> None:
    bench, peer, invite = calling()
    assert expires(invite) == "1800"
    assert "timer" in (invite.headers.get("Supported") or "")
    talks(bench, peer, invite, ("Session-Expires", "1800;refresher=uas"), ("Require", "timer"))
    bench.advance(1799)
    assert bench.take() == []
    bench.advance(2)
    assert bench.event(SessionMissed) == SessionMissed("leg", None)


def test_our_invite_asks_for_a_session_and_we_refresh() -> None:
    bench, peer, invite = calling()
    talks(bench, peer, invite, ("Session-Expires", "600;refresher=uac"), ("Require", "timer"), UPDATES)
    bench.advance(300.1)
    assert expires(bench.request("UPDATE")) == "600;refresher=uac"


def test_a_422_is_obeyed() -> None:
    bench, peer, first = calling()
    peer.answer(first, 422, headers=(("Min-SE", "7200"),))
    second = [m for _, m in bench.sent if isinstance(m, Request) and m.method == "INVITE"][-1]
    assert bench.take() == ["ACK", "INVITE"]
    assert (expires(second), second.headers.get("Min-SE")) == ("7200", "7200")
    assert (second.call_id, second.cseq.number) == (first.call_id, first.cseq.number + 1)
    assert second.to.tag is None
    talks(bench, peer, second, ("Session-Expires", "7200;refresher=uac"), UPDATES)
    bench.advance(3600.1)
    bench.request("UPDATE")


@pytest.mark.parametrize("least", [None, "60", "rubbish", "9999999"])
def test_a_422_that_makes_no_sense_gets_an_invite_without_a_timer(least: str | None) -> None:
    bench, peer, first = calling()
    peer.answer(first, 422, headers=() if least is None else (("Min-SE", least),))
    second = [m for _, m in bench.sent if isinstance(m, Request) and m.method == "INVITE"][-1]
    bench.take()
    assert expires(second) is None
    peer.answer(second, 422, headers=(("Min-SE", "7200"),))
    assert bench.event(Failed).status == 422


def test_422_without_end_comes_to_an_end() -> None:
    bench, peer, invite = calling()
    for _ in range(10):
        peer.answer(invite, 422, headers=(("Min-SE", str(int(expires(invite) or "0") + 1)),))
        again = [m for _, m in bench.sent if isinstance(m, Request) and m.method == "INVITE"]
        bench.take()
        if not again:
            break
        invite = again[-1]
    assert bench.event(Failed).status == 422


def test_a_422_to_a_refresh_is_obeyed() -> None:
    bench, peer, _, _ = called(TIMER, UPDATES, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.1)
    peer.answer(bench.request("UPDATE"), 422, headers=(("Min-SE", "300"),))
    again = bench.request("UPDATE")
    assert expires(again) == "300;refresher=uac"
    peer.answer(again, 200, headers=(("Session-Expires", "300;refresher=uac"),))
    bench.advance(149)
    assert bench.take() == []


def test_a_challenged_refresh_is_answered_once() -> None:
    bench, peer, invite = calling(account=Account("siaga", "kunci"))
    talks(bench, peer, invite, ("Session-Expires", "600;refresher=uac"), UPDATES)
    bench.advance(300.1)
    challenge = (("Proxy-Authenticate", str(Challenge("carrier", "nonce-1"))),)
    peer.answer(bench.request("UPDATE"), 407, headers=challenge)
    again = bench.request("UPDATE")
    assert "Proxy-Authorization" in again.headers
    peer.answer(again, 407, headers=challenge)
    assert bench.take() == []


def test_a_refresh_waits_for_an_offer_that_is_open() -> None:
    bench, peer, leg, _ = called(TIMER, ("Session-Expires", "90;refresher=uas"))
    bench.advance(45.0 - 0.5)
    bench.do(bench.stack.offer(leg, OUR_SDP, bench.now))
    reinvite = bench.request("INVITE")
    bench.advance(1)
    assert set(bench.take()) <= {"INVITE"}, "the same again"
    peer.answer(reinvite, 200, THEIR_ANSWER, headers=(("Session-Expires", "90;refresher=uac"),))
    again = [m for _, m in bench.sent if isinstance(m, Request)]
    assert [m.method for m in again] == ["ACK", "INVITE"]
