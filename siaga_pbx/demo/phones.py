"""pyVoIP as the demo's phones: an independent SIP softphone, a weak one on purpose (docs/adr/0003).

Each phone keeps what it sent and what it heard as G.711 payloads, so that both ends of a call can be compared.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # audioop's deprecation, up to Python 3.12
    # In this order: pyVoIP imports itself in a circle.
    from pyVoIP.VoIP import CallState, InvalidStateError, VoIPCall, VoIPPhone  # isort: skip
    from pyVoIP import RTP, SIP

from siaga_pbx.media import g711
from siaga_pbx.media.protocol import Codec

PACKET = 160
_TALK_S = 30
"""How much of its own voice a phone has in store; no demo call is longer."""


class _Rtp(RTP.RTPClient):  # type: ignore[misc]  # pyVoIP has no types
    """pyVoIP's RTP that keeps the payloads, and sends A-law when A-law was agreed (1.6.8 sends mu-law then)."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.sent: list[bytes] = []
        self.heard: list[tuple[int, bytes]] = []

    @property
    def law(self) -> int:
        return int(self.preference)

    def encode_packet(self, payload: bytes) -> bytes:
        encoded: bytes = self.encode_pcma(payload) if self.law == 8 else self.encode_pcmu(payload)
        self.sent.append(encoded)
        return encoded

    def parse_packet(self, packet: bytes) -> None:
        if len(packet) > 12 and packet[1] & 0x7F in (0, 8):
            self.heard.append((packet[1] & 0x7F, packet[12:]))
        super().parse_packet(packet)


@contextmanager
def exact_audio() -> Iterator[None]:
    """Within it pyVoIP makes its RTP as above."""
    original = RTP.RTPClient
    RTP.RTPClient = _Rtp
    try:
        yield
    finally:
        RTP.RTPClient = original


def voice(index: int, seconds: float = _TALK_S) -> bytes:
    """A voice that is like no other: a sweep whose pace and span depend on `index`. pyVoIP's form: 8 bits, unsigned."""
    time = np.arange(int(seconds * 8000)) / 8000
    low, span, pace = 300 + 37 * index, 500 + 53 * index, 0.31 + 0.07 * index
    phase = 2 * np.pi * (low * time + span * (1 - np.cos(2 * np.pi * pace * time)) / (2 * np.pi * pace) / 2)
    wave = 60 * np.sin(phase) * (0.7 + 0.3 * np.sin(2 * np.pi * (1.3 + 0.1 * index) * time))
    return bytes((wave + 128).astype(np.uint8))


@dataclass(slots=True)
class Conversation:
    """One call as one phone saw it."""

    began: float
    rtp: _Rtp
    ended: threading.Event = field(default_factory=threading.Event)

    def sent(self) -> NDArray[np.int16]:
        """What it sent, as linear samples."""
        return _linear((self.rtp.law, payload) for payload in self.rtp.sent)

    def heard(self) -> NDArray[np.int16]:
        return _linear(iter(self.rtp.heard))


def _linear(payloads: Iterator[tuple[int, bytes]]) -> NDArray[np.int16]:
    parts = [g711.decode(payload, Codec(law)) for law, payload in payloads]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


class Seat:
    """A call-taker: registers, answers after `answer_after_s`, talks until the other side hangs up."""

    def __init__(self, name: str, password: str, server: tuple[str, int], port: int, rtp: int, index: int) -> None:
        self.name = name
        self.conversations: list[Conversation] = []
        self._voice = voice(index)
        self._phone = VoIPPhone(
            *server, name, password, "127.0.0.1", self._answer, sipPort=port, rtpPortLow=rtp, rtpPortHigh=rtp + 98
        )

    def start(self) -> None:
        """Raises what pyVoIP raises when it cannot register."""
        self._phone.start()

    def stop(self) -> None:
        self._phone.stop()

    def _answer(self, call: VoIPCall) -> None:
        with suppress(InvalidStateError):  # the caller was faster
            call.answer()
            rtp = call.RTPClients[0]
            self.conversations.append(Conversation(monotonic(), rtp))
            call.write_audio(self._voice)
            _until_over(call)
            self.conversations[-1].ended.set()


class Caller:
    """Somebody who dials 112 through the carrier. `adapt` changes the INVITE as the carrier would."""

    def __init__(
        self, number: str, server: tuple[str, int], address: str, port: int, index: int, adapt: Callable[[str], str]
    ) -> None:
        self._voice = voice(index)
        rtp = 20000 + 100 * index
        self._phone = VoIPPhone(*server, number, "", address, sipPort=port, rtpPortLow=rtp, rtpPortHigh=rtp + 98)
        self._phone.sip = _Trunk(adapt, *server, number, "", phone=self._phone, myIP=address, myPort=port)
        self._phone.sip.callCallback = self._phone.callback
        self._call: VoIPCall | None = None
        self.conversation: Conversation | None = None

    def dial(self) -> None:
        """Returns when the centre has answered; TimeoutError if it has not within 10 s."""
        self._phone.start()
        self._call = self._phone.call("112")
        deadline = monotonic() + 10
        while self._call.state is CallState.DIALING:
            if monotonic() > deadline:
                raise TimeoutError("112 was not answered within 10 s")
            sleep(0.02)
        self.conversation = Conversation(monotonic(), self._call.RTPClients[0])

    def talk(self) -> None:
        """Say it all from the beginning, now."""
        if self._call is not None:
            self._call.write_audio(self._voice)

    @property
    def call_id(self) -> str:
        """The Call-ID of its INVITE; empty before `dial`."""
        return str(self._call.call_id) if self._call is not None else ""

    def hang_up(self) -> None:
        if self._call is not None:
            with suppress(InvalidStateError):
                self._call.hangup()

    def stop(self) -> None:
        self._phone.stop()


class _Trunk(SIP.SIPClient):  # type: ignore[misc]  # pyVoIP has no types
    """A carrier registers nowhere, and writes its own headers."""

    def __init__(self, adapt: Callable[[str], str], *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._adapt = adapt

    def register(self) -> bool:
        return True

    def gen_invite(self, *args: object, **kwargs: object) -> str:
        return self._adapt(super().gen_invite(*args, **kwargs))


def _until_over(call: VoIPCall) -> None:
    while call.state is CallState.ANSWERED:
        sleep(0.05)
