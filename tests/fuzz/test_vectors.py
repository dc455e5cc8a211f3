"""The messages of RFC 4475 and RFC 5118 at the running daemon's sockets, sent by a trunk.

After each, a call is answered as if nothing had been; after all of them, many times, the daemon is no bigger.
"""

import re
import secrets
import socket
import statistics
from collections.abc import Iterator
from time import monotonic

import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.fuzz.test_daemon import faults
from tests.vectors.verdicts import AT_DAEMON, VECTORS, Told, Vector

SIP_PORT = 5060
"""Where a response goes whose Via names no port: the trunk of this test listens there, and gets all of them."""
ROUNDS = 4
GROWTH = 6 * 2**20
"""More than this over all the rounds, in bytes, is a leak. 500 calls: the trace keeps what they said, 4 KiB each."""
SDP = f"v=0\r\no=- 1 1 IN IP4 {TRUNK}\r\ns=-\r\nc=IN IP4 {TRUNK}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"


class Carrier:
    """A trunk's socket, and the messages that came to it, each as its first line and its headers."""

    def __init__(self, centre: Centre) -> None:
        self.daemon = (DAEMON, centre.sip_port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((TRUNK, SIP_PORT))
        self.socket.settimeout(10)
        self.heard: list[bytes] = []

    def call(self) -> float:
        """Calls 112, is answered, hangs up. Returns the seconds from the INVITE to its 200."""
        name = secrets.token_hex(8)
        began = monotonic()
        self._send("INVITE", name, 1, "", SDP)
        answer = self._await(name, "INVITE")
        took = monotonic() - began
        assert answer.startswith(b"SIP/2.0 200"), answer
        self.hang_up(answer)
        return took

    def hang_up(self, answer: bytes) -> None:
        """Acknowledges this 200 to an INVITE and ends its call."""
        name = header(answer, "Call-ID").decode()
        to = header(answer, "To").decode()
        number = int(header(answer, "CSeq").split()[0])
        sender = header(answer, "From").decode()
        self._send("ACK", name, number, to, "", sender)
        self._send("BYE", name, number + 1, to, "", sender)
        self._await(name, "BYE")

    def _send(self, method: str, name: str, number: int, to: str = "", body: str = "", sender: str = "") -> None:
        self.socket.sendto(
            (
                f"{method} sip:112@{DAEMON} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {TRUNK}:{SIP_PORT};branch=z9hG4bK{secrets.token_hex(8)}\r\n"
                f"From: {sender or f'<sip:+62811@{TRUNK}>;tag=1'}\r\nTo: {to or '<sip:112@siaga.local>'}\r\n"
                f"Call-ID: {name}\r\nCSeq: {number} {method}\r\nContact: <sip:{TRUNK}:{SIP_PORT}>\r\n"
                f"Max-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            ).encode(),
            self.daemon,
        )

    def _await(self, name: str, method: str) -> bytes:
        """The final response to this request; all else that comes is kept as heard."""
        while True:
            data = self.socket.recv(65536)
            self.heard.append(data)
            is_it = data.startswith(b"SIP/2.0 ") and not data.startswith(b"SIP/2.0 1")
            if is_it and header(data, "Call-ID") == name.encode() and header(data, "CSeq").endswith(method.encode()):
                return data


def header(message: bytes, name: str) -> bytes:
    """The first of this name, also by its compact form; empty if there is none."""
    short = {"Call-ID": "i", "To": "t", "From": "f"}.get(name, name)
    found = re.search(rb"^(?:%s|%s)[ \t]*:\s*([^\r\n]+?)\s*$" % (name.encode(), short.encode()), message, re.M | re.I)
    return found[1] if found else b""


def told(messages: list[bytes], call_id: bytes) -> Told:
    """What was said of this Call-ID, in order, repetitions left out."""
    words = (one.split(b" ")[1 if one.startswith(b"SIP/2.0 ") else 0].decode() for one in messages if _of(one, call_id))
    return tuple(dict.fromkeys(word for word in words if word != "100"))


def _of(message: bytes, call_id: bytes) -> bool:
    return header(message, "Call-ID") == call_id


def messages_of(stream: bytes) -> list[bytes]:
    return [one for one in re.split(rb"(?m)^(?=SIP/2\.0 |[A-Z]+ \S+ SIP/2\.0\r)", stream) if one.strip()]


@pytest.fixture(scope="module", params=["udp", "tcp"])
def carrier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Centre]]:
    """A daemon for each transport: what one has heard, the other would take for a retransmission."""
    centre = Centre(tmp_path_factory.mktemp("centre"), agencies={})
    try:
        centre.start()
        yield request.param, centre
    finally:
        centre.stop()


def tell(carrier: Carrier, transport: str, data: bytes) -> tuple[list[bytes], float]:
    """The message, then a call. What was heard until the call was over, and how long the call waited for its answer."""
    del carrier.heard[:]
    if transport == "udp":
        carrier.socket.sendto(data, carrier.daemon)
        took = carrier.call()
        heard = carrier.heard
    else:
        with socket.create_connection(carrier.daemon, source_address=(TRUNK, 0)) as tcp:
            tcp.sendall(data)
            took = carrier.call()
            tcp.settimeout(0.05)
            heard = messages_of(_read(tcp))
    answers = [one for one in heard if one.startswith(b"SIP/2.0 200") and header(one, "CSeq").endswith(b"INVITE")]
    # Once each: a 200 may have come again, and the call above is over.
    for answer in {
        header(one, "To"): one for one in answers if header(one, "Call-ID") == header(data, "Call-ID")
    }.values():
        carrier.hang_up(answer)
    return heard, took


def _read(tcp: socket.socket) -> bytes:
    """All that comes until nothing more does."""
    data = b""
    try:
        while more := tcp.recv(65536):
            data += more
    except (TimeoutError, ConnectionError):
        pass
    return data


def resident(centre: Centre) -> int:
    """The daemon's resident memory in bytes."""
    assert centre.daemon is not None
    with open(f"/proc/{centre.daemon.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_every_message_is_told_what_it_should_and_harms_nothing(carrier: tuple[str, Centre]) -> None:
    transport, centre = carrier
    talker = Carrier(centre)
    times = []
    with talker.socket:
        for vector in VECTORS:
            heard, took = tell(talker, transport, vector.data)
            expected = AT_DAEMON[vector.file][transport == "tcp"]
            assert told(heard, header(vector.data, "Call-ID")) == expected, vector
            times.append(took)
        assert statistics.median(times) < 0.1
        _all_as_new(talker, transport)
        before = resident(centre)
        for _ in range(ROUNDS):
            _all_as_new(talker, transport)
    assert resident(centre) - before < GROWTH
    assert faults(centre) == 0


def _all_as_new(talker: Carrier, transport: str) -> None:
    for vector in VECTORS:
        tell(talker, transport, _as_new(vector))


def _as_new(vector: Vector) -> bytes:
    """The message with another Call-ID of the same length: not a retransmission."""
    call_id = header(vector.data, "Call-ID")
    return (
        vector.data.replace(call_id, secrets.token_hex(len(call_id))[: len(call_id)].encode())
        if call_id
        else vector.data
    )


def test_no_message_is_without_a_verdict_at_the_daemon() -> None:
    assert set(AT_DAEMON) == {vector.file for vector in VECTORS}
