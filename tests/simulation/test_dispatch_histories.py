"""Thousands of days on which everything breaks, in virtual time.

The centre's follow-up, its rows and the agency's book are the real ones; the broker, the disks and the wires between
are played here. Messages are lost, delayed and doubled; the centre, the broker (with and without its memory) and the
agency's end die and come back. Whatever happens, each dispatch is new to the agency exactly once, and the centre either
has a person's answer or stands in alarm.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from siaga_pbx.dispatch.agency_book import Book, News, NotPossible, Saved, Signature
from siaga_pbx.dispatch.followed import (
    ESCALATED,
    RELIEVED,
    TIME_COLUMNS,
    Followed,
    changes_of,
    escalated,
    event_of,
    next_rows,
    past_of,
)
from siaga_pbx.dispatch.followup import CALL_S, FollowUp
from siaga_pbx.dispatch.ladder import CLOSED, Answer, Call, Engage, Escalated, Output, Publish, State
from siaga_pbx.dispatch.message import Ack, Dispatch, Kind
from siaga_pbx.dispatch.plan import Past, Plan
from siaga_pbx.records.changes import Change, Delete, Event, Update, Upsert
from siaga_pbx.records.reader import Record
from siaga_pbx.records.times import utc_text
from tests.unit.test_dispatch_message import DISPATCH, encoded

EPOCH = 1_795_000_000.0
TROUBLE_S = 600.0
END_S = 6 * 3600.0
PLAN = Plan(60.0, 900.0, ("resend", "agency:bpbd", "call:tel:113"))
ANSWERED = (State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED)
SEEDS = range(3000)


class World:
    """Virtual time, chance, and the three machines."""

    def __init__(self, seed: int, *, heals: bool) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.heals = heals
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.broker = Broker(self)
        self.centre = Centre(self)
        self.agency = Agency(self)
        self.broker.to_agency.receiver, self.broker.to_centre.receiver = self.agency.receive, self.centre.receive

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


@dataclass
class Mailbox:
    """What the broker keeps for one end, in order, until that end acknowledges it."""

    world: World
    broker: "Broker"
    receiver: Callable[[bytes], bool | None] = lambda payload: None
    subscribed: bool = False
    messages: list[bytes] = field(default_factory=list)
    busy: bool = False

    def put(self, payload: bytes) -> None:
        if self.subscribed:
            self.messages.append(payload)
            if self.world.happens(0.05):
                self.messages.append(payload)
            self.pump()

    def pump(self) -> None:
        if not self.busy and self.messages and self.broker.up:
            self.busy = True
            self.world.after(self.world.chance.uniform(0.001, 0.5), self._deliver)

    def _deliver(self) -> None:
        self.busy = False
        if not (self.broker.up and self.messages):
            return
        acknowledged = self.receiver(self.messages[0])
        if acknowledged is None:  # nobody is connected; it asks again when it is
            return
        if acknowledged and not self.world.happens(0.1):
            self.messages.pop(0)
        self.pump()


class Broker:
    """Keeps what it has taken, except when it forgets."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.to_agency, self.to_centre = Mailbox(world, self), Mailbox(world, self)
        world.after(world.chance.expovariate(1 / 100), self._fail)

    def _fail(self) -> None:
        if not self.world.troubled:
            return
        self.up = False
        if self.world.chance.random() < 0.5:
            for mailbox in (self.to_agency, self.to_centre):
                mailbox.messages.clear()
                mailbox.subscribed = False
        self.world.after(self.world.chance.expovariate(1 / 30), self._recover)

    def _recover(self) -> None:
        self.up = True
        self.world.after(self.world.chance.expovariate(1 / 100), self._fail)
        self.world.after(self.world.chance.uniform(0.1, 5), self.world.centre.connect)
        self.world.after(self.world.chance.uniform(0.1, 5), self.world.agency.connect)


class Centre:
    """The follow-up and its rows: those on the disk, and those that a crash would lose."""

    def __init__(self, world: World) -> None:
        self.world = world
        message = Dispatch.parse(encoded(DISPATCH))
        self.row: Record = dict.fromkeys(TIME_COLUMNS.values())
        self.row |= {"state": "pending", "sequence": 1, "created_at": world.utc(), "attempts": 0}
        self.outbox: Record | None = {"created_at": world.utc(), "sequence": 1}
        self.events: list[Record] = []
        self.message = message
        self._unsynced: list[Sequence[Change]] = []
        self.life = 0
        self.alive = False
        self.calls = self.spoken = self.hung_up = 0
        self.engaged = 0
        self.updates = self.anew = self.cancelled = 0
        world.after(0.0, self.boot)

    def boot(self) -> None:
        self.alive, self.life = True, self.life + 1
        past = past_of(self.row, self.outbox, self.events, self.world.now, self.world.utc())
        self.followed = Followed(self.message, FollowUp(PLAN, past))
        self.carry_out(self.followed.followup.start(self.world.now))
        self.connect()
        if self.world.troubled:
            self._soon(self.world.chance.expovariate(1 / 120), self.die)
            if self.world.chance.random() < 0.3:
                self._soon(self.world.chance.uniform(0, 100), self.order_again)
            if self.world.chance.random() < 0.1:
                self._soon(self.world.chance.uniform(0, 200), self.cancel)

    def die(self) -> None:
        if not self.world.troubled:
            return
        self.alive = False
        self._unsynced.clear()
        self.world.after(self.world.chance.expovariate(1 / 20), self.boot)

    def connect(self) -> None:
        if self.alive and self.world.broker.up:
            self.world.broker.to_centre.subscribed = True
            self.world.broker.to_centre.pump()
            self.carry_out(self.followed.followup.connected(self.world.now))

    def receive(self, payload: bytes) -> bool | None:
        """An answer: acknowledged once it is on the disk."""
        if not self.alive:
            return None
        ack = Ack.parse(payload)
        assert self.followed.followup.knows(ack.sequence)
        answered = self.followed.followup.answered(ack.state, ack.sequence, self.world.now, ack.reason or "")
        self.carry_out(answered)
        if self.world.happens(0.1):
            self.die()
            return False
        self._sync()
        return True

    def order_again(self) -> None:
        """The call-taker knows more: committed, then followed."""
        anew = self.followed.followup.state in CLOSED
        self.updates += 1
        self.anew += anew
        self._order(Kind.ALERT if anew else Kind.UPDATE, lambda one: one.update(self.world.now, anew=anew))

    def cancel(self) -> None:
        """Nobody is to go."""
        if self.followed.followup.state not in (State.CLEARED, State.CANCELLED):
            self.cancelled += 1
            self._order(Kind.CANCEL, lambda one: one.cancel(self.world.now))

    def _order(self, kind: Kind, follow: Callable[[FollowUp], Sequence[Output]]) -> None:
        self._sync()
        followup = self.followed.followup
        change = {"sequence": followup.sequence + 1, "type": kind, "sent_at": self.world.utc()}
        self.message = self.message.model_copy(update=change)
        self._unsynced.append(next_rows(self.followed, self.message))
        self._sync()
        if self.world.happens(0.2):
            self.die()
            return
        self.followed.message = self.message
        self.carry_out(follow(followup))

    def carry_out(self, outputs: Sequence[Output], answer: Record | None = None) -> None:
        self._write(changes_of(self.followed, outputs, self.world.utc(), answer))
        for output in outputs:
            match output:
                case Publish():
                    self._publish()
                case Engage():
                    self._soon(self.world.chance.uniform(0.01, 1), partial(self._engage, output))
                case Call(target):
                    self.calls += 1
                    self._soon(self.world.chance.uniform(1, 1.3 * CALL_S), partial(self._called, target, self.calls))
                case _:
                    pass
        if self.followed.followup.calling is None:
            self.hung_up = self.calls
        deadline = self.followed.followup.next_deadline()
        if deadline is not None:
            self._soon(max(0.0, deadline - self.world.now), self._ring)

    def _ring(self) -> None:
        deadline = self.followed.followup.next_deadline()
        if deadline is not None and deadline <= self.world.now:
            self.carry_out(self.followed.followup.handle_timer(self.world.now))

    def _called(self, target: str, call: int) -> None:
        """What a voice call came to, unless it was hung up."""
        if call <= self.hung_up:
            return
        followup, step = self.followed.followup, f"call:{target}"
        if self.world.chance.random() < 0.5:
            self.spoken += 1
            self.carry_out(followup.spoken(self.world.now), {"by": step})
        else:
            self.carry_out(followup.not_carried_out(step, "busy", self.world.now))

    def _engage(self, engage: Engage) -> None:
        """The other agency is somebody else's story; sometimes it accepts."""
        followup, step = self.followed.followup, Escalated(f"agency:{engage.agency}", engage.cause)
        if not followup.escalates:
            step = Escalated(step.step, step.cause, skipped="nobody waits for it any more")
            self._write([escalated(self.followed, self.world.utc(), step)])
            self.carry_out(followup.not_carried_out(step.step, "nobody waits", self.world.now))
            return
        self.engaged += 1
        self._write([escalated(self.followed, self.world.utc(), step)])
        self._sync()
        if self.world.chance.random() < 0.3:
            self._soon(self.world.chance.uniform(5, 50), self._relieve)

    def _relieve(self) -> None:
        self._write([event_of(self.followed, self.world.utc(), RELIEVED, {"by": "another"})])
        self.carry_out(self.followed.followup.relieved(self.world.now))

    def _publish(self) -> None:
        broker, message, chance = self.world.broker, self.followed.message, self.world.chance
        followup = self.followed.followup
        if not broker.up:
            self._soon(0.01, lambda: self.carry_out(followup.unpublished(self.world.now)))
            return
        arrives, confirmed = not self.world.happens(0.1), not self.world.happens(0.15)
        nobody = not broker.to_agency.subscribed
        if arrives:
            self.world.after(chance.uniform(0.001, 0.2), lambda: broker.to_agency.put(message.encode()))
        if arrives and confirmed:
            self._soon(
                chance.uniform(0.2, 0.4),
                lambda: self.carry_out(followup.published(message.sequence, self.world.now, no_subscriber=nobody)),
            )
        else:
            self._soon(5, lambda: self.carry_out(followup.unpublished(self.world.now)))

    def _soon(self, delay: float, act: Callable[[], None]) -> None:
        """As long as this life lasts."""
        life = self.life
        self.world.after(delay, lambda: act() if self.alive and self.life == life else None)

    def _write(self, changes: Sequence[Change]) -> None:
        if changes:
            self._unsynced.append(changes)
            self._soon(self.world.chance.uniform(0.001, 0.05), self._sync)

    def _sync(self) -> None:
        for changes in self._unsynced:
            for change in changes:
                match change:
                    case Update(_, _, values):
                        self.row |= values
                    case Delete():
                        self.outbox = None
                    case Upsert(_, row):
                        self.outbox = dict(row)
                    case Event(at=at, kind=kind, data=data):
                        self.events.append({"at": at, "kind": kind, "data": dict(data)})
                    case _:
                        raise AssertionError(change)
        self._unsynced.clear()


class Agency:
    """The agency's end and its people, who answer or do not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.saved = Saved()
        self.alive = False
        self.life = 0
        self.news: list[tuple[News, int]] = []
        self.people = world.chance.choice(["accept", "reject", "ignore", "reject, then accept"])
        world.after(world.chance.choice([0.0, 0.0, 30.0, 300.0]), self.boot)

    def boot(self) -> None:
        self.alive, self.life = True, self.life + 1
        self.book = Book(self.saved)
        self.connect()
        if self.world.troubled:
            self._soon(self.world.chance.expovariate(1 / 120), self.die)

    def die(self) -> None:
        if self.world.troubled:
            self.alive = False
            self.world.after(self.world.chance.expovariate(1 / 40), self.boot)

    def connect(self) -> None:
        if self.alive and self.world.broker.up:
            self.world.broker.to_agency.subscribed = True
            self.book.restate(self._signature())
            self.world.broker.to_agency.pump()
            self._send()

    def receive(self, payload: bytes) -> bool | None:
        if not self.alive:
            return None
        message = Dispatch.parse(payload)
        if self.world.happens(0.05):
            self.die()
            return False
        news, _ = self.book.receive(message, self._signature())
        self.news.append((news, message.sequence))
        self._save()
        if news is News.NEW and self.people != "ignore":
            self._soon(self.world.chance.uniform(1, 30), self._answer)
        self._send()
        return True

    def _answer(self) -> None:
        first: Answer = State.ACCEPTED if self.people == "accept" else State.REJECTED
        self._enter(first)
        if self.people == "reject, then accept":
            self._soon(20, lambda: self._enter(State.ACCEPTED))
        if self.people != "reject":
            later: dict[Answer, float] = {State.EN_ROUTE: 100.0, State.ON_SCENE: 400.0, State.CLEARED: 900.0}
            for state, delay in later.items():
                self._soon(delay, partial(self._enter, state))

    def _enter(self, state: Answer) -> None:
        try:
            self.book.enter(str(DISPATCH["dispatch_id"]), state, self._signature())
        except NotPossible:
            return
        self._save()
        self._send()

    def _send(self) -> None:
        ack = self.book.unsent
        if ack is None or not self.world.broker.up:
            return
        mailbox = self.world.broker.to_centre
        if mailbox.subscribed and not self.world.happens(0.1):
            mailbox.put(ack.encode())
            if not self.world.happens(0.1):
                self.book.confirm(ack)
        self._soon(self.world.chance.uniform(0.01, 1), self._send)

    def _save(self) -> None:
        self.saved = self.book.saved()

    def _signature(self) -> Signature:
        return Signature("Regu 1", self.world.utc())

    def _soon(self, delay: float, act: Callable[[], None]) -> None:
        life = self.life
        self.world.after(delay, lambda: act() if self.alive and self.life == life else None)


def check_the_agency_was_told_once(world: World) -> None:
    news = [one for one, _ in world.agency.news]
    assert news.count(News.NEW) <= 1 + world.centre.anew, "only what was closed is asked anew"
    assert news.count(News.CANCEL) <= world.centre.cancelled
    fresh = [sequence for one, sequence in world.agency.news if one in (News.NEW, News.UPDATE, News.CANCEL)]
    assert len(fresh) == len(set(fresh)), "no sequence is new twice"


def check_the_dispatch_is_not_forgotten(world: World) -> None:
    followup = world.centre.followed.followup
    settled = followup.state in ANSWERED or followup.relieved_by_other
    settled |= followup.state is State.CANCELLED and followup.delivered
    assert settled or followup.alarms or followup.next_deadline() is not None


def check_a_restart_would_know_all_of_it(world: World) -> None:
    """What is on record is what is followed."""
    centre, followup = world.centre, world.centre.followed.followup
    centre._sync()
    past = past_of(centre.row, centre.outbox, centre.events, world.now, world.utc())
    again = FollowUp(PLAN, past)
    for name in ("state", "sequence", "delivered", "relieved_by_other", "alarms", "_round", "_rejected", "_steps"):
        assert getattr(again, name) == getattr(followup, name), name


def check_no_step_is_taken_twice(world: World) -> None:
    if not world.centre.anew:  # else the ladder was begun anew as well
        steps = [event["data"] for event in world.centre.events if event["kind"] == ESCALATED]
        taken = [data["step"] for data in steps if isinstance(data, dict)]
        assert Counter(taken) <= Counter(PLAN.steps)
        committed = [step for step in taken if not step.startswith("agency")]
        assert committed == [step for step in PLAN.steps if step in committed], "in their order"


@pytest.mark.parametrize("part", range(5))
def test_when_the_trouble_ends_each_dispatch_has_arrived_exactly_once(part: int) -> None:
    for seed in SEEDS[part::5]:
        world = World(seed, heals=True)
        world.run()
        centre, agency, followup = world.centre, world.agency, world.centre.followed.followup
        entry = agency.book.get(str(DISPATCH["dispatch_id"]))
        assert entry is not None, seed
        assert entry.message.sequence == centre.message.sequence == followup.sequence, seed
        assert followup.delivered, seed
        assert centre.outbox is None, seed
        check_the_agency_was_told_once(world)
        check_the_dispatch_is_not_forgotten(world)
        check_no_step_is_taken_twice(world)
        check_a_restart_would_know_all_of_it(world)
        assert centre.row["state"] == followup.state, seed
        if centre.message.type is Kind.CANCEL:
            assert (followup.state, followup.alarms) == (State.CANCELLED, {}), seed
            assert entry.cancelled, seed
            continue
        by_voice = centre.spoken > 0 and followup.state is State.ACCEPTED
        assert followup.state is entry.state or by_voice, (seed, followup.state, entry.state)
        if entry.state in (State.RECEIVED, State.REJECTED):
            assert followup.relieved_by_other or followup.alarms, seed


def test_while_the_trouble_lasts_nothing_is_forgotten() -> None:
    for seed in SEEDS[:300]:
        world = World(seed, heals=False)
        world.run()
        check_the_agency_was_told_once(world)
        if world.centre.alive:
            check_the_dispatch_is_not_forgotten(world)


def test_the_histories_are_as_bad_as_they_claim() -> None:
    """Or the two above would prove nothing."""
    restarts = repeated = rejected = engaged = updated = anew = cancelled = spoken = called = 0
    for seed in SEEDS[:200]:
        world = World(seed, heals=True)
        world.run()
        restarts += world.centre.life + world.agency.life - 2
        repeated += sum(news in (News.REMINDER, News.REPETITION) for news, _ in world.agency.news)
        rejected += world.agency.people.startswith("reject")
        engaged += world.centre.engaged
        updated += world.centre.updates
        anew += world.centre.anew
        cancelled += world.centre.cancelled
        spoken += world.centre.spoken
        called += world.centre.calls
    assert min(restarts, repeated) > 200
    assert min(rejected, engaged, updated, cancelled, spoken, called - spoken) > 20
    assert anew > 3


def test_a_dispatch_without_an_agency_fails_after_a_day_in_alarm() -> None:
    followup = FollowUp(PLAN, Past(0.0, 0.0))
    outputs = followup.start(0.0)
    now = 0.0
    for _ in range(10_000):
        if any(isinstance(output, Publish) for output in outputs):
            outputs = followup.unpublished(now)
            continue
        deadline = followup.next_deadline()
        if deadline is None:
            break
        now = max(now, deadline)
        outputs = followup.handle_timer(now)
    assert followup.state is State.FAILED
    assert followup.alarms
