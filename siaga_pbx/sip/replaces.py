"""An INVITE that takes the place of a dialog (RFC 3891): a carrier moves a call to another of its gateways."""

from collections.abc import Mapping
from dataclasses import dataclass

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.params import get_param, parse_params


@dataclass(frozen=True, slots=True)
class Replaces:
    """A Replaces header: the dialog by its Call-ID and both tags, as seen by who gets the INVITE."""

    call_id: str
    local_tag: str
    remote_tag: str
    early_only: bool


def read_replaces(request: Request) -> Replaces | None:
    """An INVITE's Replaces; None if it cannot be read, or is there twice."""
    values = request.headers.get_all("Replaces")
    if len(values) != 1:
        return None
    call_id, _, text = values[0].partition(";")
    params = parse_params(text)
    to_tag, from_tag = get_param(params, "to-tag"), get_param(params, "from-tag")
    if not call_id.strip() or not to_tag or not from_tag:
        return None
    return Replaces(call_id.strip(), to_tag, from_tag, get_param(params, "early-only") is not None)


def replaced_by(request: Request, peer: Peer, dialogs: Mapping[str, Leg]) -> Leg | int:
    """The leg whose dialog an INVITE with Replaces takes over, or the status that refuses it (RFC 3891 3).

    Only the peer that has the dialog may move it: both tags are known to whoever saw one message of it.
    """
    replaces = read_replaces(request)
    if replaces is None:
        return 400
    leg = dialogs.get(replaces.local_tag)
    if leg is None or (leg.dialog.call_id, leg.dialog.remote_tag or "0") != (replaces.call_id, replaces.remote_tag):
        return 481
    if leg.peer != peer:
        return 403
    match leg.phase:
        case Phase.LEAVING | Phase.CANCELLING:
            return 603
        case Phase.TALKING if replaces.early_only:
            return 486
        case Phase.TALKING | Phase.CALLING if leg.heir is None:
            return leg
    return 481  # an early dialog that the peer began, or one that is being replaced already
