"""Whose packets a leg takes: the source address is found once, by the rules of `Remote`, and kept."""

from ipaddress import ip_address
from typing import TypeAlias

from siaga_pbx.media.protocol import Remote

Source: TypeAlias = tuple[str, int]

FALLBACK_S = 2.0
"""How long a trunk's SDP address is waited for before another of its addresses is taken."""


class SourceGate:
    """The rule of one connected far side, and where to send to it."""

    def __init__(self, remote: Remote, now: float) -> None:
        self.remote = remote
        self._since = now
        self._host = _address(remote.host)

    @property
    def target(self) -> Source | None:
        """Where the SDP says to send; None if it names no address, or the far side wants nothing now."""
        if not self.remote.sending or self._host is None or not 0 < self.remote.port < 65536:
            return None
        if ip_address(self._host).is_unspecified:
            return None
        return self._host, self.remote.port

    def named(self, source: Source) -> bool:
        """Whether this is the source the SDP names."""
        return source[0] == self._host and (source[1] == self.remote.port or not self.remote.strict)

    def admits(self, source: Source, now: float) -> bool:
        """Whether this source, the first to send, may be the far side."""
        if self.named(source):
            return True
        if not self.remote.accept or not (self.remote.strict or now >= self._since + FALLBACK_S):
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

    def _within(self, host: str) -> bool:
        address = ip_address(host)
        return any(address in network for network in self.remote.accept)


def _address(host: str) -> str | None:
    """An IP address as the system writes it in a packet's source; None for a name, which is not looked up: that takes
    time no packet has."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None
