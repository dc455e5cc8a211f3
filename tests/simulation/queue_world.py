"""A world around the queue: callers, phones and an overflow target in virtual time, and what must always be true.

The world keeps its own books of legs, rests and wrap-ups, from what it told the queue and what the queue ordered, and
compares them with the queue's after every step. Nothing in it looks into the queue.
"""

from dataclasses import dataclass, field, replace

from siaga_pbx.call.call import OVERFLOW_RETRY_S
from siaga_pbx.call.commands import (
    Alarm,
    AlarmName,
    Announce,
    CallOver,
    Command,
    Connect,
    ConnectOverflow,
    DropCaller,
    DropOverflow,
    DropSeat,
    Noted,
    Offer,
    Outcome,
    Requeued,
    SeatChanged,
    SeatMissed,
    SeatState,
    StartOverflow,
    Withdraw,
    WithdrawOverflow,
)
from siaga_pbx.call.events import (
    CallArrived,
    CallerGone,
    Connected,
    EndedBy,
    Event,
    OverflowAnswered,
    OverflowFailed,
    OverflowGone,
    SeatAnswered,
    SeatBusy,
    SeatFailed,
    SeatGone,
    SeatIdle,
    SeatPaused,
    SeatReady,
    SeatRegistered,
    SeatSuspect,
    SeatTrusted,
    SeatUnregistered,
)
from siaga_pbx.call.queue import Queue
from siaga_pbx.call.seats import RETRY_S
from siaga_pbx.call.standing import CallLeg


@dataclass(frozen=True)
class Settings:
    ring_s: float = 12.0
    rest_s: float = 20.0
    wrap_up_s: float = 10.0
    widen_s: float = 30.0
    overflow_s: float = 60.0
    overflow: str | None = "sip:112@192.0.2.9"
    announce_every_s: float = 30.0


@dataclass(frozen=True)
class SeatConfig:
    id: str
    skills: frozenset[str] = frozenset()


@dataclass
class Leg:
    """A seat's leg. `stopped`: the queue told it to end; `joined`: Connected was said."""

    call: str
    offered_at: float
    up: bool = False
    stopped: bool = False
    connect: bool = False
    joined: bool = False


@dataclass
class OverflowLeg:
    up: bool = False
    stopped: bool = False
    connect: bool = False


@dataclass
class Caller:
    skills: frozenset[str]
    priority: int
    number: int
    waits_since: float
    alive: bool = True
    dropped: bool = False
    bridged: bool = False
    overflow_over: float = 0.0
    overs: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return -self.priority, self.number


@dataclass
class Books:
    """What the world knows of a seat."""

    skills: frozenset[str]
    registered: bool = False
    suspect: bool = False
    paused: bool = False
    own_calls: bool = False
    removed: bool = False
    wrap_until: float = 0.0
    barred_until: float = 0.0
    rest_until: float = 0.0
    idle_since: float = 0.0
    shown: SeatState = SeatState.OFFLINE


@dataclass
class Counts:
    offers: int = 0
    connected: int = 0
    missed: int = 0
    widened: int = 0
    overflows: int = 0
    requeued: int = 0
    announced: int = 0
    crossed: int = 0
    restarts: int = 0
    taken_over: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=dict)


class World:
    def __init__(self, settings: Settings, seats: list[SeatConfig]) -> None:
        self.now = 1000.0
        self.settings = settings
        self.queue = Queue(settings, seats)
        self.seats = {seat.id: Books(seat.skills) for seat in seats}
        self.callers: dict[str, Caller] = {}
        self.legs: dict[str, Leg] = {}
        self.overflow: dict[str, OverflowLeg] = {}
        self.alarms: set[AlarmName] = set()
        self.counts = Counts()
        self._over: dict[str, Leg] = {}
        self._carry_out(self.queue.start(self.now))
        self._check()

    # What happens in the world. Each of these is something that a stack can report in that situation.

    def arrive(self, call: str, skills: frozenset[str] = frozenset(), priority: int = 0) -> None:
        self.callers[call] = Caller(skills, priority, len(self.callers), self.now)
        self._tell(CallArrived(call, skills, priority))

    def caller_goes(self, call: str, by: EndedBy = EndedBy.CALLER) -> None:
        self.callers[call].alive = False
        self._tell(CallerGone(call, by))

    def answer(self, seat: str) -> None:
        leg = self.legs[seat]
        leg.up = True
        if leg.stopped:  # too late, but its person is there
            self.counts.crossed += 1
            self.seats[seat].rest_until = self.seats[seat].barred_until = self.seats[seat].wrap_until = 0.0
        self._tell(SeatAnswered(leg.call, seat))

    def join(self, seat: str) -> None:
        leg = self.legs[seat]
        if not leg.stopped:
            leg.joined = True
            self.callers[leg.call].bridged = True
            self.counts.connected += 1
        self._tell(Connected(leg.call, seat))

    def fail(self, seat: str, status: int) -> None:
        leg = self._end(seat)
        self._tell(SeatFailed(leg.call, seat, status))

    def seat_goes(self, seat: str, by: EndedBy) -> None:
        leg, books = self._end(seat), self.seats[seat]
        if leg.joined:
            lost = by is EndedBy.FAULT
            books.wrap_until = 0.0 if lost else self.now + self.settings.wrap_up_s
            books.barred_until = self.now + RETRY_S if lost else 0.0
            books.rest_until = max(books.barred_until, self.now + self.settings.rest_s) if lost else 0.0
            if not leg.stopped and by is not EndedBy.SEAT:
                self.callers[leg.call].waits_since = self.now
        self._tell(SeatGone(leg.call, seat, by))

    def _end(self, seat: str) -> Leg:
        leg = self._over[seat] = self.legs.pop(seat)
        return leg

    def register(self, seat: str) -> None:
        books = self.seats[seat]
        books.registered, books.suspect = True, books.registered and books.suspect
        self._tell(SeatRegistered(seat))

    def unregister(self, seat: str) -> None:
        self.seats[seat].registered = self.seats[seat].suspect = False
        self._tell(SeatUnregistered(seat))

    def suspect(self, seat: str) -> None:
        self.seats[seat].suspect = self.seats[seat].registered
        self._tell(SeatSuspect(seat))

    def trust(self, seat: str) -> None:
        self.seats[seat].suspect = False
        self._tell(SeatTrusted(seat))

    def pause(self, seat: str) -> None:
        self.seats[seat].paused = True
        self._tell(SeatPaused(seat, "istirahat"))

    def ready(self, seat: str) -> None:
        books = self.seats[seat]
        books.paused = False
        books.wrap_until = books.rest_until = books.barred_until = 0.0
        self._tell(SeatReady(seat))

    def busy(self, seat: str) -> None:
        self.seats[seat].own_calls = True
        self._tell(SeatBusy(seat))

    def idle(self, seat: str) -> None:
        self.seats[seat].own_calls = False
        self._tell(SeatIdle(seat))

    def overflow_answers(self, call: str) -> None:
        self.overflow[call].up = True
        self._tell(OverflowAnswered(call))

    def overflow_goes(self, call: str, by: EndedBy, status: int = 480) -> None:
        leg = self.overflow.pop(call)
        self.callers[call].overflow_over = self.now
        if leg.up and not leg.stopped and by is not EndedBy.OVERFLOW:
            self.callers[call].waits_since = self.now
        self._tell(OverflowGone(call, by) if leg.up else OverflowFailed(call, status))

    def reload(self, seats: list[SeatConfig]) -> None:
        wanted = {seat.id: seat.skills for seat in seats}
        for id, books in self.seats.items():
            if id in wanted and books.removed and id not in self.legs:
                self.seats[id] = Books(wanted[id])  # it was gone: whoever has its name now is another
            elif id in wanted:
                books.skills, books.removed = wanted[id], False
            else:
                books.removed, books.registered = True, False
        commands = self.queue.configure(self.settings, seats, self.now)
        for seat in seats:
            self.seats.setdefault(seat.id, Books(seat.skills))
        self._carry_out(commands)
        self._check()

    def restart(self) -> None:
        """The daemon is killed and another one takes its calls over: legs and callers are what they were.

        Wrap-up and rest are forgotten with it; pauses, registrations and the seats' own calls are told it again.
        """
        standings = {call: one for call in self.callers if (one := self.queue.standing(call)) is not None}
        legs = [CallLeg(leg.call, seat, leg.up, leg.stopped) for seat, leg in self.legs.items()]
        legs += [CallLeg(call, None, leg.up, leg.stopped) for call, leg in self.overflow.items()]
        assert standings.keys() == self.alive()
        before = {seat: replace(books) for seat, books in self.seats.items()}
        for seat, books in before.items():
            self.seats[seat] = Books(books.skills, removed=books.removed, idle_since=self.now)
        self.alarms.clear()
        kept = [SeatConfig(seat, books.skills) for seat, books in before.items() if not books.removed]
        self.queue = Queue(self.settings, kept)
        for leg in self.legs.values():
            leg.stopped |= leg.connect and not leg.joined  # the moment in between is not kept: its seat is hung up on
            leg.joined &= not leg.stopped  # nor what a seat that is being hung up on did before
        self._carry_out(self.queue.restore(standings, legs, self.now))
        self._carry_out(self.queue.start(self.now))
        self._check()
        for seat, books in before.items():
            if books.paused:
                self.pause(seat)
            if books.own_calls:
                self.busy(seat)
            if books.registered:
                self.register(seat)
        self.counts.restarts += 1
        self.counts.taken_over += len(standings)

    def audit(self) -> list[Command]:
        """With the truth: of what it does, only a repair of what was never wrong would be a fault."""
        dialogs = {seat: leg.call for seat, leg in self.legs.items()}
        commands = self.queue.audit(dialogs, self.alive(), self.now)
        self._carry_out(commands)
        self._check()
        return commands

    def advance(self, seconds: float) -> None:
        """Lets time pass, stopping wherever the queue has something to do."""
        end = self.now + seconds
        while (deadline := self.queue.next_deadline()) is not None and deadline <= end:
            assert deadline > self.now, "a deadline that was due is still there"
            self.now = deadline
            self._carry_out(self.queue.handle_timer(self.now))
            self._check()
        self.now = end
        assert self.queue.handle_timer(self.now) == [], "something happened at no deadline"

    def alive(self) -> set[str]:
        return {call for call, caller in self.callers.items() if caller.alive}

    # What the queue orders

    def _tell(self, event: Event) -> None:
        self._carry_out(self.queue.handle(event, self.now))
        self._check()

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self._carry(command)

    def _carry(self, command: Command) -> None:
        match command:
            case Offer(call=call, seat=seat):
                self._may_be_offered(call, seat)
                self.legs[seat] = Leg(call, self.now)
                self.counts.offers += 1
            case Withdraw(call=call, seat=seat):
                leg = self.legs[seat]
                assert (leg.call, leg.up, leg.stopped) == (call, False, False)
                leg.stopped = True
            case DropSeat(call=call, seat=seat):
                if seat in self.legs and self.legs[seat].call == call:
                    self.legs[seat].stopped = True
            case Connect(call=call, seat=seat):
                leg = self.legs[seat]
                assert (leg.call, leg.up, leg.stopped) == (call, True, False)
                assert not self.serving(call), "two seats for one caller"
                leg.connect = True
            case DropCaller(call=call):
                assert self.callers[call].alive
                self.callers[call].dropped = True
            case StartOverflow(call=call):
                assert call not in self.overflow, "a second leg to the overflow target"
                caller = self.callers[call]
                assert self.now >= max(caller.waits_since + self.settings.overflow_s, caller.overflow_over)
                self.overflow[call] = OverflowLeg()
                self.counts.overflows += 1
            case WithdrawOverflow(call=call) | DropOverflow(call=call):
                self.overflow[call].stopped = True
            case ConnectOverflow(call=call):
                assert (self.overflow[call].up, self.overflow[call].stopped) == (True, False)
                assert not self.serving(call), "a seat and the overflow target for one caller"
                self.overflow[call].connect = True
            case CallOver(call=call, outcome=outcome):
                self._may_be_over(call, outcome)
            case SeatMissed(call=call, seat=seat):
                self._missed(call, seat)
            case Announce(call=call, place=place):
                waiting = sorted(filter(self.waits, self.callers), key=self.place)
                assert waiting[place - 1] == call, "a caller is told its place in the order of service"
                self.counts.announced += 1
            case Requeued(call=call):
                assert self.callers[call].alive
                self.counts.requeued += 1
            case Alarm(name=name, active=active):
                assert active is not (name in self.alarms), f"{name} is {active} twice"
                self.alarms ^= {name}
            case SeatChanged(seat=seat, old=old, new=new):
                self._changed(self.seats[seat], old, new)
            case Noted(kind="repaired", data=data):  # a leg that does not end though it was told to is told again
                assert data["fault"] == "leg_stuck", f"nothing was wrong: {command}"
                assert self.legs[data["seat"]].stopped
            case Noted(kind=kind):
                self.counts.widened += kind == "widened"

    def _missed(self, call: str, seat: str) -> None:
        self.counts.missed += 1
        books, leg = self.seats[seat], self.legs.get(seat) or self._over[seat]
        assert leg.call == call
        books.barred_until = (self.now if leg.up else leg.offered_at) + RETRY_S
        books.rest_until = max(books.barred_until, self.now + self.settings.rest_s)
        books.wrap_until = 0.0
        books.idle_since = self.now

    def _changed(self, books: Books, old: SeatState, new: SeatState) -> None:
        assert old is books.shown, "a change that nobody was told of"
        assert old is not new or new is SeatState.PAUSED
        books.shown = new
        if new is SeatState.READY and old is not SeatState.OFFERED:
            books.idle_since = self.now

    def _may_be_over(self, call: str, outcome: Outcome) -> None:
        caller = self.callers[call]
        caller.overs += 1
        assert not caller.alive
        assert caller.overs == 1, "a call was over twice"
        assert (outcome is Outcome.ANSWERED) is caller.bridged, "answered is bridged to a seat, and nothing else is"
        self.counts.outcomes[outcome] = self.counts.outcomes.get(outcome, 0) + 1

    def _may_be_offered(self, call: str, seat: str) -> None:
        assert self.waits(call), f"{call} is offered and does not wait"
        assert self.free(seat), f"{seat} is offered a call and is not free"
        assert self.takes(seat, call), f"{seat} has not the skills for {call}"
        mine, free = self.turn(seat), [other for other in self.seats if self.free(other) and self.takes(other, call)]
        if not self.ringing(call):
            before = [one for one in self.callers if self.waits(one) and self.place(one) < self.place(call)]
            cheated = [one for one in before if not self.ringing(one) and self.takes(seat, one)]
            assert not cheated, f"{cheated} came before {call}"
            assert mine == min(map(self.turn, free)), f"{seat} is not the one whose turn it is"
            return
        assert self.wide(call), "a second seat rings for a call that is not offered to all"
        left_out = [one for one in self.callers if self.waits(one) and not self.ringing(one) and self.takes(seat, one)]
        assert not left_out, f"{left_out} ring at no seat"
        if self.resting(seat):
            assert all(self.resting(other) for other in [*free, *self.ringing(call)]), f"{seat} could have rested"

    # What the world knows

    def waits(self, call: str) -> bool:
        caller = self.callers[call]
        return caller.alive and not caller.dropped and not self.serving(call)

    def serving(self, call: str) -> list[str]:
        """Who has the call: at most one seat or the overflow target."""
        seats = [seat for seat, leg in self.legs.items() if leg.call == call and leg.connect and not leg.stopped]
        target = self.overflow.get(call)
        return [*seats, "overflow"] if target is not None and target.connect and not target.stopped else seats

    def ringing(self, call: str) -> list[str]:
        return [seat for seat, leg in self.legs.items() if leg.call == call and not leg.up and not leg.stopped]

    def free(self, seat: str) -> bool:
        books = self.seats[seat]
        if seat in self.legs or not books.registered or books.paused or books.own_calls or books.removed:
            return False
        return max(books.wrap_until, books.barred_until) <= self.now

    def resting(self, seat: str) -> bool:
        return self.seats[seat].rest_until > self.now

    def wide(self, call: str) -> bool:
        return self.now >= self.callers[call].waits_since + self.settings.widen_s

    def takes(self, seat: str, call: str) -> bool:
        return self.wide(call) or self.callers[call].skills <= self.seats[seat].skills

    def place(self, call: str) -> tuple[int, int]:
        return -self.callers[call].priority, self.callers[call].number

    def turn(self, seat: str) -> tuple[bool, bool, float]:
        return self.resting(seat), self.seats[seat].suspect, self.seats[seat].idle_since

    def state(self, seat: str) -> SeatState:
        books, leg = self.seats[seat], self.legs.get(seat)
        if leg is not None:
            return SeatState.TALKING if leg.joined or (leg.connect and not leg.stopped) else SeatState.OFFERED
        if books.own_calls:
            return SeatState.TALKING
        if not books.registered:
            return SeatState.OFFLINE
        if books.paused:
            return SeatState.PAUSED
        if books.wrap_until > self.now:
            return SeatState.WRAP_UP
        return SeatState.RESTING if books.rest_until > self.now else SeatState.READY

    # What must always be true

    def _check(self) -> None:
        view = self.queue.view()
        states = {
            seat: self.state(seat) for seat, books in self.seats.items() if not books.removed or seat in self.legs
        }
        assert {seat.seat: seat.state for seat in view.seats} == states
        assert {seat.seat: seat.call for seat in view.seats} == {
            seat: self.legs[seat].call if seat in self.legs else None for seat in states
        }
        assert all(self.seats[seat].shown is state for seat, state in states.items())
        waiting = sorted(filter(self.waits, self.callers), key=self.place)
        assert [each.call for each in view.waiting] == waiting, "a caller was lost, or lost the place"
        for each in view.waiting:
            assert sorted(each.offered) == sorted(self.ringing(each.call))
            assert each.since == self.callers[each.call].waits_since
            assert each.overflowing is (each.call in self.overflow and not self.overflow[each.call].stopped)
            self._check_served(each.call)
        assert (AlarmName.NO_SEAT_REGISTERED in self.alarms) is not any(seat.registered for seat in self.seats.values())
        assert all(len(self.serving(leg.call)) <= 1 for leg in self.legs.values())
        deadline = self.queue.next_deadline()
        assert deadline is None or deadline > self.now

    def _check_served(self, call: str) -> None:
        free = [seat for seat in self.seats if self.free(seat) and self.takes(seat, call)]
        ringing = self.ringing(call)
        assert ringing or not free, f"{call} waits and {free} are free"
        if free and self.wide(call):
            assert all(self.resting(seat) for seat in free), f"{call} is for all and {free} do not ring"
        caller, target = self.callers[call], self.settings.overflow
        due = max(caller.waits_since + self.settings.overflow_s, caller.overflow_over + OVERFLOW_RETRY_S)
        if target is not None and self.now >= due + self.settings.ring_s:
            assert call in self.overflow, f"{call} waits for too long and the overflow target does not ring"

    # The end of the world

    def settle(self) -> None:
        """Every phone is good from now on: so every caller who still waits is served, and nothing is left behind."""
        for seat, books in self.seats.items():
            if not books.removed:
                self.register(seat)
                self.idle(seat)
                self.ready(seat)
        if all(books.removed for books in self.seats.values()):
            self.reload([SeatConfig("good")])
            self.register("good")
        for _ in range(100 * (len(self.callers) + 1)):
            if not (self.alive() or self.legs or self.overflow):
                break
            self._be_good()
            self.advance(0.4)  # less than the shortest time that a phone may ring
        assert (self.alive(), self.legs, self.overflow) == (set(), {}, {}), "somebody was never served"
        self.advance(3600.0)
        assert self.queue.next_deadline() is None, "a timer was left"
        assert not self.queue.view().waiting
        assert all(caller.overs == 1 for caller in self.callers.values())

    def _be_good(self) -> None:
        """A moment of a good world: phones ring, answer, join and hang up one after the other."""
        for seat, leg in list(self.legs.items()):
            if seat not in self.legs:
                continue
            if leg.stopped:
                self.seat_goes(seat, EndedBy.SYSTEM) if leg.up else self.fail(seat, 487)
            elif not leg.up:
                self.answer(seat)
            elif not leg.joined:
                self.join(seat)
            else:
                self.seat_goes(seat, EndedBy.SEAT)
        for call in list(self.overflow):
            self.overflow_goes(call, EndedBy.OVERFLOW)
        for call in sorted(self.alive()):
            if self.callers[call].dropped:
                self.caller_goes(call, EndedBy.SYSTEM)
