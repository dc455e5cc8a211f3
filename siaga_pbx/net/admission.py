"""Which connections are taken: strangers never use up what a caller's trunk needs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What connections may take. Seconds are kept to within a sweep."""

    connections: int = 4096
    """Accepted at once; each a descriptor and some 10 KB, 130 KB at worst."""
    reserved: int = 1024
    """Of them, those that only trunks may have."""
    per_source: int = 256
    """From one address that is no trunk's: an office of seats behind one NAT fits."""
    first_message_s: float = 30.0
    """A connection that says nothing whole in this time was no peer's."""
    message_s: float = 30.0
    """A message that began must be whole in this time."""
    idle_s: float = 900.0
    """Seats register at least every 300 s, and a trunk that is closed on dials again."""
    dial_s: float = 5.0
    handshake_s: float = 10.0


class Admission:
    """Counts who is in. `refusal` first, then `admit`; `release` when the connection is gone."""

    def __init__(self, limits: StreamLimits, is_trunk: Callable[[str], bool]) -> None:
        self._limits = limits
        self._is_trunk = is_trunk
        self._trunks: set[int] = set()
        self._strangers: dict[int, str] = {}
        self._per_source: Counter[str] = Counter()

    def refusal(self, host: str) -> str | None:
        """Why a connection from there cannot be taken, as a slug; None: it can."""
        limits = self._limits
        full = len(self._trunks) + len(self._strangers) >= limits.connections
        if not self._is_trunk(host):
            if self._per_source[host] >= limits.per_source:
                return "connections_of_source"
            full = full or len(self._strangers) >= limits.connections - limits.reserved
        return "connections" if full else None

    def admit(self, number: int, host: str) -> None:
        if self._is_trunk(host):
            self._trunks.add(number)
        else:
            self._strangers[number] = host
            self._per_source[host] += 1

    def recognise(self, number: int) -> None:
        """One that was taken for a stranger's has shown a trunk's certificate."""
        host = self._strangers.get(number)
        if host is not None:
            self.release(number)
            self._trunks.add(number)

    def release(self, number: int) -> None:
        """Harmless for a number that is not in."""
        self._trunks.discard(number)
        host = self._strangers.pop(number, None)
        if host is not None:
            self._per_source[host] -= 1
            if not self._per_source[host]:
                del self._per_source[host]
