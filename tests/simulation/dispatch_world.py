"""An incident for several agencies on a day on which everything breaks, in virtual time.

The centre's follow-ups, their rows and the agencies' books are the real ones; the broker, the disks, the wires between
and the people are played here. Messages are lost, delayed and doubled; the centre, the broker (with and without its
memory) and the agencies' ends die and come back; an agency's disk is full for a while.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from siaga_pbx.dispatch.compose import passed_on
from siaga_pbx.dispatch.followed import (
    ENGAGED,
    RELIEVED,
    Followed,
    changes_of,
    escalated,
    event_of,
    first_rows,
    next_rows,
    past_of,
)
from siaga_pbx.dispatch.followup import CALL_S, FollowUp
from siaga_pbx.dispatch.ladder import CLOSED, Call, Engage, Escalated, Output, Publish, State
from siaga_pbx.dispatch.message import Ack, Dispatch, Kind
from siaga_pbx.dispatch.plan import Past, Plan
from siaga_pbx.records.changes import Change
from siaga_pbx.records.reader import Record
from siaga_pbx.records.times import utc_text
from tests.simulation.dispatch_agency import Agency
from tests.simulation.dispatch_wires import Broker, Disk
from tests.unit.test_dispatch_message import DISPATCH, encoded

EPOCH = 1_795_000_000.0
TROUBLE_S = 600.0
END_S = 6 * 3600.0
PLANS = {
    "damkar": Plan(60.0, 900.0, ("resend", "agency:bpbd", "call:tel:113")),
    "psc119": Plan(60.0, 900.0, ("agency:bpbd", "alarm")),
    "bpbd": Plan(60.0, 900.0, ("resend",)),
}
ORDERED = ("damkar", "psc119")
"""Those whom the category names; "bpbd" is engaged by their ladders."""


class World:
    """Virtual time, chance, and the machines."""

    def __init__(self, seed: int, *, heals: bool) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.heals = heals
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.broker = Broker(self, PLANS)
        self.centre = Centre(self)
        self.agencies = {name: Agency(self, name) for name in PLANS}

    @property
    def troubled(self) -> bool:
        """Things break at first only, unless nothing ever heals."""
        return self.now < TROUBLE_S or not self.heals

    def happens(self, probability: float) -> bool:
        return self.troubled and self.chance.random() < probability

    def after(self, delay: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._later, (self.now + delay, self._count, act))

    def run(self) -> None:
        end = END_S if self.heals else 5 * TROUBLE_S
        while self._later and self._later[0][0] <= end:
            self.now, _, act = heapq.heappop(self._later)
            act()

    def utc(self) -> str:
        return utc_text(EPOCH + self.now)


class Centre:
    """The dispatcher: it does with the follow-ups what `intake`, `outbox` and `resume` do on a loop with threads."""

    def __init__(self, world: World) -> None:
        self.world, self.disk = world, Disk()
        self.cases: dict[str, Followed] = {}
        self.life = 0
        self.alive = False
        self.engaged = self.updates = 0
        self.anew, self.cancelled, self.spoken, self.calls = (
            Counter[str](),
            Counter[str](),
            Counter[str](),
            Counter[str](),
        )
        self._hung_up = Counter[str]()
        world.broker.to_centre.receiver = self.receive
        world.after(0.0, self.boot)

    def case(self, agency: str) -> Followed | None:
        return next((case for case in self.cases.values() if case.agency == agency), None)

    # --- its lives ----------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        self.alive, self.life = True, self.life + 1
        self.cases = self.resumed()
        for case in tuple(self.cases.values()):
            self.carry_out(case, case.followup.start(self.world.now))
        self.connect()
        if not self.cases:  # nobody was told that it is on record, so it is ordered again
            self.order()
        if self.world.troubled:
            self._soon(self.world.chance.expovariate(1 / 120), self.die)
            for probability, within, act in ((0.3, 100, self.order), (0.2, 200, self.update), (0.1, 200, self.cancel)):
                if self.world.chance.random() < probability:
                    self._soon(self.world.chance.uniform(0, within), act)

    def resumed(self) -> dict[str, Followed]:
        """All that a start knows."""
        cases: dict[str, Followed] = {}
        for id, row in self.disk.rows.items():
            message = Dispatch.parse(str(row["message"]).encode())
            events, outbox = self.disk.events_of(id), self.disk.outbox.get(id)
            past = past_of(row, outbox, events, self.world.now, self.world.utc())
            cases[id] = Followed(message, FollowUp(PLANS[message.agency], past))
        for event in self.disk.events:
            if event["kind"] == ENGAGED and isinstance(event["data"], dict):
                cases[str(event["data"]["dispatch_id"])].relieves.add(str(event["id"]))
        return cases

    def die(self) -> None:
        if self.world.troubled and self.alive:
            self.alive = False
            self.disk.crash()
            self.world.after(self.world.chance.expovariate(1 / 20), self.boot)

    def connect(self) -> None:
        if self.alive and self.world.broker.up:
            self.world.broker.to_centre.subscribed = True
            self.world.broker.to_centre.pump()
            for case in tuple(self.cases.values()):
                self.carry_out(case, case.followup.connected(self.world.now))

    def receive(self, payload: bytes) -> bool | None:
        """An answer: acknowledged once it is on the disk."""
        if not self.alive:
            return None
        ack = Ack.parse(payload)
        case = self.cases[ack.dispatch_id]
        assert case.followup.knows(ack.sequence)
        reason, kept = ack.reason or "", ack.kept is not False
        self.carry_out(case, case.followup.answered(ack.state, ack.sequence, self.world.now, reason, kept=kept))
        if case.followup.delivered:
            held = self.world.agencies[case.agency].held(case.id)
            assert held >= case.followup.sequence, "the centre counts as delivered what the agency's file does not hold"
        if self.world.happens(0.1):
            self.die()
            return False
        self.disk.sync()
        return True

    # --- orders -------------------------------------------------------------------------------------------------------

    def order(self) -> None:
        """The call-taker orders, again or for the first time: who has closed it is asked anew."""
        told = [case for case in self.cases.values() if case.agency in ORDERED or case.followup.state not in CLOSED]
        kinds = {case.id: Kind.ALERT if case.followup.state in CLOSED else Kind.UPDATE for case in told}
        known = {case.agency for case in told}
        self._send(kinds, [self._first(agency) for agency in ORDERED if agency not in known])

    def update(self) -> None:
        """The call-taker knows more."""
        open_ = [case for case in self.cases.values() if case.followup.state not in CLOSED]
        self._send({case.id: Kind.UPDATE for case in open_}, [])

    def cancel(self) -> None:
        """Nobody is to go, or one agency is not."""
        alone = self.world.chance.choice([None, None, *ORDERED])
        over = (State.CLEARED, State.CANCELLED)
        told = [
            case for case in self.cases.values() if alone in (None, case.agency) and case.followup.state not in over
        ]
        self._send({case.id: Kind.CANCEL for case in told}, [])

    def _first(self, agency: str) -> Dispatch:
        message = Dispatch.parse(encoded(DISPATCH)).model_copy(update={"note": f"told {self.updates}"})
        id = f"{ORDERED.index(agency)}" * 8 + message.dispatch_id[8:]
        return passed_on(message, id, agency, self.world.utc(), message.accept_by)

    def _send(self, kinds: dict[str, Kind], firsts: Sequence[Dispatch]) -> None:
        """All in one transaction; followed once it is on the disk."""
        self.updates += bool(kinds)
        nexts: dict[str, Dispatch] = {}
        for id, kind in kinds.items():
            change = {"sequence": self.cases[id].followup.sequence + 1, "type": kind, "sent_at": self.world.utc()}
            nexts[id] = self.cases[id].message.model_copy(update={**change, "note": f"told {self.updates}"})
        if self.world.happens(0.1):
            self.die()
            return
        changes = [change for id, message in nexts.items() for change in next_rows(self.cases[id], message)]
        changes += [change for message in firsts for change in first_rows(message, PLANS[message.agency])]
        self.disk.write(changes)
        self.disk.sync()
        for message in nexts.values():
            self.anew[message.agency] += message.type is Kind.ALERT
            self.cancelled[message.agency] += message.type is Kind.CANCEL
        if self.world.happens(0.2):
            self.die()
            return
        for id, message in nexts.items():
            case, now = self.cases[id], self.world.now
            case.message, anew = message, message.type is Kind.ALERT
            cancels = message.type is Kind.CANCEL
            self.carry_out(case, case.followup.cancel(now) if cancels else case.followup.update(now, anew=anew))
        for message in firsts:
            self._follow(message)

    def _follow(self, message: Dispatch) -> Followed:
        past = Past(self.world.now, self.world.now)
        case = self.cases[message.dispatch_id] = Followed(message, FollowUp(PLANS[message.agency], past))
        self.carry_out(case, case.followup.start(self.world.now))
        return case

    # --- outputs ------------------------------------------------------------------------------------------------------

    def carry_out(self, case: Followed, outputs: Sequence[Output], answer: Record | None = None) -> None:
        self._write(changes_of(case, outputs, self.world.utc(), answer))
        for output in outputs:
            match output:
                case Publish():
                    self._publish(case)
                case Engage():
                    self._soon(self.world.chance.uniform(0.01, 1), partial(self._engage, case, output))
                case Call(target):
                    self.calls[case.agency] += 1
                    call = partial(self._called, case, target, self.calls[case.agency])
                    self._soon(self.world.chance.uniform(1, 1.3 * CALL_S), call)
                case _:
                    pass
        if case.followup.calling is None:
            self._hung_up[case.agency] = self.calls[case.agency]
        if case.followup.taken:
            self._relieve(case)
        deadline = case.followup.next_deadline()
        if deadline is not None:
            self._soon(max(0.0, deadline - self.world.now), partial(self._ring, case))

    def _ring(self, case: Followed) -> None:
        deadline = case.followup.next_deadline()
        if deadline is not None and deadline <= self.world.now:
            self.carry_out(case, case.followup.handle_timer(self.world.now))

    def _called(self, case: Followed, target: str, call: int) -> None:
        """What a voice call came to, unless it was hung up."""
        if call <= self._hung_up[case.agency]:
            return
        step = f"call:{target}"
        if self.world.chance.random() < 0.5:
            self.spoken[case.agency] += 1
            self.carry_out(case, case.followup.spoken(self.world.now), {"by": step})
        else:
            self.carry_out(case, case.followup.not_carried_out(step, "busy", self.world.now))

    def _engage(self, case: Followed, engage: Engage) -> None:
        """Another agency in this one's stead, or the one that is engaged already."""
        utc, step = self.world.utc(), Escalated(f"agency:{engage.agency}", engage.cause)
        if not case.followup.escalates:
            why = "nobody waits for it any more"
            self._write([escalated(case, utc, Escalated(step.step, step.cause, skipped=why))])
            self.carry_out(case, case.followup.not_carried_out(step.step, why, self.world.now))
            return
        other = self.case(engage.agency)
        id = other.id if other is not None else f"{9}" * 8 + case.id[8:]
        changes: list[Change] = [escalated(case, utc, step)]
        message = passed_on(case.message, id, engage.agency, utc, utc)
        if other is None:
            changes += first_rows(message, PLANS[engage.agency])
        self.disk.write([*changes, event_of(case, utc, ENGAGED, {"agency": engage.agency, "dispatch_id": id})])
        self.disk.sync()
        self.engaged += 1
        if self.world.happens(0.1):
            self.die()
            return
        other = other or self._follow(message)
        other.relieves.add(case.id)
        self.carry_out(other, [])

    def _relieve(self, case: Followed) -> None:
        for id in case.relieves:
            relieved = self.cases[id]
            if not (relieved.followup.relieved_by_other or relieved.followup.taken):
                outputs = relieved.followup.relieved(self.world.now)
                self._write([event_of(relieved, self.world.utc(), RELIEVED, {"by": case.id})])
                self.carry_out(relieved, outputs)

    def _publish(self, case: Followed) -> None:
        broker, message, chance, followup = self.world.broker, case.message, self.world.chance, case.followup
        if not broker.up:
            self._soon(0.01, lambda: self.carry_out(case, followup.unpublished(self.world.now)))
            return
        if self.world.happens(0.03):
            refused = partial(followup.unpublished, refusal="Quota exceeded (0x97)")
            self._soon(0.01, lambda: self.carry_out(case, refused(self.world.now)))
            return
        mailbox = broker.to_agency[case.agency]
        arrives, confirmed = not self.world.happens(0.1), not self.world.happens(0.15)
        nobody = not mailbox.subscribed
        if arrives:
            self.world.after(chance.uniform(0.001, 0.2), lambda: mailbox.put(message.encode()))
        if arrives and confirmed:
            self._soon(
                chance.uniform(0.2, 0.4),
                lambda: self.carry_out(
                    case, followup.published(message.sequence, self.world.now, no_subscriber=nobody)
                ),
            )
        else:
            self._soon(5, lambda: self.carry_out(case, followup.unpublished(self.world.now)))

    def _soon(self, delay: float, act: Callable[[], None]) -> None:
        """As long as this life lasts."""
        life = self.life
        self.world.after(delay, lambda: act() if self.alive and self.life == life else None)

    def _write(self, changes: Sequence[Change]) -> None:
        if changes:
            self.disk.write(changes)
            self._soon(self.world.chance.uniform(0.001, 0.05), self.disk.sync)
