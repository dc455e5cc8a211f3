"""The worker's timer: on time for ever, and the work spread over it."""

import asyncio
from itertools import pairwise
from time import monotonic

from structlog.testing import capture_logs

from siaga_pbx.media.pacer import MAX_CATCH_UP, TICK_S, Pacer, Rota


class Beat:
    """Something paced."""

    def __init__(self) -> None:
        self.paced = True
        self.ticks: list[float] = []
        self.stumbles = 0

    def tick(self, now: float) -> None:
        self.ticks.append(now)

    def stumble(self) -> None:
        self.stumbles += 1


async def until_ticks(beat: Beat, number: int) -> None:
    async with asyncio.timeout(10):
        for _ in range(5000):
            if len(beat.ticks) >= number:
                return
            await asyncio.sleep(0.002)


def test_ticks_are_as_many_as_the_time_has_20_ms() -> None:
    async def run() -> tuple[Beat, float]:
        beat, pacer = Beat(), Pacer(lambda now: None)
        start = monotonic()
        pacer.start()
        pacer.add(beat)
        await until_ticks(beat, 50)
        passed = monotonic() - start
        pacer.stop()
        return beat, passed

    beat, passed = asyncio.run(run())
    assert passed >= 50 * TICK_S - 0.002
    # No drift: the last is where it belongs, whatever the delays before (a delay of the last itself may show).
    assert len(beat.ticks) + (TICK_S * MAX_CATCH_UP if beat.stumbles else 0) >= 50


def test_a_short_delay_is_made_up_for() -> None:
    async def run() -> Beat:
        beat, pacer = Beat(), Pacer(lambda now: None)
        pacer._next = monotonic() - 2.5 * TICK_S
        pacer.add(beat)
        pacer._catch_up(monotonic())
        return beat

    beat = asyncio.run(run())
    assert (len(beat.ticks), beat.stumbles) == (3, 0)


def test_a_long_delay_is_left_out() -> None:
    beat, pacer = Beat(), Pacer(lambda now: None)
    now = 1000.0
    pacer._next = now - 5.0
    pacer.add(beat)
    pacer._catch_up(now)
    assert (len(beat.ticks), beat.stumbles) == (MAX_CATCH_UP, 1)
    assert now < pacer._next <= now + TICK_S + 0.002
    assert pacer.worst_lag == 5.0


def test_who_is_not_paced_any_more_is_dropped() -> None:
    beat, other, pacer = Beat(), Beat(), Pacer(lambda now: None)
    for one in (beat, other):
        pacer.add(one)
    beat.paced = False
    pacer._tick(1.0)
    beat.paced = True
    pacer._tick(2.0)
    assert (beat.ticks, other.ticks) == ([], [1.0, 2.0])
    pacer.add(beat)
    pacer.add(beat)
    pacer._tick(3.0)
    assert beat.ticks == [3.0]
    pacer.remove(other)
    pacer._tick(4.0)
    assert other.ticks == [1.0, 2.0, 3.0]


class Broken(Beat):
    """One with a fault of ours, at every other tick."""

    def tick(self, now: float) -> None:
        super().tick(now)
        if len(self.ticks) % 2:
            raise ArithmeticError


def test_a_fault_of_one_costs_nobody_else_and_is_logged_once() -> None:
    pacer = Pacer(lambda now: None)
    beats = [Beat(), Broken(), Beat()]
    for beat in beats:
        pacer.add(beat)
    with capture_logs() as logs:
        for tick in range(6):
            pacer._tick(float(tick))
        assert [len(beat.ticks) for beat in beats] == [6, 6, 6]
        assert [(log["event"], log["of"]) for log in logs] == [("media.fault", "Broken")]
        for beat in beats:
            pacer.remove(beat)
    assert [(log["event"], log.get("times")) for log in logs] == [("media.fault", None), ("media.faults", 3)]


def test_a_rota_goes_on_behind_a_fault() -> None:
    served: list[str] = []

    def serve(item: str, _now: float) -> None:
        served.append(item)
        if item == "broken":
            raise ArithmeticError

    rota: Rota[str] = Rota(1.0, serve)
    for item in ("broken", "whole"):
        rota.add(item, 0.0)
    with capture_logs() as logs:
        for now in (1.0, 2.0, 3.0):
            rota.run(now)
    assert served == ["broken", "whole"] * 3
    assert len(logs) == 1


def test_a_rota_serves_each_once_a_period() -> None:
    served: list[tuple[str, float]] = []
    rota: Rota[str] = Rota(1.0, lambda item, now: served.append((item, now)))
    rota.add("a", 0.0)
    rota.add("b", 0.5)
    for step in range(45):
        rota.run(step / 10)
        if step == 22:
            rota.remove("a")
    assert [item for item, _ in served] == ["a", "b", "a", "b", "b"]
    assert all(0.99 < later - earlier < 1.11 for earlier, later in pairwise(at for item, at in served if item == "b"))


def test_a_rota_forgets_while_it_serves() -> None:
    served: list[str] = []

    def serve(item: str, now: float) -> None:
        served.append(item)
        rota.remove("b")

    rota: Rota[str] = Rota(1.0, serve)
    rota.add("a", 0.0)
    rota.add("b", 0.0)
    rota.run(1.0)
    assert served == ["a"]
