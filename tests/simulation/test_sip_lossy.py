"""Two stacks on a wire that loses, doubles and reorders, with users that do anything at any time.

Whatever happens: every leg ends with exactly one Ended or Failed, each final is told once, nothing comes after the end,
and when all is over neither end remembers anything or waits for anything.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from siaga_pbx.sip.events import (
    Answered,
    Checked,
    Confirmed,
    Ended,
    Event,
    Failed,
    IncomingCall,
    Info,
    Noted,
    Offered,
    OfferRefused,
    OptionsOutcome,
    Reanswered,
    Registered,
    Ringing,
    Unacknowledged,
    Unregistered,
)
from siaga_pbx.sip.flow import Address, Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.sdp import LocalAudio, make_offer
from siaga_pbx.sip.uri import Uri
from tests.simulation.wire import CARRIER, CENTRE, Wire

SDP = make_offer(LocalAudio("192.0.2.10", 30000, 7, 1))
URI = Uri.parse("sip:112@example")
WHO = NameAddr("", URI)
CALLS = 4
BUSY_S = 60.0
"""How long the users do things; then all hang up."""


@dataclass
class Users:
    """The users of both stacks: what each thinks of its legs, checked as events come."""

    wire: Wire
    live: dict[str, Address] = field(default_factory=dict)
    server: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)
    over: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)
    seen: int = 0

    def call(self, end: Address, leg: str) -> None:
        other = CARRIER if end == CENTRE else CENTRE
        self.live[leg] = end
        call = Invite(Target(self.wire.transport, other[0], other[1]), URI, WHO, WHO, SDP)
        self.wire.do(end, self.wire.stacks[end].invite(leg, call, self.wire.now))

    def act(self, leg: str) -> None:
        """One thing that a user might do to a leg, sensible or not."""
        chance, now, end = self.wire.chance, self.wire.now, self.live[leg]
        stack = self.wire.stacks[end]
        action = chance.choice(["ring", "answer", "answer", "reject", "hang_up", "offer", "accept", "refuse", "check"])
        match action:
            case "ring":
                outputs = stack.ring(leg, now)
            case "answer":
                outputs = stack.answer(leg, SDP, now)
            case "reject" if chance.random() < 0.3:
                outputs = stack.reject(leg, 486, now)
            case "hang_up" if chance.random() < 0.3:
                outputs = stack.hang_up(leg, now)
            case "offer":
                outputs = stack.offer(leg, SDP, now)
            case "accept":
                outputs = stack.accept(leg, SDP, now)
            case "refuse":
                outputs = stack.refuse(leg, 488, now)
            case "check" if chance.random() < 0.2:
                outputs = stack.check(leg, now)
            case _:
                outputs = []
        self.wire.do(end, outputs)

    def look(self) -> None:
        """Takes in the events that are new."""
        new, self.seen = self.wire.log[self.seen :], len(self.wire.log)
        for end, event in new:
            self._take_in(end, event)

    def _take_in(self, end: Address, event: Event) -> None:
        assert not isinstance(event, Registered | Unregistered | OptionsOutcome | Noted | Info)
        if isinstance(event, IncomingCall):
            assert event.leg not in self.live
            self.live[event.leg] = end
            self.server.add(event.leg)
            return
        leg = getattr(event, "leg", "")
        assert self.live.get(leg) == end, f"{event} after the end"
        match event:
            case Ended() | Failed():
                assert isinstance(event, Ended) or (leg not in self.server and not self.answered[leg])
                assert isinstance(event, Failed) or leg in self.server or self.answered[leg]
                self.over[leg] += 1
                del self.live[leg]
            case Answered():
                assert leg not in self.server
                self.answered[leg] += 1
            case Confirmed():
                assert leg in self.server
                self.confirmed[leg] += 1
            case Ringing():
                assert not self.answered[leg]
            case Unacknowledged() | Offered() | Reanswered() | OfferRefused() | Checked():
                assert leg in self.server or self.answered[leg]


def run(wire: Wire, breaks: list[float]) -> Users:
    """A minute of calls and whims, then everybody hangs up and the wire falls silent."""
    users = Users(wire)
    chance = wire.chance
    agenda: list[tuple[float, str]] = []
    for number in range(CALLS):
        agenda.append((chance.random() * 20, f"call-{number}"))
    agenda += [(chance.random() * BUSY_S, "whim") for _ in range(40)]
    agenda += [(at, "break") for at in breaks]
    for at, what in sorted(agenda):
        advance(users, at)
        if what == "whim":
            if users.live:
                users.act(chance.choice(sorted(users.live)))
        elif what == "break":
            wire.break_connections()
        else:
            users.call(chance.choice([CENTRE, CARRIER]), what)
        users.look()
    advance(users, BUSY_S)
    for leg, end in sorted(users.live.items()):
        wire.do(end, wire.stacks[end].hang_up(leg, wire.now))
        users.look()
    advance(users, BUSY_S + 300)
    # Whoever heard of a call only now hangs up too.
    for leg, end in sorted(users.live.items()):
        wire.do(end, wire.stacks[end].hang_up(leg, wire.now))
        users.look()
    advance(users, BUSY_S + 600)
    return users


def advance(users: Users, until: float) -> None:
    wire = users.wire
    steps = 0
    while (at := wire.next_at()) is not None and at <= until:
        assert at >= wire.now - 1e-9
        wire.now = max(wire.now, at)
        wire.step()
        users.look()
        steps += 1
        assert steps < 50_000, "no end"
    wire.now = until


def check(users: Users) -> None:
    assert users.live == {}
    assert set(users.over.values()) <= {1}
    assert all(f"call-{number}" in users.over for number in range(CALLS))
    assert set(users.answered.values()) <= {1}
    assert set(users.confirmed.values()) <= {1}
    assert users.wire.next_at() is None, "a timer runs"
    assert users.wire.is_empty()


@pytest.mark.parametrize(
    ("loss", "hundred"), [(0.3, hundred) for hundred in range(10)] + [(0.0, 0), (0.0, 1), (0.6, 0), (0.6, 1)]
)
def test_every_leg_ends_once_on_a_lossy_wire(loss: float, hundred: int) -> None:
    for seed in range(hundred * 100, hundred * 100 + 100):
        chance = random.Random(seed)
        wire = Wire(chance, loss=loss, doubling=0.2, max_delay=chance.choice([0.02, 0.4, 3.0]))
        check(run(wire, []))


def test_every_leg_ends_once_when_the_wire_is_cut() -> None:
    for seed in range(100):
        wire = Wire(random.Random(seed), loss=0.1)
        users = Users(wire)
        for number in range(CALLS):
            users.call(CENTRE if number % 2 else CARRIER, f"call-{number}")
            advance(users, wire.now + wire.chance.random() * 2)
            for leg in sorted(users.live):
                users.act(leg)
                users.look()
        wire.is_cut = True
        wire.packets.clear()
        for leg, end in sorted(users.live.items()):
            wire.do(end, wire.stacks[end].hang_up(leg, wire.now))
            users.look()
        advance(users, wire.now + 300)
        check(users)


def test_every_leg_ends_once_over_connections_that_break() -> None:
    for seed in range(100):
        chance = random.Random(seed)
        wire = Wire(chance, transport="tcp")
        check(run(wire, [chance.random() * BUSY_S for _ in range(chance.randrange(6))]))


def test_most_calls_get_through_a_third_of_loss() -> None:
    """That the runs above are runs of calls, and not of silence."""
    answered = confirmed = 0
    for seed in range(60):
        chance = random.Random(seed)
        users = run(Wire(chance, loss=0.3, doubling=0.2, max_delay=0.4), [])
        answered += len(users.answered)
        confirmed += len(users.confirmed)
    assert answered > 90
    assert confirmed > 90
