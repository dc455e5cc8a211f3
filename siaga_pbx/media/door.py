"""The door of a leg: whose packets come in (`SourceLock`), and the account of those that do not."""

import socket
from collections import Counter
from collections.abc import Callable

from siaga_pbx.media import kernel
from siaga_pbx.media.ports import PortPair
from siaga_pbx.media.protocol import Refused, Remote, Why
from siaga_pbx.media.rtcp import is_rtcp
from siaga_pbx.media.source import Source, SourceLock

LOOKED_AT = {Why.STRANGER: 1, Why.REPORT: 100}
"""How many foreign packets are looked at before the kernel turns them away (`kernel`): of audio one, to tell whose it
is, as the next may be a flood that takes the place of the far side's."""
TELL_S = 60.0
"""Between two events about one leg, and `MAX_TOLD` of them in its life: who injects must not fill the record."""
MAX_TOLD = 10

_TOLD = (Why.STRANGER, Why.REPORT, Why.UNPROTECTED)
_NOTHING: Counter[str] = Counter()


class Door:
    """`lock.source` is the far side's. Whatever comes from elsewhere is shown to `admits`, and counted if refused."""

    __slots__ = ("_account", "_leg", "_pair", "_tell", "lock")

    def __init__(self, leg: str, pair: PortPair, tell: Callable[[Refused], None]) -> None:
        self.lock = SourceLock()
        self._leg, self._pair, self._tell = leg, pair, tell
        self._account: _Account | None = None
        """Of most legs nothing is ever refused."""

    @property
    def counts(self) -> Counter[str]:
        """Packets dropped so far, by why."""
        return _NOTHING if self._account is None else self._account.counts

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
        if self._account is not None:
            self._account.unguard()
        return moved

    def take(self, source: Source) -> bool:
        """See `SourceLock.take`."""
        expected = self.lock.take(source)
        if self._account is not None:
            self._account.guard_anew()
        return expected

    def admits(self, source: Source, heard_at: float, now: float) -> bool:
        """Whether an RTP packet from there may be the far side's."""
        if self.lock.admits(source, heard_at, now):
            return True
        self.refuse(self.reason, source, now)
        return False

    def admits_report(self, source: Source, packet: bytes | None, now: float) -> bool:
        """Whether a packet on the RTCP port is the far side's; None: one that was not made with its key."""
        if self.lock.admits_report(source, packet is not None and is_rtcp(packet)):
            if packet is None:
                self.refuse(Why.UNPROTECTED, source, now)
            return True
        self.refuse(Why.EARLY if self.lock.source is None else Why.REPORT, source, now)
        return False

    def refuse(self, why: Why, source: Source, now: float) -> None:
        """A packet from there was dropped."""
        if self._account is None:
            self._account = _Account(self._leg, self._pair, self.lock, self._tell)
        self._account.refuse(why, source, now)

    def watch(self, now: float) -> None:
        """Called each second: what the kernel has turned away is counted."""
        if self._account is not None:
            self._account.watch(now)

    def settle(self) -> None:
        """Count what the kernel has turned away since the last time."""
        if self._account is not None:
            self._account.settle()


class _Account:
    """What a door refused, and the kernel for it."""

    __slots__ = ("_foreign", "_guarded", "_last", "_leg", "_lock", "_pair", "_tell", "_tell_at", "_told", "counts")

    def __init__(self, leg: str, pair: PortPair, lock: SourceLock, tell: Callable[[Refused], None]) -> None:
        self._leg, self._pair, self._lock, self._tell = leg, pair, lock, tell
        self.counts: Counter[str] = Counter()
        self._foreign: Counter[Why] = Counter()
        self._guarded: dict[Why, int] = {}
        """The sockets that the kernel guards, by what it turns away there: how many so far."""
        self._last: tuple[Why, Source] | None = None
        self._told, self._tell_at = 0, 0.0

    def refuse(self, why: Why, source: Source, now: float) -> None:
        self.counts[why] += 1
        if why not in _TOLD:
            return
        self._last = why, source
        if now >= self._tell_at and self._told < MAX_TOLD:
            self._tell_now(now)
        self._foreign[why] += 1
        if self._foreign[why] == LOOKED_AT.get(why):
            self._guard(why)

    def watch(self, now: float) -> None:
        if self.settle() and now >= self._tell_at and self._told < MAX_TOLD:
            self._tell_now(now)

    def settle(self) -> int:
        """Count what the kernel has turned away since the last time; how much that is."""
        news = 0
        for why, before in self._guarded.items():
            self._guarded[why] = kernel.dropped(self._socket(why))
            turned_away = (self._guarded[why] - before) & 0xFFFFFFFF
            self.counts[why] += turned_away
            news += turned_away
        return news

    def guard_anew(self) -> None:
        """Where packets may come from is another now."""
        for why in self._guarded:
            self._guard(why)

    def unguard(self) -> None:
        self.settle()
        for why in self._guarded:
            kernel.admit_all(self._socket(why))
        self._guarded.clear()
        self._foreign.clear()

    def _tell_now(self, now: float) -> None:
        assert self._last is not None, "there is one to tell of"
        why, source = self._last
        host, port = source[:2]  # of IPv6 there is more
        self._told += 1
        self._tell_at = now + TELL_S
        self._tell(Refused(self._leg, why, host, port, self.counts[why]))

    def _guard(self, why: Why) -> None:
        bound = self._socket(why)
        before = kernel.dropped(bound)
        if kernel.admit_only(bound, self._lock.allowed if why is Why.STRANGER else self._lock.allowed_reports):
            self._guarded.setdefault(why, before)

    def _socket(self, why: Why) -> socket.socket:
        return self._pair.rtp if why is Why.STRANGER else self._pair.rtcp
