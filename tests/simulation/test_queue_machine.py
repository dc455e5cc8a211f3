"""Hypothesis looks for a history that breaks the queue, and shrinks it to the shortest; the world checks every step."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from siaga_pbx.call.events import EndedBy
from tests.simulation.queue_world import SeatConfig, Settings, World

SKILLS = st.frozensets(st.sampled_from(["id", "jv"]), max_size=2)
SEATS = st.lists(SKILLS, min_size=1, max_size=4).map(
    lambda skills: [SeatConfig(f"s{number}", each) for number, each in enumerate(skills)]
)


class QueueMachine(RuleBasedStateMachine):
    @initialize(
        seats=SEATS,
        times=st.tuples(*[st.sampled_from([0.5, 3.0, 12.0, 30.0])] * 3, st.sampled_from([0.0, 3.0])),
        overflow=st.sampled_from([None, "sip:112@192.0.2.9"]),
    )
    def begin(self, seats: list[SeatConfig], times: tuple[float, float, float, float], overflow: str | None) -> None:
        ring_s, widen_s, overflow_s, wrap_up_s = times
        self.world = World(Settings(ring_s, 5.0, wrap_up_s, widen_s, overflow_s, overflow), seats)

    def with_leg(self, up: bool | None, stopped: bool | None, connect: bool | None = None) -> list[str]:
        return [
            seat
            for seat, leg in sorted(self.world.legs.items())
            if up in (None, leg.up) and stopped in (None, leg.stopped) and connect in (None, leg.connect)
        ]

    def configured(self) -> list[str]:
        return sorted(seat for seat, books in self.world.seats.items() if not books.removed)

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 5.0, 12.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.world.restart()

    # Callers

    @precondition(lambda self: len(self.world.callers) < 6)
    @rule(skills=SKILLS, priority=st.integers(0, 2))
    def a_caller_arrives(self, skills: frozenset[str], priority: int) -> None:
        self.world.arrive(f"c{len(self.world.callers)}", skills, priority)

    @precondition(lambda self: self.world.alive())
    @rule(data=st.data(), by=st.sampled_from([EndedBy.CALLER, EndedBy.FAULT, EndedBy.SYSTEM]))
    def a_caller_goes(self, data: st.DataObject, by: EndedBy) -> None:
        self.world.caller_goes(data.draw(st.sampled_from(sorted(self.world.alive()))), by)

    # Phones

    @precondition(lambda self: self.configured())
    @rule(data=st.data())
    def a_seat_registers(self, data: st.DataObject) -> None:
        self.world.register(data.draw(st.sampled_from(self.configured())))

    @precondition(lambda self: self.configured())
    @rule(data=st.data())
    def a_seat_unregisters(self, data: st.DataObject) -> None:
        self.world.unregister(data.draw(st.sampled_from(self.configured())))

    @precondition(lambda self: self.configured())
    @rule(data=st.data(), suspect=st.booleans())
    def a_phone_answers_options_or_not(self, data: st.DataObject, suspect: bool) -> None:
        seat = data.draw(st.sampled_from(self.configured()))
        self.world.suspect(seat) if suspect else self.world.trust(seat)

    @precondition(lambda self: self.with_leg(False, None))
    @rule(data=st.data())
    def a_seat_answers_perhaps_too_late(self, data: st.DataObject) -> None:
        self.world.answer(data.draw(st.sampled_from(self.with_leg(False, None))))

    @precondition(lambda self: self.with_leg(True, None, True))
    @rule(data=st.data())
    def they_hear_each_other(self, data: st.DataObject) -> None:
        self.world.join(data.draw(st.sampled_from(self.with_leg(True, None, True))))

    @precondition(lambda self: self.with_leg(False, None))
    @rule(data=st.data(), status=st.sampled_from([408, 480, 486, 487, 603]))
    def a_seat_fails(self, data: st.DataObject, status: int) -> None:
        self.world.fail(data.draw(st.sampled_from(self.with_leg(False, None))), status)

    @precondition(lambda self: self.with_leg(True, None))
    @rule(data=st.data(), by=st.sampled_from([EndedBy.SEAT, EndedBy.FAULT, EndedBy.SYSTEM]))
    def a_seat_goes(self, data: st.DataObject, by: EndedBy) -> None:
        self.world.seat_goes(data.draw(st.sampled_from(self.with_leg(True, None))), by)

    # People

    @precondition(lambda self: self.configured())
    @rule(data=st.data(), ready=st.booleans())
    def a_seat_pauses_or_is_ready(self, data: st.DataObject, ready: bool) -> None:
        seat = data.draw(st.sampled_from(self.configured()))
        self.world.ready(seat) if ready else self.world.pause(seat)

    @precondition(lambda self: self.configured())
    @rule(data=st.data(), busy=st.booleans())
    def a_seat_makes_or_ends_calls_of_its_own(self, data: st.DataObject, busy: bool) -> None:
        seat = data.draw(st.sampled_from(self.configured()))
        self.world.busy(seat) if busy else self.world.idle(seat)

    # The overflow target

    @precondition(lambda self: any(not target.up for target in self.world.overflow.values()))
    @rule(data=st.data())
    def the_overflow_target_answers_perhaps_too_late(self, data: st.DataObject) -> None:
        calls = sorted(call for call, target in self.world.overflow.items() if not target.up)
        self.world.overflow_answers(data.draw(st.sampled_from(calls)))

    @precondition(lambda self: self.world.overflow)
    @rule(data=st.data(), by=st.sampled_from([EndedBy.OVERFLOW, EndedBy.FAULT, EndedBy.SYSTEM]))
    def the_overflow_target_goes(self, data: st.DataObject, by: EndedBy) -> None:
        self.world.overflow_goes(data.draw(st.sampled_from(sorted(self.world.overflow))), by)

    # Operators

    @rule(seats=SEATS)
    def the_configuration_is_reloaded(self, seats: list[SeatConfig]) -> None:
        self.world.reload(seats)

    @rule()
    def the_watchdog_looks(self) -> None:
        self.world.audit()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
