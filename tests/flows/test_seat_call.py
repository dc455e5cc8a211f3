"""A call of ours to a seat or by a trunk: our INVITE, their answer, the end of it."""

import pytest

from siaga_pbx.sip.digest import Challenge, Credentials, verify
from siaga_pbx.sip.errors import LocalError
from siaga_pbx.sip.events import Answered, By, Ended, Failed, Ringing
from siaga_pbx.sip.flow import Flow, Target, Transport, connection_of
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request, parse
from siaga_pbx.sip.options import Account, Invite
from siaga_pbx.sip.sdp import LocalAudio, make_answer
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OUR_SDP, SEAT, TRUNK, US, Bench, Peer, register, where

CALLER = NameAddr.parse('"Penelepon" <sip:+62811222333@siaga.local>')
ANSWER = make_answer(OUR_SDP, LocalAudio("203.0.113.5", 4000, 1, 1))[0]


def registered(flow: Flow = SEAT, contact: str | None = None) -> Bench:
    bench = Bench()
    register(bench, flow, contact=contact)
    bench.events.clear()
    return bench


def call(bench: Bench, leg: str = "leg") -> Request:
    bench.do(bench.stack.invite_seat(leg, "101", CALLER, OUR_SDP, bench.now, (("X-Call", "7"),)))
    return bench.request("INVITE")


def talking(bench: Bench, phone: Peer) -> Request:
    invite = call(bench)
    phone.answer(invite, 200, ANSWER)
    bench.event(Answered)
    bench.request("ACK")
    return invite


def test_a_call_to_a_seat_from_its_invite_to_our_bye() -> None:
    bench = registered(contact="<sip:random-1234@203.0.113.5:5062;ob>")
    phone = Peer(bench, SEAT)
    invite = call(bench)
    assert str(invite.uri) == "sip:random-1234@203.0.113.5:5062;ob"
    assert invite.to.tag is None
    assert invite.from_.display == "Penelepon"
    assert invite.headers.get("X-Call") == "7"
    assert invite.body == str(OUR_SDP).encode()
    assert invite.headers.get("Contact") == "<sip:siaga@192.0.2.10:5060>"

    phone.answer(invite, 100)
    assert bench.events == []
    phone.answer(invite, 180)
    assert bench.event(Ringing) == Ringing("leg", 180, None)
    ok = phone.answer(invite, 200, ANSWER)
    answered = bench.event(Answered)
    assert (answered.leg, str(answered.sdp)) == ("leg", str(ANSWER))
    ack = bench.request("ACK")
    assert (ack.cseq.number, ack.to.tag) == (invite.cseq.number, "theirs")
    assert ack.via.branch != invite.via.branch
    assert str(ack.uri) == "sip:62811222333@203.0.113.5:5062"

    bench.receive(ok, SEAT)
    again = bench.request("ACK")
    assert bytes(again) == bytes(ack)
    assert bench.events == []

    bench.do(bench.stack.hang_up("leg", bench.now))
    assert bench.event(Ended) == Ended("leg", By.LOCAL, None, None)
    bye = bench.request("BYE")
    assert bye.cseq.number == invite.cseq.number + 1
    phone.answer(bye, 200)
    bench.advance(60)
    assert bench.take() == []
    assert bench.events == []


def test_the_seat_hangs_up() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    talking(bench, phone)
    phone.send(phone.request("BYE"))
    bench.response(200)
    assert bench.event(Ended) == Ended("leg", By.REMOTE, 200, None)


@pytest.mark.parametrize("status", [302, 404, 480, 486, 500, 603])
def test_a_refusal_is_acknowledged_and_told_once(status: int) -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = call(bench)
    refusal = phone.answer(invite, status)
    assert bench.event(Failed).status == status
    ack = bench.request("ACK")
    assert ack.via.branch == invite.via.branch
    bench.receive(refusal, SEAT)
    assert bytes(bench.request("ACK")) == bytes(ack)
    assert bench.events == []


def test_silence_is_408_after_64_t1() -> None:
    bench = registered()
    call(bench)
    bench.advance(31.9)
    assert bench.take() == ["INVITE"] * 6
    bench.advance(0.2)
    assert bench.event(Failed) == Failed("leg", 408, None)


def test_a_seat_rings_for_as_long_as_the_queue_likes() -> None:
    bench = registered()
    register(bench, expires=120)
    phone = Peer(bench, SEAT)
    bench.events.clear()
    phone.answer(call(bench), 180)
    bench.event(Ringing)
    for _ in range(10):
        bench.advance(100)
        register(bench)
    bench.events.clear()
    assert bench.take() == []
    assert "leg" in bench.stack._core.legs


def test_a_seat_that_is_not_registered_fails_at_once() -> None:
    bench = Bench()
    bench.do(bench.stack.invite_seat("leg", "101", CALLER, OUR_SDP, bench.now))
    assert bench.event(Failed).status == 480
    assert bench.take() == []
    bench.do(bench.stack.options_seat("token", "101", bench.now))
    assert bench.take() == []


def test_a_name_in_use_is_our_mistake() -> None:
    bench = registered()
    call(bench)
    with pytest.raises(LocalError):
        call(bench)


def test_an_answer_in_the_183_counts_when_the_200_has_none() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = call(bench)
    phone.answer(invite, 183, ANSWER)
    assert str(bench.event(Ringing).sdp) == str(ANSWER)
    phone.answer(invite, 200)
    assert str(bench.event(Answered).sdp) == str(ANSWER)


# CANCEL (RFC 3261 9.1)


def cancelling(bench: Bench, phone: Peer) -> tuple[Request, Request]:
    invite = call(bench)
    phone.answer(invite, 180)
    bench.event(Ringing)
    bench.do(bench.stack.hang_up("leg", bench.now, "SIP;cause=200"))
    return invite, bench.request("CANCEL")


def test_a_cancel_and_its_487() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite, cancel = cancelling(bench, phone)
    assert (cancel.via, cancel.cseq.number) == (invite.via, invite.cseq.number)
    assert cancel.headers.get("Reason") == "SIP;cause=200"
    assert bench.events == []
    phone.answer(cancel, 200)
    phone.answer(invite, 487)
    bench.request("ACK")
    assert bench.event(Failed).status == 487
    bench.advance(10)
    assert bench.events == []


def test_before_any_provisional_a_cancel_is_held() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = call(bench)
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.do(bench.stack.hang_up("leg", bench.now))
    assert bench.take() == []
    phone.answer(invite, 100)
    bench.request("CANCEL")
    phone.answer(invite, 180)
    assert bench.take() == []
    assert bench.events == []


def test_a_held_cancel_of_a_phone_that_never_speaks_ends_as_487() -> None:
    bench = registered()
    call(bench)
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.advance(32.1)
    assert bench.event(Failed) == Failed("leg", 487, None)
    assert set(bench.take()) == {"INVITE"}


def test_a_refusal_of_a_call_whose_cancel_is_held() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = call(bench)
    bench.do(bench.stack.hang_up("leg", bench.now))
    phone.answer(invite, 486)
    assert bench.event(Failed).status == 486
    assert bench.take() == ["ACK"]


def test_a_cancel_that_crosses_the_200() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite, cancel = cancelling(bench, phone)
    ok = phone.answer(invite, 200, ANSWER)
    assert bench.event(Failed).status == 487
    ack, bye = (message for _, message in bench.sent)
    assert bench.take() == ["ACK", "BYE"]
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    phone.answer(cancel, 481)
    bench.receive(ok, SEAT)
    assert bytes(bench.request("ACK")) == bytes(ack)
    phone.answer(bye, 200)
    bench.advance(50)
    assert bench.take() == []
    assert bench.events == []


def test_a_phone_that_answers_cancel_and_never_the_invite_counts_as_gone_after_two_seconds() -> None:
    """pyVoIP; the seat can be offered again from then on."""
    bench = registered()
    phone = Peer(bench, SEAT)
    _, cancel = cancelling(bench, phone)
    bench.advance(0.3)
    phone.answer(cancel, 200)
    bench.advance(1.9)
    assert bench.events == []
    bench.advance(0.2)
    assert bench.event(Failed) == Failed("leg", 487, None)
    bench.advance(40)
    assert bench.events == []
    assert bench.take() == []


def test_a_late_200_is_acknowledged_and_hung_up_in_silence() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite, cancel = cancelling(bench, phone)
    phone.answer(cancel, 200)
    bench.advance(5)
    bench.event(Failed)
    phone.answer(invite, 200, ANSWER)
    assert bench.take() == ["ACK", "BYE"]
    assert bench.events == []


def test_a_very_late_200_is_too() -> None:
    """Whoever rings on after the transaction is forgotten and answers then: it hears at once that nobody is there."""
    bench = registered()
    phone = Peer(bench, SEAT)
    invite, cancel = cancelling(bench, phone)
    phone.answer(cancel, 200)
    bench.advance(100)
    bench.event(Failed)
    bench.take()
    phone.answer(invite, 200, ANSWER)
    ack, bye = (message for _, message in bench.sent)
    assert bench.take() == ["ACK", "BYE"]
    assert (ack.to.tag, bye.to.tag) == ("theirs", "theirs")
    assert ack.from_.tag == invite.from_.tag
    assert bye.cseq.number == invite.cseq.number + 1
    assert bench.events == []


def test_a_cancel_that_nobody_answers_ends_as_487_after_64_t1() -> None:
    bench = registered()
    cancelling(bench, Peer(bench, SEAT))
    bench.advance(31.9)
    assert bench.events == []
    bench.advance(0.2)
    assert bench.event(Failed) == Failed("leg", 487, None)


def test_a_200_that_comes_again_after_the_transaction_is_forgotten_does_not_end_the_call() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = talking(bench, phone)
    bench.advance(33)
    phone.answer(invite, 200, ANSWER)
    ack = bench.request("ACK")
    assert (ack.cseq.number, ack.to.tag) == (invite.cseq.number, "theirs")
    assert bench.events == []
    assert "leg" in bench.stack._core.legs


# Forks (RFC 3261 13.2.2.4)


def test_the_second_fork_that_answers_is_hung_up() -> None:
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = talking(bench, phone)
    other = Peer(bench, SEAT, tag="other", contact="<sip:other@203.0.113.5:5062>")
    ok = other.answer(invite, 200, ANSWER, tag="other")
    ack, bye = (message for _, message in bench.sent)
    assert bench.take() == ["ACK", "BYE"]
    assert isinstance(bye, Request)
    assert (ack.to.tag, bye.to.tag) == ("other", "other")
    assert str(bye.uri) == "sip:other@203.0.113.5:5062"
    bench.receive(ok, SEAT)
    assert bench.take() == ["ACK"]
    other.answer(bye, 200)
    assert bench.events == []
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.event(Ended)
    ours = bench.request("BYE")
    assert ours.to.tag == "theirs"


# Ways to a seat (DESIGN 3, "Seats")


@pytest.mark.parametrize(
    ("contact", "via", "expected"),
    [
        ("203.0.113.5:5070", "203.0.113.5:5062", ("203.0.113.5", 5070)),
        ("203.0.113.5:5070", "192.168.1.2:5062", ("203.0.113.5", 5062)),
        ("203.0.113.5:5070", "203.0.113.5:5099", ("203.0.113.5", 5062)),
        ("192.168.1.2:5060", "192.168.1.2:5060", ("203.0.113.5", 5062)),
        ("198.18.0.1:5060", "203.0.113.5:5062", ("203.0.113.5", 5062)),
    ],
)
def test_packets_go_to_the_contact_only_where_no_nat_was_seen(
    contact: str, via: str, expected: tuple[str, int]
) -> None:
    bench = Bench()

    def change(request: Request) -> None:
        branch = request.via.branch
        request.headers.set("Via", f"SIP/2.0/UDP {via};branch={branch};rport")

    register(bench, contact=f"<sip:101@{contact}>", change=change)
    bench.events.clear()
    bench.do(bench.stack.invite_seat("leg", "101", CALLER, OUR_SDP, bench.now))
    way, invite = bench.sent.pop()
    assert isinstance(invite, Request)
    assert str(invite.uri) == f"sip:101@{contact}"
    assert where(way) == expected
    phone = Peer(bench, SEAT, contact=f"<sip:101@{contact}>")
    phone.answer(invite, 200, ANSWER)
    assert [where(way) for way, _ in bench.sent] == [expected]


def test_over_tcp_packets_go_down_the_connection_of_the_register() -> None:
    flow = Flow("tcp", US, ("203.0.113.5", 40001), 9)
    bench = registered(flow, "<sip:101@192.168.1.2:5060;transport=tcp>")
    bench.do(bench.stack.invite_seat("leg", "101", CALLER, OUR_SDP, bench.now))
    way, invite = bench.sent.pop()
    assert way == Target("tcp", "203.0.113.5", 40001, flow)
    assert invite.headers.get("Contact") == "<sip:siaga@192.0.2.10:5060;transport=tcp>"
    assert invite.via.transport == "TCP"
    bench.advance(20)
    assert bench.take() == []


def test_a_180_with_our_own_contact_does_not_make_us_call_ourselves() -> None:
    """pyVoIP copies our Contact into its 180, and into a 200 for good measure here."""
    bench = registered()
    phone = Peer(bench, SEAT, contact="<sip:siaga@192.0.2.10:5060>")
    invite = call(bench)
    phone.answer(invite, 180)
    bench.event(Ringing)
    phone.answer(invite, 200, ANSWER)
    way, ack = bench.sent.pop()
    assert isinstance(ack, Request)
    assert str(ack.uri) == str(invite.uri)
    assert where(way) == SEAT.remote


def test_a_bye_with_our_own_via_is_a_request_like_any_other() -> None:
    """pyVoIP's BYE carries our Via with our INVITE's branch."""
    bench = registered()
    phone = Peer(bench, SEAT)
    invite = talking(bench, phone)
    bye = phone.request("BYE", cseq=invite.cseq.number + 1)
    bye.headers.set("Via", invite.headers.get("Via") or "")
    phone.send(bye)
    way, ok = bench.sent.pop()
    assert where(way) == SEAT.remote
    assert ok.cseq.method == "BYE"
    assert bench.event(Ended).by is By.REMOTE


# Towards a trunk


ACCOUNT = Account("siaga", "kunci")


def outbound(bench: Bench, account: Account | None = ACCOUNT) -> Request:
    target = Target("udp", "198.51.100.1", 5060)
    uri = Uri.parse("sip:+62811@198.51.100.1")
    to = NameAddr("", uri)
    bench.do(bench.stack.invite("leg", Invite(target, uri, to, CALLER, OUR_SDP, (), account), bench.now))
    return bench.request("INVITE")


@pytest.mark.parametrize(
    ("status", "asked", "answer"),
    [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")],
)
def test_a_trunks_challenge_is_answered_once(status: int, asked: str, answer: str) -> None:
    bench = Bench()
    trunk = Peer(bench, TRUNK)
    first = outbound(bench)
    challenge = Challenge("carrier", "nonce-1", "sha-256")
    refusal = trunk.answer(first, status, headers=((asked, str(challenge)),))
    ack, second = (message for _, message in bench.sent)
    assert bench.take() == ["ACK", "INVITE"]
    assert isinstance(second, Request)
    assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
    assert second.cseq.number == first.cseq.number + 1
    assert second.via.branch != first.via.branch
    assert second.to.tag is None
    credentials = Credentials.parse(second.headers.get(answer) or "")
    assert verify(credentials, "INVITE", "kunci", "carrier", {"198.51.100.1"})
    bench.receive(refusal, TRUNK)
    assert bytes(bench.request("ACK")) == bytes(ack)
    trunk.answer(second, 200, ANSWER)
    assert bench.event(Answered).leg == "leg"
    assert bench.request("ACK").headers.get(answer) == str(credentials)


def test_a_second_challenge_is_a_failure_unless_only_the_nonce_was_stale() -> None:
    for stale, taken in ((False, ["ACK"]), (True, ["ACK", "INVITE"])):
        bench = Bench()
        trunk = Peer(bench, TRUNK)
        first = outbound(bench)
        trunk.answer(first, 407, headers=(("Proxy-Authenticate", str(Challenge("carrier", "nonce-1"))),))
        second = bench.sent[-1][1]
        bench.take()
        assert isinstance(second, Request)
        again = Challenge("carrier", "nonce-2", stale=stale)
        trunk.answer(second, 407, headers=(("Proxy-Authenticate", str(again)),))
        assert bench.summary() == taken
        if stale:
            third = bench.sent[-1][1]
            assert isinstance(third, Request)
            trunk.answer(third, 407, headers=(("Proxy-Authenticate", str(again)),))
        assert bench.event(Failed).status == 407


def test_without_an_account_a_challenge_is_a_failure() -> None:
    bench = Bench()
    trunk = Peer(bench, TRUNK)
    first = outbound(bench, None)
    trunk.answer(first, 407, headers=(("Proxy-Authenticate", str(Challenge("carrier", "nonce-1"))),))
    assert bench.event(Failed).status == 407
    assert bench.take() == ["ACK"]


def test_a_trunk_that_challenges_the_bye_too() -> None:
    bench = Bench()
    trunk = Peer(bench, TRUNK)
    trunk.answer(outbound(bench), 200, ANSWER)
    bench.take()
    bench.events.clear()
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.event(Ended)
    trunk.answer(bench.request("BYE"), 407, headers=(("Proxy-Authenticate", str(Challenge("carrier", "n"))),))
    again = bench.request("BYE")
    assert verify(
        Credentials.parse(again.headers.get("Proxy-Authorization") or ""), "BYE", "kunci", "carrier", {"198.51.100.1"}
    )
    trunk.answer(again, 200)
    bench.advance(40)
    assert bench.is_empty()


def test_the_route_set_of_a_client_leg_is_the_record_route_in_reverse() -> None:
    bench = Bench()
    trunk = Peer(bench, TRUNK, routes=("<sip:198.51.100.3;lr>", "<sip:198.51.100.2;lr>"))
    trunk.contact = "<sip:far@10.0.0.1>"
    trunk.answer(outbound(bench), 200, ANSWER)
    way, ack = bench.sent.pop()
    assert isinstance(ack, Request)
    assert str(ack.uri) == "sip:far@10.0.0.1"
    assert ack.headers.get_all("Route") == ["<sip:198.51.100.2;lr>", "<sip:198.51.100.3;lr>"]
    assert where(way) == ("198.51.100.2", 5060)


# No way there


def test_a_peer_that_cannot_be_reached_is_503_at_once() -> None:
    bench = Bench()
    outbound(bench)
    bench.do(bench.stack.unreachable(Target("udp", "198.51.100.1", 5061), bench.now))
    assert bench.events == []
    bench.do(bench.stack.unreachable(Target("udp", "198.51.100.1", 5060), bench.now))
    assert bench.event(Failed) == Failed("leg", 503, None)
    assert bench.is_empty()


def test_a_connection_that_closes_fails_what_has_not_been_heard() -> None:
    flow = Flow("tcp", US, ("203.0.113.5", 40001), 9)
    bench = registered(flow, "<sip:101@203.0.113.5:5060;transport=tcp>")
    bench.do(bench.stack.invite_seat("leg", "101", CALLER, OUR_SDP, bench.now))
    bench.take()
    bench.do(bench.stack.connection_closed(flow, bench.now))
    assert bench.event(Failed) == Failed("leg", 503, None)


def test_a_connection_that_closes_does_not_end_a_call_that_rings_or_talks() -> None:
    flow = Flow("tcp", US, ("203.0.113.5", 40001), 9)
    bench = registered(flow, "<sip:101@203.0.113.5:5060;transport=tcp>")
    phone = Peer(bench, flow)
    invite = call(bench)
    phone.answer(invite, 180)
    bench.event(Ringing)
    bench.do(bench.stack.connection_closed(flow, bench.now))
    assert bench.events == []
    phone.answer(invite, 200, ANSWER)
    bench.event(Answered)
    bench.take()
    # The phone registers over a new connection: its calls go there from now on.
    new = Flow("tcp", US, ("203.0.113.5", 40002), 10)
    register(bench, new, contact="<sip:101@203.0.113.5:5060;transport=tcp>")
    bench.events.clear()
    bench.do(bench.stack.hang_up("leg", bench.now))
    way, bye = bench.sent.pop()
    assert bye.cseq.method == "BYE"
    assert way == Target("tcp", "203.0.113.5", 5060, new)


@pytest.mark.parametrize("transport", ["tcp", "wss"])
@pytest.mark.parametrize("how", ["found dead late", "expired", "removed first"])
def test_a_call_goes_on_over_the_connection_that_its_phone_has_now(transport: Transport, how: str) -> None:
    """Another port, so another Contact: nothing but the address says that it is the same phone."""
    old, new = (Flow(transport, US, ("203.0.113.5", port), port) for port in (40001, 40002))
    bench = registered(old)
    phone = Peer(bench, old, contact=f"<sip:101@203.0.113.5:40001;transport={transport}>")
    talking(bench, phone)
    if how != "found dead late":
        bench.do(bench.stack.connection_closed(old, bench.now))
    if how == "expired":
        bench.advance(121)
    if how == "removed first":
        register(bench, new, contact="<sip:101@203.0.113.5:40001>", expires=0)
    register(bench, new)
    if how == "found dead late":
        bench.do(bench.stack.connection_closed(old, bench.now))
    bench.sent.clear()
    bench.do(bench.stack.offer("leg", OUR_SDP, bench.now))
    bench.do(bench.stack.hang_up("leg", bench.now))
    assert {connection_of(way) for way, _ in bench.sent} == {new.connection}
    assert [m.cseq.method for _, m in bench.sent] == ["INVITE", "BYE"]


def test_what_is_sent_can_be_read() -> None:
    bench = registered()
    bench.do(bench.stack.invite_seat("leg", "101", CALLER, OUR_SDP, bench.now))
    assert parse(bytes(bench.sent[0][1])) == bench.sent[0][1]
