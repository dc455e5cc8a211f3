"""The other end of the sockets, for tests of net/: a core of the tests' own, messages, peers, a certificate."""

import asyncio
import datetime
import ipaddress
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from siaga_pbx.clock import Clock
from siaga_pbx.metrics import Metrics
from siaga_pbx.net.endpoint import Endpoint
from siaga_pbx.settings import Listen
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Event, Output, Send
from siaga_pbx.sip.flow import Address, Flow, Target, Way
from siaga_pbx.sip.message import Message, Request, make_response

Run = Callable[[Coroutine[Any, Any, None]], None]


def on_asyncio(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(work, 20))


LOOPS = (on_asyncio, on_uvloop)


def request(method: str = "OPTIONS", branch: str = "z9hG4bK1", body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    head = (
        f"{method} sip:112@{host} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch={branch}\r\nFrom: <sip:a@b>;tag=1\r\n"
        f"To: <sip:112@c>\r\nCall-ID: {branch}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ok(message: Request) -> bytes:
    return bytes(make_response(message, 200))


class Core:
    """Stands where the stack does: keeps what it is given, answers each request with 200 down its flow."""

    def __init__(self) -> None:
        self.received: list[tuple[Message, Flow]] = []
        self.malformed: list[tuple[RemoteError, Flow]] = []
        self.closed: list[Flow] = []
        self.gone: list[Way] = []
        self.found: dict[str, tuple[Target, ...]] = {}
        self.turns: list[float] = []
        self.deadline: float | None = None
        self.answering = True
        self._changed = asyncio.Event()

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
        self.received.append((message, flow))
        self._changed.set()
        return [Send(flow, ok(message))] if self.answering and isinstance(message, Request) else []

    def receive_malformed(self, error: RemoteError, flow: Flow, now: float) -> list[Output]:
        self.malformed.append((error, flow))
        self._changed.set()
        return []

    def connection_closed(self, flow: Flow, now: float) -> list[Output]:
        self.closed.append(flow)
        self._changed.set()
        return []

    def unreachable(self, target: Way, now: float) -> list[Output]:
        self.gone.append(target)
        self._changed.set()
        return []

    def resolved(self, token: str, targets: tuple[Target, ...], now: float) -> list[Output]:
        self.found[token] = targets
        self._changed.set()
        return []

    def handle_timer(self, now: float) -> list[Output]:
        self.turns.append(now)
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
        self._changed.set()
        return []

    def next_deadline(self) -> float | None:
        return self.deadline

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns once the condition holds; it is looked at after each input."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@dataclass
class Acquaintances:
    """Whom an endpoint knows, as a test says it."""

    is_trunk: Callable[[str], bool] = lambda who: False
    seats: dict[Address, int] = field(default_factory=dict)
    own: str = ""
    reserved: dict[str, str] = field(default_factory=dict)
    """Whose a socket is, by our address."""
    theirs: frozenset[Listen] = frozenset()

    def may_use(self, listen: Listen, host: str) -> bool:
        return self.reserved.get(listen.host, host) == host

    def may_stay(self, listen: Listen, host: str, names: frozenset[str]) -> bool:
        return self.may_use(listen, host)

    def listen_for(self, transport: str, host: str, name: str = "") -> Listen | None:
        return None

    def seats_at(self, source: Address) -> int:
        return self.seats.get(source, 0)

    def seats_on(self, flow: Flow) -> int:
        return self.seats.get(flow.remote, 0)

    def seats_behind(self, host: str) -> int:
        return sum(count for source, count in self.seats.items() if source[0] == host)

    def is_own(self, host: str) -> bool:
        return host == self.own


class Fixture:
    """An endpoint with a core, what it told, and its metrics. `async with` starts and closes it."""

    def __init__(
        self, *listen: str, core: Core | None = None, is_trunk: Callable[[str], bool] | None = None, **options: Any
    ) -> None:
        if is_trunk is not None:
            options["peers"] = Acquaintances(is_trunk)
        self.core = core or Core()
        self.events: list[Event] = []
        self.registry = CollectorRegistry()
        self.clock = Clock()
        listens = [Listen(transport, host, 0) for transport, _, host in (text.partition("://") for text in listen)]
        self.endpoint = Endpoint(self.core, listens, self.clock, self.events.append, Metrics(self.registry), **options)

    async def __aenter__(self) -> "Fixture":
        await self.endpoint.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.close()

    def address(self, number: int = 0) -> Address:
        return self.endpoint.bound[number][1:]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


class UdpPeer:
    """A plain socket: `async with UdpPeer() as peer`, `send`, `await receive()`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self.address: Address = self._socket.getsockname()[:2]

    async def __aenter__(self) -> "UdpPeer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes, address: Address) -> None:
        self._socket.sendto(data, address)

    async def receive(self) -> tuple[bytes, Address]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._socket)
        data, source = self._socket.recvfrom(65_536)
        return data, source[:2]


def make_certificate(folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate for an address that vouches for itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
