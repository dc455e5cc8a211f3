"""The SDP of a message, alone or within a multipart body (RFC 5621): carriers put PIDF-LO and ISUP beside it."""

import re

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.message import Message
from siaga_pbx.sip.sdp import Sdp

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;]{1,200}))', re.IGNORECASE)
_SDP_PART = re.compile(rb"^content-type\s*:\s*application/sdp\b", re.IGNORECASE | re.MULTILINE)


def sdp_of(message: Message) -> Sdp | None:
    """None when there is none, or none that can be read."""
    if not message.body:
        return None
    kind = message.content_type or ""
    if kind == "application/sdp":
        return _read(message.body)
    if kind.startswith("multipart/"):
        return _read_part(message)
    return None


def _read_part(message: Message) -> Sdp | None:
    boundary = _BOUNDARY.search(message.headers.get("Content-Type") or "")
    if boundary is None:
        return None
    for part in message.body.split(b"--" + (boundary[1] or boundary[2]).encode()):
        head, _, rest = part.partition(b"\r\n\r\n") if b"\r\n\r\n" in part else part.partition(b"\n\n")
        if _SDP_PART.search(head):
            return _read(rest)
    return None


def _read(body: bytes) -> Sdp | None:
    try:
        return Sdp.parse(body)
    except RemoteError:
        return None
