"""Offer and answer in a running dialog: re-INVITE both ways (RFC 3261 14), UPDATE received (RFC 3311)."""

from functools import partial

from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import ALLOW, RETRY_AFTER_S, Core, sdp_of
from siaga_pbx.sip.events import By, Offered, OfferRefused, Reanswered
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.transaction import InviteServer, Lost


class Offers:
    __slots__ = ("_acks", "_byes", "_core")

    def __init__(self, core: Core, acks: Acks, byes: Byes) -> None:
        self._core = core
        self._acks = acks
        self._byes = byes

    # Theirs

    def receive_invite(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        if self._refused(leg, request, flow, now):
            return
        transaction = core.serve_invite(request, flow, leg.dialog.local_tag)
        core.respond(transaction, core.response(request, 100), now)
        core.retarget(leg, request.contact)
        leg.offered = (transaction, request)
        core.out.append(Offered(leg.id, sdp_of(request), request))

    def receive_update(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        """Without an offer it refreshes target and session only, at any time; with one it is a re-INVITE in little."""
        core = self._core
        sdp = sdp_of(request)
        if sdp is not None and self._refused(leg, request, flow, now):
            return
        core.retarget(leg, request.contact)
        if sdp is None:
            core.reply(request, flow, 200, now, (("Contact", core.contact(leg.dialog)), ("Allow", ALLOW)))
            return
        leg.offered = (core.serve(request, flow), request)
        core.out.append(Offered(leg.id, sdp, request))

    def _refused(self, leg: Leg, request: Request, flow: Flow, now: float) -> bool:
        """Refuses an offer that cannot be taken now: 491 while ours is open, 500 while theirs is (RFC 3261 14.2)."""
        core = self._core
        if leg.calling is not None:
            core.reply(request, flow, 491, now)
            return True
        if leg.offered is not None or leg.phase is not Phase.TALKING:
            core.reply(request, flow, 500, now, (("Retry-After", str(core.below(RETRY_AFTER_S))),))
            return True
        return False

    def accept(self, leg: Leg, sdp: Sdp, now: float) -> None:
        if leg.offered is None:
            return
        core = self._core
        transaction, request = leg.offered
        leg.offered = None
        headers = (("Contact", core.contact(leg.dialog)), ("Allow", ALLOW))
        data = core.respond(transaction, core.response(request, 200, headers=headers, sdp=sdp), now)
        if isinstance(transaction, InviteServer):
            self._acks.expect(leg, request.cseq.number, transaction.way, data, sdp_of(request) is None, now)
        self.send(leg, now)

    def refuse(self, leg: Leg, status: int, now: float) -> None:
        if leg.offered is None:
            return
        transaction, request = leg.offered
        leg.offered = None
        self._core.respond(transaction, self._core.response(request, status), now)
        self.send(leg, now)

    # Ours

    def offer(self, leg: Leg, sdp: Sdp, now: float) -> None:
        """A later offer takes the place of one that still waits."""
        if leg.phase is Phase.TALKING:
            leg.wanted = sdp
            self.send(leg, now)

    def send(self, leg: Leg, now: float) -> None:
        """Sends the offer that waits, if there is one and nothing else is open in the dialog."""
        if leg.wanted is None or leg.calling is not None or leg.offered is not None or leg.unacked:
            return
        if leg.alarm is not None and leg.alarm.at is not None:
            return  # after a 491: our turn has not come
        sdp, leg.wanted = leg.wanted, None
        leg.challenges = 0
        self._send(leg, sdp, now)

    def _send(self, leg: Leg, sdp: Sdp, now: float) -> None:
        core, dialog = self._core, leg.dialog
        request = dialog.next_request("INVITE")
        request.headers.add("Contact", core.contact(dialog))
        request.headers.add("Allow", ALLOW)
        if leg.authorization is not None:
            request.headers.add(*leg.authorization)
        request.headers.add("Content-Type", "application/sdp")
        request.body = str(sdp).encode()
        answer = partial(self._answered, leg, dialog.local_cseq, sdp)
        leg.calling = core.send_invite(request, dialog.way, answer, now)

    def _answered(self, leg: Leg, cseq: int, sdp: Sdp, response: Response | Lost, now: float) -> None:
        if isinstance(response, Response) and response.status < 200:
            if leg.calling is not None:
                leg.calling.limit(now)  # nobody has to pick up a phone for this
            return
        if isinstance(response, Response) and response.status < 300:
            if not self._acks.send_again(leg, response, cseq):
                self._success(leg, cseq, response, now)
            return
        leg.calling = None
        if leg.phase is not Phase.TALKING:
            return
        if isinstance(response, Response):
            if self._core.authorise(leg, "INVITE", response):
                self._send(leg, sdp, now)
                return
            if response.status == 491:
                self._wait(leg, sdp, now)
                return
        status = response.status if isinstance(response, Response) else response.value
        if status == 481:
            self._byes.leave(leg, By.FAULT, 481, None, now)
            return
        # 408 would end the dialog by RFC 3261 14.1. But audio may well flow: that is the user's to judge (DESIGN 3.7).
        self._core.out.append(OfferRefused(leg.id, status))
        self.send(leg, now)

    def _success(self, leg: Leg, cseq: int, response: Response, now: float) -> None:
        leg.calling = None
        self._core.retarget(leg, response.contact)
        self._acks.send(leg, response, cseq)
        if leg.phase is Phase.TALKING:
            self._core.out.append(Reanswered(leg.id, sdp_of(response)))
            self.send(leg, now)

    def _wait(self, leg: Leg, sdp: Sdp, now: float) -> None:
        """Both offered at once: who made the Call-ID waits 2.1 to 4 s, the other up to 2 s (RFC 3261 14.1)."""
        leg.wanted = leg.wanted or sdp
        wait = self._core.below(1900) / 1000 + 2.1 if leg.call is not None else self._core.below(2000) / 1000
        leg.alarm = self._core.alarm(now + wait, partial(self._waited, leg))

    def _waited(self, leg: Leg, now: float) -> None:
        leg.alarm = None
        self.send(leg, now)
