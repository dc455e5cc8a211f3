"""Legs over a restart: one stack's legs as JSON text, and another stack that goes on with them."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Answered as TheyAnswered
from siaga_pbx.sip.events import By, Confirmed, Ended, Event, Failed, IncomingCall, Ringing, SessionMissed
from siaga_pbx.sip.flow import Flow, Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.options import Account, Invite
from siaga_pbx.sip.snapshot import CSEQ_MARGIN, Stage, StoredLeg, StoredWay
from siaga_pbx.sip.stack import Stack
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OUR_SDP, SEAT, THEIR_SDP, TRUNK, US, Bench, Peer, register

WIRE = TypeAdapter(StoredLeg)
ME = NameAddr("", Uri("sip", "112", "siaga.local"))


def restart(bench: Bench, down: float = 1.0, account: Account | None = None) -> None:
    """The bench goes on with a new stack, which has the legs of the old one."""
    kept = [WIRE.dump_json(stored_of(bench, leg)) for leg in list(bench.stack._core.legs)]
    bench.now += down
    bench.stack = Stack(bench.settings, random.Random(99).randbytes)
    for text in kept:
        bench.do(bench.stack.restore_leg(WIRE.validate_json(text), account, bench.now))


def stored_of(bench: Bench, leg: str) -> StoredLeg:
    stored = bench.stack.snapshot_leg(leg)
    assert stored is not None
    return stored


def incoming(bench: Bench, flow: Flow = TRUNK, routes: tuple[str, ...] = ()) -> tuple[Peer, str]:
    peer = Peer(bench, flow, routes=routes)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    leg = bench.event(IncomingCall).leg
    bench.take()
    return peer, leg


def talking(bench: Bench, flow: Flow = TRUNK, routes: tuple[str, ...] = ()) -> tuple[Peer, str]:
    peer, leg = incoming(bench, flow, routes)
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    peer.ack()
    bench.event(Confirmed)
    return peer, leg


def ringing_seat(bench: Bench) -> tuple[Peer, Request]:
    register(bench)
    bench.events.clear()
    bench.do(bench.stack.invite_seat("seat-leg", "101", ME, OUR_SDP, bench.now))
    seat = Peer(bench, SEAT, user="101", tag="seat")
    invite = bench.request("INVITE")
    seat.answer(invite, 180)
    bench.event(Ringing)
    return seat, invite


# Callers


def test_caller_who_talks_hangs_up() -> None:
    bench = Bench()
    caller, leg = talking(bench)
    restart(bench)
    assert bench.take() == []
    caller.send(caller.request("BYE"))
    bench.response(200)
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 200, None)


def test_we_hang_up_on_a_caller_by_its_route_with_a_higher_cseq() -> None:
    bench = Bench()
    _, leg = talking(bench, routes=("<sip:198.51.100.2;lr>", "<sip:198.51.100.3;lr>"))
    before = stored_of(bench, leg).local_cseq
    restart(bench)
    bench.do(bench.stack.hang_up(leg, bench.now))
    assert bench.event(Ended).by is By.LOCAL
    way, bye = bench.sent[0]
    assert isinstance(bye, Request)
    assert bye.headers.get_all("Route") == ["<sip:198.51.100.2;lr>", "<sip:198.51.100.3;lr>"]
    assert way == Flow("udp", US, ("198.51.100.2", 5060))
    assert bye.cseq.number == before + CSEQ_MARGIN + 1
    assert str(bye.uri) == "sip:62811222333@198.51.100.1:5060"


def test_caller_reinvites() -> None:
    bench = Bench()
    caller, leg = talking(bench)
    restart(bench)
    caller.send(caller.request("INVITE", sdp=THEIR_SDP))
    assert bench.take() == ["100 INVITE"]
    bench.events.clear()
    bench.do(bench.stack.accept(leg, OUR_SDP, bench.now))
    bench.response(200)
    caller.ack()
    bench.advance(40)
    assert bench.take() == []


def test_request_of_before_the_restart_is_out_of_order_still() -> None:
    bench = Bench()
    caller, _ = talking(bench)
    restart(bench)
    caller.send(caller.request("INFO", cseq=caller.cseq - 1))
    bench.response(500)


def test_answer_without_its_ack_is_sent_on_until_the_ack() -> None:
    bench = Bench()
    caller, leg = incoming(bench)
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    answer = bench.response(200)
    restart(bench, down=2.0)
    again = bench.response(200)
    assert bytes(again) == bytes(answer)
    bench.advance(0.5)
    assert bench.take() == ["200 INVITE"]
    caller.our_tag = answer.to.tag or ""
    caller.ack()
    assert bench.event(Confirmed).leg == leg
    bench.advance(40)
    assert bench.take() == []


def test_invite_that_comes_again_to_an_answer_that_was_lost_makes_no_new_call() -> None:
    bench = Bench()
    caller = Peer(bench, TRUNK)
    invite = caller.request("INVITE", sdp=THEIR_SDP)
    caller.send(invite)
    leg = bench.event(IncomingCall).leg
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    bench.take()
    restart(bench)
    bench.take()
    caller.send(invite)
    assert bench.events == []
    bench.advance(0.5)
    assert bench.take() == ["200 INVITE"]


def test_answer_that_was_never_acknowledged_is_given_up_at_the_same_time() -> None:
    bench = Bench()
    _, leg = incoming(bench)
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    restart(bench, down=20.0)
    bench.advance(11.9)
    assert bench.events == []
    bench.advance(0.2)
    assert [type(event).__name__ for event in bench.events] == ["Unacknowledged"]
    assert bench.stack.lives(leg)


def test_caller_who_hears_ringing_is_answered() -> None:
    bench = Bench()
    caller, leg = incoming(bench)
    bench.do(bench.stack.ring(leg, bench.now))
    ringing = bench.response(180)
    restart(bench)
    assert bench.take() == ["100 INVITE", "180 INVITE"]
    bench.advance(3)
    assert bench.response(180).to.tag == ringing.to.tag
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    caller.our_tag = bench.response(200).to.tag or ""
    caller.ack()
    assert bench.event(Confirmed).leg == leg


def test_caller_who_hears_ringing_gives_up() -> None:
    bench = Bench()
    caller, leg = incoming(bench)
    bench.do(bench.stack.ring(leg, bench.now))
    restart(bench)
    bench.take()
    caller.send(caller.request("CANCEL", branch=f"z9hG4bK-{caller.call_id}-{caller.tag}-1"))
    assert bench.take() == ["200 CANCEL", "487 INVITE"]
    assert bench.event(Ended) == Ended(leg, By.REMOTE, 487, None)


def test_caller_on_tcp_is_reached_by_a_new_connection_and_may_come_by_one() -> None:
    bench = Bench()
    flow = Flow("tcp", US, ("198.51.100.1", 41000), 5)
    caller, leg = talking(bench, flow)
    restart(bench)
    caller.flow = Flow("tcp", US, ("198.51.100.1", 41001), 1)
    bench.do(bench.stack.check(leg, bench.now))
    assert bench.sent[0][0] == Target("tcp", "198.51.100.1", 41000)
    bench.take()
    caller.send(caller.request("BYE"))
    bench.response(200)
    assert bench.event(Ended).by is By.REMOTE


# Seats


def test_phone_that_rings_is_picked_up() -> None:
    bench = Bench()
    seat, invite = ringing_seat(bench)
    restart(bench)
    assert bench.take() == []
    seat.answer(invite, 200, THEIR_SDP)
    assert bench.event(TheyAnswered).leg == "seat-leg"
    ack = bench.request("ACK")
    assert ack.cseq.number == invite.cseq.number
    bench.do(bench.stack.hang_up("seat-leg", bench.now))
    bench.event(Ended)
    assert bench.request("BYE").cseq.number > invite.cseq.number


def test_phone_that_rings_is_cancelled() -> None:
    bench = Bench()
    seat, invite = ringing_seat(bench)
    restart(bench)
    bench.do(bench.stack.hang_up("seat-leg", bench.now))
    cancel = bench.request("CANCEL")
    assert cancel.via.branch == invite.via.branch
    seat.answer(cancel, 200)
    seat.answer(invite, 487)
    bench.request("ACK")
    assert bench.event(Failed).status == 487


def test_phone_that_was_being_cancelled_is_cancelled_again() -> None:
    bench = Bench()
    seat, invite = ringing_seat(bench)
    bench.do(bench.stack.hang_up("seat-leg", bench.now, "SIP;cause=200"))
    bench.request("CANCEL")
    restart(bench)
    assert bench.request("CANCEL").headers.get("Reason") == "SIP;cause=200"
    seat.answer(invite, 487)
    bench.request("ACK")
    assert bench.event(Failed).status == 487


def test_phone_that_has_said_nothing_yet_is_called_again_in_the_same_transaction() -> None:
    bench = Bench()
    register(bench)
    bench.events.clear()
    bench.do(bench.stack.invite_seat("seat-leg", "101", ME, OUR_SDP, bench.now))
    invite = bench.request("INVITE")
    restart(bench)
    assert bytes(bench.request("INVITE")) == bytes(invite)
    bench.advance(40)
    assert bench.event(Failed).status == 408


def test_seat_that_sends_its_200_again_gets_its_ack() -> None:
    bench = Bench()
    seat, invite = ringing_seat(bench)
    answer = seat.answer(invite, 200, THEIR_SDP)
    bench.events.clear()
    bench.take()
    restart(bench)
    register(bench)
    bench.events.clear()
    seat.send(answer)
    assert bench.take() == ["ACK"]
    assert bench.events == []


def test_seat_hangs_up() -> None:
    bench = Bench()
    seat, invite = ringing_seat(bench)
    seat.answer(invite, 200, THEIR_SDP)
    bench.events.clear()
    bench.take()
    restart(bench)
    bye = seat.request("BYE", f"sip:siaga@{US[0]}")
    bye.headers.set("To", f"{invite.headers.get('From')}")
    bye.headers.set("From", f"<sip:101@siaga.local>;tag={seat.tag}")
    seat.send(bye)
    bench.response(200)
    assert bench.event(Ended).by is By.REMOTE


def test_trunk_challenges_a_bye_after_the_restart() -> None:
    bench = Bench()
    account = Account("siaga", "rahasia")
    target = Target("udp", "198.51.100.1", 5060)
    to = NameAddr("", Uri("sip", "113", "198.51.100.1"))
    call = Invite(target, to.uri, to, ME, OUR_SDP, account=account)
    bench.do(bench.stack.invite("out", call, bench.now))
    far = Peer(bench, TRUNK, tag="far")
    far.answer(bench.request("INVITE"), 200, THEIR_SDP)
    bench.events.clear()
    bench.take()
    assert "rahasia" not in WIRE.dump_json(stored_of(bench, "out")).decode()
    restart(bench, account=account)
    bench.do(bench.stack.hang_up("out", bench.now))
    challenge = ("Proxy-Authenticate", 'Digest realm="carrier", nonce="abc", algorithm=MD5')
    far.answer(bench.request("BYE"), 407, headers=(challenge,))
    assert 'username="siaga"' in (bench.request("BYE").headers.get("Proxy-Authorization") or "")


# Session timers


@pytest.mark.parametrize("down", [1.0, 80.0])
def test_session_that_they_refresh_is_missed_when_it_would_have_been(down: float) -> None:
    bench = Bench()
    _, leg = incoming_with_timer(bench, "uac")
    restart(bench, down)
    bench.advance(89.9 - down)
    assert bench.events == []
    bench.advance(0.2)
    assert bench.event(SessionMissed).leg == leg


def test_session_that_they_refresh_goes_on() -> None:
    bench = Bench()
    caller, leg = incoming_with_timer(bench, "uac")
    restart(bench)
    bench.take()
    bench.advance(60)
    caller.send(caller.request("UPDATE", headers=(("Supported", "timer"), ("Session-Expires", "90;refresher=uac"))))
    assert bench.response(200).headers.get("Session-Expires") == "90;refresher=uac"
    bench.advance(60)
    assert bench.events == []
    assert bench.stack.lives(leg)


@pytest.mark.parametrize("down", [1.0, 60.0])
def test_session_that_we_refresh_is_refreshed_in_time(down: float) -> None:
    bench = Bench()
    incoming_with_timer(bench, "uas")
    restart(bench, down)
    bench.take()
    bench.advance(max(0.0, 45.0 - down) + 0.1)
    assert "UPDATE" in bench.take()


def incoming_with_timer(bench: Bench, refresher: str) -> tuple[Peer, str]:
    caller = Peer(bench, TRUNK)
    timer = (("Supported", "timer"), ("Session-Expires", f"90;refresher={refresher}"), ("Allow", "UPDATE"))
    caller.send(caller.request("INVITE", sdp=THEIR_SDP, headers=timer))
    leg = bench.event(IncomingCall).leg
    bench.do(bench.stack.answer(leg, OUR_SDP, bench.now))
    caller.our_tag = _our_tag(bench)
    caller.ack()
    bench.take()
    bench.events.clear()
    return caller, leg


# What is kept


_STEPS: list[Callable[[Bench, Peer, str], None]] = [
    lambda bench, peer, leg: bench.do(bench.stack.ring(leg, bench.now)),
    lambda bench, peer, leg: bench.do(bench.stack.answer(leg, OUR_SDP, bench.now)),
    lambda bench, peer, leg: peer.ack(),
    lambda bench, peer, leg: peer.send(peer.request("INVITE", sdp=THEIR_SDP)),
    lambda bench, peer, leg: bench.do(bench.stack.accept(leg, OUR_SDP, bench.now)),
    lambda bench, peer, leg: peer.send(peer.request("UPDATE")),
    lambda bench, peer, leg: peer.send(peer.request("UPDATE", headers=(("Session-Expires", "90;refresher=uac"),))),
    lambda bench, peer, leg: peer.send(peer.request("UPDATE", headers=(("Session-Expires", "90;refresher=uas"),))),
    lambda bench, peer, leg: bench.do(bench.stack.offer(leg, OUR_SDP, bench.now)),
    lambda bench, peer, leg: bench.do(bench.stack.check(leg, bench.now)),
    lambda bench, peer, leg: peer.send(peer.request("INFO")),
    lambda bench, peer, leg: bench.advance(1.0),
]


def _our_tag(bench: Bench) -> str:
    tags = [m.to.tag for _, m in bench.sent if isinstance(m, Response) and m.cseq.method == "INVITE" and m.to.tag]
    return tags[-1] if tags else ""


@given(
    st.lists(st.sampled_from(_STEPS), max_size=12), st.sampled_from([TRUNK, Flow("tcp", US, ("198.51.100.9", 4), 3)])
)
def test_leg_in_any_state_is_the_same_afterwards(steps: list[Callable[[Bench, Peer, str], None]], flow: Flow) -> None:
    bench = Bench()
    peer, leg = incoming(bench, flow, ("<sip:198.51.100.2;lr>",))
    for step in steps:
        step(bench, peer, leg)
        peer.our_tag = _our_tag(bench) or peer.our_tag
    if not bench.stack.lives(leg):
        return
    before = stored_of(bench, leg)
    restart(bench, down=0.0)
    after = bench.stack.snapshot_leg(leg)
    assert after is not None
    home = StoredWay.of(before.home.way())
    assert after == replace(before, local_cseq=before.local_cseq + CSEQ_MARGIN, home=home)


texts = st.text(st.characters(codec="latin-1"), max_size=30)


@given(st.builds(StoredLeg))
def test_any_leg_of_plain_values_is_read_or_refused(stored: StoredLeg) -> None:
    """Whatever stands in the file: it is a leg again, or RemoteError says that it is none, nothing is left of it."""
    assert WIRE.validate_json(WIRE.dump_json(stored)) == stored
    stack = Stack(Bench().settings, random.Random(1).randbytes)
    try:
        events: list[Event] = [one for one in stack.restore_leg(stored, None, 1.0) if isinstance(one, Event)]
    except RemoteError:
        assert not stack.lives(stored.id)
        assert stack.next_deadline() is None
        return
    assert stack.lives(stored.id) or events


@pytest.mark.parametrize("stage", [Stage.INCOMING, Stage.CALLING, Stage.CANCELLING])
def test_unanswered_leg_without_its_invite_is_refused(stage: Stage) -> None:
    bench = Bench()
    _, leg = talking(bench)
    stored = replace(stored_of(bench, leg), id="other", local_tag="other", stage=stage)
    with pytest.raises(RemoteError):
        bench.stack.restore_leg(stored, None, bench.now)


def test_leg_that_is_there_is_left_alone() -> None:
    bench = Bench()
    _, leg = talking(bench)
    stored = stored_of(bench, leg)
    assert bench.stack.restore_leg(stored, None, bench.now) == []
    assert stored_of(bench, leg) == stored
