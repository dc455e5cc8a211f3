"""Offer and answer on any leg (RFC 3264): what is agreed goes to the media worker, at first and when it changes."""

from siaga_pbx.legs import Leg
from siaga_pbx.sip.events import Confirmed, Reanswered
from siaga_pbx.sip.sdp import NoCommonCodec, NoSecurity, Sdp
from siaga_pbx.tools import Tools


def agree(tools: Tools, leg: Leg, answer: Sdp | None) -> bool:
    """Takes the answer to an offer of ours: in a 200, or in the ACK. False when there is no audio by it."""
    if leg.ours is None:
        # Agreed before it was answered: by an UPDATE (RFC 3311), or by who took its place (RFC 3891).
        return leg.remote is not None
    try:
        agreed = leg.agree(answer)
    except NoCommonCodec as error:
        agreed = False
        if isinstance(error, NoSecurity):
            tools.legs.unprotected(leg, error.detail)
    if agreed:
        tools.legs.connect(leg)
    return agreed


def confirmed(tools: Tools, leg: Leg, event: Confirmed | Reanswered) -> bool:
    """Takes the answer to an offer of ours in the ACK, or to one within the call; False when there is no audio by it.

    The stack refreshes a session by saying again what we said last: that is answered too, perhaps by another address.
    """
    if leg.ours is None and event.sdp is not None and isinstance(event, Reanswered):
        leg.ours = leg.told
    return leg.ours is None or agree(tools, leg, event.sdp)


def seat_address(tools: Tools, seat: str) -> str | None:
    """Where a seat's phone is now: it may have moved to another network since its call began."""
    binding = tools.stack.binding(seat)
    return binding.source.remote[0] if binding is not None else None


def seat_transport(tools: Tools, seat: str) -> str | None:
    """What a seat's SIP goes over."""
    binding = tools.stack.binding(seat)
    return binding.source.transport if binding is not None else None


def reoffered(tools: Tools, leg: Leg, offer: Sdp | None) -> None:
    """A re-INVITE or UPDATE: a refresh, a hold, a new address. Answered at once."""
    if leg.seat is not None:
        leg.peer = seat_address(tools, leg.seat) or leg.peer
    try:
        ours = leg.reply(offer)
    except NoCommonCodec:
        tools.perform(tools.stack.refuse(leg.id, 488, tools.now()))
        return
    tools.perform(tools.stack.accept(leg.id, ours, tools.now()))
    tools.legs.connect(leg)
