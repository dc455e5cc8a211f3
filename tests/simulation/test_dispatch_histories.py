"""Thousands of days on which everything breaks, in virtual time: see `dispatch_world`.

Whatever happens, each dispatch is new to its agency exactly once, in the order of its sequences, and the centre either
has a person's answer or stands in alarm.
"""

from collections import Counter

import pytest

from siaga_pbx.dispatch.agency_book import News
from siaga_pbx.dispatch.followed import ESCALATED, Followed
from siaga_pbx.dispatch.followup import FollowUp
from siaga_pbx.dispatch.ladder import Alarm, Publish, State
from siaga_pbx.dispatch.message import Kind
from siaga_pbx.dispatch.plan import Past
from tests.simulation.dispatch_world import ORDERED, PLANS, World

ANSWERED = (State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED)
SEEDS = range(2000)


def check_each_agency_was_told_once(world: World) -> None:
    """Unless it has forgotten what its full disk did not hold: then anew."""
    for name, agency in world.agencies.items():
        centre, memories = world.centre, 1 + agency.forgotten
        news = Counter(one for _, one, _ in agency.news)
        assert news[News.NEW] <= memories + centre.anew[name], "only what was closed is asked anew"
        assert news[News.CANCEL] <= memories * centre.cancelled[name]
        for memory in range(memories):
            shown = (News.NEW, News.UPDATE, News.CANCEL)
            fresh = [sequence for known, one, sequence in agency.news if known == memory and one in shown]
            assert fresh == sorted(set(fresh)), "no sequence is new twice, or after a later one"
        assert agency.news == [] or centre.case(name) is not None, "nobody else was told"


def check_no_dispatch_is_forgotten(world: World) -> None:
    for case in world.centre.cases.values():
        followup = case.followup
        settled = followup.state in ANSWERED or followup.relieved_by_other
        settled |= followup.state is State.CANCELLED and followup.delivered
        assert settled or followup.alarms or followup.next_deadline() is not None, case.agency


def check_a_restart_would_know_all_of_it(world: World) -> None:
    """What is on record is what is followed."""
    centre = world.centre
    centre.disk.sync()
    again = centre.resumed()
    assert again.keys() == centre.cases.keys()
    for id, case in centre.cases.items():
        assert (again[id].message, again[id].relieves) == (case.message, case.relieves)
        for name in ("state", "sequence", "delivered", "relieved_by_other", "alarms", "_round", "_rejected", "_steps"):
            assert getattr(again[id].followup, name) == getattr(case.followup, name), (case.agency, name)


def check_no_step_is_taken_twice(world: World) -> None:
    for case in world.centre.cases.values():
        if world.centre.anew[case.agency]:  # the ladder was begun anew as well
            continue
        steps = [event["data"] for event in world.centre.disk.events_of(case.id) if event["kind"] == ESCALATED]
        taken = [data["step"] for data in steps if isinstance(data, dict)]
        assert Counter(taken) <= Counter(PLANS[case.agency].steps)
        committed = [step for step in taken if not step.startswith("agency")]
        assert committed == [step for step in PLANS[case.agency].steps if step in committed], "in their order"


def check_both_ends_agree(world: World, case: Followed) -> None:
    centre, agency, followup = world.centre, world.agencies[case.agency], case.followup
    entry = agency.book.get(case.id)
    assert entry is not None
    assert entry.message == case.message
    assert agency.held(case.id) == followup.sequence
    assert followup.delivered
    assert case.id not in centre.disk.outbox
    assert not {Alarm.NO_SUBSCRIBER, Alarm.REFUSED} & followup.alarms.keys()
    assert centre.disk.rows[case.id]["state"] == followup.state
    if case.message.type is Kind.CANCEL:
        assert (followup.state, dict(followup.alarms)) == (State.CANCELLED, {})
        assert entry.cancelled
        return
    by_voice = centre.spoken[case.agency] > 0 and followup.state is State.ACCEPTED
    knows_more = by_voice or agency.forgotten > 0  # what people said while the disk was full, their end has forgotten
    assert followup.state is entry.state or knows_more, (followup.state, entry.state)
    if entry.state in (State.RECEIVED, State.REJECTED):
        assert followup.relieved_by_other or followup.alarms or (knows_more and followup.taken)


@pytest.mark.parametrize("part", range(5))
def test_when_the_trouble_ends_each_dispatch_has_arrived_exactly_once(part: int) -> None:
    for seed in SEEDS[part::5]:
        world = World(seed, heals=True)
        world.run()
        try:
            assert {case.agency for case in world.centre.cases.values()} >= set(ORDERED)
            for case in world.centre.cases.values():
                check_both_ends_agree(world, case)
            check_each_agency_was_told_once(world)
            check_no_dispatch_is_forgotten(world)
            check_no_step_is_taken_twice(world)
            check_a_restart_would_know_all_of_it(world)
        except AssertionError as error:
            error.add_note(f"in the history of seed {seed}")
            raise


def test_while_the_trouble_lasts_nothing_is_forgotten() -> None:
    for seed in SEEDS[:300]:
        world = World(seed, heals=False)
        world.run()
        check_each_agency_was_told_once(world)
        if world.centre.alive:
            check_no_dispatch_is_forgotten(world)


def test_the_histories_are_as_bad_as_they_claim() -> None:
    """Or the two above would prove nothing."""
    seen = Counter[str]()
    for seed in SEEDS[:200]:
        world = World(seed, heals=True)
        world.run()
        centre = world.centre
        kinds = Counter(str(event["kind"]) for event in centre.disk.events)
        seen += Counter({kind: kinds[kind] for kind in (Alarm.NO_SUBSCRIBER, Alarm.REFUSED, "relieved", "engaged")})
        seen["restarts"] += centre.life - 1
        seen["updates"] += centre.updates
        seen["anew"] += centre.anew.total()
        seen["cancelled"] += centre.cancelled.total()
        seen["spoken"] += centre.spoken.total()
        seen["not spoken"] += centre.calls.total() - centre.spoken.total()
        bpbd = centre.case("bpbd")
        seen["in both's stead"] += bpbd is not None and len(bpbd.relieves) == 2
        for agency in world.agencies.values():
            seen["ends restarted"] += agency.life - 1
            seen["repeated"] += sum(news in (News.REMINDER, News.REPETITION) for _, news, _ in agency.news)
            seen["rejecting"] += agency.people.startswith("reject")
            seen["full disks"] += agency.faults
            seen["forgotten"] += agency.forgotten
    assert min(seen[kind] for kind in ("restarts", "ends restarted", "repeated", "updates", "rejecting")) > 200, seen
    assert len(seen) == 16, seen
    assert min(seen.values()) >= 5, seen


def test_a_dispatch_without_an_agency_fails_after_a_day_in_alarm() -> None:
    followup = FollowUp(PLANS["damkar"], Past(0.0, 0.0))
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
