"""The 2xx to an INVITE and its ACK, both ways: end to end, so the dialog's and not a transaction's (RFC 3261 13)."""

from collections.abc import Callable
from functools import partial

from siaga_pbx.sip.core import Core, sdp_of
from siaga_pbx.sip.events import Confirmed, Reanswered, Send, Unacknowledged
from siaga_pbx.sip.flow import Way
from siaga_pbx.sip.leg import Leg, Phase, Unacked
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.transaction import RECEIVED_AGAIN, SENT_AGAIN


class Acks:
    """`on_free` is told when a 2xx of ours is acknowledged or given up: what waited for that may go."""

    __slots__ = ("_core", "_on_free")

    def __init__(self, core: Core, on_free: Callable[[Leg, float], None]) -> None:
        self._core = core
        self._on_free = on_free

    # Our 2xx, their ACK

    def expect(self, leg: Leg, cseq: int, way: Way, data: bytes, expects_answer: bool, now: float) -> None:
        """A 2xx was sent: it is sent again, T1 doubling to T2, until its ACK or for 64*T1 (RFC 3261 13.3.1.4)."""
        timers = self._core.settings.timers
        alarm = self._core.alarm(now + timers.t1, partial(self._send_again, leg, cseq))
        leg.unacked[cseq] = Unacked(data, way, timers.t1, now + timers.give_up, expects_answer, alarm)

    def _send_again(self, leg: Leg, cseq: int, now: float) -> None:
        unacked = leg.unacked[cseq]
        if now < unacked.give_up:
            self._core.out += (Send(unacked.way, unacked.data), SENT_AGAIN)
            unacked.interval = min(2 * unacked.interval, self._core.settings.timers.t2)
            unacked.alarm.at = min(now + unacked.interval, unacked.give_up)
            return
        # The leg stays: an ACK that is lost for good says nothing about the caller (DESIGN 3.7).
        del leg.unacked[cseq]
        unacked.alarm.at = None
        if leg.phase is Phase.TALKING:
            self._core.out.append(Unacknowledged(leg.id))
        self._on_free(leg, now)

    def receive(self, leg: Leg, request: Request, now: float) -> None:
        """An ACK to a 2xx of ours."""
        unacked = leg.unacked.pop(request.cseq.number, None)
        if unacked is None:
            return
        unacked.alarm.at = None
        if leg.phase is Phase.TALKING:
            sdp = sdp_of(request) if unacked.expects_answer else None
            if not leg.confirmed:
                leg.confirmed = True
                self._core.out.append(Confirmed(leg.id, sdp))
            elif unacked.expects_answer:
                self._core.out.append(Reanswered(leg.id, sdp))
        self._on_free(leg, now)

    # Their 2xx, our ACK

    def send(self, leg: Leg, response: Response, cseq: int) -> None:
        """The ACK of a 2xx to our INVITE; kept, for the 2xx comes again if it is lost."""
        request = leg.dialog.request("ACK", cseq)
        if leg.authorization is not None:
            request.headers.add(*leg.authorization)  # RFC 3261 22.1
        leg.keep_ack(response.to.tag or "", cseq, self._core.send_ack(request, leg.dialog.way))

    def send_again(self, leg: Leg, response: Response, cseq: int) -> bool:
        """The same again for a 2xx that came again; False if it is the first of its kind."""
        data = leg.acks.get((response.to.tag or "", cseq))
        if data is None:
            return False
        self._core.out += (Send(leg.dialog.way, data), RECEIVED_AGAIN)
        return True
