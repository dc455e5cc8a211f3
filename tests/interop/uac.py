"""Small scripted SIP phones over UDP: they say what a test says and keep what they hear.

Written without siaga_pbx.sip on purpose: a fault there must not be mirrored here. They answer OPTIONS and BYE by
themselves and repeat an answer to a request that comes again; all else is the test's to say.
"""

import hashlib
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Self

WITHIN_S = 20.0
_REASONS = {180: "Ringing", 200: "OK", 486: "Busy Here", 487: "Request Terminated", 603: "Decline"}

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came. `status` is 0 for a request, `method` that of the CSeq for a response."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @classmethod
    def read(cls, data: bytes) -> "Message":
        head, _, body = data.decode().partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(start, tuple((name.strip(), value.strip()) for name, _, value in pairs), body)

    @property
    def status(self) -> int:
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        return self["CSeq"].split()[1]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        return " ".join((self.all(name) or [""])[0].split())

    @property
    def key(self) -> tuple[str, str]:
        return self["Via"], self["CSeq"]


What = Callable[[Message], bool]


def anything(_: Message) -> bool:
    return True


class Ua:
    """One phone with its own socket. As a context it hangs up what is left and closes."""

    def __init__(self, server: tuple[str, int], host: str, user: str = "phone") -> None:
        self.server, self.user = server, user
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.1)
        name, self.port = self._socket.getsockname()[:2]
        self.host = f"[{name}]" if ":" in name else name
        self.deaf = False
        """Whether it takes no notice of what comes, as a phone that has lost its network."""
        self._unread: list[Message] = []
        self._news = threading.Condition()
        self._answered: dict[tuple[str, str], bytes] = {}
        self._acks: dict[tuple[str, str], str] = {}
        self._seen: set[tuple[str, str]] = set()
        self._open: list[Dialog] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for dialog in list(self._open):
            with suppress(AssertionError):
                dialog.bye(within=2.0)
        self._closing.set()
        self._thread.join()
        self._socket.close()

    @property
    def contact(self) -> str:
        return f"<sip:{self.user}@{self.host}:{self.port}>"

    @property
    def _place(self) -> str:
        host, port = self.server
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def send(self, data: str | bytes) -> None:
        """Exactly this, to the daemon."""
        self._socket.sendto(data.encode() if isinstance(data, str) else data, self.server)

    def wait(self, what: What = anything, within: float = WITHIN_S) -> Message:
        """The oldest message that was not taken yet and is what the test waits for."""
        found = self._find(what, within)
        assert found is not None, f"not within {within:.0f} s; unread: {[one.start for one in self._unread]}"
        return found

    def hears_nothing(self, what: What = anything, seconds: float = 1.0) -> bool:
        return self._find(what, seconds) is None

    def _find(self, what: What, within: float) -> Message | None:
        deadline = monotonic() + within
        with self._news:
            while True:
                for message in self._unread:
                    if what(message):
                        self._unread.remove(message)
                        return message
                left = deadline - monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                data = self._socket.recv(65535)
            except (TimeoutError, ConnectionError):
                continue
            if self.deaf:
                continue
            message = Message.read(data)
            if not (self._is_new(message) if message.status == 0 else self._is_news(message)):
                continue
            with self._news:
                self._unread.append(message)
                self._news.notify_all()

    def _is_new(self, request: Message) -> bool:
        if request.key in self._answered:
            self.send(self._answered[request.key])
            return False
        if request.method in ("OPTIONS", "BYE"):
            self.reply(request, 200)
        if request.method == "BYE":
            self._open = [one for one in self._open if one.call_id != request["Call-ID"]]
        new = request.key not in self._seen
        self._seen.add(request.key)
        return new and request.method != "OPTIONS"

    def _is_news(self, response: Message) -> bool:
        """A 2xx that comes again is answered with the same ACK (RFC 3261 13.2.2.4)."""
        ack = self._acks.get((response["Call-ID"], response["CSeq"])) if 200 <= response.status < 300 else None
        if ack is not None:
            self.send(ack)
        return ack is None

    def reply(self, request: Message, status: int, tag: str = "", headers: Headers = (), body: str = "") -> None:
        lines = [f"SIP/2.0 {status} {_REASONS.get(status, 'As The Test Says')}"]
        lines += [f"Via: {via}" for via in request.all("Via")]
        to = request["To"] if ";tag=" in request["To"] or not tag else f"{request['To']};tag={tag}"
        lines += [f"From: {request['From']}", f"To: {to}", f"Call-ID: {request['Call-ID']}", f"CSeq: {request['CSeq']}"]
        data = _message(lines, headers, body).encode()
        if status >= 200:
            self._answered[request.key] = data
        self.send(data)

    def request(self, method: str, uri: str, headers: Headers, body: str = "", branch: str = "") -> None:
        """A request; `headers` are From, To, Call-ID, CSeq and whatever else."""
        via = f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch or new_branch()};rport"
        data = _message([f"{method} {uri} SIP/2.0", via, "Max-Forwards: 70"], headers, body)
        if method == "ACK":
            said = dict(headers)
            self._acks[said["Call-ID"], said["CSeq"].replace("ACK", "INVITE")] = data
        self.send(data)

    # --- calls

    def invite(
        self,
        body: str = "",
        *,
        uri: str = "",
        caller: str = "<sip:+6281230000099@carrier.invalid;user=phone>",
        headers: Headers = (),
    ) -> "Dialog":
        """Calls 112, or `uri`."""
        uri = uri or f"sip:112@{self._place}"
        dialog = Dialog(self, secrets.token_hex(8), f"{caller};tag={secrets.token_hex(4)}", f"<{uri}>", uri)
        dialog.invite(body, headers)
        return dialog

    def offered(self, within: float = WITHIN_S) -> "Dialog":
        """The call that comes in."""
        request = self.wait(lambda message: message.status == 0 and message.method == "INVITE", within)
        tag = secrets.token_hex(4)
        local, target = f"{request['To']};tag={tag}", request["Contact"].strip("<>")
        return Dialog(self, request["Call-ID"], local, request["From"], target, request=request, tag=tag)

    def add(self, dialog: "Dialog") -> None:
        self._open.append(dialog)

    def drop(self, dialog: "Dialog") -> None:
        self._open = [one for one in self._open if one is not dialog]

    # --- registration

    def register(self, seat: str, password: str, expires: int = 120) -> Message:
        """The final answer, after the challenge."""
        asked = self.try_register(seat, expires=expires)
        assert asked is not None
        assert asked.status == 401, asked.start
        final = self.try_register(seat, asked, password, expires)
        assert final is not None
        return final

    def try_register(
        self,
        seat: str,
        challenge: Message | None = None,
        password: str = "",
        expires: int = 120,
        within: float = WITHIN_S,
    ) -> Message | None:
        """One REGISTER, answering `challenge` if there is one; None if nothing came back."""
        uri, call_id = f"sip:{self._place}", secrets.token_hex(8)
        own = f"<sip:{seat}@siaga.local>"
        headers = [("From", f"{own};tag={secrets.token_hex(4)}"), ("To", own), ("Call-ID", call_id)]
        headers += [("CSeq", "1 REGISTER"), ("Contact", self.contact), ("Expires", str(expires))]
        if challenge is not None:
            authorization = credentials(challenge["WWW-Authenticate"], "REGISTER", uri, seat, password)
            headers.append(("Authorization", authorization))
        self.request("REGISTER", uri, headers)
        return self._find(lambda message: message["Call-ID"] == call_id, within)


@dataclass(slots=True, eq=False)
class Dialog:
    """A call of a Ua, either way. `local` and `remote` are our and their From/To; `request` their INVITE."""

    ua: Ua
    call_id: str
    local: str
    remote: str
    target: str
    request: Message | None = None
    tag: str = ""
    number: int = 0
    branch: str = field(default_factory=lambda: new_branch())
    routes: list[str] = field(default_factory=list)

    # as the caller

    def invite(self, body: str, headers: Headers = ()) -> None:
        self.number += 1
        self.branch = new_branch()
        self._send("INVITE", [("Contact", self.ua.contact), *headers], body, self.branch)

    def authorise(self, challenge: Message, user: str, password: str, body: str) -> None:
        """The INVITE again, with what a 407 asks for."""
        header = credentials(challenge["Proxy-Authenticate"], "INVITE", self.target, user, password)
        self.invite(body, [("Proxy-Authorization", header)])

    def rings(self, status: int = 180, within: float = WITHIN_S) -> Message:
        return self.ua.wait(lambda message: message.status == status and self._is_mine(message), within)

    def final(self, within: float = WITHIN_S, ack: str = "") -> Message:
        """The final response to the INVITE, acknowledged (with `ack` as its body)."""
        number = f"{self.number} INVITE"
        answer = self.ua.wait(
            lambda message: message.status >= 200 and self._is_mine(message) and message["CSeq"] == number, within
        )
        if answer.status < 300:
            self.remote, self.target = answer["To"], answer["Contact"].strip("<>")
            self.routes = [one.strip() for line in answer.all("Record-Route") for one in line.split(",")][::-1]
            self._send("ACK", (), ack)
            self.ua.add(self)
        else:
            to, self.remote = self.remote, answer["To"]
            self._send("ACK", (), branch=self.branch)
            self.remote = to
        return answer

    def cancel(self) -> Message:
        """CANCEL; the final response to the INVITE."""
        self._send("CANCEL", (), branch=self.branch)
        self.ua.wait(lambda message: message.status == 200 and message.method == "CANCEL")
        return self.final()

    # as the called

    def ring(self) -> None:
        self.ua.reply(self._invite, 180, self.tag, [("Contact", self.ua.contact)])

    def answer(self, body: str, wait: bool = True) -> None:
        """200 with our answer; returns when it is acknowledged."""
        self.ua.reply(self._invite, 200, self.tag, [("Contact", self.ua.contact)], body)
        self.ua.add(self)
        if wait:
            self.acknowledged()

    def acknowledged(self) -> Message:
        return self.ua.wait(lambda message: message.status == 0 and message.method == "ACK" and self._is_mine(message))

    def reject(self, status: int) -> None:
        self.ua.reply(self._invite, status, self.tag)
        self.acknowledged()

    def cancelled(self, within: float = WITHIN_S) -> Message:
        """The CANCEL, answered, and the INVITE with it."""
        cancel = self.ua.wait(lambda message: message.method == "CANCEL" and self._is_mine(message), within)
        self.ua.reply(cancel, 200, self.tag)
        self.reject(487)
        return cancel

    @property
    def offer(self) -> str:
        return self._invite.body

    @property
    def _invite(self) -> Message:
        assert self.request is not None, "an outgoing call"
        return self.request

    # both

    def ask(self, method: str, headers: Headers = (), body: str = "", within: float = WITHIN_S) -> Message:
        """A request within the dialog, and its final response."""
        self.number += 1
        self._send(method, headers, body)
        cseq = f"{self.number} {method}"
        return self.ua.wait(
            lambda message: message.status >= 200 and message["CSeq"] == cseq and self._is_mine(message), within
        )

    def bye(self, within: float = WITHIN_S) -> Message:
        self.ua.drop(self)
        return self.ask("BYE", within=within)

    def hung_up(self, within: float = WITHIN_S) -> Message:
        """Their BYE, which is answered already."""
        return self.ua.wait(
            lambda message: message.status == 0 and message.method == "BYE" and self._is_mine(message), within
        )

    def _is_mine(self, message: Message) -> bool:
        return message["Call-ID"] == self.call_id

    def _send(self, method: str, headers: Headers, body: str = "", branch: str = "") -> None:
        common = [("Route", route) for route in self.routes]
        common += [("From", self.local), ("To", self.remote), ("Call-ID", self.call_id)]
        self.ua.request(method, self.target, [*common, ("CSeq", f"{self.number} {method}"), *headers], body, branch)


def credentials(challenge: str, method: str, uri: str, user: str, password: str) -> str:
    """The Authorization for a Digest challenge with MD5 (RFC 2617), with qop=auth if it is offered."""
    said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    first = _md5(f"{user}:{said['realm']}:{password}")
    second = _md5(f"{method}:{uri}")
    common = f'Digest username="{user}", realm="{said["realm"]}", nonce="{said["nonce"]}", uri="{uri}"'
    if "qop" not in said:
        response = _md5(f"{first}:{said['nonce']}:{second}")
        return f'{common}, response="{response}"'
    own = secrets.token_hex(8)
    response = _md5(f"{first}:{said['nonce']}:00000001:{own}:auth:{second}")
    return f'{common}, response="{response}", cnonce="{own}", nc=00000001, qop=auth'


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def new_branch() -> str:
    return f"z9hG4bK{secrets.token_hex(8)}"


def _message(lines: list[str], headers: Headers, body: str) -> str:
    named = [f"{name}: {value}" for name, value in headers]
    kind = ["Content-Type: application/sdp"] if body and not any(n.startswith("Content-Type:") for n in named) else []
    return "\r\n".join([*lines, *named, *kind, f"Content-Length: {len(body.encode())}", "", body])
