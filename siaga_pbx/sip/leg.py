"""A leg: one side of a call as the user sees it, from its INVITE to its Ended or Failed."""

from dataclasses import dataclass, field
from enum import Enum, auto

from siaga_pbx.sip.access import Peer
from siaga_pbx.sip.deadlines import Alarm
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.events import LegId
from siaga_pbx.sip.flow import Way
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.transaction import InviteClient, InviteServer, Server

MAX_ACKS = 16
"""A 2xx comes again for 32 s at most: of more forks or offers than this in that time, the oldest are forgotten."""


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
    """A 2xx to an INVITE, sent until its ACK comes, on a reliable transport too: it is end to end."""

    data: bytes
    way: Way
    interval: float
    give_up: float
    expects_answer: bool
    alarm: Alarm


@dataclass(slots=True, eq=False)
class Session:
    """A session timer that runs (RFC 4028). `interval` in seconds, `expires_at` when a refresh is missed."""

    interval: int
    ours: bool
    """We refresh, not they."""
    updates: bool
    """The peer takes UPDATE."""
    expires_at: float
    alarm: Alarm
    missed: bool = False
    """The user was told that a refresh is missed."""
    asking: bool = False
    """An UPDATE of ours is out."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Their INVITE. `offerless`: our offer goes into the 200, their answer comes in the ACK."""

    request: Request
    transaction: InviteServer
    offerless: bool


@dataclass(slots=True, eq=False)
class Reliable:
    """What became of the reliable provisional responses to their INVITE (RFC 3262 3), one at a time.

    `number` is the RSeq of the last. `waits`: their preconditions are not met (RFC 3312).
    """

    number: int
    waits: bool = False
    offer: Sdp | None = None
    """What a provisional is to carry: our answer, or our offer if they made none."""
    described: bool = False
    """One that carried it was sent, and `agreed`: acknowledged."""
    agreed: bool = False
    rings: bool = False
    """A 180 is to be sent."""
    answer: Sdp | None = None
    """The user has answered: the 200 waits for what has to come before it. `held`: it has waited."""
    held: bool = False
    unacked: "Unacked | None" = None
    """The one that waits for its PRACK."""


@dataclass(slots=True, eq=False)
class Leg:
    """Mutable, and touched by the core only."""

    id: LegId
    peer: Peer | None
    phase: Phase
    dialog: Dialog
    home: Way
    """Where the INVITE came from, or went to."""
    direct: bool
    """No NAT was seen between us and the peer."""

    confirmed: bool = True
    """False on a server leg until the ACK to our 200."""
    incoming: Incoming | None = None
    """Their INVITE, while INCOMING."""

    call: Invite | None = None
    """Our INVITE."""
    calling: InviteClient | None = None
    """Its transaction, or that of a re-INVITE of ours, until the final response."""
    updating: bool = False
    """An UPDATE of ours with an offer is out."""
    asks: int = 0
    """The session interval that our INVITE asks for, 0 for none; `refused_interval`: a 422 made it longer."""
    refused_interval: bool = False
    rseqs: dict[str, int] | None = None
    """The last reliable provisional response that we acknowledged, by To tag."""
    cancelled: bool = False
    """Its CANCEL is sent."""
    early: Sdp | None = None
    """The answer of a provisional response."""
    authorization: tuple[str, str] | None = None
    """The header that answered the last challenge."""
    challenges: int = 0
    """How many challenges were answered in a row."""

    unacked: dict[int, Unacked] = field(default_factory=dict)
    """Our 2xx that wait for their ACK, by CSeq."""
    acks: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Our ACKs, by To tag and CSeq: a 2xx that comes again is answered with the same."""
    reliable: Reliable | None = None
    """On a server leg whose caller requires 100rel, or has preconditions."""
    session: Session | None = None
    described: Sdp | None = None
    """Our last description: what a refresh by re-INVITE says again."""
    heir: "Leg | None" = None
    """The dialog of an INVITE with Replaces that the user has not accepted yet (RFC 3891)."""
    heir_of: "Leg | None" = None

    offered: tuple[InviteServer | Server, Request] | None = None
    """Their re-INVITE or UPDATE that the user has not answered."""
    wanted: Sdp | None = None
    """Our offer that waits for the dialog to be free."""
    others: list[Way] = field(default_factory=list)
    """Where our INVITE goes next if it fails where it is."""
    reason: str | None = None
    """The Reason of a BYE or CANCEL that is held back."""
    alarm: Alarm | None = None
    """What the phase waits for: the next 180, the end of preconditions' or a CANCEL's grace."""
    turn: Alarm | None = None
    """Our turn to offer again, after a 491."""

    def keep_ack(self, tag: str, cseq: int, data: bytes) -> None:
        self.acks[tag, cseq] = data
        if len(self.acks) > MAX_ACKS:
            del self.acks[next(iter(self.acks))]

    def stop_waiting(self) -> None:
        if self.alarm is not None:
            self.alarm.at = None
            self.alarm = None

    def stop_session(self) -> None:
        if self.session is not None:
            self.session.alarm.at = None
            self.session = None

    def stop(self) -> None:
        """No timer but those of what is owed to the wire."""
        self.stop_waiting()
        self.stop_session()
        if self.turn is not None:
            self.turn.at = None
            self.turn = None
        if self.reliable is not None and self.reliable.unacked is not None:
            self.reliable.unacked.alarm.at = None
            self.reliable.unacked = None
