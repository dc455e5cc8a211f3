"""Messages: RFC 3261 7, 8.1.1, 8.2.6, 18.2.1, 18.3; RFC 3581 4."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.sip import message as messages
from siaga_pbx.sip.errors import LocalError, RemoteError
from siaga_pbx.sip.headers import CSeq, NameAddr
from siaga_pbx.sip.message import Headers, Message, Request, Response, make_response, parse
from siaga_pbx.sip.uri import Uri
from tests.unit.sip_samples import HEAD, INVITE, SDP, minimal


def request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def refusal(data: bytes) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        parse(data)
    return caught.value


class TestHeaders:
    def test_names_compare_without_case_and_compact_is_long(self) -> None:
        headers = Headers([("v", "1"), ("VIA", "2"), ("X-Own", "3")])
        assert headers.get("Via") == "1"
        assert headers.get_all("V") == ["1", "2"]
        assert headers.get("x-OWN") == "3"
        assert "via" in headers
        assert "l" not in headers
        assert list(headers.items()) == [("v", "1"), ("VIA", "2"), ("X-Own", "3")]

    def test_lists_are_split_over_all_lines(self) -> None:
        headers = Headers([("Supported", "timer, 100rel"), ("k", "replaces")])
        assert headers.values("Supported") == ["timer", "100rel", "replaces"]
        assert headers.get_all("Supported") == ["timer, 100rel", "replaces"]
        assert headers.values("Allow") == []

    def test_changes(self) -> None:
        headers = Headers([("To", "t"), ("Via", "2"), ("Via", "3")])
        headers.prepend("Via", "1")
        assert headers.get_all("Via") == ["1", "2", "3"]
        assert [name for name, _ in headers.items()] == ["To", "Via", "Via", "Via"]
        headers.set_first("Via", "one")
        assert headers.get_all("Via") == ["one", "2", "3"]
        headers.set("v", "only")
        assert headers.get_all("Via") == ["only"]
        headers.remove("Via")
        assert "Via" not in headers
        headers.set("From", "f")
        headers.add("From", "g")
        assert list(headers.items()) == [("To", "t"), ("From", "f"), ("From", "g")]
        assert len(headers) == 3

    def test_a_change_is_seen_by_every_reading(self) -> None:
        options = request(minimal())
        assert (options.from_.tag, options.to.tag, options.contact) == ("1", None, None)
        options.headers.set("To", "<sip:112@203.0.113.9>;tag=2")
        options.headers.add("Contact", "<sip:a@192.0.2.1>")
        options.headers.prepend("Via", "SIP/2.0/TCP 192.0.2.2")
        assert options.to.tag == "2"
        assert options.contact is not None
        assert [via.host for via in options.vias] == ["192.0.2.2", "192.0.2.1"]
        assert options.via.transport == "TCP"
        options.headers.remove("Contact")
        assert options.contacts == []

    def test_a_copy_is_its_own(self) -> None:
        headers = Headers([("To", "t")])
        copy = headers.copy()
        copy.add("From", "f")
        copy.set("To", "u")
        assert list(headers.items()) == [("To", "t")]
        assert headers != copy
        assert headers == Headers([("To", "t")])

    @pytest.mark.parametrize("value", ["a\r\nVia: x", "a\nb", "a\rb"])
    def test_a_line_break_cannot_be_smuggled_in(self, value: str) -> None:
        headers = Headers()
        for change in (headers.add, headers.set, headers.prepend, headers.set_first):
            with pytest.raises(LocalError):
                change("Subject", value)
        assert len(headers) == 0


class TestParse:
    def test_a_carriers_invite(self) -> None:
        invite = request(INVITE)
        assert (invite.method, str(invite.uri)) == ("INVITE", "sip:112@203.0.113.9:5060;user=phone")
        assert (invite.via.branch, invite.call_id, invite.cseq) == (
            "z9hG4bKnashds8-1234567890",
            "a84b4c76e66710@192.0.2.1",
            CSeq(314159, "INVITE"),
        )
        assert (invite.from_.display, invite.from_.tag, invite.to.tag) == ("Budi", "1928301774", None)
        assert (invite.max_forwards, invite.content_type, invite.expires) == (69, "application/sdp", None)
        assert [str(route.uri) for route in invite.record_routes] == ["sip:192.0.2.1:5060;lr;ftag=abc"]
        assert str(invite.contact) == "<sip:+6281234567890@192.0.2.1:5060;transport=udp>"
        assert invite.headers.values("P-Asserted-Identity")[1] == "<tel:+6281234567890>"
        assert invite.body == SDP.encode()
        assert invite.repairs == ()

    def test_what_was_well_formed_is_written_byte_for_byte(self) -> None:
        assert bytes(parse(INVITE)) == INVITE

    def test_a_response(self) -> None:
        response = parse(minimal("SIP/2.0 486 Busy Here"))
        assert isinstance(response, Response)
        assert (response.status, response.reason) == (486, "Busy Here")

    @pytest.mark.parametrize("missing", ["Via", "From", "To", "Call-ID", "CSeq"])
    def test_the_five_headers_of_the_door(self, missing: str) -> None:
        error = refusal(minimal(without=missing))
        assert (error.reason, error.status, error.request) == (f"no-{missing.lower()}", 400, None)
        assert (
            refusal(minimal(f"OPTIONS sip:a SIP/2.0\r\n{missing}:", without=missing)).reason == f"no-{missing.lower()}"
        )

    @pytest.mark.parametrize(
        ("line", "reason"),
        [("Via: x", "via"), ("Via: ,", "via"), ("CSeq: x OPTIONS", "cseq"), ("CSeq: 1 BYE", "cseq-method")],
    )
    def test_via_and_cseq_must_be_readable(self, line: str, reason: str) -> None:
        error = refusal(minimal(f"OPTIONS sip:a SIP/2.0\r\n{line}", without=line.partition(":")[0]))
        assert error.reason == reason
        assert (error.request is None) is (reason == "via")

    @pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
    def test_two_that_differ_cannot_be_told_apart(self, name: str) -> None:
        value = {"CSeq": "2 OPTIONS"}.get(name, "<sip:other@192.0.2.1>;tag=9")
        assert refusal(minimal("OPTIONS sip:a SIP/2.0", f"{name}: {value}")).reason == f"two-{name.lower()}"

    def test_two_that_say_the_same_are_one(self) -> None:
        assert request(minimal("OPTIONS sip:a SIP/2.0", "Call-ID: c1", "i: c1")).call_id == "c1"

    @pytest.mark.parametrize(
        ("first", "reason", "status"),
        [
            ("OPTIONS sip:a SIP/3.0", "version", 505),
            ("OPTIONS sip:a HTTP/1.1", "start-line", 400),
            ("OPTIONS sip:a", "start-line", 400),
            ("OPTIONS", "start-line", 400),
            ("OPT(IONS sip:a SIP/2.0", "start-line", 400),
            ("OPTIONS no-scheme SIP/2.0", "uri", 400),
            ("OPTIONS sip: SIP/2.0", "uri", 400),
            ("SIP/2.0 99 x", "start-line", 400),
            ("SIP/2.0 700 x", "start-line", 400),
            ("SIP/2.0 2000 x", "start-line", 400),
            ("SIP/2.0", "start-line", 400),
            ("SIP/1.0 200 OK", "version", 505),
        ],
    )
    def test_the_start_line_must_be_one(self, first: str, reason: str, status: int) -> None:
        error = refusal(minimal(first))
        assert (error.reason, error.status) == (reason, status)
        assert (error.request is not None) is (first.startswith("OPTIONS"))

    def test_an_ack_is_never_answered(self) -> None:
        assert refusal(minimal("ACK sip: SIP/2.0")).request is None

    def test_a_request_uri_without_its_scheme_is_sip(self) -> None:
        options = request(minimal("OPTIONS 112@203.0.113.9 SIP/2.0"))
        assert (str(options.uri), options.repairs) == ("sip:112@203.0.113.9", ("uri",))

    @pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\n\n\r"])
    def test_a_keep_alive_is_empty(self, data: bytes) -> None:
        assert refusal(data).reason == "empty"

    @pytest.mark.parametrize("data", [b"\0\0\0\0", b"jaK\0", b"\xff\xfe", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 200 OK"])
    def test_what_is_no_sip(self, data: bytes) -> None:
        assert refusal(data).request is None


class TestRepairs:
    def test_odd_line_ends(self) -> None:
        for ends in (b"\n", b"\r\r\n"):
            invite = request(INVITE.replace(b"\r\n", ends))
            assert (invite.call_id, invite.from_.tag) == ("a84b4c76e66710@192.0.2.1", "1928301774")
            assert "line-ends" in invite.repairs
            assert b"\n\n" not in bytes(invite).partition(b"\r\n\r\n")[0]

    def test_a_lone_carriage_return_is_a_blank(self) -> None:
        options = request(minimal("OPTIONS sip:a SIP/2.0", "Subject: one\rVia: two"))
        assert options.headers.get("Subject") == "one Via: two"
        assert len(options.vias) == 1
        assert bytes(parse(bytes(options))) == bytes(options)

    def test_folded_lines(self) -> None:
        options = request(minimal("OPTIONS sip:a SIP/2.0", "Subject: one", "\t two", "  three: 3", "X:", " y"))
        assert options.headers.get("Subject") == "one two three: 3"
        assert options.headers.get("X") == "y"

    def test_lines_that_are_no_headers_are_left_out_with_what_is_folded_to_them(self) -> None:
        options = request(
            minimal("OPTIONS sip:a SIP/2.0", "no header", " folded", "bad name: x", "To", ": x", "Subject: s")
        )
        assert options.repairs == ("header-line",) * 4
        assert options.headers.get("Subject") == "s"
        assert options.to.uri.user == "112"

    def test_what_is_not_utf_8_is_latin_1(self) -> None:
        options = request(minimal("OPTIONS sip:a SIP/2.0", "Subject: caf\u00e9").replace("\u00e9".encode(), b"\xe9"))
        assert options.headers.get("Subject") == "caf\u00e9"
        assert options.repairs == ("encoding",)
        assert bytes(parse(bytes(options))) == bytes(options)

    def test_no_blank_line(self) -> None:
        options = request(minimal().removesuffix(b"\r\n"))
        assert (options.repairs, options.body) == (("no-blank-line",), b"")

    def test_bytes_beyond_the_length_are_dropped(self) -> None:
        assert request(minimal("OPTIONS sip:a SIP/2.0", "l: 3", body=b"abcdef")).body == b"abc"

    def test_without_a_length_the_rest_of_the_datagram_is_the_body(self) -> None:
        options = request(minimal(body=b"abc"))
        assert (options.body, options.repairs) == (b"abc", ())
        assert bytes(options).endswith(b"Content-Length: 3\r\n\r\nabc")

    @pytest.mark.parametrize("lengths", [["999"], ["-1"], ["x"], [""], ["2", "3"], ["9" * 5000]])
    def test_with_a_wrong_length_too(self, lengths: list[str]) -> None:
        options = request(minimal("OPTIONS sip:a SIP/2.0", *(f"l: {length}" for length in lengths), body=b"abc"))
        assert (options.body, options.repairs) == (b"abc", ("content-length",))
        assert bytes(options).count(b"l: 3\r\n") == 1

    def test_a_from_or_to_that_cannot_be_read_is_still_a_dialogs_end(self) -> None:
        invite = request(minimal("INVITE sip:112@a SIP/2.0\r\nFrom: <not an address>;tag=x7", without="From"))
        assert invite.from_.tag == "x7"

    @pytest.mark.parametrize(
        "line",
        [
            "Contact: <",
            "Date: yesterday",
            "Max-Forwards: many",
            "Expires: never",
            "Record-Route: <x",
            "Route: ;",
            "Require: ,",
            "P-X: \0",
        ],
    )
    def test_an_odd_optional_header_refuses_no_invite(self, line: str) -> None:
        invite = request(minimal("INVITE sip:112@a SIP/2.0", line))
        assert (invite.contact, invite.expires) == (None, None)
        assert (invite.max_forwards, invite.routes, invite.record_routes) == (70, [], [])


class TestReadings:
    def test_contact_is_the_first_that_can_be_read_and_contacts_are_all_or_an_error(self) -> None:
        register = request(minimal("REGISTER sip:a SIP/2.0", "Contact: <b>, <sip:b@192.0.2.1>;expires=60"))
        assert register.contact is not None
        assert register.contact.param("expires") == "60"
        with pytest.raises(RemoteError) as caught:
            _ = register.contacts
        assert caught.value.status == 400

    def test_the_wildcard(self) -> None:
        register = request(minimal("REGISTER sip:a SIP/2.0", "Contact: *", "Expires: 0"))
        assert register.wildcard_contact
        assert (register.contacts, register.contact, register.expires) == ([], None, 0)
        assert not request(minimal()).wildcard_contact

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("60", 60),
            (" 0060", 60),
            ("60;x=y", 60),
            ("4294967296", 2**32 - 1),
            ("9" * 5000, 2**32 - 1),
            ("-1", None),
            ("", None),
            ("1.5", None),
            ("²", None),
        ],
    )
    def test_expires(self, text: str, seconds: int | None) -> None:
        assert request(minimal("REGISTER sip:a SIP/2.0", f"Expires: {text}")).expires == seconds

    def test_content_type(self) -> None:
        assert (
            request(minimal("INFO sip:a SIP/2.0", "c: Application/DTMF-Relay ; x=y")).content_type
            == "application/dtmf-relay"
        )
        assert request(minimal()).content_type is None

    def test_a_message_of_our_own_without_a_header(self) -> None:
        with pytest.raises(LocalError):
            _ = Request("BYE", Uri.parse("sip:a"), Headers()).call_id


class TestSerialise:
    def test_content_length_is_always_there_once_and_right(self) -> None:
        headers = Headers([("l", "99"), ("Subject", "s"), ("Content-Length", "5")])
        data = bytes(Request("INFO", Uri.parse("sip:a"), headers, b"abc"))
        assert data == b"INFO sip:a SIP/2.0\r\nl: 3\r\nSubject: s\r\n\r\nabc"
        assert bytes(Response(200, "OK", Headers())) == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"

    def test_a_line_break_in_the_start_line(self) -> None:
        with pytest.raises(LocalError):
            bytes(Response(200, "OK\r\nVia: x", Headers()))


class TestMakeResponse:
    def test_it_repeats_what_rfc_3261_8_2_6_says(self) -> None:
        invite = request(INVITE)
        invite.headers.add("Via", "SIP/2.0/UDP second")
        invite.headers.add("Timestamp", "54")
        response = make_response(invite, 180, to_tag="ours", headers=[("Contact", "<sip:us@203.0.113.9>")])
        assert list(response.headers.items()) == [
            ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnashds8-1234567890;rport"),
            ("Via", "SIP/2.0/UDP second"),
            ("From", invite.headers.get("From")),
            ("To", "<sip:112@203.0.113.9;user=phone>;tag=ours"),
            ("Call-ID", invite.call_id),
            ("CSeq", "314159 INVITE"),
            ("Contact", "<sip:us@203.0.113.9>"),
        ]
        assert (response.status, response.reason) == (180, "Ringing")
        assert bytes(parse(bytes(response))) == bytes(response)

    def test_a_to_tag_is_never_changed(self) -> None:
        bye = request(minimal("BYE sip:a SIP/2.0\r\nTo: <sip:b@c>;tag=theirs", without="To"))
        assert make_response(bye, 200, to_tag="ours").to.tag == "theirs"
        assert make_response(request(INVITE), 100).to.tag is None

    def test_a_tag_goes_to_an_address_without_brackets_too(self) -> None:
        options = request(minimal("OPTIONS sip:a SIP/2.0\r\nTo: sip:b@c;x=y", without="To"))
        response = parse(bytes(make_response(options, 200, to_tag="ours")))
        assert response.to == NameAddr("", Uri.parse("sip:b@c"), (("x", "y"), ("tag", "ours")))

    def test_100_has_the_timestamp(self) -> None:
        options = request(minimal("OPTIONS sip:a SIP/2.0", "Timestamp: 54"))
        assert make_response(options, 100).headers.get("Timestamp") == "54"
        assert make_response(options, 200).headers.get("Timestamp") is None

    def test_body_and_reasons(self) -> None:
        response = make_response(request(INVITE), 488, body=b"v=0\r\n", content_type="application/sdp")
        assert bytes(response).endswith(b"Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n")
        assert make_response(request(INVITE), 499).reason == "Bad Request"
        assert make_response(request(INVITE), 200, "Fine").reason == "Fine"


class TestStampSource:
    def test_received_when_it_differs(self) -> None:
        options = request(minimal())
        options.stamp_source("192.0.2.1", 6000)
        assert options.via.received is None
        options.stamp_source("192.0.2.7", 6000)
        assert options.via.received == "192.0.2.7"
        assert options.via.rport is None

    def test_both_when_it_asked(self) -> None:
        invite = request(INVITE)
        invite.stamp_source("192.0.2.1", 6000)
        assert (invite.via.received, invite.via.rport, invite.via.branch) == (
            "192.0.2.1",
            6000,
            "z9hG4bKnashds8-1234567890",
        )

    def test_the_hops_below_stay(self) -> None:
        first = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b\r\nVia: SIP/2.0/TLS c"
        options = request(minimal(first, without="Via"))
        options.stamp_source("192.0.2.7", 6000)
        assert options.headers.get_all("Via") == [
            "SIP/2.0/UDP a;branch=1;received=192.0.2.7, SIP/2.0/TCP b",
            "SIP/2.0/TLS c",
        ]


class TestLimits:
    def test_a_head_beyond_its_limit(self) -> None:
        data = minimal("OPTIONS sip:a SIP/2.0", "X: " + "x" * messages.MAX_HEAD)
        assert (refusal(data).reason, refusal(data).status) == ("head-too-large", 513)

    def test_a_body_beyond_its_limit(self) -> None:
        assert refusal(minimal(body=b"x" * (messages.MAX_BODY + 1))).reason == "body-too-large"

    def test_lines_beyond_their_limit(self) -> None:
        lines = ["X: y"] * messages.MAX_HEADER_LINES
        assert refusal(minimal("OPTIONS sip:a SIP/2.0", *lines)).reason == "too-many-headers"
        assert request(minimal("OPTIONS sip:a SIP/2.0", *lines[6:])).call_id == "c1"


FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"<",
    b">",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"=",
    b"@",
    b"%",
]
FRAGMENTS += [
    b"SIP/2.0",
    b"INVITE",
    b"Via: ",
    b"To: ",
    b"l: 5",
    b"tag=",
    b"9" * 30,
    b"sip:",
    b"[::1]",
    b"\r\n ",
    b"\r\n\r\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The INVITE with a few cuts and insertions: what gets far into the parser, as random bytes do not."""
    data = bytearray(INVITE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        data[at:end] = draw(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=6)))
    return bytes(data)


@settings(max_examples=600)
@given(st.one_of(mutated(), st.binary(max_size=300), st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join)))
def test_any_bytes_are_a_message_or_the_one_error(data: bytes) -> None:
    outcome = parsed(data)
    if isinstance(outcome, RemoteError):
        assert 400 <= outcome.status < 600
        if outcome.request is not None:
            answer = make_response(outcome.request, outcome.status, to_tag="x")
            assert bytes(answer).startswith(b"SIP/2.0 %d " % outcome.status)
        return
    for name in READINGS:
        getattr(outcome, name)
    written = bytes(outcome)
    again = parse(written)
    assert bytes(again) == written
    assert (again.call_id, again.cseq, again.body) == (outcome.call_id, outcome.cseq, outcome.body)


READINGS = (
    "via",
    "vias",
    "from_",
    "to",
    "contact",
    "routes",
    "record_routes",
    "max_forwards",
    "expires",
    "content_type",
)


def parsed(data: bytes) -> Message | RemoteError:
    try:
        return parse(data)
    except RemoteError as error:
        return error


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30).map(str.strip)
NAMES = st.sampled_from(["X-Own", "Subject", "Supported", "s", "P-Charging-Vector", "Reason", "Accept"])


@given(st.lists(st.tuples(NAMES, TEXT), max_size=8), st.binary(max_size=50), st.sampled_from(["INVITE", "BYE", "X"]))
def test_parse_is_the_inverse_of_serialise(extra: list[tuple[str, str]], body: bytes, method: str) -> None:
    fixed = [(name, value) for name, value in request(minimal(f"{method} sip:a@b SIP/2.0")).headers.items()]
    made = Request(method, Uri.parse("sip:a@b"), Headers([*fixed, *extra, ("Content-Length", str(len(body)))]), body)
    assert parse(bytes(made)) == made


def test_the_head_of_the_sample_is_a_typical_one() -> None:
    assert len(request(INVITE).headers) == HEAD.count("\r\n")
