"""SIP messages: requests and responses, reading them from bytes and writing them (RFC 3261 7).

Reading is liberal and lazy. What can be repaired is repaired and named in `repairs`; only what the stack cannot do
without (the start line, Via, From, To, Call-ID, CSeq) is checked at the door, so that no reader of a message ever
meets a hole. All other headers stay text until somebody asks, and an odd one harms nobody until then.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from siaga_pbx.sip.errors import LocalError, RemoteError
from siaga_pbx.sip.fields import KEYS, Headers, header_key
from siaga_pbx.sip.params import split_commas
from siaga_pbx.sip.readings import Readings, needed
from siaga_pbx.sip.status import phrase
from siaga_pbx.sip.uri import Uri

__all__ = ["Head", "Headers", "Message", "Request", "Response", "make_response", "parse"]

MAX_HEAD = 64 * 1024
"""Bytes of start line and headers: what a datagram can hold, so that a stream can carry no more than UDP could."""
MAX_BODY = 64 * 1024
"""Bytes of a body: an SDP with a PIDF-LO and a thumbnail fits several times."""
MAX_HEADER_LINES = 512
"""Lines of a head: a Via or Record-Route for each of 70 hops, and several times that."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(r"\r*\n|\r")
_TOKEN = re.compile(r"[A-Za-z0-9!%*_+`'~.-]++")
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_STATUS_LINE = re.compile(r"(SIP/[0-9]+\.[0-9]+)[ \t]+([1-6][0-9][0-9])(?:[ \t]+(.*))?", re.IGNORECASE | re.DOTALL)
_UNREADABLE_URI = Uri("unreadable", opaque="uri")
_SINGLE = ("from", "to", "call-id", "cseq")


@dataclass(slots=True)
class Request(Readings):
    """A request. `bytes(request)` writes it."""

    method: str
    uri: Uri
    headers: Headers
    body: bytes = b""
    repairs: tuple[str, ...] = ()

    def __bytes__(self) -> bytes:
        return _serialise(f"{self.method} {self.uri} SIP/2.0", self.headers, self.body)

    def stamp_source(self, host: str, port: int) -> None:
        """Writes where the packet really came from into the top Via, so that responses find back.

        RFC 3261 18.2.1 (received, when it differs from what the peer wrote) and RFC 3581 4 (both, when it asked by
        rport).
        """
        via = self.via
        asked = via.param("rport") is not None
        if asked:
            via = via.with_params(("received", host), ("rport", str(port)))
        elif via.host != host:
            via = via.with_params(("received", host))
        else:
            return
        below = split_commas(self.headers.get("via") or "")[1:]
        self.headers.set_first("Via", ", ".join([str(via), *below]))


@dataclass(slots=True)
class Response(Readings):
    """A response. `bytes(response)` writes it."""

    status: int
    reason: str
    headers: Headers
    body: bytes = b""
    repairs: tuple[str, ...] = ()

    def __bytes__(self) -> bytes:
        return _serialise(f"SIP/2.0 {self.status} {self.reason}", self.headers, self.body)


Message: TypeAlias = Request | Response


def make_response(
    request: Request,
    status: int,
    reason: str | None = None,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """The response to a request (RFC 3261 8.2.6): its Via, From, To, Call-ID and CSeq as they came, then `headers`.

    `to_tag` is added when To has none. A 100 gets the request's Timestamp. Record-Route and Contact are the dialog's
    business: pass them in `headers`. Works on the partial request of a RemoteError too.
    """
    made = Headers()
    source = request.headers
    for value in source.get_all("via"):
        made.add("Via", value)
    to = needed(source, "to")
    if to_tag is not None and request.to.tag is None:
        to = f"{to};tag={to_tag}"
    made.add("From", needed(source, "from"))
    made.add("To", to)
    made.add("Call-ID", needed(source, "call-id"))
    made.add("CSeq", needed(source, "cseq"))
    if status == 100 and (timestamp := source.get("timestamp")):
        made.add("Timestamp", timestamp)
    for name, value in headers:
        made.add(name, value)
    if body and content_type:
        made.add("Content-Type", content_type)
    return Response(status, phrase(status) if reason is None else reason, made, body)


def _serialise(start_line: str, headers: Headers, body: bytes) -> bytes:
    if "\n" in start_line or "\r" in start_line:
        raise LocalError("a line break in the start line")
    lines = [start_line]
    length: int | None = len(body)
    for key, name, value in headers.fields:
        if key != "content-length":
            lines.append(f"{name}: {value}")
        elif length is not None:
            lines.append(f"{name}: {length}")
            length = None
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode() + body


@dataclass(slots=True)
class Head:
    """A start line and headers that were read, before the body is there. `build` makes the message of it."""

    start_line: str
    headers: Headers
    repairs: list[str]


def parse(data: bytes) -> Message:
    """One message from one datagram. Raises RemoteError and nothing else, whatever the bytes are.

    Line breaks before it are skipped (RFC 3261 7.5); a datagram of nothing else (a keep-alive) has the reason `empty`.
    Bytes beyond Content-Length are dropped (18.3). A Content-Length that says too much, or cannot be read, is
    repaired: the datagram's own end is the body's. 18.3 would have a 400 for it; but a gateway that rewrote the SDP
    and not the length is the usual cause, and its caller would be lost for that.
    """
    data = data.lstrip(b"\r\n")
    if not data:
        raise RemoteError("empty")
    ends = find_head_end(data)
    if ends is None:
        head, body = parse_head(data), b""
        head.repairs.append("no-blank-line")
    else:
        head, body = parse_head(data[: ends[0]]), data[ends[1] :]
    length = content_length(head.headers)
    if length is not None and length <= len(body):
        body = body[:length]
    elif length is not None or "content-length" in head.headers:
        head.repairs.append("content-length")
    if len(body) > MAX_BODY:
        raise RemoteError("body-too-large", status=513)
    return build(head, body)


def find_head_end(data: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """Where the head ends and where the body begins; None while there is no blank line at or behind `start`."""
    match = _BLANK_LINE.search(data, start)
    return match.span() if match else None


def parse_head(data: bytes) -> Head:
    """Start line and headers. Raises RemoteError only for what is beyond the limits."""
    if len(data) > MAX_HEAD:
        raise RemoteError("head-too-large", status=513)
    repairs: list[str] = []
    lines = _lines(data, repairs)
    if len(lines) > MAX_HEADER_LINES:
        raise RemoteError("too-many-headers", status=513)
    return Head(lines[0], _fields(lines[1:], repairs), repairs)


def parse_fields(data: bytes) -> Headers:
    """Headers without a start line, as a part of a multipart body has them. Never raises; bad lines are left out."""
    return _fields(_lines(data, [])[:MAX_HEADER_LINES], [])


def _fields(lines: list[str], repairs: list[str]) -> Headers:
    """The headers of these lines, folded ones joined by one space (RFC 3261 7.3.1), unreadable ones left out."""
    fields: list[tuple[str, str, str]] = []
    usual = KEYS.get
    readable = False
    for line in lines:
        name, colon, value = line.partition(":")
        key = usual(name)
        if key is None:
            if line[:1] in (" ", "\t"):
                if readable:
                    key, name, value = fields.pop()
                    fields.append((key, name, f"{value} {line.strip()}".strip()))
                continue
            name = name.strip()
            key = header_key(name) if _TOKEN.fullmatch(name) else None
        readable = bool(colon) and key is not None
        if colon and key is not None:
            fields.append((key, name, value.strip()))
        else:
            repairs.append("header-line")
    return Headers.of_lines(fields)


def _lines(data: bytes, repairs: list[str]) -> list[str]:
    """The lines of a head, with odd line ends and encodings repaired."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # so that text has no holes that a log line or a database could fall into
        repairs.append("encoding")
    text = text.rstrip("\r\n")
    lines = text.split("\r\n")
    ends = len(lines) - 1
    if text.count("\n") != ends or text.count("\r") != ends:
        lines = _LINE_END.sub(lambda end: "\n" if end[0][-1] == "\n" else " ", text).split("\n")
        repairs.append("line-ends")
    return lines


def content_length(headers: Headers) -> int | None:
    """Content-Length; None when it is absent, unreadable, or there twice with different values."""
    digits = headers.first().get("content-length")
    if digits is None or not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return None
    if headers.repeated and any(other != digits for other in headers.get_all("content-length")):
        return None
    return int(digits)


def build(head: Head, body: bytes) -> Message:
    """The message of a head and its body. Raises RemoteError, with `request` where it can be answered."""
    if head.start_line[:4].upper() == "SIP/":
        return _build_response(head, body)
    try:
        return _build_request(head, body)
    except RemoteError as error:
        error.salvage = partial(partial_request, head)
        raise


def _build_request(head: Head, body: bytes) -> Request:
    method, uri_text, version = _split_request_line(head)
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        raise RemoteError("version", version[:20], status=505)
    uri = _request_uri(uri_text, head.repairs)
    request = Request(method, uri, head.headers, body, tuple(head.repairs))
    _check_door(request)
    if request.cseq.method != method:
        raise RemoteError("cseq-method", f"{request.cseq} in {method}"[:80])
    return request


def _split_request_line(head: Head) -> tuple[str, str, str]:
    """Method, URI, version.

    White space too much and brackets around the URI are repaired (RFC 4475 3.1.2.7 to 3.1.2.9).
    """
    parts = head.start_line.split(" ")
    if len(parts) != 3 or parts[1][:1] == "<":
        parts = head.start_line.split()
        if len(parts) >= 3:
            parts = [parts[0], "".join(parts[1:-1]).strip("<>"), parts[-1]]
            head.repairs.append("request-line")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not (parts[2] == "SIP/2.0" or _VERSION.fullmatch(parts[2])):
        raise RemoteError("start-line", head.start_line[:80])
    return parts[0], parts[1], parts[2]


def _request_uri(text: str, repairs: list[str]) -> Uri:
    """A Request-URI; one without its scheme is taken for sip."""
    try:
        return Uri.parse(text)
    except RemoteError:
        if "@" not in text:
            raise
        uri = Uri.parse("sip:" + text)
        repairs.append("uri")
        return uri


def _build_response(head: Head, body: bytes) -> Response:
    match = _STATUS_LINE.fullmatch(head.start_line)
    if match is None:
        raise RemoteError("start-line", head.start_line[:80])
    version, status, reason = match.groups()
    if version.upper() != "SIP/2.0":
        raise RemoteError("version", version[:20], status=505)
    response = Response(int(status), (reason or "").strip(), head.headers, body, tuple(head.repairs))
    _check_door(response)
    return response


def _check_door(message: Message) -> None:
    """The five headers nobody can do without (RFC 3261 8.1.1): there, readable, and saying one thing only."""
    headers = message.headers
    first = headers.first()
    repeated = headers.repeated
    for name in _SINGLE:
        value = first.get(name)
        if not value:
            raise RemoteError(f"no-{name}")
        if repeated and any(other != value for other in headers.get_all(name)):
            raise RemoteError(f"two-{name}", " / ".join(headers.get_all(name))[:80])
    if not first.get("via"):
        raise RemoteError("no-via")
    _ = message.via, message.cseq


def partial_request(head: Head) -> Request | None:
    """What `make_response` needs of a request that cannot be used otherwise; None if that is not there.

    An ACK has none: it is never answered.
    """
    method, _, _ = head.start_line.lstrip().partition(" ")
    headers = head.headers
    if method == "ACK" or method.upper().startswith("SIP/") or not _TOKEN.fullmatch(method):
        return None
    if not all(headers.get(name) for name in _SINGLE):
        return None
    request = Request(method, _UNREADABLE_URI, headers, b"", tuple(head.repairs))
    try:
        _ = request.via
    except (RemoteError, LocalError):
        return None
    return request
