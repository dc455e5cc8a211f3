"""Who gets in and who does not, and what is answered to what is odd or broken."""

import re
import secrets
from collections.abc import Iterator
from statistics import median
from time import monotonic

import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, carrier, hear_each_other, pick_up, registered, take
from tests.interop.centres import alarms, ended, kinds, metric, row, running, until
from tests.interop.uac import Dialog, Message, Ua, new_branch

STRANGER = "127.0.0.9"
G729 = "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n"


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("door"), agencies={}, queue="wrap_up_s = 0")) as made:
        yield made


@pytest.mark.quiet
def test_wrong_password_and_unknown_seat_look_the_same(centre: Centre) -> None:
    """A fresh challenge each time, then silence; and nothing tells whether there is such a seat."""
    known, unknown = guess(centre, "102", "127.0.0.5"), guess(centre, "999", "127.0.0.6")
    assert [shape(answer) for answer, _ in known] == [shape(answer) for answer, _ in unknown]
    answers = [answer for answer, _ in known if answer is not None]
    assert len(answers) == len(known) - 1, "and the last one was met with silence"
    assert {answer.status for answer in answers} == {401}
    nonces = {re.findall(r'nonce="([^"]+)"', answer["WWW-Authenticate"])[0] for answer in answers}
    assert len(nonces) == len(answers)
    times = [median(took for answer, took in guesses if answer is not None) for guesses in (known, unknown)]
    assert abs(times[0] - times[1]) < 0.02
    for reason in ("wrong_password", "unknown_user"):
        assert metric(centre, f'siaga_sip_auth_failures_total{{reason="{reason}"}}') >= 5
    with registered(centre, "102"):
        pass  # from elsewhere, with the right password: the seat is not locked out


def guess(centre: Centre, seat: str, host: str) -> list[tuple[Message | None, float]]:
    """Wrong passwords until nothing comes back; what came, and after how long."""
    guesses: list[tuple[Message | None, float]] = []
    with Ua((DAEMON, centre.sip_port), host, seat) as ua:
        challenge = ua.try_register(seat)
        assert challenge is not None
        while len(guesses) < 10:
            began = monotonic()
            answer = ua.try_register(seat, challenge, "wrong", within=1.0)
            guesses.append((answer, monotonic() - began))
            if answer is None:
                break
            challenge = answer
    return guesses


def shape(message: Message | None) -> object:
    """A message without what is made anew for each: tags, nonces, branches, ports and names."""
    if message is None:
        return None
    values = [(name, re.sub(r'"[^"]*"|[0-9a-f]{8,}|\d+', "_", value)) for name, value in message.headers]
    return message.start, values, message.body


@pytest.mark.parametrize("host", [STRANGER, DAEMON])
def test_strangers_get_no_answer(centre: Centre, host: str) -> None:
    """Nor does a program on our own address, but for the test call of the probe."""
    counted = 'siaga_sip_dropped_total{reason="stranger"}'
    before = metric(centre, counted)
    with Ua((DAEMON, centre.sip_port), host) as ua, Rtp(host, 20) as mouth:
        ua.invite(mouth.sdp)
        uri = f"sip:{DAEMON}:{centre.sip_port}"
        ends = [("From", f"<sip:x@{host}>;tag=1"), ("To", f"<{uri}>"), ("Call-ID", secrets.token_hex(8))]
        ua.request("OPTIONS", uri, [*ends, ("CSeq", "1 OPTIONS")])
        assert ua.hears_nothing()
    assert metric(centre, counted) == before + 2


def test_no_common_codec(centre: Centre) -> None:
    with carrier(centre) as caller:
        call = caller.invite(G729)
        answer = call.final()
        assert answer.status == 488
        assert "m=audio" in answer.body
        assert ended(centre, call.call_id)["outcome"] == "failed"
        assert "no_common_codec_carrier" in alarms(centre)


@pytest.mark.parametrize("cseq", ["1 BYE", "one INVITE", "99999999999 INVITE"])
def test_what_cannot_be_repaired_gets_400(centre: Centre, cseq: str) -> None:
    with carrier(centre) as caller:
        caller.send(invite_text(caller, secrets.token_hex(8)).replace("CSeq: 1 INVITE", f"CSeq: {cseq}"))
        assert caller.wait(lambda message: message.status > 0).status == 400


def test_a_body_that_is_cut_off_is_no_reason_to_refuse_a_call(centre: Centre) -> None:
    with carrier(centre) as caller:
        call_id, uri = secrets.token_hex(8), "sip:112@siaga.local"
        caller.send(invite_text(caller, call_id).replace("Content-Length: 0", "Content-Length: 500"))
        call = Dialog(caller, call_id, "<sip:a@b>;tag=1", f"<{uri}>", uri, number=1)
        assert call.final().status == 200
        call.bye()


def test_an_odd_invite_is_a_call(centre: Centre) -> None:
    """Compact and folded headers, an urn in odd case, extensions that nobody knows, no offer."""
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 21) as mouth,
        Rtp(SEAT, 22) as ear,
    ):
        call_id, branch, tag = secrets.token_hex(8), new_branch(), secrets.token_hex(4)
        own = f"{caller.host}:{caller.port}"
        lines = [
            "INVITE URN:Service:SOS.Fire SIP/2.0",
            f"v: SIP/2.0/UDP\r\n  {own} ;branch={branch}",
            f'f: "Pak \\"Budi\\""\r\n\t<sip:+6281230000021@carrier.invalid;user=phone> ; tag={tag}',
            "t:   <URN:Service:SOS.Fire>",
            f"i: {call_id}",
            "CSEQ:   7\tINVITE",
            f"m: <sip:sbc@{own};transport=udp>",
            "Require: precondition, x-nobody-knows",
            "Proxy-Require: sec-agree",
            "P-Charging-Vector: icid-value=1;term-ioi=x",
            "X-Empty:",
            "Max-Forwards: 0",
            "l: 0",
        ]
        caller.send("\r\n".join([*lines, "", ""]))
        local = f"<sip:+6281230000021@carrier.invalid;user=phone>;tag={tag}"
        call = Dialog(caller, call_id, local, "<URN:Service:SOS.Fire>", "URN:Service:SOS.Fire", number=7)
        answer = call.final(ack=mouth.sdp)
        assert answer.status == 200
        mouth.start(answer.body)
        pick_up(seat, ear)
        hear_each_other(mouth, ear)
        call.bye()
        found = ended(centre, call_id)
        assert (found["outcome"], found["caller_number"]) == ("answered", "+6281230000021")
        assert "require" in kinds(centre, call_id)


@pytest.mark.parametrize("uri", ["tel:112;phone-context=+62", "tel:+62112", "sips:112@siaga.local", "sip:%31%312@x.id"])
def test_every_way_to_write_112(centre: Centre, uri: str) -> None:
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 23) as mouth,
        Rtp(SEAT, 24) as ear,
    ):
        call = caller.invite(mouth.sdp, uri=uri)
        take(call, seat, mouth, ear)
        until(lambda: row(centre, call.call_id)["connected_at"], "the connection")
        call.bye()
        assert "no_route" not in kinds(centre, call.call_id)


def invite_text(ua: Ua, call_id: str) -> str:
    uri = "sip:112@siaga.local"
    lines = [f"INVITE {uri} SIP/2.0", f"Via: SIP/2.0/UDP {ua.host}:{ua.port};branch={new_branch()}"]
    lines += ["Max-Forwards: 70", "From: <sip:a@b>;tag=1", f"To: <{uri}>", f"Call-ID: {call_id}", "CSeq: 1 INVITE"]
    return "\r\n".join([*lines, f"Contact: {ua.contact}", "Content-Length: 0", "", ""])
