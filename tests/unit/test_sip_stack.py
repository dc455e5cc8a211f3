"""The stack against bad input, health checks, the heap of deadlines, and the purity of it all."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.sip.deadlines import Alarm, Deadlines
from siaga_pbx.sip.digest import Challenge
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Answered, Counted, Ended, Failed, OptionsOutcome
from siaga_pbx.sip.flow import Flow, Target
from siaga_pbx.sip.message import Request, parse
from siaga_pbx.sip.table import MAX_SERVER_TRANSACTIONS
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OTHER_TRUNK, OUR_SDP, SEAT, STRANGER, THEIR_SDP, TRUNK, Bench, Peer, register, where
from tests.flows.test_seat_call import outbound

TRUNK_TARGET = Target("udp", "198.51.100.1", 5060)


# Malformed


def malformed(data: bytes) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        parse(data)
    return caught.value


BAD_URI = (
    b"INVITE sip:112@@@: SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKx\r\nFrom: <sip:a@x>;tag=1\r\n"
    b"To: <sip:112@y>\r\nCall-ID: c\r\nCSeq: 1 %s\r\n\r\n"
)


def test_a_request_that_cannot_be_used_is_told_so_to_a_trunk_only() -> None:
    for data in (BAD_URI % b"OPTIONS", b"INVITE sip:a@b SIP/7.0\r\n" + BAD_URI.partition(b"\r\n")[2] % b"INVITE"):
        for flow, answers in ((TRUNK, 1), (STRANGER, 0)):
            bench = Bench()
            error = malformed(data)
            assert error.request is not None
            bench.do(bench.stack.receive_malformed(error, flow, bench.now))
            assert len(bench.sent) == answers
            assert all(isinstance(each, Counted) and each.name == "malformed" for each in bench.counted)
            assert len(bench.counted) == 1
            assert bench.is_empty()
            if answers:
                way, response = bench.sent.pop()
                assert where(way) == TRUNK.remote
                assert response.to.tag is not None


def test_what_is_no_message_at_all_is_counted() -> None:
    bench = Bench()
    error = malformed(b"\x00\x01")
    bench.do(bench.stack.receive_malformed(error, TRUNK, bench.now))
    assert bench.take() == []
    assert bench.counted == [Counted("malformed", error.reason)]


# Anything

_METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "UPDATE", "INFO", "PRACK", "FOO")
_VIAS = (
    "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1;rport",
    "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK2",
    "SIP/2.0/UDP [::1]:0;branch=",
    "SIP/2.0/TCP x, SIP/2.0/UDP y;branch=z9hG4bK2",
)
_FROMS = ("<sip:a@x>;tag=1", "<sip:101@siaga.local>;tag=1", "<sip:a@x>", "garbage")
_TOS = ("<sip:112@y>", "<sip:101@siaga.local>", "<sip:112@y>;tag=OURS", "<sip:112@y>;tag=2", "???")
_EXTRAS = (
    "Contact: *",
    "Contact: <sip:a@198.51.100.1>;expires=99999999999999",
    "Contact: <urn:x>, <<",
    "Contact: <sip:siaga@192.0.2.10:5060>",
    "Expires: 0",
    "Expires: -1",
    "Require: a, b",
    "Record-Route: <sip:x>, ;;",
    "Record-Route: <sip:198.51.100.7;lr>",
    "Route: ???",
    'Authorization: Digest username="101", realm="siaga.local", nonce="", uri="sip:x", response=""',
    'Proxy-Authorization: Digest username="101", realm="siaga.local", nonce="é", uri="sip:siaga.local", response="é"'
    ', qop=auth, nc=ffffffff, cnonce=""',
    "WWW-Authenticate: Digest realm=x",
    "Content-Type: application/sdp",
    "Content-Type: multipart/mixed;boundary=b",
    "Path: <sip:p;lr>",
    "Reason: SIP;cause=200",
)
_BODIES = (b"", b"v=0\r\nm=audio 4000 RTP/AVP 8\r\n", b"--b\r\n\r\nx", b"\xff\x00")


@st.composite
def _texts(draw: st.DrawFn) -> tuple[str, bytes]:
    """A message that gets past the door more often than not. OURS stands for the tag of one of our dialogs."""
    method = draw(st.sampled_from(_METHODS))
    if draw(st.integers(0, 3)):
        uri = draw(st.sampled_from(("sip:112@192.0.2.10", "urn:service:test.sos", "tel:112", "sip:siaga.local")))
        start = f"{method} {uri} SIP/2.0"
    else:
        start = f"SIP/2.0 {draw(st.sampled_from((100, 180, 200, 302, 401, 407, 486, 491, 603)))} X"
    lines = [
        start,
        f"Via: {draw(st.sampled_from(_VIAS))}",
        f"From: {draw(st.sampled_from(_FROMS))}",
        f"To: {draw(st.sampled_from(_TOS))}",
        f"Call-ID: {draw(st.sampled_from('cd'))}",
        f"CSeq: {draw(st.sampled_from((0, 1, 2, 4294967295)))} {method}",
        *draw(st.lists(st.sampled_from(_EXTRAS), max_size=6)),
    ]
    return "\r\n".join([*lines, "", ""]), draw(st.sampled_from(_BODIES))


def command(bench: Bench, leg: str, what: str) -> None:
    stack, now = bench.stack, bench.now
    match what:
        case "answer":
            bench.do(stack.answer(leg, OUR_SDP, now))
        case "ring":
            bench.do(stack.ring(leg, now))
        case "accept":
            bench.do(stack.accept(leg, OUR_SDP, now))
        case "offer":
            bench.do(stack.offer(leg, OUR_SDP, now))
        case "hang_up":
            bench.do(stack.hang_up(leg, now))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(_texts(), st.sampled_from([TRUNK, TRUNK, OTHER_TRUNK, SEAT, STRANGER])), max_size=12),
    st.lists(st.sampled_from(["answer", "ring", "accept", "offer", "hang_up", "nothing"]), min_size=12, max_size=12),
)
def test_nothing_that_is_received_raises(texts: list[tuple[tuple[str, bytes], Flow]], commands: list[str]) -> None:
    bench = Bench()
    register(bench)
    for ((head, body), flow), what in zip(texts, commands, strict=False):
        ours = next(iter(bench.stack._core.dialogs), "none")
        try:
            message = parse(head.replace("OURS", ours).encode() + body)
        except RemoteError as error:
            bench.do(bench.stack.receive_malformed(error, flow, bench.now))
        else:
            bench.do(bench.stack.receive(message, flow, bench.now))
        for leg in list(bench.stack._core.legs):
            command(bench, leg, what)
        bench.advance(1)
    for leg in list(bench.stack._core.legs):
        command(bench, leg, "hang_up")
    bench.advance(300)
    assert bench.is_empty()


_ANSWERS = st.tuples(
    st.integers(0, 5),
    st.sampled_from((100, 180, 183, 200, 200, 202, 302, 401, 407, 481, 486, 487, 491, 603)),
    st.sampled_from(("a", "b", "")),
    st.sampled_from(
        (
            ("Contact", "<sip:siaga@192.0.2.10:5060>"),
            ("Contact", "<<"),
            ("WWW-Authenticate", str(Challenge("carrier", "n"))),
            ("Proxy-Authenticate", str(Challenge("carrier", "n", stale=True))),
        )
    ),
    st.sampled_from(("nothing", "nothing", "hang_up", "offer", "accept", "wait", "check")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_ANSWERS, max_size=12))
def test_whatever_answers_our_invite_gets_the_leg_ends_once(
    answers: list[tuple[int, int, str, tuple[str, str], str]],
) -> None:
    bench = Bench()
    sent = [outbound(bench)]
    for index, status, tag, header, what in answers:
        peer = Peer(bench, TRUNK, tag=tag or "x", contact="<sip:x@198.51.100.1>")
        request = sent[index % len(sent)]
        peer.answer(request, status, THEIR_SDP if status == 200 else None, headers=(header,))
        if what == "wait":
            bench.advance(5)
        elif what == "check":
            bench.do(bench.stack.check("leg", bench.now))
        else:
            command(bench, "leg", what)
        sent += [each for _, each in bench.sent if isinstance(each, Request) and each.method != "ACK"]
        bench.sent.clear()
    command(bench, "leg", "hang_up")
    bench.advance(400)
    ends = [event for event in bench.events if isinstance(event, Ended | Failed)]
    assert len(ends) == 1
    answered = [event for event in bench.events if isinstance(event, Answered)]
    assert len(answered) == (1 if isinstance(ends[0], Ended) else 0)
    assert bench.is_empty()


def test_a_flood_leaves_room_for_callers_and_has_an_end() -> None:
    bench = Bench()
    table = bench.stack._core.table
    table._server.update({("X", n, "", "", "", "", 0): None for n in range(MAX_SERVER_TRANSACTIONS // 2)})  # type: ignore[misc]
    assert table.crowded
    phone = Peer(bench, STRANGER, user="101", call_id="reg")
    phone.send(phone.request("REGISTER", headers=(("Authorization", 'Digest username="101"'),)))
    bench.response(401)
    assert len(table) == MAX_SERVER_TRANSACTIONS // 2
    caller = Peer(bench, TRUNK)
    caller.send(caller.request("INVITE", sdp=THEIR_SDP))
    bench.response(100)
    table._server.update({("X", n, "", "", "", "", 0): None for n in range(MAX_SERVER_TRANSACTIONS)})  # type: ignore[misc]
    late = Peer(bench, TRUNK, call_id="late")
    late.send(late.request("INVITE", sdp=THEIR_SDP))
    assert bench.take() == []
    assert bench.counted == [Counted("dropped", "overload")]


# OPTIONS of ours


def test_any_response_means_alive() -> None:
    for status in (200, 404, 486, 501):
        bench = Bench()
        bench.do(bench.stack.options("t", TRUNK_TARGET, Uri.parse("sip:198.51.100.1"), bench.now))
        request = bench.request("OPTIONS")
        assert str(request.uri) == "sip:198.51.100.1"
        trunk = Peer(bench, TRUNK)
        trunk.answer(request, 100)
        trunk.answer(request, status)
        assert bench.event(OptionsOutcome) == OptionsOutcome("t", True, status)
        bench.advance(40)
        assert bench.is_empty()


def test_silence_and_no_way_mean_dead() -> None:
    bench = Bench()
    bench.do(bench.stack.options("t", TRUNK_TARGET, Uri.parse("sip:198.51.100.1"), bench.now))
    bench.advance(33)
    assert bench.event(OptionsOutcome) == OptionsOutcome("t", False, 408)
    bench.do(bench.stack.options("u", TRUNK_TARGET, Uri.parse("sip:198.51.100.1"), bench.now))
    bench.do(bench.stack.unreachable(TRUNK_TARGET, bench.now))
    assert bench.event(OptionsOutcome) == OptionsOutcome("u", False, 503)


def test_a_seat_is_asked_at_its_contact() -> None:
    bench = Bench()
    register(bench)
    bench.events.clear()
    bench.do(bench.stack.options_seat("t", "101", bench.now))
    assert where(bench.sent[0][0]) == SEAT.remote
    assert str(bench.request("OPTIONS").uri) == "sip:101@203.0.113.5:5062"
    bench.do(bench.stack.options_seat("u", "102", bench.now))
    assert bench.event(OptionsOutcome) == OptionsOutcome("u", False, 480)


def test_a_response_to_nothing_is_counted() -> None:
    bench = Bench()
    for flow, status, method in ((TRUNK, 200, "BYE"), (TRUNK, 180, "INVITE"), (STRANGER, 200, "INVITE")):
        peer = Peer(bench, flow)
        peer.answer(peer.request(method), status)
    assert bench.take() == []
    assert bench.counted == [Counted("dropped", "stray_response")] * 3


# Deadlines


def test_deadlines_come_in_order_however_they_are_moved() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        deadlines = Deadlines()
        rung: list[float] = []
        alarms = [Alarm(None, rung.append) for _ in range(20)]
        for _ in range(200):
            alarm = chance.choice(alarms)
            alarm.at = chance.choice([None, float(chance.randrange(100))])
            deadlines.watch(alarm)
        expected = sorted(alarm.at for alarm in alarms if alarm.at is not None)
        assert deadlines.next_at() == (expected[0] if expected else None)
        seen = []
        while (owner := deadlines.pop_due(1000.0)) is not None:
            assert isinstance(owner, Alarm)
            assert owner.at is not None
            seen.append(owner.at)
            owner.at = None
        assert seen == expected
        assert deadlines.next_at() is None
