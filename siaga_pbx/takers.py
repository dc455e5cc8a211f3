"""Those who take a call: the legs to seats and to the overflow target, from our INVITE to their end."""

from collections.abc import Callable, Iterable

import structlog

from siaga_pbx.call import commands as does
from siaga_pbx.call import events as told
from siaga_pbx.callers import CLEARED, Callers, who_ended
from siaga_pbx.config import Config
from siaga_pbx.legs import Caller, Leg, Role
from siaga_pbx.media.commands import Bridge, Play
from siaga_pbx.negotiation import agree, seat_address, seat_transport
from siaga_pbx.outbound import dial, hop_address, outbound_trunk
from siaga_pbx.records.ids import new_id
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.uri import Uri
from siaga_pbx.tools import Tools

log = structlog.get_logger(__name__)

NO_PORT_RETRY_S = 1.0
"""A leg without an audio port fails after this long, not at once: the queue must not spin."""
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
HOLD = "hold"
"""The prompt that a held caller hears, again and again."""
_REFUSED_OFFER = (488, 606)
"""What is answered to an offer that is none for the phone (RFC 3261 21.4.26, 21.6.4)."""
_HEADERS = (("Priority", "emergency"),)
_WITHOUT_NUMBER = {"no_sim": "Tanpa SIM", "withheld": "Nomor dirahasiakan"}


class Takers:
    """`tell` hands the queue an event. `last_call`: the call that each seat talks to, or talked to last."""

    def __init__(self, config: Config, tools: Tools, callers: Callers, tell: Callable[[told.Event], None]) -> None:
        self.config = config
        self.last_call: dict[str, str] = {}
        self._tools, self._callers, self._tell = tools, callers, tell

    # --- the queue's commands: seats ----------------------------------------------------------------------------------

    def offer(self, command: does.Offer) -> None:
        """Ring a seat."""
        tools = self._tools
        caller = self._callers.live[command.call]
        seat = command.seat
        leg = Leg(new_id(), Role.SEAT, caller.id, seat=seat, peer=seat_address(tools, seat))
        leg.transport = seat_transport(tools, seat)
        if not tools.legs.open(leg):
            tools.later(NO_PORT_RETRY_S, lambda: self._tell(told.SeatFailed(caller.id, seat, 503)))
            return
        tools.legs.add(leg)
        caller.seats[seat] = leg
        stamp = None if caller.offered else "offered_at"
        caller.offered = True
        tools.log.step(caller.id, "offered", {"seat": seat}, stamp=stamp)
        headers = (*_HEADERS, *caller.headers)
        tools.perform(tools.stack.invite_seat(leg.id, seat, self._shown(caller), leg.offer(), tools.now(), headers))

    def _shown(self, caller: Caller) -> NameAddr:
        """What the call-taker's phone shows: the number, or in words why there is none."""
        user = caller.number or "anonymous"
        words = _WITHOUT_NUMBER.get(caller.identity_class, "")
        if caller.identity_class == "no_credit":
            words = f"{user} (tanpa pulsa)"
        return NameAddr(words, Uri("sip", user, self.config.sip.domain))

    def hang_up(self, command: does.Withdraw | does.DropSeat) -> None:
        """End a seat's leg, ringing or up."""
        caller = self._callers.live.get(command.call)
        leg = caller.seats.get(command.seat) if caller is not None else None
        if leg is None:
            leg = next((one for one in self._tools.legs if (one.call, one.seat) == (command.call, command.seat)), None)
        if leg is not None:
            leg.withdrawn = True
            reason = ELSEWHERE if command.cause is does.Cause.ANSWERED_ELSEWHERE else _reason(caller)
            self._tools.perform(self._tools.stack.hang_up(leg.id, self._tools.now(), reason))

    def connect(self, command: does.Connect) -> None:
        """Caller and seat hear each other."""
        tools = self._tools
        caller = self._callers.live.get(command.call)
        leg = caller.seats.get(command.seat) if caller is not None else None
        if caller is None or leg is None:
            self._tell(told.SeatGone(command.call, command.seat, told.EndedBy.FAULT))
            return
        self._bridge(caller, leg)
        waited = tools.now() - caller.arrived
        tools.metrics.answer_seconds.observe(waited)
        tools.log.step(caller.id, "connected", {"seat": command.seat}, {"seat_id": command.seat}, stamp="connected_at")
        caller.connected = command.seat
        self.last_call[command.seat] = caller.id
        log.info("call connected", call_id=caller.id, seat=command.seat, waited_s=round(waited, 3))
        self._tell(told.Connected(caller.id, command.seat))

    def _bridge(self, caller: Caller, leg: Leg) -> None:
        """They hear each other, unless whoever takes the call holds it: then the caller hears hold audio."""
        self._callers.answer(caller)
        if leg.holds:
            self._tools.media.play(caller.leg.id, (), caller.prompts(HOLD))
        else:
            self._tools.media.bridge(caller.leg.id, leg.id)
        caller.leg.bridged = leg.bridged = True
        # What a call-taker keys is for us (feature codes), never for the caller's ear.
        self._tools.media.relay_events(leg.id, leg.role is not Role.SEAT)

    def follow_hold(self, command: does.Hold | does.Resume) -> None:
        """Whoever has the call holds it, or does no more."""
        caller = self._callers.live.get(command.call)
        if caller is not None and caller.other is not None:
            self._bridge(caller, caller.other)

    def resume(self, caller: Caller, legs: Iterable[Leg]) -> None:
        """The legs of the other sides, of a caller of an earlier daemon."""
        for leg in legs:
            if leg.role is Role.OVERFLOW:
                caller.overflow = leg
            elif leg.seat is not None:
                caller.seats[leg.seat] = leg
        if caller.connected in caller.seats:
            self.last_call[caller.connected] = caller.id

    def rejoin(self, caller: Caller, hears: object) -> bool:
        """Whether another side has the caller; if so and what the caller `hears` is not that, it does again."""
        other = caller.other
        if other is None or not other.answered:
            return False
        held = isinstance(hears, Play) and hears.loop == caller.prompts(HOLD)
        if not (held if other.holds else isinstance(hears, Bridge)):
            self._bridge(caller, other)
        return True

    def played(self, leg: Leg) -> None:
        """What a call-taker had to be told within the call is said: back to the caller."""
        caller = self._callers.live.get(leg.call)
        if caller is not None and caller.connected == leg.seat and caller.seats.get(caller.connected or "") is leg:
            self._bridge(caller, leg)

    def missed(self, command: does.SeatMissed) -> None:
        """A seat did not take the call."""
        self._tools.metrics.seat_missed.inc()
        self._tools.log.step(command.call, "missed", {"seat": command.seat, "status": command.status})

    # --- the queue's commands: the overflow target --------------------------------------------------------------------

    def start_overflow(self, command: does.StartOverflow) -> None:
        """Ring the overflow target."""
        tools, caller = self._tools, self._callers.live[command.call]
        target = self.config.queue.overflow
        trunk = outbound_trunk(self.config)
        leg = Leg(
            new_id(), Role.OVERFLOW, caller.id, trunk.id if trunk else None, peer=hop_address(trunk) if trunk else None
        )
        if target is None or trunk is None or not tools.legs.open(leg):
            tools.later(NO_PORT_RETRY_S, lambda: self._tell(told.OverflowFailed(caller.id, 503)))
            return
        tools.legs.add(leg)
        caller.overflow = leg
        tools.log.step(caller.id, "overflow_started", {"trunk": trunk.id})
        headers = (*_HEADERS, *_asserted(caller), *caller.headers)
        call = dial(trunk, target, self.config.sip.domain, leg.offer(), headers)
        tools.perform(tools.stack.invite(leg.id, call, tools.now()))

    def hang_up_overflow(self, command: does.WithdrawOverflow | does.DropOverflow) -> None:
        """End the overflow target's leg."""
        for leg in self._tools.legs:
            if leg.role is Role.OVERFLOW and leg.call == command.call:
                reason = _reason(self._callers.live.get(command.call))
                self._tools.perform(self._tools.stack.hang_up(leg.id, self._tools.now(), reason))

    def connect_overflow(self, command: does.ConnectOverflow) -> None:
        """Caller and overflow target hear each other."""
        caller = self._callers.live.get(command.call)
        if caller is None or caller.overflow is None:
            self._tell(told.OverflowGone(command.call, told.EndedBy.FAULT))
            return
        self._bridge(caller, caller.overflow)
        caller.connected = "overflow"
        self._tools.log.step(caller.id, "overflow_connected")

    # --- what comes of their legs -------------------------------------------------------------------------------------

    def ringing(self, leg: Leg) -> None:
        if leg.seat is not None:
            self._tools.log.step(leg.call, "seat_ringing", {"seat": leg.seat})
            self._tell(told.SeatRinging(leg.call, leg.seat))

    def answered(self, event: sip.Answered, leg: Leg) -> None:
        """One of them took the call: agree on the audio, then let the queue say who gets it."""
        leg.answered = True
        if not agree(self._tools, leg, event.sdp):
            self._tools.log.step(leg.call, leg.lacks, {"leg": leg.role.value, "seat": leg.seat})
            self._tools.perform(self._tools.stack.hang_up(leg.id, self._tools.now()))
        elif leg.role is Role.OVERFLOW:
            self._tell(told.OverflowAnswered(leg.call))
        elif leg.seat is not None:
            self._tools.log.step(leg.call, "seat_answered", {"seat": leg.seat})
            self._tell(told.SeatAnswered(leg.call, leg.seat))

    def failed(self, event: sip.Failed, leg: Leg) -> None:
        """Nobody took it there."""
        self._forget(leg)
        if event.status in _REFUSED_OFFER and self._offered_anew(leg, event.status):
            return
        if leg.role is Role.OVERFLOW:
            self._tools.log.step(leg.call, "overflow_failed", {"status": event.status, "reason": event.reason})
            self._tell(told.OverflowFailed(leg.call, event.status))
        elif leg.seat is not None:
            self._tools.log.step(leg.call, "seat_failed", {"seat": leg.seat, "status": event.status})
            self._tell(told.SeatFailed(leg.call, leg.seat, event.status))

    def _offered_anew(self, leg: Leg, status: int) -> bool:
        """A seat's phone will not have our offer. One that takes nothing but SRTP is offered that, at once."""
        if leg.srtp:
            self._tools.legs.unprotected(leg, f"its phone refuses with {status}")
        if leg.seat is None or leg.withdrawn or leg.call not in self._callers.live:
            return False
        if not self._tools.legs.insists_on_srtp(leg):
            return False
        self.offer(does.Offer(leg.call, leg.seat))
        return True

    def ended(self, event: sip.Ended, leg: Leg) -> None:
        """A leg that was answered is over."""
        caller = self._callers.live.get(leg.call)
        if caller is not None and event.by is sip.By.REMOTE:
            caller.reason = event.reason  # the caller's leg is going to end for it
        self._forget(leg)
        if leg.role is Role.OVERFLOW:
            self._tell(told.OverflowGone(leg.call, who_ended(event.by, told.EndedBy.OVERFLOW)))
        elif leg.seat is not None:
            self._tools.log.step(leg.call, "seat_leg_ended", {"seat": leg.seat, "by": event.by.value})
            self._tell(told.SeatGone(leg.call, leg.seat, who_ended(event.by, told.EndedBy.SEAT)))

    def _forget(self, leg: Leg) -> None:
        caller = self._callers.live.get(leg.call)
        if caller is None:
            return
        if caller.overflow is leg:
            caller.overflow = None
        elif leg.seat is not None and caller.seats.get(leg.seat) is leg:
            del caller.seats[leg.seat]


def _reason(caller: Caller | None) -> str:
    """Why the other sides of a call end: what the caller's network said, if it did (RFC 3326)."""
    return (caller.reason if caller is not None else None) or CLEARED


def _asserted(caller: Caller) -> tuple[tuple[str, str], ...]:
    """Who calls, for another centre (RFC 3325); whoever withheld it is shown to nobody else (RFC 3323)."""
    if caller.number is None:
        return ()
    privacy = (("Privacy", "id"),) if caller.identity_class == "withheld" else ()
    return (("P-Asserted-Identity", f"<tel:{caller.number}>"), *privacy)
