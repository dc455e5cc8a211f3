"""A leg: one side of a call as the user sees it, from its INVITE to its Ended or Failed."""

from dataclasses import dataclass, field
from enum import Enum, auto

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.deadlines import Alarm
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.events import LegId
from siaga_pbx.sip.flow import Flow, Way
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import Account
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.transaction import InviteClient, InviteServer, Server


class Phase(Enum):
    """INCOMING or CALLING (CANCELLING), TALKING, LEAVING. The user knows the leg in all but LEAVING."""

    INCOMING = auto()
    """Their INVITE has no final response yet."""
    CALLING = auto()
    """Our INVITE has none yet."""
    CANCELLING = auto()
    """Nor has it, and the user has hung up: its Failed is owed."""
    TALKING = auto()
    """Answered, by us or by them."""
    LEAVING = auto()
    """The user has its Ended or Failed; what remains is between us and the wire: an ACK, a BYE, a late 200."""


@dataclass(slots=True, eq=False)
class Unacked:
    """A 2xx to an INVITE, sent until its ACK comes (RFC 3261 13.3.1.4), on a reliable transport too: it is end to end."""

    data: bytes
    way: Way
    interval: float
    give_up: float
    expects_answer: bool
    alarm: Alarm


@dataclass(slots=True, eq=False)
class Leg:
    """Mutable, and touched by the core only."""

    id: LegId
    peer: Peer | None
    dialog: Dialog
    phase: Phase
    source: Flow | None = None
    account: Account | None = None
    challenges: int = 0
    """How many challenges the request under way has answered."""
    invite: InviteServer | None = None
    """Their INVITE, until it has its final response."""
    request: Request | None = None
    """That INVITE, or ours."""
    calling: InviteClient | None = None
    """Our INVITE, until it has its final response; a re-INVITE too."""
    early: Sdp | None = None
    unacked: dict[int, Unacked] = field(default_factory=dict)
    acks: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Every ACK that was sent, by To tag and CSeq: a 2xx that comes again is answered with it."""
    offered: tuple[InviteServer | Server, Request] | None = None
    """Their re-INVITE or UPDATE that the user has not answered."""
    wanted: Sdp | None = None
    """Our own offer that waits for the dialog to be free."""
    reason: str | None = None
    """The Reason header of a BYE or CANCEL that is held back."""
    alarm: Alarm | None = None
    """The one thing this phase waits for: the next 180, the end of a CANCEL's grace, the retry of an offer."""
    bye_held: bool = False
    """A BYE that waits for the ACK to our 200 (RFC 3261 15)."""
