"""Server legs: their INVITE up to our final response (RFC 3261 13.3), and their CANCEL (9.2)."""

from functools import partial

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.core import ALLOW, Core, Extra, reason_of, sdp_of
from siaga_pbx.sip.dialog import accept_dialog
from siaga_pbx.sip.events import By, IncomingCall, Noted
from siaga_pbx.sip.flow import Flow, Way
from siaga_pbx.sip.leg import Incoming, Leg, Phase
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.table import server_key
from siaga_pbx.sip.transaction import InviteServer
from siaga_pbx.sip.ways import is_direct

RING_AGAIN_S = 3.0
"""A caller who waits hears ringing as long as it takes, and the network must not take us for dead (DESIGN 3.3)."""
MAX_DETAIL = 200
"""Characters of what a peer wrote that go into a Noted event."""


class Uas:
    __slots__ = ("_acks", "_core")

    def __init__(self, core: Core, acks: Acks) -> None:
        self._core = core
        self._acks = acks

    def receive_invite(self, request: Request, flow: Flow, peer: Peer, now: float) -> None:
        """A new call from someone who may call. The 100 goes at once; IncomingCall asks the user what next."""
        core = self._core
        leg_id, tag = core.token(), core.token()
        transaction = core.serve_invite(request, flow, tag)
        core.respond(transaction, core.response(request, 100), now)
        dialog = accept_dialog(request, tag, flow, core.settings.contact_for(flow))
        sdp = sdp_of(request)
        leg = Leg(
            leg_id,
            peer,
            Phase.INCOMING,
            dialog,
            home=flow,
            direct=is_direct(request, flow),
            confirmed=False,
            incoming=Incoming(request, transaction, sdp is None),
        )
        core.add(leg)
        core.find_way(leg)
        core.out.append(IncomingCall(leg_id, request, peer, flow, sdp))
        if sdp is None and request.body:
            core.out.append(Noted(leg_id, "body", (request.headers.get("Content-Type") or "none")[:MAX_DETAIL]))
        if required := request.headers.values("Require"):
            # A trunk's only (see Door): a 420 would lose a caller for the sake of an extension.
            core.out.append(Noted(leg_id, "require", ", ".join(required)[:MAX_DETAIL]))

    def resume(self, leg: Leg, request: Request, way: Way, rings: bool, now: float) -> None:
        """An INVITE of before a restart goes on: the caller hears what it heard."""
        core = self._core
        key = server_key(request, "INVITE")
        transaction = InviteServer(way, b"", core.settings.timers, key, leg.dialog.local_tag)
        core.table.add(transaction)
        leg.incoming = Incoming(request, transaction, sdp_of(request) is None)
        core.respond(transaction, core.response(request, 100), now)
        if rings:
            self.ring(leg, now)

    def receive_cancel(self, transaction: InviteServer, request: Request, flow: Flow, now: float) -> None:
        """200 to the CANCEL; the INVITE gets 487 if it has no final response yet."""
        core = self._core
        core.reply(request, flow, 200, now, to_tag=transaction.tag)
        leg = core.dialogs.get(transaction.tag)
        if leg is not None and leg.phase is Phase.INCOMING:
            self.finish(leg, 487, By.REMOTE, reason_of(request), now)

    def ring(self, leg: Leg, now: float) -> None:
        if leg.incoming is not None and leg.alarm is None:
            leg.alarm = self._core.alarm(now + RING_AGAIN_S, partial(self._ring_again, leg, leg.incoming))
            self._respond(leg, leg.incoming, 180, now)

    def _ring_again(self, leg: Leg, incoming: Incoming, now: float) -> None:
        if leg.alarm is not None:
            leg.alarm.at = now + RING_AGAIN_S
            self._respond(leg, incoming, 180, now)

    def answer(self, leg: Leg, sdp: Sdp, now: float) -> None:
        incoming = leg.incoming
        if incoming is None:
            return
        leg.incoming, leg.phase = None, Phase.TALKING
        leg.stop_waiting()
        data = self._respond(leg, incoming, 200, now, sdp)
        cseq = incoming.request.cseq.number
        self._acks.expect(leg, cseq, incoming.transaction.way, data, incoming.offerless, now)

    def finish(
        self,
        leg: Leg,
        status: int,
        by: By,
        reason: str | None,
        now: float,
        sdp: Sdp | None = None,
        headers: Extra = (),
        phrase: str | None = None,
    ) -> None:
        """A final response of 300 and up: the leg is over."""
        if leg.incoming is not None:
            self._respond(leg, leg.incoming, status, now, sdp, headers, phrase)
            leg.incoming = None
            self._core.end(leg, by, status, reason, now)
            self._core.release(leg)

    def _respond(
        self,
        leg: Leg,
        incoming: Incoming,
        status: int,
        now: float,
        sdp: Sdp | None = None,
        headers: Extra = (),
        phrase: str | None = None,
    ) -> bytes:
        core, request = self._core, incoming.request
        if status < 300:
            routes = [("Record-Route", route) for route in request.headers.get_all("Record-Route")]
            headers = (*routes, ("Contact", core.contact(leg.dialog)), ("Allow", ALLOW), *headers)
        response = core.response(request, status, leg.dialog.local_tag, headers, sdp, phrase)
        return core.respond(incoming.transaction, response, now)
