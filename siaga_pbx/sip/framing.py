"""Messages out of a byte stream (RFC 3261 18.3, RFC 5626 4.4.1):

TCP and TLS deliver them in any pieces, several at once.
"""

from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.message import (
    MAX_BODY,
    MAX_HEAD,
    Head,
    Message,
    build,
    content_length,
    find_head_end,
    parse_head,
    partial_request,
)

PING = b"\r\n\r\n"
PONG = b"\r\n"


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The peer's ping between messages: answer it with PONG (RFC 5626 4.4.1)."""


Frame: TypeAlias = Message | RemoteError | KeepAlive


class StreamFramer:
    """Cuts one connection's bytes into messages. Give it all that arrives by `feed`.

    No more than MAX_HEAD and MAX_BODY is kept beyond what one `feed` brings. After a RemoteError that is not `fatal`
    the stream goes on with the next message. After a fatal one nobody knows where that begins: answer it
    (`error.request`), then close; `feed` returns nothing more.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._head: Head | None = None
        self._length = 0
        self._dead = False

    def feed(self, data: bytes) -> list[Frame]:
        """What is complete with these bytes, in order. Never raises."""
        frames: list[Frame] = []
        if self._dead:
            return frames
        self._data += data
        while not self._dead and (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    @property
    def midway(self) -> bool:
        """Whether a part of a message waits for its rest: a connection that ends now has lost one."""
        return self._head is not None or bool(self._data.strip(b"\r\n"))

    def _next(self) -> Frame | None:
        try:
            if self._head is None:
                if self._skip_line_breaks():
                    return KeepAlive()
                self._head = self._read_head()
            return None if self._head is None else self._read_body(self._head)
        except RemoteError as error:
            if error.fatal:
                self._dead = True
                self._data.clear()
            return error.kept()

    def _skip_line_breaks(self) -> bool:
        """Drops line breaks before a message; True when they were a ping. A ping that is not complete yet stays."""
        data = self._data
        while data and data[0] in PONG:
            if data.startswith(PING):
                del data[: len(PING)]
                return True
            if PING.startswith(data):
                return False
            del data[0]
        return False

    def _read_head(self) -> Head | None:
        """The head, once it is complete; how long the body is goes to `_length`. Raises RemoteError, fatal."""
        ends = find_head_end(self._data, self._searched)
        if ends is None:
            if len(self._data) > MAX_HEAD:
                raise RemoteError("head-too-large", status=513, fatal=True)
            self._searched = max(0, len(self._data) - 2)  # a blank line may have begun in the last two bytes
            return None
        end, begin = ends
        try:
            head = parse_head(bytes(self._data[:end]))
        except RemoteError as error:
            error.fatal = True
            raise
        del self._data[:begin]
        self._searched = 0
        self._length = _length(head)
        return head

    def _read_body(self, head: Head) -> Message | None:
        if len(self._data) < self._length:
            return None
        body = bytes(self._data[: self._length])
        del self._data[: self._length]
        self._head = None
        try:
            return build(head, body)
        except RemoteError as error:
            # Of something that is no SIP at all we only believe where it ends when it says so itself.
            error.fatal = "content-length" not in head.headers
            raise


def _length(head: Head) -> int:
    """How long the body is. Raises RemoteError, fatal: the next message cannot be found without it (RFC 4475 3.1.2.3).

    A message with neither a length nor a type of a body has none: so do simple clients send what has no body.
    """
    headers = head.headers
    length = content_length(headers)
    if length is None and "content-length" not in headers and "content-type" not in headers:
        return 0
    if length is not None and length <= MAX_BODY:
        return length
    error = RemoteError("content-length" if length is None else "body-too-large", status=400 if length is None else 513)
    error.fatal = True
    error.salvage = partial(partial_request, head)
    raise error
