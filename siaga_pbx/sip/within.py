"""Requests within a dialog: who may send which (DESIGN 3.1), their order (RFC 3261 12.2.2), and what answers each."""

from functools import partial

from siaga_pbx.sip.access import Seat, Source, Trunk
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import Core, reason_of
from siaga_pbx.sip.events import By, Checked, Counted, Info
from siaga_pbx.sip.extensions import ABILITIES, ALLOW, unsupported
from siaga_pbx.sip.flow import Flow, host_of
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.offers import Offers
from siaga_pbx.sip.transaction import Lost
from siaga_pbx.sip.uas import Uas

FROM_ANYWHERE = ("BYE", "ACK", "PRACK")
"""Call-ID and both tags are proof enough for these: a phone that moved must be able to hang up."""


class Within:
    __slots__ = ("_acks", "_byes", "_core", "_offers", "_uas")

    def __init__(self, core: Core, acks: Acks, byes: Byes, offers: Offers, uas: Uas) -> None:
        self._core = core
        self._acks = acks
        self._byes = byes
        self._offers = offers
        self._uas = uas

    def find(self, request: Request) -> Leg | None:
        """The leg whose dialog a request is in: Call-ID and both tags agree."""
        leg = self._core.dialogs.get(request.to.tag or "")
        if leg is None:
            return None
        dialog = leg.dialog
        agree = dialog.call_id == request.call_id and dialog.remote_tag == (request.from_.tag or "")
        return leg if agree else None

    def receive(self, leg: Leg, request: Request, flow: Flow, source: Source, now: float) -> None:
        method = request.method
        if method == "ACK":
            self._acks.receive(leg, request, now)
        elif method not in FROM_ANYWHERE and not _is_own(leg, flow, source):
            self._core.out.append(Counted("dropped", "foreign_source"))
        elif method == "BYE":
            self._bye(leg, request, flow, now)
        elif leg.phase is Phase.LEAVING:
            self._core.reply(request, flow, 481, now)
        elif not leg.dialog.in_order(request.cseq.number):
            self._core.reply(request, flow, 500, now)
        elif required := unsupported(request, source):
            self._core.reply(request, flow, 420, now, (("Unsupported", required),))
        else:
            self._dispatch(leg, request, flow, now)

    def _dispatch(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        match request.method:
            case "INVITE":
                self._offers.receive_invite(leg, request, flow, now)
            case "UPDATE":
                self._offers.receive_update(leg, request, flow, now)
            case "INFO":
                core.reply(request, flow, 200, now)
                core.out.append(Info(leg.id, request.content_type or "", request.body))
            case "OPTIONS":
                core.reply(request, flow, 200, now, ABILITIES)
            case "PRACK":
                self._uas.provisionals.receive(leg, request, flow, now)
            case _:
                core.reply(request, flow, 405, now, (("Allow", ALLOW),))

    def _bye(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        """Taken whatever its CSeq is: it has both tags, and a leg that is kept against the peer's will helps nobody."""
        if leg.phase is Phase.INCOMING:
            # A caller may give up an early dialog by BYE too (RFC 3261 15).
            self._core.reply(request, flow, 200, now)
            self._uas.finish(leg, 487, By.REMOTE, reason_of(request), now)
        elif leg.phase in (Phase.TALKING, Phase.LEAVING):
            self._byes.receive(leg, request, flow, now)
        else:
            self._core.reply(request, flow, 481, now)

    def check(self, leg: Leg, now: float, *, patient: bool = False) -> None:
        """In-dialog OPTIONS: does the peer still know the dialog? `patient`: only a clear no ends it."""
        if leg.phase is Phase.TALKING:
            request = leg.dialog.next_request("OPTIONS")
            request.headers.add("Contact", self._core.contact(leg.dialog))
            for name, value in ABILITIES:
                request.headers.add(name, value)
            self._core.send(request, leg.dialog.way, partial(self._checked, leg, patient), now)

    def _checked(self, leg: Leg, patient: bool, response: Response | Lost, now: float) -> None:
        status = response.status if isinstance(response, Response) else response.value
        if leg.phase is not Phase.TALKING or status < 200:
            return
        if status == 481 or (not patient and (status == 408 or isinstance(response, Lost))):
            self._byes.leave(leg, By.FAULT, status, None, now)
        else:
            self._core.out.append(Checked(leg.id, status))


def _is_own(leg: Leg, flow: Flow, source: Source) -> bool:
    """Whether a packet comes from the leg's own trunk, or from its own seat or address.

    The address holds for a trunk too: one that a reload took away still refreshes the calls that it has.
    """
    if isinstance(leg.peer, Trunk | Seat) and source == leg.peer:
        return True
    if leg.peer is None and isinstance(source, Trunk):
        return True  # a call of ours to a name, which only the shell has resolved
    return flow.remote[0] == host_of(leg.home)
