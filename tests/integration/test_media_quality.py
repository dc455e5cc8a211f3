"""What a worker finds out about the audio of its legs, with far ends on real sockets: loss, disorder, one way."""

import asyncio
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from siaga_pbx.media.protocol import Closed, HeardAgain, Side, Unheard
from siaga_pbx.media.quality import heard_mos
from tests.media_kit import FRAME_S, FarEnd, Media, media, new_settings

EventT = TypeVar("EventT", Unheard, HeardAgain)

QUIET = b"\xd5" * 160


def test_a_network_that_loses_delays_and_reorders_is_accounted_for(tmp_path: Path) -> None:
    """Which packets are lost, swapped with the next, sent twice, or too late is a seeded pattern."""
    chance = random.Random(112)
    fates = chance.choices(["comes", "lost", "swapped", "twice", "late"], [85, 6, 3, 3, 3], k=150)
    fates[0], fates[-5:] = "comes", ["comes"] * 5  # the ends are counted from
    fates = [_if_apart(fates, number) for number in range(len(fates))]

    async def run() -> None:
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller:
                local = m.open("c")
                m.client.connect("c", caller.remote())
                held_back: list[asyncio.TimerHandle] = []
                loop = asyncio.get_running_loop()
                start = loop.time()
                swapped: bytes | None = None
                for number, fate in enumerate(fates):
                    await asyncio.sleep(max(0.0, start + number * FRAME_S - loop.time()))
                    packet = caller.packet(QUIET, 8, False, (65500 + number) & 0xFFFF, number * 160)
                    if fate == "swapped":
                        swapped = packet
                        continue
                    if fate == "late":
                        held_back.append(loop.call_later(0.3, caller.send_raw, local, packet))
                    for _ in range({"comes": 1, "twice": 2}.get(fate, 0)):
                        caller.send_raw(local, packet)
                    if swapped is not None:
                        caller.send_raw(local, swapped)
                        swapped = None
                await asyncio.sleep(0.35)
                m.client.close("c")
                stats = (await m.events.get(Closed)).stats
        counts = {fate: fates.count(fate) for fate in set(fates)}
        assert stats.received == len(fates) - counts["lost"] + counts["twice"]
        assert stats.lost == counts["lost"]
        assert stats.duplicate == counts["twice"]
        assert stats.reordered == counts["swapped"] + counts["late"]
        assert stats.late >= counts["late"], "more on a machine that stalls"
        # G.107: R = 93.2 - 0.024 * 80 - 95 Ppl / (Ppl + 4.3), then annex B; what is late is lost.
        percent = 100 * (stats.lost + stats.late) / len(fates)
        r = 93.2 - 0.024 * 80 - 95 * percent / (percent + 4.3)
        assert heard_mos(stats) == pytest.approx(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, abs=0.006)

    asyncio.run(run())


def _if_apart(fates: list[str], number: int) -> str:
    """What is swapped needs a neighbour that simply comes."""
    fate = fates[number]
    return "comes" if fate == "swapped" and fates[number + 1] != "comes" else fate


async def of_caller(m: Media, kind: type[EventT], wanted: Callable[[EventT], bool] = lambda _: True) -> EventT:
    """The first event of a kind that is the caller's and wanted."""
    for number in count(1):
        event = await m.events.get(kind, number)
        if event.leg == "c" and wanted(event):
            return event
    raise AssertionError


def test_one_way_is_told_and_a_held_leg_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as caller, FarEnd(ssrc=2) as seat, FarEnd(ssrc=3) as held:
                at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
                at_held = m.open("h", call="another")
                for leg, far in (("c", caller), ("s", seat), ("h", held)):
                    m.client.connect(leg, far.remote())
                m.client.bridge("c", "s")
                await m.found(("c", caller, at_caller, QUIET), ("s", seat, at_seat, QUIET), ("h", held, at_held, QUIET))
                on_hold = held.remote()
                m.client.connect("h", type(on_hold)(host=on_hold.host, port=on_hold.port, receiving=False))

                async def talk() -> None:
                    while True:
                        seat.say(at_seat, QUIET)
                        await asyncio.sleep(FRAME_S)

                talking = asyncio.create_task(talk())
                told = await of_caller(m, Unheard, lambda event: event.one_way)  # a stall makes it both ways first
                assert told.seconds >= 2.0
                caller.say(at_caller, QUIET)
                assert (await of_caller(m, HeardAgain)).seconds >= 2.0
                talking.cancel()
                assert "h" not in {event.leg for event in m.events.of(Unheard)}
                m.client.close("h")
                closed = await m.events.get(Closed)
                assert closed.stats.longest_gap_ms < 1000, "nor is it a gap"

    asyncio.run(run())
