"""Legs as they are kept over a restart: plain values that JSON can hold, and the legs made of them again.

Whatever the user knows of a leg comes back, in any phase: a dialog with the 2xx that still waits for its ACK, a phone
that rings for us, a caller who hears ringing. What does not come back is lost without harm: the transactions of
requests within a dialog (they are sent again, or asked again), and the BYE of a leg that is over for the user.

Times are those of the machine's monotonic clock, which goes on when a process does not (but not when the machine is
started anew).
"""

from dataclasses import dataclass
from enum import StrEnum

from siaga_pbx.sip.access import Own, Peer, Seat, Trunk
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.core import Core, sdp_of
from siaga_pbx.sip.dialog import Dialog
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import LegId
from siaga_pbx.sip.flow import Address, Flow, Target, Transport, Way
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.leg import Leg, Phase, Unacked
from siaga_pbx.sip.message import Request, Response, parse
from siaga_pbx.sip.options import Account, Invite
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.sessions import Sessions
from siaga_pbx.sip.table import server_key
from siaga_pbx.sip.transaction import InviteServer, State
from siaga_pbx.sip.uac import Uac
from siaga_pbx.sip.uas import Uas

CSEQ_MARGIN = 100
"""What was sent since the snapshot used up numbers that it does not know. A gap in them is no error (RFC 3261 12.2.2);
a number that was used before is one (500)."""


class Stage(StrEnum):
    """The phases that are kept."""

    INCOMING = "incoming"
    CALLING = "calling"
    CANCELLING = "cancelling"
    TALKING = "talking"


_STAGES = {
    Phase.INCOMING: Stage.INCOMING,
    Phase.CALLING: Stage.CALLING,
    Phase.CANCELLING: Stage.CANCELLING,
    Phase.TALKING: Stage.TALKING,
}


@dataclass(frozen=True, slots=True)
class StoredWay:
    """A Flow of UDP if it has a `local`, else a Target: a connection does not outlive its process."""

    transport: Transport
    host: str
    port: int
    local: Address | None = None
    name: str = ""

    @classmethod
    def of(cls, way: Way) -> "StoredWay":
        if isinstance(way, Target):
            return cls(way.transport, way.host, way.port, name=way.name)
        return cls(way.transport, *way.remote, way.local if way.transport == "udp" else None)

    def way(self) -> Way:
        if self.local is not None:
            return Flow(self.transport, self.local, (self.host, self.port))
        return Target(self.transport, self.host, self.port, name=self.name)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A 2xx of ours that waits for its ACK, no longer than `until`."""

    text: str
    way: StoredWay
    until: float
    expects_answer: bool


@dataclass(frozen=True, slots=True)
class StoredInvite:
    """An INVITE without a final response, theirs or ours, and the way that goes with it.

    `rings`: a response of more than 100 is sent, or any at all has come.
    """

    text: str
    way: StoredWay
    rings: bool


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session timer that runs (RFC 4028). `described` is what a refresh by re-INVITE says."""

    interval: int
    ours: bool
    updates: bool
    expires_at: float
    described: str | None


@dataclass(frozen=True, slots=True)
class StoredLeg:
    """One leg. A message is text in which each character is a byte.

    `ours`: the INVITE that made it was ours. `rseq`: the number of our last reliable provisional response.
    """

    id: LegId
    stage: Stage
    trunk: str | None
    seat: str | None
    own: bool
    ours: bool
    call_id: str
    local_tag: str
    remote_tag: str
    local: str
    remote: str
    target: str
    contact: Address
    routes: tuple[str, ...]
    local_cseq: int
    remote_cseq: int | None
    home: StoredWay
    direct: bool
    confirmed: bool
    invite: StoredInvite | None = None
    early: str | None = None
    reason: str | None = None
    unacked: tuple[StoredAnswer, ...] = ()
    rseq: int | None = None
    session: StoredSession | None = None


def offer_of(stored: StoredLeg) -> Sdp | None:
    """The offer of their INVITE, if it has no final response yet. Raises RemoteError for one that cannot be read."""
    invite = _read_invite(stored) if stored.stage is Stage.INCOMING else None
    return sdp_of(invite) if invite is not None else None


class Snapshots:
    """Takes legs out of a core, and puts them into another one."""

    __slots__ = ("_acks", "_core", "_sessions", "_uac", "_uas")

    def __init__(self, core: Core, acks: Acks, uas: Uas, uac: Uac, sessions: Sessions) -> None:
        self._core = core
        self._acks = acks
        self._sessions = sessions
        self._uas = uas
        self._uac = uac

    def take(self, leg: Leg) -> StoredLeg:
        """A leg as it is, unless it is LEAVING."""
        dialog, peer = leg.dialog, leg.peer
        return StoredLeg(
            id=leg.id,
            stage=_STAGES[leg.phase],
            trunk=peer.id if isinstance(peer, Trunk) else None,
            seat=peer.id if isinstance(peer, Seat) else None,
            own=isinstance(peer, Own),
            ours=leg.call is not None,
            call_id=dialog.call_id,
            local_tag=dialog.local_tag,
            remote_tag=dialog.remote_tag,
            local=dialog.local,
            remote=dialog.remote,
            target=str(dialog.target),
            contact=dialog.contact,
            routes=tuple([str(route) for route in dialog.routes]),
            local_cseq=dialog.local_cseq,
            remote_cseq=dialog.remote_cseq,
            home=StoredWay.of(leg.home),
            direct=leg.direct,
            confirmed=leg.confirmed,
            invite=_invite_of(leg),
            early=str(leg.early) if leg.early is not None else None,
            reason=leg.reason,
            unacked=tuple([_answer_of(each) for each in leg.unacked.values()]),
            rseq=leg.reliable.number if leg.reliable is not None and leg.incoming is not None else None,
            session=_session_of(leg),
        )

    def restore(self, stored: StoredLeg, account: Account | None, now: float) -> None:
        """The leg again, under the same name. Raises RemoteError for one that cannot be read; nothing is left of it.

        A call of ours that was being cancelled is cancelled again, a 2xx that waits for its ACK is sent again.
        """
        core = self._core
        if stored.id in core.legs or stored.local_tag in core.dialogs:
            return
        invite = _read_invite(stored)
        answers = [(_read_answer(each), each) for each in stored.unacked]
        leg = _leg_of(stored, invite, account)
        core.add(leg)
        match stored.stage, invite, stored.invite:
            case Stage.INCOMING, Request(), StoredInvite(way=way, rings=rings):
                core.find_way(leg)
                self._uas.resume(leg, invite, way.way(), rings, stored.rseq, now)
            case ((Stage.CALLING | Stage.CANCELLING), Request(), StoredInvite(way=way, rings=rings)):
                self._uac.resume(leg, invite, way.way(), rings, now)
                if stored.stage is Stage.CANCELLING:
                    self._uac.cancel(leg, stored.reason, now)
            case _:
                core.find_way(leg)
        if (session := stored.session) is not None:
            leg.described = Sdp.parse(session.described) if session.described is not None else None
            self._sessions.resume(leg, session.interval, session.ours, session.updates, session.expires_at, now)
        for response, each in answers:
            self._answer_again(leg, response, each, now)

    def _answer_again(self, leg: Leg, response: Response, stored: StoredAnswer, now: float) -> None:
        """The 2xx and its transaction, which takes the INVITEs that still come again for what they are."""
        core, way, data = self._core, stored.way.way(), stored.text.encode("latin-1")
        key = server_key(response, "INVITE")
        transaction = InviteServer(way, b"", core.settings.timers, key, leg.dialog.local_tag)
        core.table.add(transaction)
        core.carry_out(transaction, transaction.respond(response.status, data, now), now)
        self._acks.expect(leg, response.cseq.number, way, data, stored.expects_answer, now)
        leg.unacked[response.cseq.number].give_up = min(stored.until, now + core.settings.timers.give_up)


def _invite_of(leg: Leg) -> StoredInvite | None:
    if leg.incoming is not None:
        transaction = leg.incoming.transaction
        return StoredInvite(
            _text(bytes(leg.incoming.request)), StoredWay.of(transaction.way), rings=leg.alarm is not None
        )
    if leg.calling is not None and leg.phase is not Phase.TALKING:  # a re-INVITE is not worth it: it may be asked again
        rings = leg.calling.state is State.PROCEEDING
        return StoredInvite(_text(leg.calling.data), StoredWay.of(leg.calling.way), rings)
    return None


def _answer_of(unacked: Unacked) -> StoredAnswer:
    way = StoredWay.of(unacked.way)
    return StoredAnswer(_text(unacked.data), way, unacked.give_up, unacked.expects_answer)


def _session_of(leg: Leg) -> StoredSession | None:
    session, described = leg.session, leg.described
    if session is None:
        return None
    text = str(described) if described is not None else None
    return StoredSession(session.interval, session.ours, session.updates, session.expires_at, text)


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _read_invite(stored: StoredLeg) -> Request | None:
    if stored.invite is None:
        if stored.stage is not Stage.TALKING:
            raise RemoteError("snapshot", f"{stored.stage} without an INVITE")
        return None
    message = parse(stored.invite.text.encode("latin-1"))
    if not isinstance(message, Request):
        raise RemoteError("snapshot", "an INVITE that is none")
    return message


def _read_answer(stored: StoredAnswer) -> Response:
    message = parse(stored.text.encode("latin-1"))
    if not isinstance(message, Response):
        raise RemoteError("snapshot", "a 2xx that is none")
    return message


def _leg_of(stored: StoredLeg, invite: Request | None, account: Account | None) -> Leg:
    home, target = stored.home.way(), NameAddr.salvage(f"<{stored.target}>").uri
    dialog = Dialog(
        call_id=stored.call_id,
        local_tag=stored.local_tag,
        local=stored.local,
        remote=stored.remote,
        target=target,
        way=home,
        contact=stored.contact,
        remote_tag=stored.remote_tag,
        routes=tuple([NameAddr.parse(route) for route in stored.routes]),
        local_cseq=stored.local_cseq + CSEQ_MARGIN,
        remote_cseq=stored.remote_cseq,
    )
    call = None
    if stored.ours:
        local, remote = NameAddr.salvage(stored.local), NameAddr.salvage(stored.remote)
        sdp = sdp_of(invite) if invite is not None else None
        call = Invite(home, target, remote, local, sdp or Sdp(()), account=account)
    return Leg(
        stored.id,
        _peer_of(stored),
        _PHASES[stored.stage],
        dialog,
        home=home,
        direct=stored.direct,
        confirmed=stored.confirmed,
        call=call,
        early=Sdp.parse(stored.early) if stored.early is not None else None,
        reason=stored.reason,
    )


_PHASES = {stage: phase for phase, stage in _STAGES.items()} | {Stage.CANCELLING: Phase.CALLING}


def _peer_of(stored: StoredLeg) -> Peer | None:
    if stored.trunk is not None:
        return Trunk(stored.trunk)
    if stored.seat is not None:
        return Seat(stored.seat)
    return Own() if stored.own else None
