"""What comes in: matched to its transaction or dialog, or judged by where it comes from (RFC 3261 8.2, DESIGN 3.1)."""

from siaga_pbx.sip.access import Own, Seat, Source, Stranger, Trunk, is_test_call
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import Core, Extra
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Counted, Send
from siaga_pbx.sip.extensions import ABILITIES, ALLOW, unsupported
from siaga_pbx.sip.flow import Flow, host_of
from siaga_pbx.sip.message import Message, Request, Response
from siaga_pbx.sip.pace import Pace
from siaga_pbx.sip.registrar import Registrar
from siaga_pbx.sip.table import server_key
from siaga_pbx.sip.transaction import InviteServer, State
from siaga_pbx.sip.uas import Uas
from siaga_pbx.sip.ways import way_back
from siaga_pbx.sip.within import Within

REFUSALS_A_SECOND = 50
REFUSALS_AT_ONCE = 100
"""What one address is told that belongs to no call of ours: an answer costs more than it takes to see that there is
nothing to answer, and no peer in order needs many."""
MAX_REFUSED = 4096


class Door:
    __slots__ = ("_byes", "_core", "_refusals", "_registrar", "_uas", "_within")

    def __init__(self, core: Core, within: Within, uas: Uas, byes: Byes, registrar: Registrar) -> None:
        self._core = core
        self._within = within
        self._uas = uas
        self._byes = byes
        self._registrar = registrar
        self._refusals = Pace(REFUSALS_A_SECOND, REFUSALS_AT_ONCE, MAX_REFUSED)

    def receive(self, message: Message, flow: Flow, now: float) -> None:
        if isinstance(message, Response):
            self._response(message, flow, now)
            return
        message.stamp_source(*flow.remote)
        self._request(message, flow, now)

    def receive_malformed(self, error: RemoteError, flow: Flow, now: float) -> None:
        """Something that is no message. It is told so if it is a request of someone that we know."""
        core = self._core
        core.out.append(Counted("malformed", error.reason))
        if isinstance(self._source_of(flow), Stranger):
            return
        if not self._refusals.has(flow.remote[0], now):
            core.out.append(Counted("dropped", "refusals"))
            return
        request = error.request
        if request is not None and request.method != "ACK" and self._may_refuse(flow, now):
            request.stamp_source(*flow.remote)
            # Without a transaction: it would have to be matched by what could not be read.
            core.out.append(Send(way_back(request, flow), bytes(core.response(request, error.status))))

    def _may_refuse(self, flow: Flow, now: float) -> bool:
        allowed = self._refusals.takes(flow.remote[0], now)
        if not allowed:
            self._core.out.append(Counted("dropped", "refusals"))
        return allowed

    def _refuse(self, request: Request, flow: Flow, status: int, now: float, headers: Extra = ()) -> None:
        """Answers what belongs to no call, unless there is too much of it."""
        if self._may_refuse(flow, now):
            self._core.reply(request, flow, status, now, headers)

    # Responses

    def _response(self, response: Response, flow: Flow, now: float) -> None:
        core = self._core
        transaction = core.table.client_of(response)
        if transaction is not None:
            core.carry_out(transaction, transaction.receive(response, now), now)
        elif _is_answer(response) and self._was_asked(response, flow):
            self._byes.refuse_stray(response, flow, now)
        else:
            core.out.append(Counted("dropped", "stray_response"))

    def _was_asked(self, response: Response, flow: Flow) -> bool:
        """Whether a peer that we know answers what we may have sent: its one Via is ours (RFC 3261 8.1.3.3, 18.1.2)."""
        host, _ = self._core.settings.contact_for(flow)
        vias = response.vias
        return len(vias) == 1 and vias[0].host == host and isinstance(self._source_of(flow), Trunk | Seat)

    # Requests

    def _request(self, request: Request, flow: Flow, now: float) -> None:
        core, method = self._core, request.method
        if method == "ACK":
            self._ack(request, flow, now)
            return
        key = server_key(request, method)
        transaction = core.table.server_of(key)
        if transaction is not None:
            core.carry_out(transaction, transaction.receive_again(), now)
            return
        source = self._source_of(flow)
        if method == "CANCEL":
            self._cancel(request, flow, source, now)
        elif method == "REGISTER":
            self._registrar.receive(request, flow, now)
        elif request.to.tag is not None:
            self._in_dialog(request, flow, source, now)
        elif isinstance(source, Stranger) or (isinstance(source, Own) and not _is_probe(request)):
            core.out.append(Counted("dropped", "stranger"))
        elif core.table.is_merged(key):
            core.reply(request, flow, 482, now)
        else:
            self._out_of_dialog(request, flow, source, now)

    def _ack(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        transaction = core.table.server_of(server_key(request, "INVITE"))
        if isinstance(transaction, InviteServer) and transaction.state is not State.ACCEPTED:
            transaction.acknowledge(now)
            core.carry_out(transaction, [], now)
            return
        leg = self._within.find(request)
        if leg is None and isinstance(transaction, InviteServer):
            # pyVoIP acknowledges a 2xx with the INVITE's branch and a To tag of its own invention.
            leg = core.dialogs.get(transaction.tag)
        if leg is not None:
            self._within.receive(leg, request, flow, self._source_of(flow), now)

    def _cancel(self, request: Request, flow: Flow, source: Source, now: float) -> None:
        """A CANCEL is hop by hop and carries no secret of ours: it must come from where the INVITE came from."""
        core = self._core
        transaction = core.table.server_of(server_key(request, "INVITE"))
        known = isinstance(transaction, InviteServer)
        if isinstance(transaction, InviteServer) and host_of(transaction.way) == flow.remote[0]:
            self._uas.receive_cancel(transaction, request, flow, now)
        elif known or isinstance(source, Stranger | Own):
            core.out.append(Counted("dropped", "foreign_source"))
        else:
            self._refuse(request, flow, 481, now)

    def _in_dialog(self, request: Request, flow: Flow, source: Source, now: float) -> None:
        core = self._core
        leg = self._within.find(request)
        if leg is not None:
            self._within.receive(leg, request, flow, source, now)
        elif isinstance(source, Stranger | Own):
            core.out.append(Counted("dropped", "no_dialog"))
        else:
            self._refuse(request, flow, 481, now)

    def _out_of_dialog(self, request: Request, flow: Flow, source: Source, now: float) -> None:
        core = self._core
        # What is no call goes long before a call does: half of the table is for calls alone.
        if core.table.full or (core.table.crowded and request.method != "INVITE"):
            core.out.append(Counted("dropped", "overload"))
        elif required := unsupported(request, source):
            self._refuse(request, flow, 420, now, (("Unsupported", required),))
        elif request.method == "INVITE":
            self._invite(request, flow, source, now)
        elif request.method == "OPTIONS":
            core.reply(request, flow, 200, now, ABILITIES)
        else:
            self._refuse(request, flow, 405, now, (("Allow", ALLOW),))

    def _invite(self, request: Request, flow: Flow, source: Source, now: float) -> None:
        if isinstance(source, Seat):
            seat = self._registrar.admit(request, flow, now)
            if seat is not None:
                self._uas.receive_invite(request, flow, Seat(seat), now)
        elif isinstance(source, Trunk | Own):
            self._uas.receive_invite(request, flow, source, now)

    def _source_of(self, flow: Flow) -> Source:
        seats = self._registrar.seats_at(flow)
        return self._core.access.source_of(flow, seats[-1] if seats else None)


def _is_answer(response: Response) -> bool:
    return 200 <= response.status < 300 and response.cseq.method == "INVITE"


def _is_probe(request: Request) -> bool:
    return request.method == "INVITE" and is_test_call(request.uri)
