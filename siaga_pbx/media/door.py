"""The door of a leg: whose packets come in (`SourceLock`), and the account of those that do not."""

import socket
from collections import Counter
from collections.abc import Callable

from siaga_pbx.media import kernel
from siaga_pbx.media.ports import PortPair
from siaga_pbx.media.protocol import Refused, Remote, Why
from siaga_pbx.media.source import Source, SourceLock

FLOOD = 100
"""Foreign packets after which the kernel is to turn them away (`kernel`)."""
TELL_S = 60.0
"""Between two events about one leg, and `MAX_TOLD` of them in its life: who injects must not fill the record."""
MAX_TOLD = 10

RTCP_FIRST, RTCP_LAST = 192, 223
"""The packet types of RTCP (RFC 5761 4)."""

_TOLD = (Why.STRANGER, Why.REPORT, Why.UNPROTECTED)


class Door:
    """`lock.source` is the far side's. Whatever comes from elsewhere is shown to `admits`, and counted if refused."""

    __slots__ = (
        "_before",
        "_foreign",
        "_guarded",
        "_last",
        "_leg",
        "_pair",
        "_tell",
        "_tell_at",
        "_told",
        "counts",
        "lock",
    )

    def __init__(self, leg: str, pair: PortPair, tell: Callable[[Refused], None]) -> None:
        self.lock = SourceLock()
        self.counts: Counter[str] = Counter()
        self._leg, self._pair, self._tell = leg, pair, tell
        self._foreign = 0
        self._guarded = False
        self._before = (0, 0)
        self._last: tuple[Why, Source] | None = None
        self._told, self._tell_at = 0, 0.0

    @property
    def refused(self) -> int:
        """Packets dropped so far."""
        return self.counts.total()

    @property
    def reason(self) -> Why:
        """Why an RTP packet from elsewhere is dropped."""
        return Why.EARLY if self.lock.gate is None else Why.STRANGER

    def connect(self, remote: Remote, now: float, source: Source | None = None, former: bool = False) -> bool:
        """See `SourceLock.connect`."""
        moved = self.lock.connect(remote, now, source, former)
        self._unguard()
        return moved

    def take(self, source: Source) -> bool:
        """See `SourceLock.take`."""
        expected = self.lock.take(source)
        if self._guarded:
            self._guard()
        return expected

    def admits(self, source: Source, heard_at: float, now: float) -> bool:
        """Whether an RTP packet from there may be the far side's."""
        if self.lock.admits(source, heard_at, now):
            return True
        self.refuse(self.reason, source, now)
        return False

    def admits_report(self, source: Source, packet: bytes, now: float) -> bool:
        """Whether a packet on the RTCP port is the far side's."""
        if self.lock.admits_report(source, len(packet) >= 8 and RTCP_FIRST <= packet[1] <= RTCP_LAST):
            return True
        self.refuse(Why.EARLY if self.lock.source is None else Why.REPORT, source, now)
        return False

    def refuse(self, why: Why, source: Source, now: float) -> None:
        """A packet from there was dropped."""
        self.counts[why] += 1
        if why not in _TOLD:
            return
        self._last = why, source
        if now >= self._tell_at and self._told < MAX_TOLD:
            self._tell_now(now)
        if why is not Why.UNPROTECTED:
            self._foreign += 1
            if self._foreign == FLOOD:
                self._guard()

    def watch(self, now: float) -> None:
        """Called each second: what the kernel has turned away is counted."""
        if self.settle() and now >= self._tell_at and self._told < MAX_TOLD:
            self._tell_now(now)

    def settle(self) -> int:
        """Count what the kernel has turned away since the last time; how much that is."""
        if not self._guarded:
            return 0
        now = kernel.dropped(self._pair.rtp), kernel.dropped(self._pair.rtcp)
        news = [(after - before) & 0xFFFFFFFF for after, before in zip(now, self._before, strict=True)]
        self._before = now
        self.counts[Why.STRANGER] += news[0]
        self.counts[Why.REPORT] += news[1]
        return sum(news)

    def _tell_now(self, now: float) -> None:
        assert self._last is not None, "there is one to tell of"
        why, (host, port) = self._last
        self._told += 1
        self._tell_at = now + TELL_S
        self._tell(Refused(self._leg, why, host, port, self.counts[why]))

    def _guard(self) -> None:
        self.settle()
        sockets = self._sockets()
        self._before = kernel.dropped(sockets[0]), kernel.dropped(sockets[1])
        self._guarded = kernel.admit_only(sockets[0], self.lock.allowed)
        kernel.admit_only(sockets[1], self.lock.allowed_reports)

    def _unguard(self) -> None:
        self._foreign = 0
        if self._guarded:
            self.settle()
            self._guarded = False
            for bound in self._sockets():
                kernel.admit_all(bound)

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        return self._pair.rtp, self._pair.rtcp
