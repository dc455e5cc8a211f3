"""The audio end of a scripted phone: sends a voice of its own in A-law and telephone-events, keeps what it hears."""

import re
import socket
import struct
import threading
from collections import deque
from time import monotonic
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from siaga_pbx.demo.phones import voice
from siaga_pbx.media import g711
from siaga_pbx.media.protocol import Codec

PTIME_S = 0.02
EVENTS = 101
_A_LAW = 8
_KEYS = "0123456789*#ABCD"


def samples(index: int, seconds: float = 30.0) -> NDArray[np.int16]:
    """The voice of this index as 16-bit samples, and as A-law leaves it."""
    wide = ((np.frombuffer(voice(index, seconds), np.uint8).astype(np.int16) - 128) << 8).astype(np.int16)
    return g711.decode(g711.encode(wide, Codec.PCMA), Codec.PCMA)


class Rtp:
    """`offer` goes into the SDP; `start` with theirs. One thread both sends and receives."""

    def __init__(self, host: str, index: int) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.host, self.port = self._socket.getsockname()[:2]
        self.said = samples(index)
        self._words = g711.encode(self.said, Codec.PCMA)
        self._heard: list[bytes] = []
        self.events: list[int] = []
        """The codes of the telephone-events that were heard, a packet each."""
        self._keys: deque[tuple[int, bytes, int]] = deque()
        self._far: tuple[str, int] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    @property
    def sdp(self) -> str:
        where = f"IN IP{6 if ':' in self.host else 4} {self.host}"
        lines = ["v=0", f"o=- 1 1 {where}", "s=-", f"c={where}", "t=0 0"]
        lines += [f"m=audio {self.port} RTP/AVP {_A_LAW} {EVENTS}", f"a=rtpmap:{EVENTS} telephone-event/8000"]
        return "\r\n".join([*lines, f"a=fmtp:{EVENTS} 0-15", ""])

    def start(self, theirs: str) -> None:
        """Talk to where their SDP says."""
        host, port = re.search(r"c=IN IP[46] (\S+)", theirs), re.search(r"m=audio (\d+)", theirs)
        assert host is not None, theirs
        assert port is not None, theirs
        self._far = host[1], int(port[1])

    def press(self, keys: str) -> None:
        """Keys as RFC 4733 has them: 100 ms each, the end three times, 60 ms of silence between."""
        for key in keys:
            code = _KEYS.index(key)
            ticks = [(n * 160, 0) for n in range(1, 6)] + [(800, 0x80)] * 3
            self._keys += [
                (int(n == 0), struct.pack("!BBH", code, 10 | end, span), n) for n, (span, end) in enumerate(ticks)
            ]
            self._keys += [(-1, b"", 0)] * 3

    def heard(self) -> NDArray[np.int16]:
        return g711.decode(b"".join(self._heard), Codec.PCMA)

    def _run(self) -> None:
        next_at, number = monotonic(), 0
        while not self._closing.is_set():
            self._listen(max(0.001, next_at - monotonic()))
            if monotonic() < next_at:
                continue
            next_at += PTIME_S
            if self._far is not None:
                number += 1
                self._send(number, self._far)

    def _listen(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        try:
            packet = self._socket.recv(2048)
        except (TimeoutError, ConnectionError):
            return
        kind = packet[1] & 0x7F
        if kind == _A_LAW:
            self._heard.append(packet[12:])
        elif kind == EVENTS:
            self.events.append(packet[12])

    def _send(self, number: int, far: tuple[str, int]) -> None:
        at, kind, marker = number * 160, _A_LAW, 0
        payload = self._words[(number * 160) % len(self._words) :][:160]
        if self._keys:
            first, event, since = self._keys.popleft()
            if first >= 0:
                at, kind, marker, payload = at - since * 160, EVENTS, first << 7, event
        header = struct.pack("!BBHII", 0x80, marker | kind, number & 0xFFFF, at, 0x5EA7 + self.port)
        self._socket.sendto(header + payload, far)
