"""Server legs: their INVITE up to our final response (RFC 3261 13.3), and their CANCEL (9.2)."""

from functools import partial

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.core import Core, Extra, reason_of, sdp_of
from siaga_pbx.sip.dialog import accept_dialog
from siaga_pbx.sip.events import AnswerSent, By, IncomingCall, Noted, Offered
from siaga_pbx.sip.extensions import CAPABILITIES, unknown
from siaga_pbx.sip.flow import Flow, Way
from siaga_pbx.sip.leg import Incoming, Leg, Phase, Reliable
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.provisionals import Provisionals, wanted
from siaga_pbx.sip.replaces import replaced_by
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.sessions import Sessions
from siaga_pbx.sip.table import server_key
from siaga_pbx.sip.transaction import InviteServer
from siaga_pbx.sip.ways import is_direct

RING_AGAIN_S = 3.0
"""A caller who waits hears ringing as long as it takes, and the network must not take us for dead (DESIGN 3.3)."""
RING_RELIABLY_AGAIN_S = 60.0
"""The same where each costs the caller a PRACK: as often as RFC 3261 13.3.1.1 asks."""
PRECONDITIONS_S = 4.0
"""A radio bearer is there within a second or so. A caller whose phone never says so is answered all the same."""
MAX_DETAIL = 200
"""Characters of what a peer wrote that go into a Noted event."""


class Uas:
    __slots__ = ("_acks", "_core", "_sessions", "provisionals")

    def __init__(self, core: Core, acks: Acks, sessions: Sessions) -> None:
        self._core = core
        self._acks = acks
        self._sessions = sessions
        self.provisionals = Provisionals(core, self.advance)

    def receive_invite(self, request: Request, flow: Flow, peer: Peer, now: float) -> None:
        """A new call from someone who may call. The 100 goes at once; IncomingCall asks the user what next."""
        core = self._core
        if "Replaces" in request.headers:
            self._receive_heir(request, flow, peer, now)
            return
        sdp = sdp_of(request)
        leg = self._new_leg(request, flow, peer, sdp, now)
        leg.reliable = wanted(request, sdp, core.below)
        core.add(leg)
        core.out.append(IncomingCall(leg.id, request, peer, flow, sdp))
        if sdp is None and request.body:
            core.out.append(Noted(leg.id, "body", (request.headers.get("Content-Type") or "none")[:MAX_DETAIL]))
        if required := unknown(request):
            # A trunk's only (see Door): a 420 would lose a caller for the sake of an extension.
            core.out.append(Noted(leg.id, "require", ", ".join(required)[:MAX_DETAIL]))

    def _receive_heir(self, request: Request, flow: Flow, peer: Peer, now: float) -> None:
        """An INVITE that is to take the place of a leg's dialog: to the user it is a new offer on that leg."""
        core = self._core
        replaced = replaced_by(request, peer, core.dialogs)
        if isinstance(replaced, int):
            core.reply(request, flow, replaced, now)
            return
        sdp = sdp_of(request)
        heir = self._new_leg(request, flow, peer, sdp, now)
        heir.heir_of, replaced.heir = replaced, heir
        core.dialogs[heir.dialog.local_tag] = heir
        core.out.append(Offered(replaced.id, sdp, request))

    def _new_leg(self, request: Request, flow: Flow, peer: Peer, sdp: Sdp | None, now: float) -> Leg:
        core = self._core
        leg_id, tag = core.token(), core.token()
        transaction = core.serve_invite(request, flow, tag)
        core.respond(transaction, core.response(request, 100), now)
        leg = Leg(
            leg_id,
            peer,
            Phase.INCOMING,
            accept_dialog(request, tag, flow, core.settings.contact_for(flow)),
            home=flow,
            direct=is_direct(request, flow),
            confirmed=False,
            incoming=Incoming(request, transaction, sdp is None),
        )
        core.find_way(leg)
        return leg

    def resume(self, leg: Leg, request: Request, way: Way, rings: bool, rseq: int | None, now: float) -> None:
        """An INVITE of before a restart goes on: the caller hears what it heard."""
        core, sdp = self._core, sdp_of(request)
        key = server_key(request, "INVITE")
        transaction = InviteServer(way, b"", core.settings.timers, key, leg.dialog.local_tag)
        core.table.add(transaction)
        leg.incoming = Incoming(request, transaction, sdp is None)
        leg.reliable = wanted(request, sdp, core.below)
        if leg.reliable is not None and rseq is not None:
            leg.reliable.number = rseq
        core.respond(transaction, core.response(request, 100), now)
        if rings:
            self.ring(leg, None, now)

    def receive_cancel(self, transaction: InviteServer, request: Request, flow: Flow, now: float) -> None:
        """200 to the CANCEL; the INVITE gets 487 if it has no final response yet."""
        core = self._core
        core.reply(request, flow, 200, now, to_tag=transaction.tag)
        leg = core.dialogs.get(transaction.tag)
        if leg is not None and leg.phase is Phase.INCOMING:
            self.finish(leg, 487, By.REMOTE, reason_of(request), now)

    # Ringing and answering

    def ring(self, leg: Leg, sdp: Sdp | None, now: float) -> None:
        incoming, reliable = leg.incoming, leg.reliable
        if incoming is None:
            return
        if reliable is not None:
            reliable.rings = True
            reliable.offer = reliable.offer or sdp
            self.advance(leg, now)
        elif leg.alarm is None:
            leg.alarm = self._core.alarm(now + RING_AGAIN_S, partial(self._ring_again, leg, incoming))
            self._respond(leg, incoming, 180, now)

    def _ring_again(self, leg: Leg, incoming: Incoming, now: float) -> None:
        if leg.alarm is not None:
            leg.alarm.at = now + RING_AGAIN_S
            self._respond(leg, incoming, 180, now)

    def answer(self, leg: Leg, sdp: Sdp, now: float) -> None:
        reliable = leg.reliable
        if leg.incoming is None:
            return
        if reliable is None:
            self._answer(leg, leg.incoming, sdp, now)
        elif reliable.answer is None:
            reliable.answer = sdp
            reliable.offer = reliable.offer or sdp
            self.advance(leg, now)
            reliable.held = leg.phase is Phase.INCOMING

    def advance(self, leg: Leg, now: float) -> None:
        """The next response to an INVITE that is answered reliably, when what had to come before it has come.

        Preconditions first: a 183 with our answer, its PRACK, and their UPDATE that says that they are met (RFC 3312
        5.1.1). Then 180 and 200; but no 200 before the PRACK of a description (RFC 3262 3).
        """
        incoming, reliable = leg.incoming, leg.reliable
        if incoming is None or reliable is None or leg.offered is not None:
            return
        if reliable.unacked is not None and (reliable.answer is None or reliable.agreed is not reliable.described):
            return
        if reliable.waits and reliable.offer is not None and not reliable.described:
            leg.alarm = self._core.alarm(now + PRECONDITIONS_S, partial(self._impatient, leg, reliable))
            self._respond_reliably(leg, incoming, reliable, 183, now)
        elif reliable.waits and reliable.described:
            return
        elif reliable.answer is not None:
            self._answer(leg, incoming, reliable.answer, now)
        elif reliable.rings:
            reliable.rings = False
            leg.stop_waiting()
            leg.alarm = self._core.alarm(now + RING_RELIABLY_AGAIN_S, partial(self._ring_reliably, leg, reliable))
            self._respond_reliably(leg, incoming, reliable, 180, now)

    def _impatient(self, leg: Leg, reliable: Reliable, now: float) -> None:
        reliable.waits = False
        self.advance(leg, now)

    def _ring_reliably(self, leg: Leg, reliable: Reliable, now: float) -> None:
        reliable.rings = True
        self.advance(leg, now)

    def _respond_reliably(self, leg: Leg, incoming: Incoming, reliable: Reliable, status: int, now: float) -> None:
        """Our description goes into the first if that has to have one: for preconditions, or because they made none."""
        sdp = None if reliable.described or not (reliable.waits or incoming.offerless) else reliable.offer
        if sdp is not None:
            reliable.described = True
            leg.described = sdp
        data = self._respond(leg, incoming, status, now, sdp, self.provisionals.number(reliable))
        self.provisionals.expect(leg, reliable, incoming, data, now)

    def _answer(self, leg: Leg, incoming: Incoming, sdp: Sdp, now: float) -> None:
        leg.incoming, leg.phase = None, Phase.TALKING
        leg.stop_waiting()
        request, expects_answer, described = incoming.request, incoming.offerless, True
        if leg.reliable is not None:
            self.provisionals.stop(leg.reliable)
            if leg.reliable.held:
                self._core.out.append(AnswerSent(leg.id))
            if leg.reliable.agreed:
                # Answered early: to say it again would be a new offer to some.
                expects_answer = described = False
        if described:
            leg.described = sdp
        session = self._sessions.answer(leg, request, now) if "Session-Expires" in request.headers else ()
        data = self._respond(leg, incoming, 200, now, sdp if described else None, session)
        self._acks.expect(leg, request.cseq.number, incoming.transaction.way, data, expects_answer, now)

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
        if leg.incoming is None:
            return
        self._respond(leg, leg.incoming, status, now, sdp, headers, phrase)
        leg.incoming = None
        if leg.heir_of is not None:
            leg.heir_of.heir = None  # which goes on as it was
        else:
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
            headers = (*routes, ("Contact", core.contact(leg.dialog)), *CAPABILITIES, *headers)
        response = core.response(request, status, leg.dialog.local_tag, headers, sdp, phrase)
        return core.respond(incoming.transaction, response, now)
