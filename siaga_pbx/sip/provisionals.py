"""Reliable provisional responses, ours and theirs (RFC 3262)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from siaga_pbx.sip.core import Core, Extra, sdp_of
from siaga_pbx.sip.events import Offered, Reanswered, Send
from siaga_pbx.sip.extensions import required, supports
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.leg import Incoming, Leg, Reliable, Unacked
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.sessions import read_seconds
from siaga_pbx.sip.transaction import SENT_AGAIN, Lost
from siaga_pbx.sip.ways import way_in_dialog

MAX_FIRST = 2**31 - 1
"""The first RSeq is below it (RFC 3262 3)."""
MAX_FORKS = 16
"""Early dialogs whose provisionals are acknowledged: no carrier rings more phones for one number."""


def wanted(request: Request, sdp: Sdp | None, below: Callable[[int], int]) -> Reliable | None:
    """How the provisional responses to an INVITE are to be sent: None means as ever.

    Reliably if it requires that; or if it can have it and its preconditions want it (RFC 3312 5.1.1: what is agreed
    on before anybody is alerted must not get lost).
    """
    waits = sdp is not None and sdp.waits and supports(request, "100rel")
    if not waits and "100rel" not in map(str.lower, required(request)):
        return None
    return Reliable(below(MAX_FIRST), waits)


class Provisionals:
    """`advance` is called when one of ours is acknowledged or given up: what waited for that may go."""

    __slots__ = ("_advance", "_core")

    def __init__(self, core: Core, advance: Callable[[Leg, float], None]) -> None:
        self._core = core
        self._advance = advance

    # Ours

    def number(self, reliable: Reliable) -> Extra:
        """The headers of the next one."""
        reliable.number += 1
        return (("Require", "100rel"), ("RSeq", str(reliable.number)))

    def expect(self, leg: Leg, reliable: Reliable, incoming: Incoming, data: bytes, now: float) -> None:
        """One was sent: again and again, T1 doubling, until its PRACK or for 64*T1; over TCP too: it is end to end."""
        timers, way = self._core.settings.timers, incoming.transaction.way
        alarm = self._core.alarm(now + timers.t1, partial(self._send_again, leg, reliable))
        reliable.unacked = Unacked(data, way, timers.t1, now + timers.give_up, incoming.offerless, alarm)

    def _send_again(self, leg: Leg, reliable: Reliable, now: float) -> None:
        unacked = reliable.unacked
        if unacked is None:
            return
        if now < unacked.give_up:
            self._core.out += (Send(unacked.way, unacked.data), SENT_AGAIN)
            unacked.interval *= 2
            unacked.alarm.at = min(now + unacked.interval, unacked.give_up)
            return
        # RFC 3262 3 has a 5xx here. The caller is served without: who sent an INVITE can hear a 200 too.
        reliable.unacked = None
        reliable.waits = False
        self._advance(leg, now)

    def stop(self, reliable: Reliable) -> None:
        """A final response goes: what was not acknowledged is no longer sent, but its PRACK is still taken."""
        if reliable.unacked is not None:
            reliable.unacked.alarm.at = None
            reliable.unacked = None

    def receive(self, leg: Leg, request: Request, flow: Flow, now: float) -> None:
        """A PRACK. One for a response that we did send gets its 200 however often it comes; else 481."""
        core, reliable = self._core, leg.reliable
        number = _acknowledged(request)
        if reliable is None:
            # We sent nothing reliably, so there is nothing to match: but a caller's oddity is no reason for a 481,
            # which some take for the end of the dialog (RFC 5057).
            core.reply(request, flow, 200, now)
        elif number is None or number > reliable.number:
            core.reply(request, flow, 481, now)
        elif reliable.unacked is None or number != reliable.number:
            core.reply(request, flow, 200, now)
        else:
            self._acknowledge(leg, reliable, reliable.unacked, request, flow, now)

    def _acknowledge(
        self, leg: Leg, reliable: Reliable, unacked: Unacked, request: Request, flow: Flow, now: float
    ) -> None:
        core = self._core
        self.stop(reliable)
        first = reliable.described and not reliable.agreed
        reliable.agreed = reliable.described
        sdp = sdp_of(request)
        if sdp is not None and reliable.agreed and not (first and unacked.expects_answer):
            # A new offer (RFC 3262 5): its answer is the 200 to the PRACK.
            leg.offered = (core.serve(request, flow), request)
            core.out.append(Offered(leg.id, sdp, request))
            return
        core.reply(request, flow, 200, now)
        if first and unacked.expects_answer:
            core.out.append(Reanswered(leg.id, sdp))
        self._advance(leg, now)

    # Theirs

    def acknowledge(self, leg: Leg, response: Response, now: float) -> bool:
        """A PRACK for a reliable provisional response; False if it is to be passed over: it came already, or too early.

        They are acknowledged in order (RFC 3262 4). It makes the dialog one that we can send requests in.
        """
        number = read_seconds(response, "RSeq")
        if number is None or not response.to.tag:
            return True
        tag = response.to.tag
        rseqs = leg.rseqs = {} if leg.rseqs is None else leg.rseqs
        last = rseqs.get(tag)
        if (last is not None and number != last + 1) or (last is None and len(rseqs) >= MAX_FORKS):
            return False
        rseqs[tag] = number
        core = self._core
        dialog = replace(leg.dialog)
        dialog.establish(response)
        leg.dialog.local_cseq += 1
        prack = dialog.request("PRACK", leg.dialog.local_cseq)
        prack.headers.add("RAck", f"{number} {response.cseq.number} INVITE")
        if leg.authorization is not None:
            prack.headers.add(*leg.authorization)
        way = way_in_dialog(dialog.next_hop(), leg.home, leg.peer, leg.direct, core.access)
        core.send(prack, way, _no_matter, now)
        return True


def _acknowledged(request: Request) -> int | None:
    """The RSeq that a PRACK names; None if it is unreadable."""
    words = (request.headers.get("RAck") or "").split()
    if len(words) != 3 or words[2].upper() != "INVITE" or not all(w.isascii() and w.isdigit() for w in words[:2]):
        return None
    return int(words[0]) if len(words[0]) <= 10 else None


def _no_matter(response: Response | Lost, now: float) -> None:
    """Whatever is said to a PRACK: the response that it was for has done its work."""
