"""The SIP core as its shell and its user see it. Pure: every input takes `now` and returns what to do about it."""

from collections.abc import Iterable

from siaga_pbx.sip.access import Seat
from siaga_pbx.sip.acks import Acks
from siaga_pbx.sip.binding import Binding, StoredBinding
from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import Core
from siaga_pbx.sip.door import Door
from siaga_pbx.sip.errors import LocalError, RemoteError
from siaga_pbx.sip.events import By, Failed, LegId, OptionsOutcome, Output
from siaga_pbx.sip.flow import Address, Flow, Hop, Target, Way, host_of
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.health import Health
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.message import Message
from siaga_pbx.sip.offers import Offers
from siaga_pbx.sip.options import Account, Entropy, Invite, StackSettings
from siaga_pbx.sip.registrar import Registrar
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.sessions import Sessions
from siaga_pbx.sip.snapshot import Snapshots, StoredLeg
from siaga_pbx.sip.succession import Succession
from siaga_pbx.sip.uac import Uac
from siaga_pbx.sip.uas import Uas
from siaga_pbx.sip.uri import Uri
from siaga_pbx.sip.ways import way_to
from siaga_pbx.sip.within import Within


class Stack:
    """Transactions, dialogs, registrar and access in one.

    Inputs come from the shell (net/), commands from the user (the switch); both return outputs in order. A command on a
    leg that is gone, or past the state that the command is for, does nothing: races are the wire's, not the caller's.
    Nothing that is received raises. Call handle_timer at next_deadline.
    """

    def __init__(self, settings: StackSettings, entropy: Entropy) -> None:
        self._core = core = Core(settings, entropy)
        self._acks = Acks(core, self._freed)
        self._byes = Byes(core)
        sessions = Sessions(core, self._reoffer)
        self._uas = Uas(core, self._acks, sessions)
        self._uac = Uac(core, self._acks, self._byes, self._uas.provisionals, sessions)
        self._offers = Offers(core, self._acks, self._byes, self._uas, sessions)
        self._succession = Succession(core, self._uas, self._uac, self._byes)
        self._registrar = Registrar(core)
        self._health = Health(core)
        self._within = Within(core, self._acks, self._byes, self._offers, self._uas)
        self._snapshots = Snapshots(core, self._acks, self._uas, self._uac, sessions)
        self._door = Door(core, self._within, self._uas, self._byes, self._registrar)

    # Inputs

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
        self._door.receive(message, flow, now)
        return self._core.take()

    def receive_malformed(self, error: RemoteError, flow: Flow, now: float) -> list[Output]:
        self._door.receive_malformed(error, flow, now)
        return self._core.take()

    def connection_closed(self, flow: Flow, now: float) -> list[Output]:
        self._registrar.connection_closed(flow, now)
        return self._core.take()

    def unreachable(self, target: Flow | Target, now: float) -> list[Output]:
        """A Send to `target` could not be done (connection refused, ICMP unreachable)."""
        self._core.lose(lambda way: way == target, now)
        return self._core.take()

    def resolved(self, token: str, targets: tuple[Target, ...], now: float) -> list[Output]:
        """The targets that a Resolve asked for, the best first."""
        if (found := self._core.finding.pop(token, None)) is not None:
            found(targets, now)
        return self._core.take()

    def handle_timer(self, now: float) -> list[Output]:
        self._core.expire(now)
        return self._core.take()

    def next_deadline(self) -> float | None:
        return self._core.deadlines.next_at()

    def configure(self, settings: StackSettings, now: float) -> list[Output]:
        """Takes new settings; running legs stay, bindings of seats that are no more go (Unregistered)."""
        self._core.configure(settings)
        self._registrar.configure(settings)
        return self._core.take()

    # Commands on a server leg

    def ring(self, leg: LegId, now: float, sdp: Sdp | None = None) -> list[Output]:
        """180, sent again every 3 s until the leg is answered or over.

        `sdp`: our answer, or our offer if they made none, for callers that have to have it before they ring (RFC 3262
        5, RFC 3312).
        """
        if (found := self._core.legs.get(leg)) is not None:
            self._uas.ring(found, sdp, now)
        return self._core.take()

    def answer(self, leg: LegId, sdp: Sdp, now: float) -> list[Output]:
        """200 with our answer (or our offer, if they made none). Confirmed or Unacknowledged follows.

        What has to come before it (a PRACK, the caller's preconditions) is waited for, some seconds at most: then it is
        not `is_answered` yet, and AnswerSent comes. `sdp` is not sent if one was agreed before.
        """
        if (found := self._core.legs.get(leg)) is not None:
            self._uas.answer(found, sdp, now)
        return self._core.take()

    def reject(
        self,
        leg: LegId,
        status: int,
        now: float,
        reason: str | None = None,
        sdp: Sdp | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> list[Output]:
        """A final response of 300 to 699; Ended(by local) comes at once."""
        if (found := self._core.legs.get(leg)) is not None:
            self._uas.finish(found, status, By.LOCAL, None, now, sdp, headers, reason)
        return self._core.take()

    # Commands on a client leg

    def invite(self, leg: LegId, call: Invite, now: float) -> list[Output]:
        """Starts a call; `leg` is the caller's own new name for it (LocalError if it is in use)."""
        self._check_new(leg)
        peer = None if isinstance(call.target, Hop) else self._core.access.trunk_of(host_of(call.target))
        self._uac.invite(leg, call, peer, True, now)
        return self._core.take()

    def invite_seat(
        self, leg: LegId, seat: str, from_: NameAddr, sdp: Sdp, now: float, headers: tuple[tuple[str, str], ...] = ()
    ) -> list[Output]:
        """Starts a call to a seat's registered contact; Failed(480) at once if it has none."""
        self._check_new(leg)
        binding = self._registrar.in_use(seat)
        if binding is None:
            return [Failed(leg, 480, "not registered")]
        routes = tuple(("Route", path) for path in binding.path)
        to = NameAddr("", binding.contact)
        call = Invite(way_to(binding), binding.contact, to, from_, sdp, (*routes, *headers))
        self._uac.invite(leg, call, Seat(seat), binding.via_is_source, now)
        return self._core.take()

    def _check_new(self, leg: LegId) -> None:
        if leg in self._core.legs:
            raise LocalError(f"leg {leg} is in use")

    # Commands on any leg

    def hang_up(self, leg: LegId, now: float, reason: str | None = None) -> list[Output]:
        """Ends a leg by what its state demands: a final response, CANCEL, or BYE. `reason`: a Reason header (RFC 3326).

        Ended comes at once, except for a client leg that is not answered: its Failed comes when the CANCEL is through.
        """
        found = self._core.legs.get(leg)
        if found is None:
            return []
        match found.phase:
            case Phase.INCOMING:
                self._uas.finish(found, 480, By.LOCAL, reason, now)
            case Phase.CALLING:
                self._uac.cancel(found, reason, now)
            case Phase.TALKING:
                self._byes.leave(found, By.LOCAL, None, reason, now)
        return self._core.take()

    def offer(self, leg: LegId, sdp: Sdp, now: float) -> list[Output]:
        """A re-INVITE, or UPDATE in an early dialog, when it is free for one. Reanswered or OfferRefused follows."""
        if (found := self._core.legs.get(leg)) is not None:
            self._offers.offer(found, sdp, now)
        return self._core.take()

    def accept(self, leg: LegId, sdp: Sdp, now: float) -> list[Output]:
        """Answers the request of an Offered event."""
        if (found := self._core.legs.get(leg)) is not None:
            if found.heir is not None:
                self._succession.accept(found, found.heir, sdp, now)
            else:
                self._offers.accept(found, sdp, now)
        return self._core.take()

    def refuse(self, leg: LegId, status: int, now: float) -> list[Output]:
        """Refuses it (488 for media that cannot be done)."""
        if (found := self._core.legs.get(leg)) is not None:
            if found.heir is not None:
                self._succession.refuse(found.heir, status, now)
            else:
                self._offers.refuse(found, status, now)
        return self._core.take()

    def lives(self, leg: LegId) -> bool:
        """Whether its Ended or Failed is still to come."""
        return leg in self._core.legs

    def is_answered(self, leg: LegId) -> bool:
        """Whether a 200 was sent or came, and it lives."""
        found = self._core.legs.get(leg)
        return found is not None and found.phase is Phase.TALKING

    def check(self, leg: LegId, now: float, *, patient: bool = False) -> list[Output]:
        """In-dialog OPTIONS: Checked, or Ended(by fault) on 481, 408 or silence; if `patient` on 481 only."""
        if (found := self._core.legs.get(leg)) is not None:
            self._within.check(found, now, patient=patient)
        return self._core.take()

    # Over a restart

    def snapshot_leg(self, leg: LegId) -> StoredLeg | None:
        """A leg as it is to be kept; None if it is gone."""
        found = self._core.legs.get(leg)
        return self._snapshots.take(found) if found is not None else None

    def restore_leg(self, stored: StoredLeg, account: Account | None, now: float) -> list[Output]:
        """Takes a leg of another life back; its events come as if nothing had been. `account` answers challenges to it.

        Raises RemoteError for what cannot be read.
        """
        self._snapshots.restore(stored, account, now)
        return self._core.take()

    # Out of any leg

    def options(self, token: str, target: Way | Hop, uri: Uri, now: float) -> list[Output]:
        """A health check; one OptionsOutcome with `token` follows."""
        self._health.check(token, target, uri, now)
        return self._core.take()

    def options_seat(self, token: str, seat: str, now: float) -> list[Output]:
        """The same to a seat's registered contact (OptionsOutcome 480 at once if it has none)."""
        binding = self._registrar.in_use(seat)
        if binding is None:
            return [OptionsOutcome(token, False, 480)]
        self._health.check(token, way_to(binding), binding.contact, now)
        return self._core.take()

    # Who is where, for the shell that sheds before it parses

    def seats_at(self, source: Address) -> int:
        """How many contacts are registered from exactly this UDP source."""
        return self._registrar.count_at(source)

    def seats_on(self, flow: Flow) -> int:
        """The same of a connection."""
        return len(self._registrar.seats_at(flow))

    def seats_behind(self, host: str) -> int:
        """How many are registered from an address, whatever port and transport."""
        return self._registrar.count_behind(host)

    def is_own(self, host: str) -> bool:
        return host in self._core.settings.own_hosts

    # Bindings

    def bindings(self) -> list[Binding]:
        """The contact in use of every registered seat."""
        return self._registrar.all_in_use()

    def binding(self, seat: str) -> Binding | None:
        """The contact in use of one seat."""
        return self._registrar.in_use(seat)

    def snapshot(self, now: float) -> list[StoredBinding]:
        """Every binding, to be stored."""
        return self._registrar.snapshot(now)

    def restore(self, stored: Iterable[StoredBinding], now: float) -> list[Output]:
        """Takes stored bindings back; Registered for each seat that has one left."""
        self._registrar.restore(stored, now)
        return self._core.take()

    def _reoffer(self, leg: Leg, now: float) -> None:
        self._offers.refresh(leg, now)

    def _freed(self, leg: Leg, now: float) -> None:
        """What waited for the ACK to a 2xx of ours: a BYE (RFC 3261 15), or an offer."""
        if leg.phase is not Phase.LEAVING:
            self._offers.send(leg, now)
        elif not leg.unacked:
            self._byes.send(leg, now)
