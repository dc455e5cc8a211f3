"""Thousands of seeded histories of a centre in virtual time; the world checks itself after every step."""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from siaga_pbx.call.commands import Outcome
from siaga_pbx.call.events import EndedBy
from tests.simulation.queue_world import SeatConfig, Settings, World

Action = tuple[float, Callable[[], object]]
SKILLS = ("id", "jv", "fire")
HISTORIES = 2000
STEPS = 50
COUNTED = (
    *("offers", "connected", "missed", "widened", "overflows", "requeued", "crossed"),
    *("restarts", "taken_over"),
)


def skills(rng: random.Random) -> frozenset[str]:
    return frozenset(skill for skill in SKILLS if rng.random() < 0.3)


def seats(rng: random.Random) -> list[SeatConfig]:
    return [SeatConfig(f"s{number}", skills(rng)) for number in range(rng.randint(1, 5))]


def settings(rng: random.Random) -> Settings:
    return Settings(
        ring_s=rng.choice([1.0, 5.0, 12.0]),
        rest_s=rng.choice([0.5, 5.0, 20.0]),
        wrap_up_s=rng.choice([0.0, 3.0, 10.0]),
        widen_s=rng.choice([0.5, 10.0, 30.0]),
        overflow_s=rng.choice([0.5, 20.0, 60.0]),
        overflow=rng.choice([None, "sip:112@192.0.2.9"]),
    )


def actions(world: World, rng: random.Random) -> list[Action]:
    """What may happen now, and how likely it is. Callers, phones and people behave badly on purpose."""
    possible: list[Action] = [(8, lambda: world.advance(rng.choice([0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 40.0])))]
    if len(world.callers) < 12:
        call = f"c{len(world.callers)}"
        possible.append((3, partial(world.arrive, call, skills(rng), rng.choice([0, 0, 0, 1, 2]))))
    for call in sorted(world.alive()):
        possible.append((0.3, partial(world.caller_goes, call, rng.choice([EndedBy.CALLER, EndedBy.FAULT]))))
        if world.callers[call].dropped:
            possible.append((2, partial(world.caller_goes, call, EndedBy.SYSTEM)))
    for call, target in world.overflow.items():
        possible.append((0.5, partial(world.overflow_goes, call, rng.choice([EndedBy.OVERFLOW, EndedBy.FAULT]))))
        if not target.up:
            possible.append((0.5, partial(world.overflow_answers, call)))
    for seat in world.seats:
        possible += of_phone(world, seat, rng)
    possible.append((0.2, partial(world.reload, seats(rng))))
    possible.append((0.5, world.audit))
    possible.append((0.3, world.restart))
    return possible


def of_phone(world: World, seat: str, rng: random.Random) -> list[Action]:
    books, leg = world.seats[seat], world.legs.get(seat)
    possible: list[Action] = []
    if not books.removed:
        possible = [
            (0.2 if books.registered else 1.5, partial(world.register, seat)),
            (0.15, partial(world.unregister, seat)),
            (0.1, partial(world.suspect, seat)),
            (0.1, partial(world.trust, seat)),
            (0.1, partial(world.pause, seat)),
            (0.6 if books.paused else 0.1, partial(world.ready, seat)),
            (0.5, partial(world.idle, seat)) if books.own_calls else (0.1, partial(world.busy, seat)),
        ]
    if leg is None:
        return possible
    if not leg.up:
        possible.append((1.5, partial(world.answer, seat)))  # also after it was withdrawn: the messages crossed
        possible.append((2 if leg.stopped else 0.6, partial(world.fail, seat, rng.choice([486, 603, 480, 487, 408]))))
        return possible
    if leg.connect and not leg.joined:
        possible.append((4, partial(world.join, seat)))
    by = EndedBy.SYSTEM if leg.stopped else rng.choice([EndedBy.SEAT, EndedBy.SEAT, EndedBy.FAULT])
    possible.append((1, partial(world.seat_goes, seat, by)))
    return possible


def history(seed: int) -> World:
    rng = random.Random(seed)
    world = World(settings(rng), seats(rng))
    for _ in range(STEPS):
        possible = actions(world, rng)
        [(_, act)] = rng.choices(possible, weights=[weight for weight, _ in possible])
        act()
    world.settle()
    return world


@pytest.mark.parametrize("part", range(4))
def test_histories(part: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(part, HISTORIES, 4):
        try:
            world = history(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        counts = world.counts
        seen.update({outcome.value: number for outcome, number in counts.outcomes.items()})
        for name in COUNTED:
            seen[name] += getattr(counts, name)
    # A simulation in which something never happens proves nothing about it.
    reached = (Outcome.ANSWERED, Outcome.ABANDONED, Outcome.OVERFLOWED, Outcome.FAILED)
    for name in (*reached, *COUNTED):
        assert seen[name] > 100, (name, seen)
