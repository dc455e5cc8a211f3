"""Client legs: our INVITE up to its final response and our ACK (RFC 3261 13.2), and our CANCEL (9.1)."""

from functools import partial

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import ALLOW, Core, sdp_of
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.events import Answered, Failed, LegId, Ringing
from siaga_pbx.sip.flow import Way
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.transaction import InviteClient, Lost, State, cancel_for

CANCEL_GRACE_S = 2.0
"""A peer that answers CANCEL and then says nothing more counts as gone after this (pyVoIP never sends 487)."""


class Uac:
    __slots__ = ("_acks", "_byes", "_core")

    def __init__(self, core: Core, acks: Acks, byes: Byes) -> None:
        self._core = core
        self._acks = acks
        self._byes = byes

    def invite(self, leg_id: LegId, call: Invite, peer: Peer | None, direct: bool, now: float) -> None:
        core = self._core
        tag = core.token()
        dialog = Dialog(
            call_id=core.token(),
            local_tag=tag,
            local=f"{call.from_};tag={tag}",
            remote=str(call.to),
            target=call.uri,
            way=call.target,
            contact=core.settings.contact_for(call.target),
        )
        leg = Leg(leg_id, peer, Phase.CALLING, dialog, home=call.target, direct=direct, call=call)
        core.add(leg)
        self._send(leg, call, now)

    def _send(self, leg: Leg, call: Invite, now: float) -> None:
        dialog, core = leg.dialog, self._core
        request = dialog.next_request("INVITE")
        headers = request.headers
        for name, value in call.headers:
            headers.add(name, value)
        headers.add("Contact", core.contact(dialog))
        headers.add("Allow", ALLOW)
        headers.add("User-Agent", core.settings.user_agent)
        if leg.authorization is not None:
            headers.add(*leg.authorization)
        headers.add("Content-Type", "application/sdp")
        request.body = str(call.sdp).encode()
        answer = partial(self._answered, leg, dialog.local_cseq)
        leg.calling = core.send_invite(request, dialog.way, answer, now)

    def resume(self, leg: Leg, request: Request, way: Way, rings: bool, now: float) -> None:
        """An INVITE of before a restart goes on, in its transaction; unless the phone rings it is sent again."""
        answer = partial(self._answered, leg, request.cseq.number)
        leg.calling = self._core.resume_invite(request, way, rings, answer, now)

    # What comes of it

    def _answered(self, leg: Leg, cseq: int, response: Response | Lost, now: float) -> None:
        if isinstance(response, Lost):
            self._lost(leg, response)
        elif response.status < 200:
            self._provisional(leg, response, now)
        elif response.status < 300:
            self._success(leg, cseq, response, now)
        else:
            self._refused(leg, response, now)

    def _lost(self, leg: Leg, lost: Lost) -> None:
        if leg.phase is Phase.CALLING:
            self._fail(leg, lost.value, None)
        elif leg.phase is Phase.CANCELLING:
            self._fail(leg, 487, None)

    def _provisional(self, leg: Leg, response: Response, now: float) -> None:
        if leg.phase is Phase.CANCELLING and leg.calling is not None and not leg.cancelled:
            self._send_cancel(leg, leg.calling, now)
        elif leg.phase is Phase.CALLING:
            leg.dialog.early(response)
            if response.status > 100:
                sdp = sdp_of(response)
                leg.early = sdp or leg.early
                self._core.out.append(Ringing(leg.id, response.status, sdp))

    def _success(self, leg: Leg, cseq: int, response: Response, now: float) -> None:
        if self._acks.send_again(leg, response, cseq):
            return
        if leg.phase is Phase.CALLING:
            leg.calling = None
            leg.dialog.establish(response)
            leg.phase = Phase.TALKING
            self._core.find_way(leg)
            self._acks.send(leg, response, cseq)
            # Many a trunk answers in the 183 and sends a 200 without a body.
            self._core.out.append(Answered(leg.id, sdp_of(response) or leg.early, response))
            return
        if leg.phase is Phase.CANCELLING:
            self._fail(leg, 487, response)
        self._byes.refuse_fork(leg, response, cseq, now)

    def _refused(self, leg: Leg, response: Response, now: float) -> None:
        if leg.phase is Phase.CALLING and leg.call is not None and self._core.authorise(leg, "INVITE", response):
            self._send(leg, leg.call, now)
        elif leg.phase in (Phase.CALLING, Phase.CANCELLING):
            self._fail(leg, response.status, response)

    def _fail(self, leg: Leg, status: int, response: Response | None) -> None:
        self._core.close(leg)
        self._core.release(leg)
        self._core.out.append(Failed(leg.id, status, response.reason if response is not None else None, response))

    # CANCEL

    def cancel(self, leg: Leg, reason: str | None, now: float) -> None:
        """The user hangs up; Failed follows. Before any provisional response the CANCEL is held (RFC 3261 9.1)."""
        leg.phase = Phase.CANCELLING
        leg.reason = reason
        if leg.calling is not None and leg.calling.state is State.PROCEEDING:
            self._send_cancel(leg, leg.calling, now)

    def _send_cancel(self, leg: Leg, calling: InviteClient, now: float) -> None:
        leg.cancelled = True
        calling.limit(now)
        self._core.deadlines.watch(calling)
        request = cancel_for(calling.request)
        if leg.reason is not None:
            request.headers.add("Reason", leg.reason)
        self._core.send_cancel(request, calling.way, partial(self._cancel_answered, leg), now)

    def _cancel_answered(self, leg: Leg, response: Response | Lost, now: float) -> None:
        if leg.phase is Phase.CANCELLING and isinstance(response, Response) and response.status >= 200:
            leg.alarm = self._core.alarm(now + CANCEL_GRACE_S, partial(self._grace_over, leg))

    def _grace_over(self, leg: Leg, now: float) -> None:
        if leg.phase is Phase.CANCELLING:
            self._fail(leg, 487, None)
