"""Bodies in parts: RFC 2046 5.1, RFC 5621, and what carriers make of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.sip.body import MAX_PARTS, Part, find_part, parts
from siaga_pbx.sip.message import Message, parse
from tests.unit.sip_samples import SDP, minimal

PIDF = b"<presence/>"
MIXED = (
    b"preamble\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n" + SDP.encode() + b"\r\n--b1\r\n"
    b"Content-ID: <loc@example.com>\r\nContent-Type: application/pidf+xml;\r\n charset=utf-8\r\n\r\n"
    + PIDF
    + b"\r\n--b1--\r\nend"
)


def message(content_type: str, body: bytes) -> Message:
    return parse(minimal("INVITE sip:112@a SIP/2.0", f"Content-Type: {content_type}", body=body))


@pytest.mark.parametrize("boundary", ["b1", '"b1"', '"b1";x=y'])
def test_sdp_beside_a_location(boundary: str) -> None:
    invite = message(f"Multipart/Mixed; boundary={boundary}", MIXED)
    assert find_part(invite, "application/sdp") == SDP.encode()
    assert parts(invite)[1] == Part("application/pidf+xml", "loc@example.com", PIDF)
    assert find_part(invite, "application/isup") is None


def test_a_plain_body_is_its_only_part() -> None:
    invite = message("Application/SDP; charset=utf-8", b"v=0\r\n")
    assert parts(invite) == [Part("application/sdp", None, b"v=0\r\n")]
    assert find_part(invite, "application/sdp") == b"v=0\r\n"


def test_without_body_or_type_there_is_none() -> None:
    assert parts(message("application/sdp", b"")) == []
    assert find_part(message("application/sdp", b""), "application/sdp") is None
    assert parts(parse(minimal(body=b"v=0\r\n"))) == []


def test_bare_line_feeds_and_a_missing_end() -> None:
    body = MIXED.replace(b"\r\n", b"\n").replace(b"\n--b1--\nend", b"")
    invite = message("multipart/mixed;boundary=b1", body)
    assert find_part(invite, "application/pidf+xml") == PIDF
    assert find_part(invite, "application/sdp") == SDP.replace("\r\n", "\n").encode()


def test_a_part_without_headers_is_text() -> None:
    invite = message("multipart/mixed;boundary=b", b"--b\r\n\r\nhello\r\n--b\r\nno blank line\r\n--b--")
    assert parts(invite)[0] == Part("text/plain", None, b"hello")


def test_a_multipart_within_one() -> None:
    inner = b"--in\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--in--"
    body = b"--out\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n" + inner + b"\r\n--out--\r\n"
    assert find_part(message("multipart/mixed;boundary=out", body), "application/sdp") == b"v=0"


def test_a_boundary_within_a_line_or_longer_than_it_is_none() -> None:
    body = b"--b\r\nContent-Type: text/plain\r\n\r\nx --b y\r\n--bc\r\nz\r\n--b--"
    assert parts(message("multipart/mixed;boundary=b", body)) == [Part("text/plain", None, b"x --b y\r\n--bc\r\nz")]


def test_a_multipart_without_boundary_is_one_part() -> None:
    assert parts(message("multipart/mixed", MIXED)) == [Part("multipart/mixed", None, MIXED)]


def test_no_more_parts_than_the_limit() -> None:
    body = b"--b\r\n\r\nx\r\n" * (MAX_PARTS + 5) + b"--b--"
    assert len(parts(message("multipart/mixed;boundary=b", body))) == MAX_PARTS


def test_nesting_has_a_limit() -> None:
    body = b"v=0"
    for depth in range(9):
        kind = b"multipart/mixed;boundary=%d" % (depth - 1) if depth else b"application/sdp"
        body = b"--%d\r\nContent-Type: %s\r\n\r\n%s\r\n--%d--" % (depth, kind, body, depth)
    assert find_part(message("multipart/mixed;boundary=8", body), "application/sdp") is None


PIECES = st.sampled_from(
    [b"--b", b"--", b"\r\n", b"\n", b"\r\n\r\n", b"Content-Type: ", b"multipart/mixed;boundary=b", b"x", b"\xff"]
)


@given(st.lists(PIECES, max_size=40).map(b"".join), st.sampled_from(["b", '""', '"\u00e9 (?"', ""]))
def test_no_body_raises(body: bytes, boundary: str) -> None:
    for part in parts(message(f"multipart/mixed;boundary={boundary}", body)):
        assert part.content_type == part.content_type.lower()
