"""The parts of a message's body: carriers put PIDF-LO and ISUP beside the SDP (RFC 5621, RFC 2046 5.1)."""

import re
from dataclasses import dataclass

from siaga_pbx.sip.fields import Headers
from siaga_pbx.sip.message import Message, parse_fields
from siaga_pbx.sip.params import get_param, parse_params

MAX_PARTS = 32
"""Parts of a multipart body that are looked at; more than a handful was never seen."""
MAX_DEPTH = 3
"""Multiparts within multiparts: an alternative within a mixed, and one more."""
MAX_BOUNDARY = 200
"""Characters of a boundary; RFC 2046 5.1.1 allows 70."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n|\A\r?\n")


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `content_type` is `type/subtype` in lower case; `content_id` has no brackets (a cid:

    URI names it, RFC 2392).
    """

    content_type: str
    content_id: str | None
    body: bytes


def parts(message: Message) -> list[Part]:
    """The body as parts: one of a plain body, all of a multipart one, none of an empty one. Never raises."""
    content_type = message.headers.get("content-type")
    if not message.body or not content_type:
        return []
    return _parts(content_type, message.headers.get("content-id"), message.body, MAX_DEPTH)


def find_part(message: Message, content_type: str) -> bytes | None:
    """The body of the first part of that type, None if there is none. `find_part(m, "application/sdp")` has the SDP."""
    if message.content_type == content_type:
        return message.body or None
    return next((part.body for part in parts(message) if part.content_type == content_type), None)


def _parts(content_type: str, content_id: str | None, body: bytes, depth: int) -> list[Part]:
    kind, _, params = content_type.partition(";")
    kind = kind.strip().lower()
    boundary = get_param(parse_params(params), "boundary")
    if not kind.startswith("multipart/") or not boundary or len(boundary) > MAX_BOUNDARY or depth == 0:
        return [Part(kind, content_id.strip("<> ") if content_id else None, body)]
    found: list[Part] = []
    for section in _sections(body, boundary):
        headers, content = _split(section)
        inner = headers.get("content-type") or "text/plain"
        found += _parts(inner, headers.get("content-id"), content, depth - 1)
    return found[:MAX_PARTS]


def _sections(body: bytes, boundary: str) -> list[bytes]:
    """What is between the boundary lines; a closing line that is missing is no matter."""
    line = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    sections: list[bytes] = []
    start: int | None = None
    for match in line.finditer(body):
        if start is not None:
            sections.append(body[start : match.start()])
        start = None if match[1] else match.end()
        if start is None or len(sections) >= MAX_PARTS:
            return sections
    if start is not None:
        sections.append(body[start:])
    return sections


def _split(section: bytes) -> tuple[Headers, bytes]:
    """The headers and the content of a part; the line break that ends the boundary line comes first."""
    section = section.removeprefix(b"\r").removeprefix(b"\n")
    match = _BLANK_LINE.search(section)
    if match is None:
        return Headers(), section
    return parse_fields(section[: match.start()]), section[match.end() :]
