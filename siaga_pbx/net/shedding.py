"""What is not even parsed: datagrams beyond what their source may send, told apart by source and first bytes alone.

Trunks come first. Nothing of a call is ever shed that comes from one; its OPTIONS and REGISTER are, when there are too
many. A seat's phone has its measure, the address of a NAT with seats behind it one of its own beside theirs, and all
strangers together share one: neither one flood nor a thousand spoofed sources take the time that a caller needs.
The limits and what they were measured with: docs/adr/0301.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from siaga_pbx.metrics import Metrics
from siaga_pbx.settings import Listen
from siaga_pbx.sip.flow import Address, Flow
from siaga_pbx.sip.pace import Pace

_OF_CALLS = frozenset({b"INVI", b"ACK ", b"BYE ", b"CANC", b"PRAC", b"UPDA", b"INFO", b"SIP/"})
_OF_ANYONE = _OF_CALLS | {b"REGI", b"OPTI"}
"""What a stranger may be answered to, or (a phone that moved, a trunk that a reload took away) be heard with."""


_REASONS = ("stranger", "foreign_trunk", "trunk_limit", "seat_limit", "source_limit", "strangers_limit")


@dataclass(frozen=True, slots=True)
class Measure:
    """Messages a second, and so many at once."""

    a_second: float
    at_once: int


@dataclass(frozen=True, slots=True)
class UdpLimits:
    """A message costs 0.1 to 0.2 ms to answer: all measures of strangers together are below 5 % of a core."""

    trunk: Measure = Measure(50, 100)
    """OPTIONS, REGISTER and what is no request, of one address of a trunk. Carriers ask once in some seconds."""
    seat: Measure = Measure(20, 100)
    """One registered phone: a call is some ten messages, a held key ten INFOs a second."""
    source: Measure = Measure(20, 100)
    """Any other address: fifty phones behind one NAT that all start at once fit."""
    strangers: Measure = Measure(200, 100)
    """All addresses together that no seat is registered from; at once they delay a caller by 20 ms at the worst."""
    sources: int = 4096
    """Addresses that are counted, of each class: more than `strangers` lets in while one is remembered."""


class Known(Protocol):
    """What is asked about a source (`net.peers.Peers`)."""

    def is_trunk(self, who: str) -> bool: ...
    def may_use(self, listen: Listen, host: str) -> bool: ...
    def seats_at(self, source: Address) -> int: ...
    def seats_on(self, flow: Flow) -> int: ...
    def seats_behind(self, host: str) -> int: ...
    def is_own(self, host: str) -> bool: ...


class Shedding:
    """`gate(listen)` for each UDP socket; `hears` for each message of a connection."""

    def __init__(self, known: Known, now: Callable[[], float], metrics: Metrics, limits: UdpLimits) -> None:
        self._known = known
        self._now = now
        most = limits.sources
        self._trunk = Pace(limits.trunk.a_second, limits.trunk.at_once, most)
        self._seat = Pace(limits.seat.a_second, limits.seat.at_once, most)
        self._source = Pace(limits.source.a_second, limits.source.at_once, most)
        self._at_once = limits.source.at_once
        self._strangers = Pace(limits.strangers.a_second, limits.strangers.at_once, 1)
        self._dropped = {reason: metrics.sip_dropped.labels(reason) for reason in _REASONS}

    def gate(self, listen: Listen) -> Callable[[Address, bytes], bool]:
        """Whether a datagram at that socket is taken, by source and first bytes (udp.KIND_BYTES); counts if not."""
        known, refusal, dropped = self._known, self._refusal, self._dropped

        def admits(source: Address, start: bytes) -> bool:
            reason = refusal(source, start) if known.may_use(listen, source[0]) else "foreign_trunk"
            if reason is None:
                return True
            dropped[reason].inc()
            return False

        return admits

    def hears(self, flow: Flow) -> bool:
        """The same for a message on a connection, which has been read already; False: end it.

        Only strangers are measured: a trunk and a seat that send too much are slowed by TCP itself.
        """
        known, host = self._known, flow.remote[0]
        if known.is_trunk(host) or any(map(known.is_trunk, flow.names)) or known.seats_on(flow):
            return True
        reason = self._of_stranger(host, self._now())
        if reason is not None:
            self._dropped[reason].inc()
        return reason is None

    def _refusal(self, source: Address, start: bytes) -> str | None:
        """Why a datagram is not taken."""
        known, host, now = self._known, source[0], self._now()
        if known.is_trunk(host):
            # Two measures: what is no request does not use up what its OPTIONS may.
            known_method = start in _OF_ANYONE
            return None if start in _OF_CALLS or self._trunk.takes((host, known_method), now) else "trunk_limit"
        seats = known.seats_at(source)
        if seats:
            return None if self._seat.takes(source, now, seats) else "seat_limit"
        if start not in _OF_ANYONE:
            return "stranger"
        return self._of_stranger(host, now)

    def _of_stranger(self, host: str, now: float) -> str | None:
        known = self._known
        seats = known.seats_behind(host)
        if seats or known.is_own(host):
            # A measure for each: a phone may answer from another port than it registered from. But not each at once:
            # twenty times a hundred challenges are a third of a second in which no call is served.
            return None if self._source.takes(host, now, max(seats, 1), self._at_once) else "source_limit"
        # Looked at first and taken from last: a source that is over its own measure takes nothing from the others'.
        if not self._strangers.has(None, now):
            return "strangers_limit"
        if not self._source.takes(host, now):
            return "source_limit"
        self._strangers.takes(None, now)
        return None
