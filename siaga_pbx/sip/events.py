"""What the stack tells its user. Every leg ends with exactly one `Ended` or `Failed`; after it the leg's id is unknown.

A server leg (their INVITE):  IncomingCall, then Confirmed or Unacknowledged once answered (AnswerSent before, if the
                              answer had to wait), then Ended
A client leg (our INVITE):    Ringing*, then Failed, or Answered and later Ended
Both once answered:           Offered (answer it with accept or refuse), Reanswered, OfferRefused, Info, Checked,
                              SessionMissed, SessionRefreshed
Before that too:              Offered and Reanswered, when the first description is agreed early (RFC 3262, 3311)
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.binding import Binding
from siaga_pbx.sip.flow import Flow, Hop, Way
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import Sdp

LegId: TypeAlias = str


class By(StrEnum):
    """Who ended a leg."""

    REMOTE = "remote"
    LOCAL = "local"
    FAULT = "fault"


class Gone(StrEnum):
    """Why a seat has no registered contact any more."""

    EXPIRED = "expired"
    REMOVED = "removed"
    UNCONFIGURED = "unconfigured"


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes to put on the wire: back down a Flow, or to a Target (its connection while it is open, else a new one)."""

    target: Way
    data: bytes


@dataclass(frozen=True, slots=True)
class Resolve:
    """The targets of a name are wanted (RFC 3263): give them to `Stack.resolved` with the token, once, none if none."""

    token: str
    hop: Hop


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A new INVITE; 100 is sent. Call ring, answer or reject next. `sdp` None: no readable offer; answer with one."""

    leg: LegId
    request: Request
    peer: Peer
    flow: Flow
    sdp: Sdp | None


@dataclass(frozen=True, slots=True)
class Ringing:
    """A provisional response above 100 to our INVITE, with the early answer if it carried one."""

    leg: LegId
    status: int
    sdp: Sdp | None


@dataclass(frozen=True, slots=True)
class Answered:
    """Our INVITE was answered and the ACK is sent. `sdp` is their answer, None if none came that can be read.

    `response` None: an INVITE of theirs took the place of ours (RFC 3891); what it offered is agreed already.
    """

    leg: LegId
    sdp: Sdp | None
    response: Response | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Our INVITE failed: their status, or 408 (silence), 503 (no way), 480 (no contact), 487 (we hung up)."""

    leg: LegId
    status: int
    reason: str | None
    response: Response | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The ACK to our 200. `sdp` is their answer when the 200 carried our offer."""

    leg: LegId
    sdp: Sdp | None


@dataclass(frozen=True, slots=True)
class AnswerSent:
    """The 200 of `answer` is sent only now: a PRACK or the caller's preconditions had to come before it."""

    leg: LegId


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """No ACK to our 200 in 64*T1: it is no longer sent, the leg stays."""

    leg: LegId


@dataclass(frozen=True, slots=True)
class Offered:
    """A re-INVITE or UPDATE: answer it with accept or refuse. `sdp` None: they ask for our offer."""

    leg: LegId
    sdp: Sdp | None
    request: Request


@dataclass(frozen=True, slots=True)
class Refreshed:
    """An UPDATE without an offer, but with something else in it, as where the caller is by now. It is answered."""

    leg: LegId
    request: Request


@dataclass(frozen=True, slots=True)
class Reanswered:
    """Their answer to our offer in a running dialog."""

    leg: LegId
    sdp: Sdp | None


@dataclass(frozen=True, slots=True)
class OfferRefused:
    """Our offer in a running dialog was refused or not answered (408); the session stays as it was."""

    leg: LegId
    status: int


@dataclass(frozen=True, slots=True)
class SessionMissed:
    """The session was not refreshed in time (RFC 4028), or the peer knows it no more (`status` 481).

    The leg stays: hang it up if its audio has stopped too. Told again every interval until SessionRefreshed.
    """

    leg: LegId
    status: int | None


@dataclass(frozen=True, slots=True)
class SessionRefreshed:
    """A session that was missed is refreshed after all."""

    leg: LegId


@dataclass(frozen=True, slots=True)
class Ended:
    """The leg is over. `status`: the SIP status that says so, if any; `reason`: a Reason header, theirs or ours."""

    leg: LegId
    by: By
    status: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Info:
    """A SIP INFO within the leg (RFC 6086; RFC 4733 digits of phones that send them so)."""

    leg: LegId
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """The leg answered our in-dialog OPTIONS. (If it does not, the leg ends: Ended by a fault.)"""

    leg: LegId
    status: int


@dataclass(frozen=True, slots=True)
class Registered:
    """A seat registered or refreshed its contact. `fresh`: it had none before."""

    seat: str
    binding: Binding
    fresh: bool


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The seat's last contact is gone."""

    seat: str
    cause: Gone


@dataclass(frozen=True, slots=True)
class OptionsOutcome:
    """What came of `options`: any response at all means alive; `status` is 408 for silence, 503 for no way there."""

    token: str
    alive: bool
    status: int


@dataclass(frozen=True, slots=True)
class Noted:
    """An oddity of a leg that was let pass, for the record: kind is a slug, detail the text as received."""

    leg: LegId
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Something for a metric: name is malformed, dropped, retransmission or auth_failed; reason a short slug."""

    name: str
    reason: str


Event: TypeAlias = (
    IncomingCall
    | Ringing
    | Answered
    | Failed
    | Confirmed
    | AnswerSent
    | Unacknowledged
    | Offered
    | Refreshed
    | Reanswered
    | OfferRefused
    | SessionMissed
    | SessionRefreshed
    | Ended
    | Info
    | Checked
    | Registered
    | Unregistered
    | OptionsOutcome
    | Noted
    | Counted
)
Output: TypeAlias = Send | Resolve | Event
