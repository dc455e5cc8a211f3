"""Whose packets a leg takes: one source at a time, found by the rules of `Remote`, and kept."""

from ipaddress import ip_address, ip_network
from typing import TypeAlias

from siaga_pbx.media.commands import address_of, place_of
from siaga_pbx.media.protocol import Network, Remote

Source: TypeAlias = tuple[str, int]
Place: TypeAlias = tuple[Network, int | None]
"""Sources: those of a network, at one port or at any."""

FALLBACK_S = 2.0
"""How long a trunk's SDP address is waited for before another of its addresses is taken; and how long after a
re-INVITE it may still turn out that the far side sends from another port now."""
HANDED_OVER_S = 0.2
"""How long the source so far must have been silent before another takes its place that the new SDP does not name to the
port."""


class SourceGate:
    """The rule of one connected far side, and where to send to it."""

    __slots__ = ("_host", "place", "remote", "since")

    def __init__(self, remote: Remote, now: float) -> None:
        self.remote = remote
        self.since = now
        self._host = address_of(remote.host)
        self.place = None if remote.nowhere else place_of(remote.host, remote.port)
        """The SDP's address and port; None if it names none."""

    @property
    def target(self) -> Source | None:
        """Where the SDP says to send; None if it names no address, or the far side wants nothing now."""
        return self.place if self.remote.sending else None

    @property
    def reporter(self) -> Source | None:
        """Where the SDP says that its RTCP is (RFC 3605); None if it does not."""
        return None if self.remote.rtcp is None else place_of(*self.remote.rtcp)

    @property
    def networks(self) -> tuple[Network, ...]:
        """Where a source can be that may ever be admitted."""
        return (*self.remote.accept, *(() if self._host is None else (_network(self._host),)))

    def named(self, source: Source) -> bool:
        """Whether this is the source the SDP names."""
        return source[0] == self._host and (source[1] == self.remote.port or not self.remote.strict)

    def named_exactly(self, source: Source) -> bool:
        return source[:2] == (self._host, self.remote.port)

    def admits(self, source: Source, now: float) -> bool:
        """Whether this source, the first to send, may be the far side."""
        if self.named(source):
            return True
        if not self.remote.accept or not (self.remote.strict or now >= self.since + FALLBACK_S):
            return False
        return self._within(source[0])

    def target_for(self, source: Source) -> Source | None:
        """Where to send now that the source is known.

        To it, if the SDP's address is not one of the far side's own (a private one, from behind NAT). Otherwise the SDP
        stands (RFC 3264 5.1): a carrier's gateway may send from elsewhere than it listens.
        """
        if not self.remote.sending:
            return None
        outside = self.target is None or not self._within(self.target[0])
        return source if not self.named(source) and (outside or self.remote.strict) else self.target

    def target_after(self, former: Source, stays: bool) -> Source | None:
        """Where to send while nothing has come from the new far side: to the old, if the new cannot be reached at the
        address of its SDP (it is behind NAT). A trunk's is thought so only when the old turns out to be the new
        (`stays`): it may well have moved to an address that is none of its own."""
        if not self.remote.sending:
            return None
        outside = bool(self.remote.accept) and self.target is not None and not self._within(self.target[0])
        return former if outside and (self.remote.strict or stays) else self.target

    def _within(self, host: str) -> bool:
        address = ip_address(host)
        return any(address in network for network in self.remote.accept)


class SourceLock:
    """The source that a leg takes packets from, and no other: `source`, once there is one; `former` while it is that of
    the far side before the last re-INVITE, from whose successor nothing has come yet. It may be the new one's too."""

    __slots__ = ("_reporter", "_stays", "former", "gate", "source")

    def __init__(self) -> None:
        self.gate: SourceGate | None = None
        self.source: Source | None = None
        self.former = False
        self._stays = False
        """The former has gone on long after the re-INVITE: it is the new far side's, unless one that the SDP names to
        the port, or by another address, comes after all."""
        self._reporter: Source | None = None

    @property
    def target(self) -> Source | None:
        """Where to send."""
        if self.gate is None:
            return None
        if self.source is None:
            return self.gate.target
        return self.gate.target_after(self.source, self._stays) if self.former else self.gate.target_for(self.source)

    @property
    def reports_to(self) -> Source | None:
        """Where RTCP goes, held or not: where the audio does if both share a port (RFC 5761), else where the SDP says
        (RFC 3605), else to the port above; to who is not where its SDP says, there or where its RTCP comes from."""
        if self.gate is None or self.gate.place is None:
            return None
        remote, place = self.gate.remote, self.target or self.gate.place
        if remote.rtcp_mux:
            return place
        if place[:2] != self.gate.place:
            return self._reporter or (place[0], place[1] + 1)
        return self.gate.reporter or (place[0], place[1] + 1)

    @property
    def allowed(self) -> tuple[Place, ...]:
        """Where packets may come from that are to be looked at, now or after a while."""
        if self.source is not None and not self.former:
            return ((_network(self.source[0]), self.source[1]),)
        networks = self.gate.networks if self.gate is not None else ()
        former = () if self.source is None else (_network(self.source[0]),)
        return tuple([(network, None) for network in (*former, *networks)])

    @property
    def allowed_reports(self) -> tuple[Place, ...]:
        """The same of RTCP; if its port is not known yet, the usual one."""
        if self.source is not None and not self.former:
            usual = self._named_reporter or (self.source[0], self.source[1] + 1)
            host, port = self._reporter[:2] if self._reporter is not None else usual
            return ((_network(host), port & 0xFFFF),)
        return tuple([(network, None) for network, _ in self.allowed])

    def connect(self, remote: Remote, now: float, source: Source | None = None, former: bool = False) -> bool:
        """The far side as agreed now; False if its rule is the old one, and so the source stays. Otherwise the source
        so far stays until the first packet of the new far side. `source`, `former`: as another worker had them."""
        moved, since = True, now
        if self.gate is not None:
            before = self.gate.remote
            remote = remote.after(before)
            if self.source is not None:
                self.former = remote.leaves(self.source, before, self.former)
            if remote.same_source(before):
                moved, since = False, self.gate.since
        if source is not None:
            self.source, self.former = source, former
        self._stays = self._stays and not moved
        self.gate = SourceGate(remote, since)
        return moved

    def watch(self, heard_at: float) -> bool:
        """Called each second; whether the former turns out to stay, and so the target may be another. `heard_at`: when
        a packet came last that was taken."""
        if self._stays or not self.former or self.gate is None or heard_at < self.gate.since + FALLBACK_S:
            return False
        self._stays = True
        return True

    def knows(self, source: Source) -> bool:
        """Whether it is the source after all, in the form that the socket gives it: of IPv6 with flow and scope, which
        another worker did not tell."""
        if self.source is None or source[:2] != self.source[:2]:
            return False
        self.source = source
        return True

    def admits(self, source: Source, heard_at: float, now: float) -> bool:
        """Whether this other source may take the place. `heard_at`: when a packet came last that was taken."""
        gate = self.gate
        if gate is None or (self.source is not None and not self.former):
            return False
        if self.source is None or gate.named_exactly(source):
            return gate.admits(source, now)
        if gate.named(source) and source[0] != self.source[0]:
            return True
        quiet = now - (heard_at or gate.since)  # 0: nothing has come since this worker took over
        enough = HANDED_OVER_S if gate.named(source) or gate.remote.strict else FALLBACK_S
        return not self._stays and quiet >= enough and gate.admits(source, now)

    def take(self, source: Source) -> bool:
        """This is the far side from now on; whether the SDP names it."""
        self.source, self.former, self._reporter = source, False, None
        if self.gate is not None and source == self.gate.place:
            self.source = self.gate.place  # one tuple, and what is in it, less for most legs
        return self.gate is not None and self.gate.named(source)

    def admits_report(self, source: Source, is_report: bool) -> bool:
        """Whether a packet on the RTCP port is the far side's: only from the machine that its audio comes from, and
        from one port there, found by what is RTCP; the one above that of its audio (RFC 3550 11) before any other."""
        if self._reporter is not None and source[:2] == self._reporter[:2]:
            return True
        named = source[:2] == self._named_reporter
        if not is_report or self.source is None or (source[0] != self.source[0] and not named):
            return False
        if named or self._reporter is None or source[1] == self.source[1] + 1:
            self._reporter = source
            return True
        return False

    @property
    def _named_reporter(self) -> Source | None:
        return self.gate.reporter if self.gate is not None else None


def _network(host: str) -> Network:
    """The one address, without the interface that a link-local one may name."""
    return ip_network(host.partition("%")[0])
