"""The test messages of RFC 4475 and RFC 5118, each against its verdict, and what the odd ones must be read as."""

import pytest

from siaga_pbx.sip.body import parts
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.framing import StreamFramer
from siaga_pbx.sip.message import Message, Request, Response, make_response, parse
from siaga_pbx.sip.sdp import Sdp
from tests.vectors.verdicts import FOLDER, RFC4475, RFC5118, VECTORS, Read, Refused, Vector

by_name = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.file)


def read(name: str) -> Message:
    return parse(next(vector for vector in VECTORS if vector.file.endswith(name)).data)


def request(name: str) -> Request:
    message = read(name)
    assert isinstance(message, Request)
    return message


def response(name: str) -> Response:
    message = read(name)
    assert isinstance(message, Response)
    return message


def test_every_file_has_a_verdict() -> None:
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("rfc*/**/*") if path.is_file()}
    assert files == {vector.file for vector in VECTORS}
    assert (len(RFC4475), len(RFC5118)) == (50, 12)


@by_name
def test_verdict(vector: Vector) -> None:
    match vector.verdict:
        case Read(repairs):
            assert parse(vector.data).repairs == repairs
        case Refused(reason, status, answerable):
            with pytest.raises(RemoteError) as caught:
                parse(vector.data)
            assert (caught.value.reason, caught.value.status) == (reason, status)
            assert (caught.value.request is not None) is answerable


@by_name
def test_what_was_refused_can_be_answered(vector: Vector) -> None:
    if not isinstance(vector.verdict, Refused) or not vector.verdict.answerable:
        return
    with pytest.raises(RemoteError) as caught:
        parse(vector.data)
    partial = caught.value.request
    assert partial is not None
    answer = make_response(partial, caught.value.status, to_tag="ours")
    assert answer.headers.get_all("Via") == partial.headers.get_all("Via")
    assert bytes(answer).startswith(b"SIP/2.0 %d " % vector.verdict.status)


@by_name
def test_serialised_it_is_the_same_message(vector: Vector) -> None:
    if isinstance(vector.verdict, Refused):
        return
    message = parse(vector.data)
    written = bytes(message)
    again = parse(written)
    assert again.headers.values("Via") == message.headers.values("Via")
    assert again.body == message.body
    assert bytes(again) == written


@by_name
def test_every_reading_of_a_read_message_works(vector: Vector) -> None:
    if isinstance(vector.verdict, Refused):
        return
    message = parse(vector.data)
    assert message.vias[0] == message.via
    assert str(message.from_)
    assert str(message.to)
    assert message.cseq.number >= 0
    for reading in (message.contact, message.routes, message.record_routes, message.expires, message.content_type):
        assert reading is None or str(reading) is not None
    assert 0 <= message.max_forwards <= 2**32
    assert isinstance(parts(message), list)


@by_name
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_in_a_stream_nothing_is_raised(vector: Vector, size: int) -> None:
    framer = StreamFramer()
    for start in range(0, len(vector.data), size):
        framer.feed(vector.data[start : start + size])


def test_wsinv() -> None:
    invite = request("wsinv.dat")
    assert str(invite.uri) == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert invite.to.tag == "1918181833n"
    assert (invite.from_.display, invite.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert (invite.max_forwards, invite.cseq.number, invite.cseq.method) == (68, 9, "INVITE")
    assert [(via.transport, via.host, via.branch) for via in invite.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert invite.headers.get("Subject") == ""
    assert invite.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert invite.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert [route.uri.param("lr") for route in invite.routes] == [""]
    assert invite.contact is not None
    assert invite.contact.display == 'Quoted string ""'
    assert [invite.contact.param(name) for name in ("newparam", "secondparam", "q")] == ["newvalue", "", "0.33"]
    assert len(invite.body) == 150


def test_intmeth() -> None:
    message = request("intmeth.dat")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.uri.host == "example.com"
    assert message.to.display == "BEL:\a NUL:\0 DEL:\x7f"
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert message.from_.param("fromparam''~+*_!.-%") == "работающий"
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"


def test_escapes() -> None:
    invite = request("esc01.dat")
    assert invite.uri.username == "sips:user@example.com"
    assert invite.uri.host == "example.net"
    assert invite.to.uri.username == "user"
    assert invite.from_.uri.username == "I have spaces"
    assert invite.contact is not None
    assert invite.contact.uri.param("lr") == ""
    assert invite.contact.uri.param("name") == "value%41"
    register = request("esc02.dat")
    assert register.method == "RE%47IST%45R"
    assert [contact.uri.user for contact in register.contacts] == ["alias1", "alias3"]
    assert request("escnull.dat").to.uri.username == "null-\0-null"


def test_lwsdisp_and_longreq() -> None:
    assert request("lwsdisp.dat").from_.display == "caller"
    long = request("longreq.dat")
    assert len(long.vias) == 34
    assert len(long.to.uri.params) == 3


def test_dblreq_is_one_message_in_a_datagram_and_two_in_a_stream() -> None:
    assert request("dblreq.dat").method == "REGISTER"
    frames = StreamFramer().feed(next(vector for vector in VECTORS if vector.file.endswith("dblreq.dat")).data)
    assert [frame.method for frame in frames if isinstance(frame, Request)] == ["REGISTER", "INVITE"]


def test_semiuri_and_transports() -> None:
    assert request("semiuri.dat").uri.username == "user;par=u@example.net"
    assert [via.transport for via in request("transports.dat").vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_reasons() -> None:
    assert response("noreason.dat").reason == ""
    assert response("unreason.dat").reason.startswith("= 2**3 * 5**2 но сто")


def test_mpart01_has_its_parts() -> None:
    found = parts(read("mpart01.dat"))
    assert [part.content_type for part in found] == ["text/plain", "application/octet-stream"]
    assert found[0].body == b"Hello"
    assert found[1].body[:4] == bytes([0x30, 0x82, 0x01, 0x52])


def test_addresses_that_were_repaired() -> None:
    assert request("badaspec.dat").to.uri.user == "t.watson"
    assert request("baddn.dat").from_.display == "Bell, Alexander"
    quotbal = request("quotbal.dat").to
    assert (quotbal.display, str(quotbal.uri)) == ("Mr. J. User", "sip:j.user@example.com")
    assert str(request("lwsruri.dat").uri) == "sip:user@example.com;lr"
    assert str(request("ltgtruri.dat").uri) == "sip:user@example.com"


def test_contacts_of_a_register() -> None:
    with pytest.raises(RemoteError):
        _ = request("regbadct.dat").contacts
    assert request("regbadct.dat").contact is None
    assert request("regescrt.dat").contacts[0].uri.headers == (("Route", "%3Csip:sip.example.com%3E"),)
    assert request("cparam01.dat").contacts[0].params == (("unknownparam", None),)
    assert request("cparam02.dat").contacts[0].uri.params == (("unknownparam", None),)


def test_ipv6() -> None:
    assert (request("port-ambiguous").uri.host, request("port-ambiguous").uri.port) == ("2001:db8::10:5070", None)
    assert (request("port-unambiguous").uri.host, request("port-unambiguous").uri.port) == ("2001:db8::10", 5070)
    assert request("param-with-delim").via.received == "2001:db8::9:255"
    assert request("param-no-delim").via.received == "2001:db8::9:255"
    assert [via.host for via in request("mult-ip-in-header").vias] == ["2001:db8::9:1", "192.0.2.1", "2001:db8::9:255"]
    three, two = request("abnf-3-colons").uri, request("abnf-2-colons").uri
    assert three == two
    sdp = Sdp.parse(read("mult-ip-in-sdp").body)
    assert [sdp.host_of(media) for media in sdp.media] == ["192.0.2.1", "2001:db8::1"]
    sdp = Sdp.parse(read("ipv4-mapped-ipv6").body)
    assert [sdp.host_of(media) for media in sdp.media] == ["::ffff:192.0.2.2"] * 2
