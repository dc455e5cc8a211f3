"""SIP over WebSocket (RFC 7118): the opening handshake, one SIP message a WebSocket message. No I/O of its own."""

from collections.abc import Sequence

from websockets.exceptions import InvalidState
from websockets.frames import Frame as WebFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.framing import PING, Frame, KeepAlive
from siaga_pbx.sip.message import MAX_BODY, MAX_HEAD, parse

PATHS = ("/", "/ws")
"""Where it is; the second is what most phones in browsers ask for by themselves. A query is no matter."""
MAX_OPENING = 16 * 1024
"""Bytes of an opening handshake; a browser's with all its cookies is smaller."""


class WebSocket:
    """The server's end of one connection. After each `feed` send what is `owed`, and close the connection if `over`."""

    def __init__(self, origins: Sequence[str]) -> None:
        """`origins`: the pages that may connect, as browsers name them; none listed: all, and what is no browser."""
        self._protocol = ServerProtocol(
            subprotocols=[Subprotocol("sip")],
            origins=[Origin(origin) for origin in origins] or None,
            max_size=MAX_HEAD + MAX_BODY,
        )
        self._opening = 0
        self._message = bytearray()
        self._midway = False
        self.over = False

    @property
    def midway(self) -> bool:
        """Whether a part of a message waits for its rest."""
        return self._midway

    def feed(self, data: bytes) -> list[Frame]:
        """The SIP messages that are complete with these bytes. Of a peer that breaks the rules: none, and `over`."""
        if self._protocol.state is State.CONNECTING:
            self._opening += len(data)
            if self._opening > MAX_OPENING:
                self.over = True
        if self.over:
            return []
        self._protocol.receive_data(data)
        frames = []
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, WebFrame) and (frame := self._take(event)) is not None:
                frames.append(frame)
        return frames

    def owed(self) -> bytes:
        """What the protocol has to send: its handshake, pongs, closing frames, and what was packed."""
        chunks = self._protocol.data_to_send()
        self.over = self.over or b"" in chunks
        return b"".join(chunks)

    def pack(self, data: bytes) -> bytes:
        """A SIP message as a WebSocket message: text, unless it is none (RFC 7118 5.1). b"" when it is closed."""
        try:
            try:
                data.decode()
                self._protocol.send_text(data)
            except UnicodeDecodeError:
                self._protocol.send_binary(data)
        except InvalidState:
            return b""
        return self.owed()

    def ping(self) -> bytes:
        """A ping, to keep open the proxies and NATs between us. Whether a pong comes is for TCP to know."""
        if self._protocol.state is not State.OPEN:
            return b""
        self._protocol.send_ping(b"")
        return self.owed()

    def close(self) -> bytes:
        """The closing frame, if one is due."""
        if self._protocol.state is not State.OPEN:
            return b""
        self._protocol.send_close(1001)
        return self.owed()

    def _answer(self, request: Request) -> None:
        if request.path.partition("?")[0] in PATHS:
            response = self._protocol.accept(request)
        else:
            response = self._protocol.reject(404, "No such path.\n")
        self._protocol.send_response(response)

    def _take(self, frame: WebFrame) -> Frame | None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
        self._message += frame.data
        self._midway = not frame.fin
        if self._midway:
            return None
        data = bytes(self._message)
        self._message.clear()
        return _read(data)


def _read(data: bytes) -> Frame | None:
    if not data.strip(b"\r\n"):
        return KeepAlive() if data == PING else None
    try:
        return parse(data)
    except RemoteError as error:
        return error.kept()
