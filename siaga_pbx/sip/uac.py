"""Client legs: our INVITE up to its final response and our ACK (RFC 3261 13.2), and our CANCEL (9.1)."""

from collections.abc import Iterable
from functools import partial

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.attempts import Attempts
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import Core, sdp_of
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.events import Answered, Failed, LegId, Ringing
from siaga_pbx.sip.extensions import ALLOW, wanted
from siaga_pbx.sip.flow import Hop, Target, Way, host_of
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.provisionals import Provisionals
from siaga_pbx.sip.sessions import Sessions
from siaga_pbx.sip.transaction import Answer, InviteClient, Lost, State, cancel_for

CANCEL_GRACE_S = 2.0
"""A peer that answers CANCEL and then says nothing more counts as gone after this (pyVoIP never sends 487)."""


class Uac:
    __slots__ = ("_acks", "_byes", "_core", "_provisionals", "_sessions")

    def __init__(self, core: Core, acks: Acks, byes: Byes, provisionals: Provisionals, sessions: Sessions) -> None:
        self._core = core
        self._acks = acks
        self._byes = byes
        self._provisionals = provisionals
        self._sessions = sessions

    def invite(self, leg_id: LegId, call: Invite, peer: Peer | None, direct: bool, now: float) -> None:
        core, where = self._core, call.target
        tag = core.token()
        home = Target("udp", where.host, 0) if isinstance(where, Hop) else where  # of a name: until a target is known
        dialog = Dialog(
            call_id=leg_id,  # as unique as it must be (RFC 3261 8.1.1.4), and the trace knows it
            local_tag=tag,
            local=f"{call.from_};tag={tag}",
            remote=str(call.to),
            target=call.uri,
            way=home,
            contact=core.settings.contact_for(home),
        )
        leg = Leg(leg_id, peer, Phase.CALLING, dialog, home=home, direct=direct, call=call)
        leg.asks, leg.described = call.session_s, call.sdp
        core.add(leg)
        core.find(where, partial(self._found, leg, call), now)

    def _found(self, leg: Leg, call: Invite, ways: Iterable[Way], now: float) -> None:
        if leg.phase is Phase.CALLING:  # the user may have hung up by now
            leg.others = list(ways)
            self._send(leg, call, now)

    def _send(self, leg: Leg, call: Invite, now: float) -> None:
        """The INVITE, by the first of the leg's ways that answers; by each it has the same CSeq (RFC 3263 4.3)."""
        leg.dialog.local_cseq += 1
        build, launch = partial(self._request, leg, call), partial(self._launch, leg)
        answer = partial(self._answered, leg, leg.dialog.local_cseq)
        Attempts(self._core, build, launch, answer, self._late).start(leg.others, now)

    def _launch(self, leg: Leg, request: Request, way: Way, answer: Answer, now: float) -> InviteClient:
        leg.calling = self._core.send_invite(request, way, answer, now)
        return leg.calling

    def _request(self, leg: Leg, call: Invite, way: Way) -> Request:
        dialog, core = leg.dialog, self._core
        dialog.start_anew(str(call.to), call.uri, way)
        dialog.contact = core.settings.contact_for(way)
        if way != leg.home:
            leg.challenges, leg.authorization = 0, None  # the last one's
        leg.home, leg.early = way, None
        leg.peer = leg.peer or core.access.trunk_of(host_of(way))
        request = dialog.request("INVITE", dialog.local_cseq)
        headers = request.headers
        for name, value in call.headers:
            headers.add(name, value)
        headers.add("Contact", core.contact(dialog))
        headers.add("Allow", ALLOW)
        headers.add("Supported", wanted(leg.peer))
        for name, value in self._sessions.ask(leg):
            headers.add(name, value)
        headers.add("User-Agent", core.settings.user_agent)
        if leg.authorization is not None:
            headers.add(*leg.authorization)
        headers.add("Content-Type", "application/sdp")
        request.body = str(call.sdp).encode()
        return request

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
        else:
            self._core.release(leg)

    def _provisional(self, leg: Leg, response: Response, now: float) -> None:
        if leg.phase is Phase.CANCELLING and leg.calling is not None and not leg.cancelled:
            self._send_cancel(leg, leg.calling, now)
        elif leg.phase is Phase.CALLING:
            if "RSeq" in response.headers:
                if not self._provisionals.acknowledge(leg, response, now):
                    return
                leg.dialog.establish(response)
                self._core.find_way(leg)
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
            self._sessions.answered(leg, response, now)
            # Many a trunk answers in the 183 and sends a 200 without a body.
            self._core.out.append(Answered(leg.id, sdp_of(response) or leg.early, response))
            return
        if leg.phase is Phase.CANCELLING:
            self._fail(leg, 487, response)
        self._byes.refuse_fork(leg, response, cseq, now)

    def _refused(self, leg: Leg, response: Response, now: float) -> None:
        if leg.phase is Phase.CALLING and leg.call is not None and self._goes_on(leg, response):
            leg.others.insert(0, leg.home)
            self._send(leg, leg.call, now)
        elif leg.phase in (Phase.CALLING, Phase.CANCELLING):
            self._fail(leg, response.status, response)
        else:
            self._core.release(leg)

    def _goes_on(self, leg: Leg, response: Response) -> bool:
        """Whether the INVITE is to be sent once more: with credentials, or with a longer session interval."""
        return self._core.authorise(leg, "INVITE", response) or self._sessions.obeys(leg, response)

    def _fail(self, leg: Leg, status: int, response: Response | None) -> None:
        self._core.close(leg)
        self._core.release(leg)
        self._core.out.append(Failed(leg.id, status, response.reason if response is not None else None, response))

    def _late(self, calling: InviteClient, response: Response, now: float) -> None:
        """A target that was given up answers after all: CANCEL (RFC 3261 9.1), or ACK and BYE (13.2.2.4)."""
        if response.status < 200 and not calling.deadlines:  # the first: those that follow find LIMIT set
            calling.limit(now)
            self._core.send_cancel(cancel_for(calling.request), calling.way, _no_matter, now)
        elif 200 <= response.status < 300:
            self._byes.refuse_stray(response, calling.way, now)

    # CANCEL

    def cancel(self, leg: Leg, reason: str | None, now: float) -> None:
        """The user hangs up; Failed follows. Before any provisional response the CANCEL is held (RFC 3261 9.1)."""
        leg.phase = Phase.CANCELLING
        leg.reason = reason
        leg.others.clear()
        if leg.calling is None:
            self._fail(leg, 487, None)  # where it goes was not found out yet
        elif leg.calling.state is State.PROCEEDING:
            self._send_cancel(leg, leg.calling, now)

    def abandon(self, leg: Leg, now: float) -> None:
        """The same for a leg that the user knows no more: another dialog took its place."""
        if leg.calling is not None:
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


def _no_matter(response: Response | Lost, now: float) -> None:
    """Whatever is said to a CANCEL of what nobody waits for."""
