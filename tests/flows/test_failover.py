"""A call of ours to a name: one target after the other (RFC 3263 4.3), the large by TCP (RFC 3261 18.1.1)."""

import pytest

from siaga_pbx.sip.attempts import PATIENCE_S
from siaga_pbx.sip.avoided import AVOIDED_S, MAX_AVOIDED, Avoided
from siaga_pbx.sip.digest import Challenge
from siaga_pbx.sip.events import Answered, Ended, Failed, OptionsOutcome, Resolve, Ringing
from siaga_pbx.sip.flow import Flow, Hop, Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import Account, Invite
from siaga_pbx.sip.sdp import LocalAudio, make_answer
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OUR_SDP, US, Bench, Peer, settings

CALLED = Uri.parse("sip:113@carrier.example")
FROM = NameAddr.parse("<sip:112@siaga.local>")
ANSWER = make_answer(OUR_SDP, LocalAudio("198.51.100.2", 4000, 1, 1))[0]
HOP = Hop("carrier.example")
FIRST, SECOND, THIRD = (Target("udp", f"198.51.100.{number}", 5060) for number in (1, 2, 3))
BY_TCP = Target("tcp", "198.51.100.1", 5060)


def dialled(bench: Bench, *targets: Target, headers: tuple[tuple[str, str], ...] = ()) -> None:
    """A call to a name that has these targets."""
    call = Invite(HOP, CALLED, NameAddr("", CALLED), FROM, OUR_SDP, headers, Account("user", "secret"))
    bench.do(bench.stack.invite("leg", call, bench.now))
    assert bench.sent == []
    resolve = bench.event(Resolve)
    assert resolve.hop == HOP
    bench.do(bench.stack.resolved(resolve.token, targets, bench.now))


def sent_to(bench: Bench) -> tuple[object, Request]:
    [(way, message)] = bench.sent
    bench.sent.clear()
    assert isinstance(message, Request)
    return way, message


def peer_at(bench: Bench, target: Target) -> Peer:
    return Peer(bench, Flow(target.transport, US, (target.host, target.port)))


def test_the_next_is_tried_when_there_is_no_way() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    way, first = sent_to(bench)
    assert way == FIRST
    bench.do(bench.stack.unreachable(FIRST, bench.now))
    way, second = sent_to(bench)
    assert way == SECOND
    # The same request, in a transaction of its own: who got both must be able to tell.
    assert (first.call_id, first.from_.tag, first.cseq) == (second.call_id, second.from_.tag, second.cseq)
    assert first.via.branch != second.via.branch
    peer = peer_at(bench, SECOND)
    peer.answer(second, 200, ANSWER)
    bench.event(Answered)
    way, ack = sent_to(bench)
    assert (way, ack.method) == (SECOND, "ACK")
    bench.do(bench.stack.hang_up("leg", bench.now))
    assert bench.event(Ended).leg == "leg"
    assert sent_to(bench)[0] == SECOND


def test_the_next_is_tried_on_503_and_the_last_one_s_failure_is_told() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    first = sent_to(bench)[1]
    peer_at(bench, FIRST).answer(first, 503)
    assert bench.events == []
    assert bench.summary() == ["ACK", "INVITE"]
    second = bench.sent.pop()[1]
    bench.sent.clear()
    assert isinstance(second, Request)
    peer_at(bench, SECOND).answer(second, 503)
    assert bench.event(Failed).status == 503
    assert bench.take() == ["ACK"]
    bench.advance(100)
    assert bench.is_empty()


@pytest.mark.parametrize("status", [404, 486, 500, 504, 600])
def test_any_other_refusal_is_an_answer(status: int) -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    peer_at(bench, FIRST).answer(sent_to(bench)[1], status)
    assert bench.event(Failed).status == status
    assert bench.take() == ["ACK"]


def test_silence_is_not_waited_out_while_there_is_another() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    bench.advance(PATIENCE_S - 0.1)
    assert {way for way, _ in bench.sent} == {FIRST}
    bench.sent.clear()
    bench.advance(0.2)
    assert sent_to(bench)[0] == SECOND
    # The last one has the whole of timer B.
    bench.advance(31.8)
    assert bench.events == []
    bench.advance(0.2)
    assert bench.event(Failed).status == 408
    assert all(way == SECOND for way, _ in bench.sent)


def given_up(bench: Bench) -> tuple[Request, Request]:
    """A call whose first target was silent: the INVITEs to the first and to the second."""
    dialled(bench, FIRST, SECOND)
    first = bench.sent[0][1]
    bench.sent.clear()
    bench.advance(PATIENCE_S - 0.1)
    bench.sent.clear()
    bench.advance(0.2)
    second = sent_to(bench)[1]
    assert isinstance(first, Request)
    return first, second


def test_who_rings_after_he_was_given_up_is_cancelled() -> None:
    """RFC 3261 9.1: once he has said something. Nobody waits for him; the one who was asked next is not disturbed."""
    bench = Bench()
    first, second = given_up(bench)
    late, next_one = peer_at(bench, FIRST), peer_at(bench, SECOND)
    next_one.tag = "next"
    late.answer(first, 180, tag="late")
    way, cancel = sent_to(bench)
    assert (way, cancel.method, cancel.via.branch) == (FIRST, "CANCEL", first.via.branch)
    late.answer(first, 180, tag="late")
    late.answer(cancel, 200, tag="late")
    late.answer(first, 487, tag="late")
    assert bench.take() == ["ACK"]
    assert bench.events == []
    next_one.answer(second, 180)
    assert bench.event(Ringing).status == 180
    next_one.answer(second, 200, ANSWER)
    assert bench.event(Answered).leg == "leg"
    way, ack = sent_to(bench)
    assert (way, ack.method, ack.to.tag) == (SECOND, "ACK", "next")
    next_one.send(next_one.request("BYE"))
    bench.event(Ended)
    bench.advance(100)
    assert bench.is_empty()


@pytest.mark.parametrize("already", [False, True])
def test_who_answers_after_he_was_given_up_gets_a_bye(already: bool) -> None:
    """RFC 3261 13.2.2.4, whether the next one has answered by then or not; each copy of his 200 has its ACK."""
    bench = Bench()
    first, second = given_up(bench)
    if already:
        peer_at(bench, SECOND).answer(second, 200, ANSWER, tag="next")
        bench.event(Answered)
        bench.sent.clear()
    for _ in range(2):
        peer_at(bench, FIRST).answer(first, 200, ANSWER, tag="late")
        assert {way for way, _ in bench.sent} == {FIRST}
        assert bench.take() == ["ACK", "BYE"]
    assert bench.events == []
    if not already:
        peer_at(bench, SECOND).answer(second, 200, ANSWER, tag="next")
        bench.event(Answered)


def test_who_was_given_up_is_not_asked_again_and_may_refuse_late() -> None:
    bench = Bench()
    first, second = given_up(bench)
    peer_at(bench, SECOND).answer(second, 180, tag="next")
    bench.event(Ringing)
    bench.advance(10)
    assert bench.sent == []
    peer_at(bench, FIRST).answer(first, 486, tag="late")
    way, ack = sent_to(bench)
    assert (way, ack.method) == (FIRST, "ACK")
    assert bench.events == []


def test_who_rings_late_is_cancelled_after_the_user_has_hung_up_too() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    first = sent_to(bench)[1]
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.advance(PATIENCE_S + 0.1)
    assert bench.event(Failed).status == 487
    bench.sent.clear()
    peer_at(bench, FIRST).answer(first, 180, tag="late")
    way, cancel = sent_to(bench)
    assert (way, cancel.method) == (FIRST, "CANCEL")
    bench.advance(100)
    assert bench.is_empty()


def test_who_rings_is_waited_for() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    invite = sent_to(bench)[1]
    peer_at(bench, FIRST).answer(invite, 180)
    bench.event(Ringing)
    bench.advance(90)
    assert bench.sent == []
    assert bench.events == []


def test_what_the_one_that_failed_said_is_forgotten() -> None:
    """Its tag and its early answer are not the next one's."""
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    invite = sent_to(bench)[1]
    first, second = peer_at(bench, FIRST), peer_at(bench, SECOND)
    first.answer(invite, 183, ANSWER, tag="first")
    bench.event(Ringing)
    first.answer(invite, 503, tag="first")
    again = bench.sent.pop()[1]
    bench.sent.clear()
    assert isinstance(again, Request)
    assert again.to.tag is None
    second.answer(again, 200)
    assert bench.event(Answered).sdp is None


def test_nobody_is_tried_any_more_once_the_user_has_hung_up() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    bench.sent.clear()
    bench.do(bench.stack.hang_up("leg", bench.now))
    bench.do(bench.stack.unreachable(FIRST, bench.now))
    assert bench.event(Failed).status == 487
    assert bench.sent == []
    bench.advance(100)
    assert bench.is_empty()


def test_a_call_that_is_given_up_before_its_target_is_known_is_over_at_once() -> None:
    bench = Bench()
    bench.do(bench.stack.invite("leg", Invite(HOP, CALLED, NameAddr("", CALLED), FROM, OUR_SDP), bench.now))
    resolve = bench.event(Resolve)
    bench.do(bench.stack.hang_up("leg", bench.now))
    assert bench.event(Failed).status == 487
    bench.do(bench.stack.resolved(resolve.token, (FIRST,), bench.now))
    assert bench.sent == []
    assert bench.is_empty()


def test_a_name_without_targets_is_no_way() -> None:
    bench = Bench()
    dialled(bench)
    assert bench.event(Failed).status == 503
    assert bench.is_empty()


def test_one_answer_to_a_resolve_counts() -> None:
    bench = Bench()
    bench.do(bench.stack.invite("leg", Invite(HOP, CALLED, NameAddr("", CALLED), FROM, OUR_SDP), bench.now))
    resolve = bench.event(Resolve)
    for _ in range(2):
        bench.do(bench.stack.resolved(resolve.token, (FIRST,), bench.now))
    bench.do(bench.stack.resolved("unknown", (FIRST,), bench.now))
    assert bench.take() == ["INVITE"]


def test_a_challenge_is_answered_where_it_came_from_and_anew_at_the_next() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    asked = (("WWW-Authenticate", str(Challenge("carrier", "n1", "md5"))),)
    peer_at(bench, FIRST).answer(sent_to(bench)[1], 401, headers=asked)
    way, second = bench.sent.pop()
    bench.sent.clear()
    assert isinstance(second, Request)
    assert way == FIRST
    assert second.cseq.number == 2
    assert second.headers.get("Authorization")
    peer_at(bench, FIRST).answer(second, 503)
    way, third = bench.sent.pop()
    bench.sent.clear()
    assert isinstance(third, Request)
    assert way == SECOND
    peer_at(bench, SECOND).answer(third, 401, headers=asked)
    way, fourth = bench.sent.pop()
    assert way == SECOND
    assert isinstance(fourth, Request)
    assert (fourth.method, fourth.cseq.number) == ("INVITE", 3)


# Size


def test_a_large_request_goes_by_tcp_where_there_is_tcp_and_by_udp_when_that_fails() -> None:
    bench = Bench()
    large = (("Geolocation", "<cid:" + "x" * 1000 + ">"),)
    dialled(bench, FIRST, BY_TCP, headers=large)
    way, invite = sent_to(bench)
    assert way == BY_TCP
    assert invite.via.transport == "TCP"
    assert "transport=tcp" in (invite.headers.get("Contact") or "")
    assert len(bytes(invite)) > 1300
    bench.do(bench.stack.unreachable(BY_TCP, bench.now))
    way, invite = sent_to(bench)
    assert (way, invite.via.transport) == (FIRST, "UDP")
    assert "transport" not in (invite.headers.get("Contact") or "")


def test_a_large_request_goes_by_udp_where_there_is_nothing_else() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND, headers=(("Geolocation", "<cid:" + "x" * 1000 + ">"),))
    assert sent_to(bench)[0] == FIRST


def test_a_small_one_goes_as_the_name_says() -> None:
    bench = Bench()
    dialled(bench, FIRST, BY_TCP)
    assert sent_to(bench)[0] == FIRST


# What failed is tried last for a while


def test_what_failed_of_late_is_tried_last() -> None:
    bench = Bench()
    dialled(bench, FIRST, SECOND)
    bench.sent.clear()
    bench.do(bench.stack.unreachable(FIRST, bench.now))
    peer_at(bench, SECOND).answer(sent_to(bench)[1], 486)
    bench.event(Failed)
    bench.sent.clear()
    dialled(bench, FIRST, SECOND)
    way, invite = sent_to(bench)
    assert way == SECOND
    peer_at(bench, SECOND).answer(invite, 486)
    bench.event(Failed)
    bench.advance(AVOIDED_S + 33)
    bench.sent.clear()
    dialled(bench, FIRST, SECOND)
    assert sent_to(bench)[0] == FIRST


def test_only_so_many_are_remembered() -> None:
    avoided = Avoided()
    for port in range(MAX_AVOIDED * 3):
        avoided.add(Target("udp", "198.51.100.1", port), 0.0)
    assert len(avoided._until) <= MAX_AVOIDED


# Health


def test_a_name_is_well_if_one_of_its_targets_answers() -> None:
    bench = Bench()
    bench.do(bench.stack.options("token", HOP, CALLED, bench.now))
    bench.do(bench.stack.resolved(bench.event(Resolve).token, (FIRST, SECOND, THIRD), bench.now))
    assert sent_to(bench)[0] == FIRST
    bench.do(bench.stack.unreachable(FIRST, bench.now))
    assert sent_to(bench)[0] == SECOND
    bench.advance(PATIENCE_S + 0.1)
    way, options = bench.sent.pop()
    assert way == THIRD
    assert isinstance(options, Request)
    peer_at(bench, THIRD).answer(options, 200)
    assert bench.event(OptionsOutcome) == OptionsOutcome("token", True, 200)


@pytest.mark.parametrize("targets", [(), (FIRST,), (FIRST, SECOND)])
def test_a_name_is_not_well_if_none_does(targets: tuple[Target, ...]) -> None:
    bench = Bench()
    bench.do(bench.stack.options("token", HOP, CALLED, bench.now))
    bench.do(bench.stack.resolved(bench.event(Resolve).token, targets, bench.now))
    bench.advance(100)
    outcome = bench.event(OptionsOutcome)
    assert not outcome.alive
    assert outcome.status == (408 if targets else 503)
    assert bench.is_empty()


def test_in_a_dialog_a_trunk_known_by_its_targets_may_ask() -> None:
    """The leg is the trunk's whose address answered, though it was called by a name."""
    bench = Bench(settings())
    dialled(bench, FIRST)
    peer = peer_at(bench, FIRST)
    peer.answer(sent_to(bench)[1], 200, ANSWER)
    bench.event(Answered)
    bench.sent.clear()
    leg = bench.stack._core.legs["leg"]
    assert getattr(leg.peer, "id", None) == "telkomsel"
