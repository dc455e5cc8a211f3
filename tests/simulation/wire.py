"""Two stacks and the wire between them, one virtual clock, one seed. UDP loses, doubles and reorders; TCP breaks."""

import random
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import ip_network
from itertools import count

from siaga_pbx.sip.events import Counted, Event, Output, Resolve, Send
from siaga_pbx.sip.flow import Address, Flow, Target, Transport, Way
from siaga_pbx.sip.message import parse
from siaga_pbx.sip.options import StackSettings, TrunkOptions
from siaga_pbx.sip.stack import Stack

CENTRE: Address = ("192.0.2.10", 5060)
CARRIER: Address = ("198.51.100.1", 5060)


def make_stack(us: Address, them: Address, randbytes: random.Random) -> Stack:
    settings = StackSettings(
        domain="siaga.local",
        own_hosts=frozenset({us[0]}),
        trunks=(TrunkOptions("other", (ip_network(them[0]),)),),
        seats=(),
        contact_for=lambda way: us,
    )
    return Stack(settings, randbytes.randbytes)


@dataclass
class Wire:
    """`loss` and `doubling` are chances of each UDP packet; `max_delay` is in seconds; a cut wire carries nothing."""

    chance: random.Random
    transport: Transport = "udp"
    loss: float = 0.0
    doubling: float = 0.0
    max_delay: float = 0.05
    now: float = 0.0
    is_cut: bool = False
    packets: list[tuple[float, int, Address, Flow, bytes]] = field(default_factory=list)
    log: list[tuple[Address, Event]] = field(default_factory=list)
    open: dict[int, tuple[Address, Address]] = field(default_factory=dict)
    """Open connections by number; the number is the same at both ends."""

    def __post_init__(self) -> None:
        self._order = count()
        self._numbers = count(1)
        self.stacks = {
            CENTRE: make_stack(CENTRE, CARRIER, self.chance),
            CARRIER: make_stack(CARRIER, CENTRE, self.chance),
        }

    def do(self, end: Address, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._carry(end, output.target, output.data)
            elif not isinstance(output, Counted | Resolve):
                self.log.append((end, output))

    def _carry(self, end: Address, way: Way, data: bytes) -> None:
        other = CARRIER if end == CENTRE else CENTRE
        if self.transport == "tcp":
            self._carry_by_connection(end, other, way, data)
            return
        assert (way.remote if isinstance(way, Flow) else (way.host, way.port)) == other
        copies = 2 if self.chance.random() < self.doubling else 1
        for _ in range(copies):
            if self.chance.random() >= self.loss and not self.is_cut:
                at = self.now + self.chance.random() * self.max_delay
                heappush(self.packets, (at, next(self._order), other, Flow("udp", other, end), data))

    def _carry_by_connection(self, end: Address, other: Address, way: Way, data: bytes) -> None:
        flow = way.flow if isinstance(way, Target) else way
        number = flow.connection if flow is not None else None
        if number not in self.open:
            if not isinstance(way, Target):
                return  # a response whose connection is closed has nowhere to go
            if self.is_cut:
                self.do(end, self.stacks[end].unreachable(way, self.now))
                return
            number = next(iter(self.open), None)
            if number is None:
                number = next(self._numbers)
                self.open[number] = (end, other)
        # In order, and never before what was sent earlier.
        latest = max((at for at, _, to, _, _ in self.packets if to == other), default=self.now)
        at = max(latest, self.now + self.chance.random() * self.max_delay)
        heappush(self.packets, (at, next(self._order), other, Flow("tcp", other, end, number), data))

    def break_connections(self) -> None:
        """Every connection closes, with whatever was on its way."""
        self.packets.clear()
        for number, (one, other) in list(self.open.items()):
            del self.open[number]
            for end, far in ((one, other), (other, one)):
                flow = Flow("tcp", end, far, number)
                self.do(end, self.stacks[end].connection_closed(flow, self.now))

    def next_at(self) -> float | None:
        times = [at for stack in self.stacks.values() if (at := stack.next_deadline()) is not None]
        if self.packets:
            times.append(self.packets[0][0])
        return min(times, default=None)

    def step(self) -> None:
        """Everything that is due now: packets, then timers."""
        while self.packets and self.packets[0][0] <= self.now:
            _, _, end, flow, data = heappop(self.packets)
            self.do(end, self.stacks[end].receive(parse(data), flow, self.now))
        for end, stack in self.stacks.items():
            self.do(end, stack.handle_timer(self.now))

    def is_empty(self) -> bool:
        return not self.packets and all(
            not stack._core.legs and not stack._core.dialogs and not len(stack._core.table)
            for stack in self.stacks.values()
        )
