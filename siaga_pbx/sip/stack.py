"""The SIP core as its shell and its user see it. Pure: every input takes `now` and returns what to do about it."""

from collections.abc import Iterable

from siaga_pbx.sip.binding import Binding, StoredBinding
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import LegId, Output
from siaga_pbx.sip.flow import Flow, Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Message
from siaga_pbx.sip.options import Entropy, Invite, StackSettings
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.uri import Uri


class Stack:
    """Transactions, dialogs, registrar and access in one.

    Inputs come from the shell (net/), commands from the user (the switch); both return outputs in order. A command on a
    leg that is gone, or past the state that the command is for, does nothing: races are the wire's, not the caller's.
    Nothing that is received raises. Call handle_timer at next_deadline.
    """

    def __init__(self, settings: StackSettings, entropy: Entropy) -> None:
        raise NotImplementedError

    # Inputs

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
        raise NotImplementedError

    def receive_malformed(self, error: RemoteError, flow: Flow, now: float) -> list[Output]:
        raise NotImplementedError

    def connection_closed(self, flow: Flow, now: float) -> list[Output]:
        raise NotImplementedError

    def unreachable(self, target: Flow | Target, now: float) -> list[Output]:
        """A Send to `target` could not be done (connection refused, ICMP unreachable)."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> list[Output]:
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        raise NotImplementedError

    def configure(self, settings: StackSettings, now: float) -> list[Output]:
        """Takes new settings; running legs stay, bindings of seats that are no more go (Unregistered)."""
        raise NotImplementedError

    # Commands on a server leg

    def ring(self, leg: LegId, now: float) -> list[Output]:
        """180, sent again every 3 s until the leg is answered or over."""
        raise NotImplementedError

    def answer(self, leg: LegId, sdp: Sdp, now: float) -> list[Output]:
        """200 with our answer (or our offer, if they made none). Confirmed or Unacknowledged follows."""
        raise NotImplementedError

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
        raise NotImplementedError

    # Commands on a client leg

    def invite(self, leg: LegId, call: Invite, now: float) -> list[Output]:
        """Starts a call; `leg` is the caller's own new name for it (LocalError if it is in use)."""
        raise NotImplementedError

    def invite_seat(
        self, leg: LegId, seat: str, from_: NameAddr, sdp: Sdp, now: float, headers: tuple[tuple[str, str], ...] = ()
    ) -> list[Output]:
        """Starts a call to a seat's registered contact; Failed(480) at once if it has none."""
        raise NotImplementedError

    # Commands on any leg

    def hang_up(self, leg: LegId, now: float, reason: str | None = None) -> list[Output]:
        """Ends a leg by what its state demands: a final response, CANCEL, or BYE. `reason`: a Reason header (RFC 3326).

        Ended comes at once, except for a client leg that is not answered: its Failed comes when the CANCEL is through.
        """
        raise NotImplementedError

    def offer(self, leg: LegId, sdp: Sdp, now: float) -> list[Output]:
        """A re-INVITE, when the dialog is free for one. Reanswered or OfferRefused follows."""
        raise NotImplementedError

    def accept(self, leg: LegId, sdp: Sdp, now: float) -> list[Output]:
        """Answers the re-INVITE or UPDATE of an Offered event."""
        raise NotImplementedError

    def refuse(self, leg: LegId, status: int, now: float) -> list[Output]:
        """Refuses it (488 for media that cannot be done)."""
        raise NotImplementedError

    def check(self, leg: LegId, now: float) -> list[Output]:
        """In-dialog OPTIONS: Checked, or Ended(by fault) on 481, 408 or silence."""
        raise NotImplementedError

    # Out of any leg

    def options(self, token: str, target: Flow | Target, uri: Uri, now: float) -> list[Output]:
        """A health check; one OptionsOutcome with `token` follows."""
        raise NotImplementedError

    def options_seat(self, token: str, seat: str, now: float) -> list[Output]:
        """The same to a seat's registered contact (OptionsOutcome 480 at once if it has none)."""
        raise NotImplementedError

    # Bindings

    def bindings(self) -> list[Binding]:
        """The contact in use of every registered seat."""
        raise NotImplementedError

    def snapshot(self, now: float) -> list[StoredBinding]:
        """Every binding, to be stored."""
        raise NotImplementedError

    def restore(self, stored: Iterable[StoredBinding], now: float) -> list[Output]:
        """Takes stored bindings back; Registered for each seat that has one left."""
        raise NotImplementedError
