"""Two stacks that use what IMS cores use, on a wire that loses, doubles and reorders: 100rel, session timers, UPDATE.

Whatever happens: every leg ends once, and when all is over neither end remembers anything or waits for anything.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from siaga_pbx.sip.events import (
    Answered,
    AnswerSent,
    Ended,
    Failed,
    IncomingCall,
    Offered,
    SessionMissed,
    SessionRefreshed,
)
from siaga_pbx.sip.flow import Address, Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_offer
from siaga_pbx.sip.uri import Uri
from tests.simulation.wire import CARRIER, CENTRE, Wire

READY = make_offer(LocalAudio("192.0.2.10", 30000, 7, 1))
WAITING = Sdp.parse(f"{READY}a=curr:qos local none\r\na=des:qos mandatory local sendrecv\r\n")
URI = Uri.parse("sip:112@example")
WHO = NameAddr("", URI)
CALLS = 4
BUSY_S = 400.0
SESSION_S = 90


@dataclass
class Users:
    wire: Wire
    live: dict[str, Address] = field(default_factory=dict)
    over: Counter[str] = field(default_factory=Counter)
    told: Counter[type] = field(default_factory=Counter)
    seen: int = 0

    def call(self, end: Address, leg: str) -> None:
        chance = self.wire.chance
        other = CARRIER if end == CENTRE else CENTRE
        headers = (("Require", "100rel"),) if chance.random() < 0.7 else ()
        sdp = WAITING if chance.random() < 0.5 else READY
        self.live[leg] = end
        call = Invite(Target("udp", other[0], other[1]), URI, WHO, WHO, sdp, headers, session_s=SESSION_S)
        self.do(leg, self.wire.stacks[end].invite(leg, call, self.wire.now))

    def do(self, leg: str, outputs: list) -> None:  # type: ignore[type-arg]  # the wire knows what they are
        self.wire.do(self.live[leg], outputs)

    def act(self, leg: str) -> None:
        chance, now, stack = self.wire.chance, self.wire.now, self.wire.stacks[self.live[leg]]
        match chance.choice(["ring", "answer", "answer", "offer", "hang_up"]):
            case "ring":
                self.do(leg, stack.ring(leg, now, READY))
            case "answer":
                self.do(leg, stack.answer(leg, READY, now))
            case "offer":
                self.do(leg, stack.offer(leg, READY, now))
            case "hang_up" if chance.random() < 0.1:
                self.do(leg, stack.hang_up(leg, now))

    def look(self) -> None:
        """Takes in what is new. An offer is answered at once, as the switch does."""
        while self.seen < len(self.wire.log):
            end, event = self.wire.log[self.seen]
            self.seen += 1
            self.told[type(event)] += 1
            leg = str(getattr(event, "leg", ""))
            match event:
                case IncomingCall():
                    self.live[leg] = end
                case Ended() | Failed():
                    self.over[leg] += 1
                    del self.live[leg]
                case Offered():
                    assert self.live[leg] == end
                    self.do(leg, self.wire.stacks[end].accept(leg, READY, self.wire.now))
                case _:
                    assert self.live.get(leg) == end, f"{event} after the end"

    def advance(self, until: float) -> None:
        steps = 0
        while (at := self.wire.next_at()) is not None and at <= until:
            self.wire.now = max(self.wire.now, at)
            self.wire.step()
            self.look()
            steps += 1
            assert steps < 50_000, "no end"
        self.wire.now = until


def run(wire: Wire) -> Users:
    users, chance = Users(wire), wire.chance
    agenda = [(chance.random() * 20, f"call-{number}") for number in range(CALLS)]
    agenda += [(chance.random() * BUSY_S, "whim") for _ in range(60)]
    agenda += [(chance.random() * 30, "whim") for _ in range(20)]
    for at, what in sorted(agenda):
        users.advance(at)
        if what != "whim":
            users.call(chance.choice([CENTRE, CARRIER]), what)
        elif users.live:
            users.act(chance.choice(sorted(users.live)))
        users.look()
    for wait in (300.0, 600.0):
        for leg in sorted(users.live):
            users.do(leg, wire.stacks[users.live[leg]].hang_up(leg, wire.now))
            users.look()
        users.advance(wire.now + wait)
    return users


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_every_leg_ends_once_and_nothing_is_left(loss: float) -> None:
    told: Counter[type] = Counter()
    for seed in range(40):
        wire = Wire(random.Random(seed), loss=loss, doubling=0.2, max_delay=0.4)
        users = run(wire)
        assert users.live == {}, seed
        assert set(users.over.values()) == {1}, seed
        assert all(f"call-{number}" in users.over for number in range(CALLS))
        assert wire.next_at() is None, "a timer runs"
        assert wire.is_empty(), seed
        told += users.told
    assert told[Answered] > 40
    assert told[AnswerSent] > 10, "answers waited for PRACK and UPDATE"
    if loss:
        assert told[SessionRefreshed] <= told[SessionMissed]
    else:
        assert told[SessionMissed] == 0, "somebody refreshed, every time"
