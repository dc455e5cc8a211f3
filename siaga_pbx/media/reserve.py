"""Port pairs that the workers hold ready for the daemon, so that opening a leg waits for nobody."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from siaga_pbx.media.events import PortsAvailable, PortsExhausted
from siaga_pbx.media.link import Link
from siaga_pbx.media.protocol import Bind, BindFailed, Bound

RESERVE = 64
"""Port pairs a worker holds ready on each address: a burst of 64 legs within the millisecond it takes to fill up
again."""


class _Shelf:
    """The pairs held on one address of one worker, and how many more are on order."""

    __slots__ = ("ordered", "ports")

    def __init__(self, ports: Iterable[int] = ()) -> None:
        self.ports = deque(ports)
        self.ordered = 0


class Reserve:
    """All that the workers hold. A worker that is down keeps its share here: its calls can have more legs meanwhile,
    whose pairs the next worker binds with those of the legs it resumes."""

    def __init__(
        self,
        links: Sequence[Link],
        addresses: Sequence[str],
        tell: Callable[[PortsExhausted | PortsAvailable], None],
    ) -> None:
        self._links = links
        self._addresses = addresses
        self._tell = tell
        self._shelves = {(link.index, address): _Shelf() for link in links for address in addresses}
        self._wanted: set[str] = set()
        """Addresses on which none was found."""
        self._exhausted: set[str] = set()
        """Those of them that none is on order for: `PortsExhausted` was told."""

    @property
    def complete(self) -> bool:
        """Whether every worker holds what it can."""
        return all(shelf.ports and not shelf.ordered for shelf in self._shelves.values())

    @property
    def count(self) -> int:
        """How many pairs there are, with the workers that are there."""
        return sum(len(self._shelves[link.index, address].ports) for link in self._up() for address in self._addresses)

    def has(self, link: Link, address: str) -> bool:
        return bool(self._shelves[link.index, address].ports)

    def take(self, link: Link, address: str) -> int:
        """A pair of those that `has`; call `fill` when the worker knows what it is for."""
        return self._shelves[link.index, address].ports.popleft()

    def give_up(self, link: Link, address: str, port: int) -> None:
        """A pair is wanted for a leg that had it before; nobody else is to get it."""
        shelf = self._shelves.get((link.index, address))
        if shelf is not None and port in shelf.ports:
            shelf.ports.remove(port)

    def miss(self, address: str) -> None:
        """None was found where one was wanted: `PortsExhausted`, unless some are on order; then `PortsAvailable`."""
        self._wanted.add(address)
        self._check_exhausted(address)

    def came(self, link: Link, bound: Sequence[tuple[str, int]]) -> None:
        """The worker is there, with these."""
        for address in self._addresses:
            self._shelves[link.index, address] = _Shelf(port for at, port in bound if at == address)
        self.fill(link)

    def fill(self, link: Link) -> None:
        """Order what is lacking; what cannot be bound now is ordered again with the next call."""
        for address in self._addresses:
            shelf = self._shelves[link.index, address]
            missing = RESERVE - len(shelf.ports) - shelf.ordered
            if missing > 0 and link.up:
                shelf.ordered += missing
                link.send(Bind(address, missing))

    def bound(self, link: Link, event: Bound) -> None:
        shelf = self._shelves.get((link.index, event.address))
        if shelf is None:
            return
        shelf.ports.append(event.port)
        self._delivered(shelf, event.address, 1)
        if event.address in self._wanted:
            self._wanted.remove(event.address)
            self._exhausted.discard(event.address)
            self._tell(PortsAvailable(event.address))

    def failed(self, link: Link, event: BindFailed) -> None:
        shelf = self._shelves.get((link.index, event.address))
        if shelf is not None:
            self._delivered(shelf, event.address, event.count)

    def _delivered(self, shelf: _Shelf, address: str, count: int) -> None:
        """So many of the pairs on order came, or cannot come."""
        shelf.ordered = max(0, shelf.ordered - count)
        self._check_exhausted(address)

    def _check_exhausted(self, address: str) -> None:
        """None is free and none is on its way: a worker that has just come owes us some, and that is no alarm."""
        shelves = [self._shelves[link.index, address] for link in self._up()]
        due = any(shelf.ports or shelf.ordered for shelf in shelves)
        if address in self._wanted and shelves and not due and address not in self._exhausted:
            self._exhausted.add(address)
            self._tell(PortsExhausted(address))

    def _up(self) -> list[Link]:
        return [link for link in self._links if link.up]
