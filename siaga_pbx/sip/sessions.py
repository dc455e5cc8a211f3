"""Session timers (RFC 4028), in both roles: who refreshes the session, how often, and what if nobody does.

Two things differ from the RFC, for a caller's sake. We never answer 422: whatever interval they ask for is taken. And
a refresh that is missed ends nothing here: SessionMissed tells the user, who knows whether audio still comes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from siaga_pbx.sip.core import Core, Extra
from siaga_pbx.sip.events import SessionMissed, SessionRefreshed
from siaga_pbx.sip.extensions import CAPABILITIES, supports, takes
from siaga_pbx.sip.leg import Leg, Phase, Session
from siaga_pbx.sip.message import Message, Request, Response
from siaga_pbx.sip.params import get_param, parse_params
from siaga_pbx.sip.transaction import Lost

MAX_S = 86_400
"""The longest interval that is kept: a day. A 422 that asks for more gets an INVITE without a session timer."""
SHORTEST_RETRY_S = 5.0
"""Between two tries to refresh; the first is at half the interval (RFC 4028 10)."""
SHORTEST_WATCH_S = 32.0
"""A session is not missed earlier than this after a refresh, however short its interval is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A Session-Expires: seconds, and who refreshes: "uac" or "uas" of that transaction, "" if it is left open."""

    seconds: int
    refresher: str


class Sessions:
    """`reoffer` sends our last description again by re-INVITE, for peers that do not take UPDATE."""

    __slots__ = ("_core", "_reoffer")

    def __init__(self, core: Core, reoffer: Callable[[Leg, float], None]) -> None:
        self._core = core
        self._reoffer = reoffer

    # Their request, our 2xx

    def answer(self, leg: Leg, request: Request, now: float) -> Extra:
        """What our 2xx to an INVITE or UPDATE of theirs says; the timer begins anew with it (RFC 4028 9)."""
        asked = read_expires(request)
        if asked is None and leg.session is None:
            return ()
        can = supports(request, "timer")
        if asked is None or (asked.refresher == "" and leg.session is not None):
            # Without a word of who refreshes it stays with whoever did.
            assert leg.session is not None, "asked or running"
            interval, ours = (asked.seconds if asked else leg.session.interval), leg.session.ours
        else:
            interval, ours = asked.seconds, asked.refresher == "uas" or not (can or asked.refresher)
        self._start(leg, interval, ours, request, now)
        if asked is None and not can:
            return ()
        expires = ("Session-Expires", f"{interval};refresher={'uas' if ours else 'uac'}")
        return (expires,) if ours else (expires, ("Require", "timer"))

    # Our request, their 2xx or 422

    def ask(self, leg: Leg) -> Extra:
        """What our INVITE or UPDATE says."""
        session = leg.session
        if session is not None:
            return (("Session-Expires", f"{session.interval};refresher={'uac' if session.ours else 'uas'}"),)
        if not leg.asks:
            return ()
        expires = ("Session-Expires", str(leg.asks))
        return (expires, ("Min-SE", str(leg.asks))) if leg.refused_interval else (expires,)

    def answered(self, leg: Leg, response: Response, now: float) -> None:
        """A 2xx to our INVITE or UPDATE: what it says holds; a timer it does not mention is over (RFC 4028 7.2)."""
        asked = read_expires(response)
        if asked is not None:
            self._start(leg, asked.seconds, asked.refresher != "uas", response, now)
        elif leg.session is not None:
            self._told_again(leg)
            leg.stop_session()

    def obeys(self, leg: Leg, response: Response) -> bool:
        """A 422: whether a longer interval, or none, may be tried (RFC 4028 7.4). It at least doubles: this ends."""
        if response.status != 422 or not (leg.asks or leg.session):
            return False
        now_asked = leg.session.interval if leg.session is not None else leg.asks
        least = read_seconds(response, "Min-SE") or 0
        longer = max(least, 2 * now_asked) if least > now_asked else 0
        leg.refused_interval = True
        leg.asks = longer if longer <= MAX_S else 0
        if leg.session is not None:
            if leg.asks:
                leg.session.interval = leg.asks
            else:
                leg.stop_session()
        return True

    # The timer

    def resume(self, leg: Leg, interval: int, ours: bool, updates: bool, expires_at: float, now: float) -> None:
        """A timer of before a restart runs on; a refresh of ours that was due meanwhile is made at once."""
        first = max(now, expires_at - interval / 2 if ours else expires_at)
        leg.session = Session(interval, ours, updates, expires_at, self._core.alarm(first, partial(self._due, leg)))

    def _start(self, leg: Leg, seconds: int, ours: bool, message: Message, now: float) -> None:
        self._told_again(leg)
        leg.stop_session()
        expires_at = now + max(seconds, SHORTEST_WATCH_S)
        first = now + max(seconds / 2, SHORTEST_RETRY_S) if ours else expires_at
        alarm = self._core.alarm(first, partial(self._due, leg))
        leg.session = Session(seconds, ours, takes(message, "UPDATE"), expires_at, alarm)

    def _told_again(self, leg: Leg) -> None:
        if leg.session is not None and leg.session.missed:
            self._core.out.append(SessionRefreshed(leg.id))

    def _due(self, leg: Leg, now: float) -> None:
        session = leg.session
        if session is None or leg.phase is not Phase.TALKING:
            return
        if now >= session.expires_at:
            self.miss(leg, None, now)
        if session.ours:
            self._refresh(leg, session, now)
            # Until it is answered: again and again, at half of the time that is left.
            wait = max((session.expires_at - now) / 2, SHORTEST_RETRY_S)
            session.alarm.at = min(now + wait, session.expires_at)
        else:
            session.alarm.at = session.expires_at

    def miss(self, leg: Leg, status: int | None, now: float) -> None:
        """Nobody refreshed, or the peer knows nothing of it (`status`). It is watched on: audio may stop later."""
        session = leg.session
        if session is not None:
            session.missed = True
            session.expires_at = now + max(session.interval, SHORTEST_WATCH_S)
            self._core.out.append(SessionMissed(leg.id, status))

    def _refresh(self, leg: Leg, session: Session, now: float) -> None:
        if not session.updates:
            self._reoffer(leg, now)
        elif not session.asking:
            session.asking = True
            leg.challenges = 0
            self._update(leg, now)

    def _update(self, leg: Leg, now: float) -> None:
        """An UPDATE without an offer (RFC 3311 5.1): it touches the session and nothing else."""
        core = self._core
        request = leg.dialog.next_request("UPDATE")
        request.headers.add("Contact", core.contact(leg.dialog))
        for name, value in (*CAPABILITIES, *self.ask(leg)):
            request.headers.add(name, value)
        if leg.authorization is not None:
            request.headers.add(*leg.authorization)
        core.send(request, leg.dialog.way, partial(self._updated, leg), now)

    def _updated(self, leg: Leg, response: Response | Lost, now: float) -> None:
        session = leg.session
        if isinstance(response, Response) and response.status < 200:
            return
        if session is None or leg.phase is not Phase.TALKING:
            return
        session.asking = False
        if isinstance(response, Lost):
            return  # tried again until it is missed
        if response.status < 300:
            self._core.retarget(leg, response.contact)
            self.answered(leg, response, now)
        elif response.status in (405, 501):
            session.updates = False
            self._reoffer(leg, now)
        elif response.status == 481:
            self.miss(leg, 481, now)
        elif self._core.authorise(leg, "UPDATE", response) or self.obeys(leg, response):
            session.asking = True
            self._update(leg, now)


def read_expires(message: Message) -> Asked | None:
    """A message's Session-Expires; None when there is none that can be read."""
    seconds = read_seconds(message, "Session-Expires")
    if not seconds:
        return None
    params = parse_params((message.headers.get("Session-Expires") or "").partition(";")[2])
    refresher = (get_param(params, "refresher") or "").lower()
    return Asked(min(seconds, MAX_S), refresher if refresher in ("uac", "uas") else "")


def read_seconds(message: Message, name: str) -> int | None:
    """The number of a header such as Min-SE; None when there is none that can be read."""
    digits = (message.headers.get(name) or "").partition(";")[0].strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
