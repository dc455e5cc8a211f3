"""The end of a dialog: BYE sent, held back and received (RFC 3261 15), and 2xx that nobody wants (13.2.2.4)."""

from dataclasses import replace
from functools import partial

from siaga_pbx.sip.core import Core, reason_of
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.events import By
from siaga_pbx.sip.flow import Flow, Way
from siaga_pbx.sip.headers import MAX_CSEQ
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.transaction import Lost


class Byes:
    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def leave(self, leg: Leg, by: By, status: int | None, reason: str | None, now: float) -> None:
        """Ends a leg that talks: Ended at once; the BYE waits for the ACK of a 200 of ours (RFC 3261 15)."""
        self._core.end(leg, by, status, reason, now)
        leg.reason = reason
        if not leg.unacked:
            self.send(leg, now)

    def send(self, leg: Leg, now: float) -> None:
        request = leg.dialog.next_request("BYE")
        if leg.reason is not None:
            request.headers.add("Reason", leg.reason)
        if leg.authorization is not None:
            request.headers.add(*leg.authorization)
        self._core.send(request, leg.dialog.way, partial(self._answered, leg), now)

    def _answered(self, leg: Leg, response: Response | Lost, now: float) -> None:
        if isinstance(response, Response) and response.status < 200:
            return
        if isinstance(response, Response) and self._core.authorise(leg, "BYE", response):
            self.send(leg, now)
        else:
            self._core.release(leg)

    def receive(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        self._core.reply(request, flow, 200, now)
        if leg.phase is not Phase.LEAVING:
            self._core.end(leg, By.REMOTE, 200, reason_of(request), now)
        self._core.release(leg)

    def refuse_fork(self, leg: Leg, response: Response, cseq: int, now: float) -> None:
        """A 2xx of another fork, or one that came too late: ACK and BYE in a dialog of its own."""
        dialog = replace(leg.dialog, local_cseq=cseq)
        dialog.establish(response)
        leg.keep_ack(dialog.remote_tag, cseq, self._refuse(dialog, cseq, now))

    def refuse_stray(self, response: Response, way: Way, now: float) -> None:
        """A 2xx of a peer that we know to an INVITE that we know no more: of before a restart, or long ago cancelled.

        If it is a late copy in a dialog that lives, the ACK is all it gets.
        """
        dialog = Dialog(
            call_id=response.call_id,
            local_tag=response.from_.tag or "",
            local=response.headers.get("From") or "",
            remote="",
            target=response.to.uri,
            way=way,
            contact=self._core.settings.contact_for(way),
            local_cseq=response.cseq.number % MAX_CSEQ,
        )
        dialog.establish(response)
        leg = self._core.dialogs.get(dialog.local_tag)
        if leg is not None and leg.dialog.is_same(dialog):
            self._core.send_ack(leg.dialog.request("ACK", response.cseq.number), leg.dialog.way)
        else:
            self._refuse(dialog, response.cseq.number, now)

    def _refuse(self, dialog: Dialog, cseq: int, now: float) -> bytes:
        ack = self._core.send_ack(dialog.request("ACK", cseq), dialog.way)
        self._core.send(dialog.next_request("BYE"), dialog.way, _no_matter, now)
        return ack


def _no_matter(response: Response | Lost, now: float) -> None:
    """Whatever is said to a BYE that ends nothing of ours."""
