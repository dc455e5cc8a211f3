"""Offer and answer in a dialog: re-INVITE (RFC 3261 14) and UPDATE (RFC 3311), both ways, early too."""

from functools import partial

from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import RETRY_AFTER_S, Core, sdp_of
from siaga_pbx.sip.events import By, Offered, OfferRefused, Reanswered, Refreshed
from siaga_pbx.sip.extensions import CAPABILITIES
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.sessions import Sessions
from siaga_pbx.sip.transaction import InviteServer, Lost
from siaga_pbx.sip.uas import Uas


class Offers:
    __slots__ = ("_acks", "_byes", "_core", "_sessions", "_uas")

    def __init__(self, core: Core, acks: Acks, byes: Byes, uas: Uas, sessions: Sessions) -> None:
        self._core = core
        self._acks = acks
        self._byes = byes
        self._uas = uas
        self._sessions = sessions

    # Theirs

    def receive_invite(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        if leg.calling is not None:  # an INVITE of ours is in progress (RFC 3261 14.2)
            core.reply(request, flow, 491, now)
            return
        if leg.phase is not Phase.TALKING:
            self._not_now(request, flow, now)
            return
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
            core.reply(request, flow, 200, now, self._headers(leg, request, now))
            if request.body or "Geolocation" in request.headers:
                core.out.append(Refreshed(leg.id, request))
            return
        leg.offered = (core.serve(request, flow), request)
        core.out.append(Offered(leg.id, sdp, request))

    def _refused(self, leg: Leg, request: Request, flow: Flow, now: float) -> bool:
        """Refuses an offer that cannot be taken now: 491 while ours is open, 500 while theirs is (RFC 3261 14.2)."""
        ours_is_open = leg.calling is not None and (leg.phase is Phase.TALKING or not is_agreed(leg))
        if leg.updating or ours_is_open:
            self._core.reply(request, flow, 491, now)
        elif leg.offered is not None or not is_agreed(leg):
            self._not_now(request, flow, now)
        else:
            return False
        return True

    def _not_now(self, request: Request, flow: Flow, now: float) -> None:
        self._core.reply(request, flow, 500, now, (("Retry-After", str(self._core.below(RETRY_AFTER_S))),))

    def _headers(self, leg: Leg, request: Request, now: float) -> tuple[tuple[str, str], ...]:
        """Those of our 2xx to a target refresh. A session is one of an answered call."""
        session = self._sessions.answer(leg, request, now) if leg.phase is Phase.TALKING else ()
        return (("Contact", self._core.contact(leg.dialog)), *CAPABILITIES, *session)

    def accept(self, leg: Leg, sdp: Sdp, now: float) -> None:
        if leg.offered is None:
            return
        core = self._core
        transaction, request = leg.offered
        leg.offered, leg.described = None, sdp
        headers = self._headers(leg, request, now)
        data = core.respond(transaction, core.response(request, 200, headers=headers, sdp=sdp), now)
        if isinstance(transaction, InviteServer):
            self._acks.expect(leg, request.cseq.number, transaction.way, data, sdp_of(request) is None, now)
        elif leg.reliable is not None and leg.phase is Phase.INCOMING:
            offer = sdp_of(request)
            leg.reliable.waits = offer is not None and offer.waits
        self._settled(leg, now)

    def refuse(self, leg: Leg, status: int, now: float) -> None:
        if leg.offered is None:
            return
        transaction, request = leg.offered
        leg.offered = None
        self._core.respond(transaction, self._core.response(request, status), now)
        self._settled(leg, now)

    def _settled(self, leg: Leg, now: float) -> None:
        """What waited for their offer to be answered."""
        if leg.phase is Phase.INCOMING:
            self._uas.advance(leg, now)
        self.send(leg, now)

    # Ours

    def offer(self, leg: Leg, sdp: Sdp, now: float) -> None:
        """A later offer takes the place of one that still waits."""
        if leg.phase is Phase.TALKING or is_agreed(leg):
            leg.wanted = sdp
            self.send(leg, now)

    def refresh(self, leg: Leg, now: float) -> None:
        """The session again as it is, by re-INVITE, unless something else is on its way that refreshes it too."""
        if leg.wanted is None and leg.described is not None:
            self.offer(leg, leg.described, now)

    def send(self, leg: Leg, now: float) -> None:
        """Sends the offer that waits, if there is one and nothing else is open in the dialog."""
        if leg.wanted is None or leg.updating or leg.offered is not None or leg.unacked or leg.turn is not None:
            return
        early = leg.phase is not Phase.TALKING
        if leg.calling is not None and not early:
            return
        sdp, leg.wanted = leg.wanted, None
        leg.challenges = 0
        if early:
            self._update(leg, sdp, now)
        else:
            self._invite(leg, sdp, now)

    def _request(self, leg: Leg, method: str, sdp: Sdp) -> Request:
        request = leg.dialog.next_request(method)
        request.headers.add("Contact", self._core.contact(leg.dialog))
        for name, value in (*CAPABILITIES, *self._sessions.ask(leg)):
            request.headers.add(name, value)
        if leg.authorization is not None:
            request.headers.add(*leg.authorization)
        request.headers.add("Content-Type", "application/sdp")
        request.body = str(sdp).encode()
        return request

    def _invite(self, leg: Leg, sdp: Sdp, now: float) -> None:
        request = self._request(leg, "INVITE", sdp)
        answer = partial(self._answered, leg, request.cseq.number, sdp)
        leg.calling = self._core.send_invite(request, leg.dialog.way, answer, now)

    def _answered(self, leg: Leg, cseq: int, sdp: Sdp, response: Response | Lost, now: float) -> None:
        if isinstance(response, Response) and response.status < 200:
            if leg.calling is not None:
                leg.calling.limit(now)  # nobody has to pick up a phone for this
            return
        if isinstance(response, Response) and response.status < 300:
            if not self._acks.send_again(leg, response, cseq):
                self._success(leg, cseq, sdp, response, now)
            return
        leg.calling = None
        if leg.phase is not Phase.TALKING:
            return
        if isinstance(response, Response):
            if self._core.authorise(leg, "INVITE", response) or self._sessions.obeys(leg, response):
                self._invite(leg, sdp, now)
                return
            if response.status == 491:
                self._wait(leg, sdp, now)
                return
        status = response.status if isinstance(response, Response) else response.value
        if status == 481 and (leg.session is None or sdp is not leg.described):
            self._byes.leave(leg, By.FAULT, 481, None, now)
            return
        if status == 481:
            self._sessions.miss(leg, 481, now)  # a refresh: whether audio still comes is the user's to judge
        # 408 would end the dialog by RFC 3261 14.1. But audio may well flow: that is the user's to judge (DESIGN 3.7).
        self._core.out.append(OfferRefused(leg.id, status))
        self.send(leg, now)

    def _success(self, leg: Leg, cseq: int, sdp: Sdp, response: Response, now: float) -> None:
        leg.calling = None
        self._core.retarget(leg, response.contact)
        self._acks.send(leg, response, cseq)
        if leg.phase is Phase.TALKING:
            leg.described = sdp
            self._sessions.answered(leg, response, now)
            self._core.out.append(Reanswered(leg.id, sdp_of(response)))
            self.send(leg, now)

    def _update(self, leg: Leg, sdp: Sdp, now: float) -> None:
        """An offer in an early dialog (RFC 3311 5.1)."""
        leg.updating = True
        request = self._request(leg, "UPDATE", sdp)
        self._core.send(request, leg.dialog.way, partial(self._updated, leg, sdp), now)

    def _updated(self, leg: Leg, sdp: Sdp, response: Response | Lost, now: float) -> None:
        if isinstance(response, Response) and response.status < 200:
            return
        leg.updating = False
        if leg.phase in (Phase.CANCELLING, Phase.LEAVING):
            return
        if isinstance(response, Response) and response.status < 300:
            self._core.retarget(leg, response.contact)
            leg.described = sdp
            self._core.out.append(Reanswered(leg.id, sdp_of(response)))
        elif isinstance(response, Response) and self._core.authorise(leg, "UPDATE", response):
            self._update(leg, sdp, now)
            return
        elif isinstance(response, Response) and response.status == 491:
            self._wait(leg, sdp, now)
            return
        else:
            status = response.status if isinstance(response, Response) else response.value
            self._core.out.append(OfferRefused(leg.id, status))
        self.send(leg, now)

    def _wait(self, leg: Leg, sdp: Sdp, now: float) -> None:
        """Both offered at once: who made the Call-ID waits 2.1 to 4 s, the other up to 2 s (RFC 3261 14.1)."""
        leg.wanted = leg.wanted or sdp
        wait = self._core.below(1900) / 1000 + 2.1 if leg.call is not None else self._core.below(2000) / 1000
        leg.turn = self._core.alarm(now + wait, partial(self._waited, leg))

    def _waited(self, leg: Leg, now: float) -> None:
        leg.turn = None
        self.send(leg, now)


def is_agreed(leg: Leg) -> bool:
    """Whether the first offer of the leg has its answer, so that there may be another (RFC 3311 5.1)."""
    match leg.phase:
        case Phase.TALKING:
            return True
        case Phase.INCOMING:
            return leg.reliable is not None and leg.reliable.agreed
        case Phase.CALLING:
            return bool(leg.rseqs) and leg.early is not None
    return False
