"""What the parts of the stack share: the legs, the transactions, the deadlines, the outputs of the present input."""

from collections.abc import Callable
from typing import TypeAlias

from siaga_pbx.sip.access import Access, Seat
from siaga_pbx.sip.avoided import Avoided
from siaga_pbx.sip.binding import Binding
from siaga_pbx.sip.body import find_part
from siaga_pbx.sip.deadlines import Alarm, Deadlines
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.digest import authorise, supported_challenge
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import By, Ended, LegId, Output, Resolve, Send
from siaga_pbx.sip.flow import Address, Flow, Hop, Way, connection_of, host_of, without_connection
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Message, Request, Response, make_response
from siaga_pbx.sip.options import Entropy, StackSettings
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.table import Table, server_key
from siaga_pbx.sip.transaction import Answer, Client, Deliver, InviteClient, InviteServer, Server, State, Step
from siaga_pbx.sip.ways import way_back, way_in_dialog, way_to

RETRY_AFTER_S = 10
"""The random wait that a request gets which came while another was open is below this (RFC 3261 14.2)."""

MAX_REASON = 200
"""Characters of a peer's Reason."""

_AUTHORISATION = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}

AnyTransaction: TypeAlias = InviteClient | Client | InviteServer | Server
Extra: TypeAlias = tuple[tuple[str, str], ...]


class Core:
    """Parts call each other through it and add to `out`; the stack hands `out` over when the input is done."""

    __slots__ = ("_entropy", "access", "avoided", "deadlines", "dialogs", "finding", "legs", "out", "settings", "table")

    def __init__(self, settings: StackSettings, entropy: Entropy) -> None:
        self._entropy = entropy
        self.settings = settings
        self.access = Access(settings.trunks, settings.own_hosts)
        self.table = Table()
        self.deadlines = Deadlines()
        self.legs: dict[LegId, Leg] = {}
        """By the user's name, until Ended or Failed."""
        self.dialogs: dict[str, Leg] = {}
        """By our tag, until nothing more is owed to the wire."""
        self.avoided = Avoided()
        self.finding: dict[str, Callable[[tuple[Way, ...], float], None]] = {}
        """Who waits for the targets of a name."""
        self.out: list[Output] = []

    def take(self) -> list[Output]:
        out, self.out = self.out, []
        return out

    def configure(self, settings: StackSettings) -> None:
        self.settings = settings
        self.access = Access(settings.trunks, settings.own_hosts)

    # Names and numbers

    def token(self, size: int = 12) -> str:
        """A name that nobody guesses (RFC 3261 19.3 asks tags for 32 random bits; DESIGN 3.1 for 64)."""
        return self._entropy(size).hex()

    def below(self, limit: int) -> int:
        """A random number from 0 to below limit."""
        return int.from_bytes(self._entropy(4), "big") % limit

    def alarm(self, at: float, ring: Callable[[float], None]) -> Alarm:
        alarm = Alarm(at, ring)
        self.deadlines.watch(alarm)
        return alarm

    def expire(self, now: float) -> None:
        """Everything whose time has come."""
        while (owner := self.deadlines.pop_due(now)) is not None:
            if isinstance(owner, Alarm):
                owner.at = None
                owner.ring(now)
                self.deadlines.watch(owner)
            elif isinstance(owner, InviteClient | Client | InviteServer | Server):
                self.carry_out(owner, owner.expire(now), now)

    def find(self, where: Way | Hop, found: Callable[[tuple[Way, ...], float], None], now: float) -> None:
        """Calls `found` with the ways there, the best first: at once, or for a name when the shell has found them."""
        if isinstance(where, Hop):
            token = self.token()
            self.finding[token] = found
            self.out.append(Resolve(token, where))
        else:
            found((where,), now)

    # Transactions

    def lose(self, is_lost: Callable[[Way], bool], now: float) -> None:
        """There is no way to some peers: what waits for a first sign of them waits no longer."""
        for transaction in self.table.clients():
            if is_lost(transaction.way):
                self.carry_out(transaction, transaction.lose(), now)

    def authorise(self, leg: Leg, method: str, response: Response) -> bool:
        """Answers a challenge to one of our requests: the header is in leg.authorization, to be sent with the next.

        Once a request, and once more when only the nonce was stale (RFC 3261 22.2).
        """
        if response.status not in (401, 407):
            leg.challenges = 0
            return False
        account = leg.call.account if leg.call is not None else None
        asked, answer = _AUTHORISATION[response.status]
        challenge = supported_challenge(response.headers.get_all(asked))
        leg.challenges += 1
        if account is None or challenge is None or leg.challenges > (2 if challenge.stale else 1):
            return False
        uri = str(leg.dialog.target)
        credentials = authorise(challenge, method, uri, account.user, account.password, self.token(8))
        leg.authorization = (answer, str(credentials))
        return True

    def carry_out(self, transaction: AnyTransaction, steps: list[Step], now: float) -> None:
        """Does what a machine returned, and keeps table and deadlines in step with its state."""
        for step in steps:
            if not isinstance(step, Deliver):
                self.out.append(step)
            elif isinstance(transaction, InviteClient | Client):
                transaction.answer(step.response, now)
        if transaction.state is State.TERMINATED:
            self.table.remove(transaction)
        else:
            self.deadlines.watch(transaction)

    def send(self, request: Request, way: Way, answer: Answer, now: float) -> Client:
        """A request other than INVITE and ACK, in a transaction of its own: adds our Via."""
        branch = self._add_via(request, way)
        transaction = Client(way, bytes(request), self.settings.timers, (branch, request.method), answer)
        self._start(transaction, now)
        return transaction

    def send_invite(self, request: Request, way: Way, answer: Answer, now: float) -> InviteClient:
        branch = self._add_via(request, way)
        key = (branch, "INVITE")
        transaction = InviteClient(way, bytes(request), self.settings.timers, key, answer, request)
        self._start(transaction, now)
        return transaction

    def resume_invite(self, request: Request, way: Way, rings: bool, answer: Answer, now: float) -> InviteClient:
        """The transaction of an INVITE that was sent before a restart; `rings`: a response has come."""
        key = (request.via.branch or "", "INVITE")
        transaction = InviteClient(way, bytes(request), self.settings.timers, key, answer, request)
        if rings:
            transaction.resume()
            self.table.add(transaction)
        else:
            self._start(transaction, now)
        return transaction

    def _start(self, transaction: InviteClient | Client, now: float) -> None:
        self.table.add(transaction)
        self.carry_out(transaction, transaction.start(now), now)

    def send_cancel(self, request: Request, way: Way, answer: Answer, now: float) -> None:
        """A CANCEL: it has the Via of its INVITE (RFC 3261 9.1)."""
        key = (request.via.branch or "", "CANCEL")
        self._start(Client(way, bytes(request), self.settings.timers, key, answer), now)

    def send_ack(self, request: Request, way: Way) -> bytes:
        """The ACK to a 2xx: outside any transaction (RFC 3261 13.2.2.4). Returns the bytes, to be sent again."""
        self._add_via(request, way)
        data = bytes(request)
        self.out.append(Send(way, data))
        return data

    def _add_via(self, request: Request, way: Way) -> str:
        branch = f"z9hG4bK{self.token()}"
        host, port = self.settings.contact_for(way)
        # rport: the answer comes back to the port that we sent from (RFC 3581).
        via = f"SIP/2.0/{way.transport.upper()} {bracketed(host)}:{port};branch={branch};rport"
        if way.transport == "tls":
            via += ";alias"  # it may send us requests by the same connection (RFC 5923)
        request.headers.prepend("Via", via)
        return branch

    # Responses

    def serve(self, request: Request, flow: Flow) -> Server:
        """The server transaction of a request other than INVITE; `respond` next."""
        transaction = Server(way_back(request, flow), b"", self.settings.timers, server_key(request, request.method))
        self.table.add(transaction)
        return transaction

    def serve_invite(self, request: Request, flow: Flow, tag: str) -> InviteServer:
        """That of an INVITE, `tag` being ours in its dialog; `respond` next, with 100 or more."""
        key = server_key(request, "INVITE")
        transaction = InviteServer(way_back(request, flow), b"", self.settings.timers, key, tag)
        self.table.add(transaction)
        return transaction

    def respond(self, transaction: InviteServer | Server, response: Response, now: float) -> bytes:
        data = bytes(response)
        if isinstance(transaction, InviteServer):
            steps = transaction.respond(response.status, data, now)
        else:
            steps = transaction.respond(data, now)
        self.carry_out(transaction, steps, now)
        return data

    def reply(
        self, request: Request, flow: Flow, status: int, now: float, headers: Extra = (), to_tag: str = ""
    ) -> None:
        """Answers a request at once and for good."""
        invite = request.method == "INVITE"
        transaction = self.serve_invite(request, flow, to_tag) if invite else self.serve(request, flow)
        self.respond(transaction, self.response(request, status, to_tag, headers), now)

    def response(
        self,
        request: Request,
        status: int,
        to_tag: str = "",
        headers: Extra = (),
        sdp: Sdp | None = None,
        reason: str | None = None,
    ) -> Response:
        """A response; one that is not provisional gets a To tag if the request had none."""
        tag = to_tag or (None if status == 100 or request.to.tag else self.token())
        body, content_type = (str(sdp).encode(), "application/sdp") if sdp is not None else (b"", None)
        # Who has not said yet who he is need not know what we are.
        extra = headers if status == 401 else (("Server", self.settings.user_agent), *headers)
        return make_response(request, status, reason, tag, extra, body, content_type)

    # Legs

    def contact(self, dialog: Dialog) -> str:
        """Our Contact in a dialog."""
        return contact_header(dialog.contact, dialog.way)

    def add(self, leg: Leg) -> None:
        self.legs[leg.id] = leg
        self.dialogs[leg.dialog.local_tag] = leg

    def retarget(self, leg: Leg, contact: NameAddr | None) -> None:
        """A target refresh."""
        leg.dialog.retarget(contact)
        self.find_way(leg)

    def find_way(self, leg: Leg) -> None:
        """The dialog's way, after its target, its route set or its home changed."""
        dialog = leg.dialog
        dialog.way = way_in_dialog(dialog.next_hop(), leg.home, leg.peer, leg.direct, self.access)

    def connection_closed(self, flow: Flow, now: float) -> None:
        """What has not been heard over it is lost; legs stay, to be reached by a new connection."""
        self.lose(lambda way: connection_of(way) == flow.connection, now)
        for leg in self.dialogs.values():
            if connection_of(leg.home) == flow.connection:
                leg.home = without_connection(leg.home)
                self.find_way(leg)

    def move(self, seat: Seat, homes: list[Way], binding: Binding) -> None:
        """A phone is by another way than by those before: its legs move with it (a NAT's new port, a new connection).

        One whose connection is gone moves to whatever phone of the seat is at the same address: else none is reached.
        """
        way = way_to(binding)
        for leg in self.dialogs.values():
            lost = without_connection(leg.home) == leg.home and host_of(leg.home) == host_of(way)
            if leg.peer == seat and leg.home != way and (leg.home in homes or lost):
                leg.home, leg.direct = way, binding.via_is_source
                self.find_way(leg)

    def end(self, leg: Leg, by: By, status: int | None, reason: str | None, now: float) -> None:
        """Tells the user, once; what is owed to the wire goes on until `release`."""
        self.close(leg)
        self.refuse_pending(leg, now)
        self.out.append(Ended(leg.id, by, status, reason))

    def refuse_pending(self, leg: Leg, now: float) -> None:
        """What is pending in a dialog that ends is answered 487 (RFC 3261 15.1.2); who would replace it, 603."""
        if leg.offered is not None:
            transaction, request = leg.offered
            leg.offered = None
            self.respond(transaction, self.response(request, 487), now)
        heir, leg.heir = leg.heir, None
        if heir is not None and heir.incoming is not None:
            self.respond(heir.incoming.transaction, self.response(heir.incoming.request, 603), now)
            self.release(heir)

    def close(self, leg: Leg) -> None:
        """The user knows the leg no more."""
        self.legs.pop(leg.id, None)
        leg.phase = Phase.LEAVING
        leg.wanted = None
        leg.stop()

    def release(self, leg: Leg) -> None:
        """Nothing more is owed to the wire."""
        self.dialogs.pop(leg.dialog.local_tag, None)
        for unacked in leg.unacked.values():
            unacked.alarm.at = None
        leg.unacked.clear()


def sdp_of(message: Message) -> Sdp | None:
    """A message's description, None when there is none that can be read. A missing Content-Type is no matter."""
    body = find_part(message, "application/sdp")
    if body is None and message.content_type is None and message.body.startswith(b"v=0"):
        body = message.body
    try:
        return Sdp.parse(body) if body is not None else None
    except RemoteError:
        return None


def reason_of(message: Message) -> str | None:
    """The Reason of a BYE, a CANCEL or a refusal (RFC 3326, RFC 6432): all its values, as much as a record needs."""
    if "Reason" not in message.headers:
        return None
    return ", ".join(message.headers.values("Reason"))[:MAX_REASON]


def contact_header(address: Address, way: Way) -> str:
    host, port = address
    # There is no transport=wss (RFC 7118 5.2.4).
    parameter = "" if way.transport == "udp" else f";transport={'ws' if way.transport == 'wss' else way.transport}"
    return f"<sip:siaga@{bracketed(host)}:{port}{parameter}>"


def bracketed(host: str) -> str:
    """An IPv6 address as a URI or Via has it."""
    return f"[{host}]" if ":" in host else host
