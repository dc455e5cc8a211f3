"""One stack in virtual time, and peers that say what a test makes them say. Everything sent is parsed again."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TypeVar

from siaga_pbx.sip.digest import Challenge, Credentials, authorise
from siaga_pbx.sip.events import Counted, Event, Output, Resolve, Send
from siaga_pbx.sip.flow import Flow, Way, host_of
from siaga_pbx.sip.message import Request, Response, make_response, parse
from siaga_pbx.sip.options import SeatOptions, StackSettings, TrunkOptions
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_offer
from siaga_pbx.sip.stack import Stack

E = TypeVar("E")

US = ("192.0.2.10", 5060)
TRUNK = Flow("udp", US, ("198.51.100.1", 5060))
OTHER_TRUNK = Flow("udp", US, ("198.51.100.129", 5060))
SEAT = Flow("udp", US, ("203.0.113.5", 5062))
STRANGER = Flow("udp", US, ("203.0.113.99", 5060))

THEIR_SDP = make_offer(LocalAudio("198.51.100.1", 40000, 1, 1))
OUR_SDP = make_offer(LocalAudio("192.0.2.10", 30000, 7, 1))


def contact_for(way: Way) -> tuple[str, int]:
    return US


def settings(**changes: object) -> StackSettings:
    values: dict[str, object] = {
        "domain": "siaga.local",
        "own_hosts": frozenset({"192.0.2.10"}),
        "trunks": (
            TrunkOptions("telkomsel", (ip_network("198.51.100.0/25"),)),
            TrunkOptions("indosat", (ip_network("198.51.100.128/25"),)),
        ),
        "seats": (SeatOptions("101", "rahasia"), SeatOptions("102", "sangat-rahasia")),
        "contact_for": contact_for,
        **changes,
    }
    return StackSettings(**values)  # type: ignore[arg-type]  # the values are the fields' own, by name


@dataclass
class Bench:
    """`sent` and `events` have what came out since they were last taken; Counted events are kept apart."""

    settings: StackSettings = field(default_factory=settings)
    seed: int = 1
    now: float = 1000.0
    sent: list[tuple[Way, Request | Response]] = field(default_factory=list)
    events: list[Event | Resolve] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    registrations: int = 0

    def __post_init__(self) -> None:
        self.stack = Stack(self.settings, random.Random(self.seed).randbytes)

    def do(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.sent.append((output.target, parse(output.data)))
            elif isinstance(output, Counted):
                self.counted.append(output)
            else:
                self.events.append(output)

    def receive(self, message: Request | Response, flow: Flow) -> None:
        self.do(self.stack.receive(parse(bytes(message)), flow, self.now))

    def advance(self, seconds: float) -> None:
        """Lets time pass, with every timer at its own time."""
        until = self.now + seconds
        while (at := self.stack.next_deadline()) is not None and at <= until:
            assert at >= self.now - 1e-9, "a deadline in the past"
            self.now = max(self.now, at)
            self.do(self.stack.handle_timer(self.now))
        self.now = until

    # What came out

    def event(self, kind: type[E]) -> E:
        """The one event there is, which must be of that kind."""
        assert len(self.events) == 1, self.events
        event = self.events.pop()
        assert isinstance(event, kind), event
        return event

    def request(self, method: str) -> Request:
        """The one message that was sent, which must be that request."""
        assert len(self.sent) == 1, self.summary()
        message = self.sent.pop()[1]
        assert isinstance(message, Request), message
        assert message.method == method
        return message

    def response(self, status: int) -> Response:
        """The one message that was sent, which must be a response of that status."""
        assert len(self.sent) == 1, self.summary()
        message = self.sent.pop()[1]
        assert isinstance(message, Response), message
        assert message.status == status
        return message

    def summary(self) -> list[str]:
        """What was sent, each in a word."""
        return [m.method if isinstance(m, Request) else f"{m.status} {m.cseq.method}" for _, m in self.sent]

    def take(self) -> list[str]:
        taken = self.summary()
        self.sent.clear()
        return taken

    def is_empty(self) -> bool:
        """No timer runs and nothing is remembered but bindings."""
        core = self.stack._core
        return not core.legs and not core.dialogs and len(core.table) == 0 and self.stack.next_deadline() is None


@dataclass
class Peer:
    """The other end of one call. It remembers its tag, ours, and its CSeq."""

    bench: Bench
    flow: Flow
    user: str = "62811222333"
    call_id: str = "their-call"
    tag: str = "theirs"
    our_tag: str = ""
    cseq: int = 100
    branches: int = 0
    contact: str = ""
    routes: tuple[str, ...] = ()

    def request(
        self,
        method: str,
        uri: str = "sip:112@192.0.2.10",
        *,
        headers: tuple[tuple[str, str], ...] = (),
        sdp: Sdp | None = None,
        cseq: int | None = None,
        branch: str | None = None,
    ) -> Request:
        if cseq is None:
            if method not in ("ACK", "CANCEL"):
                self.cseq += 1
            cseq = self.cseq
        if branch is None:
            if method != "CANCEL":
                self.branches += 1
            branch = f"z9hG4bK-{self.call_id}-{self.tag}-{self.branches}"
        host, port = self.flow.remote
        to = f"<{uri}>;tag={self.our_tag}" if self.our_tag else f"<{uri}>"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.flow.transport.upper()} {host}:{port};branch={branch};rport",
            *(f"Record-Route: {route}" for route in self.routes if method == "INVITE"),
            f"From: <sip:{self.user}@{host}>;tag={self.tag}",
            f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: {self.contact or f'<sip:{self.user}@{host}:{port}>'}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        body = str(sdp) if sdp is not None else ""
        if body:
            lines.append("Content-Type: application/sdp")
        message = parse(("\r\n".join(lines) + f"\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
        assert isinstance(message, Request)
        return message

    def send(self, message: Request | Response) -> None:
        self.bench.receive(message, self.flow)

    def ack(self, sdp: Sdp | None = None, *, cseq: int | None = None, branch: str | None = None) -> None:
        self.send(self.request("ACK", sdp=sdp, cseq=cseq, branch=branch))

    def answer(
        self,
        request: Request,
        status: int,
        sdp: Sdp | None = None,
        *,
        tag: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Response:
        """Answers a request of ours."""
        self.call_id, self.our_tag = request.call_id, request.from_.tag or ""
        host, port = self.flow.remote
        contact = self.contact or f"<sip:{self.user}@{host}:{port}>"
        routes = tuple(("Record-Route", route) for route in self.routes)
        body = str(sdp).encode() if sdp is not None else b""
        extra = (*routes, ("Contact", contact), *headers)
        response = make_response(
            request, status, None, None if status == 100 else tag or self.tag, extra, body, "application/sdp"
        )
        self.send(response)
        return response


def credentials(challenge: Challenge, method: str, uri: str, user: str, password: str, nc: int = 1) -> Credentials:
    return authorise(challenge, method, uri, user, password, "cnonce", nc)


def register(
    bench: Bench,
    flow: Flow = SEAT,
    seat: str = "101",
    password: str = "rahasia",
    *,
    contact: str | None = None,
    expires: int | None = 120,
    change: Callable[[Request], None] = lambda request: None,
) -> Response:
    """Registers a seat by the book: challenge, answer. Returns the last response."""
    phone = Peer(bench, flow, user=seat, call_id=f"reg-{seat}", tag=f"r{bench.registrations}")
    bench.registrations += 1
    host, port = flow.remote
    phone.contact = contact or f"<sip:{seat}@{host}:{port}>"
    headers = (("Expires", str(expires)),) if expires is not None else ()

    def request(*more: tuple[str, str]) -> Request:
        made = phone.request("REGISTER", "sip:siaga.local", headers=(*headers, *more))
        made.headers.set("To", f"<sip:{seat}@siaga.local>")
        change(made)
        return made

    phone.send(request())
    refusal = bench.response(401)
    challenge = Challenge.parse(refusal.headers.get("WWW-Authenticate") or "")
    answer = credentials(challenge, "REGISTER", "sip:siaga.local", seat, password)
    phone.send(request(("Authorization", str(answer))))
    assert len(bench.sent) == 1
    response = bench.sent.pop()[1]
    assert isinstance(response, Response)
    return response


def where(way: Way) -> tuple[str, int]:
    return (host_of(way), way.remote[1] if isinstance(way, Flow) else way.port)
