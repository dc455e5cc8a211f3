"""What a worker carries, without a process of its own."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from siaga_pbx.media.calls import Calls
from siaga_pbx.media.events import LocalMedia
from siaga_pbx.media.leg import Leg
from siaga_pbx.media.ports import PortPool
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import Account, Close, Closed, Connect, Event, FirstPacket, Open, Side
from siaga_pbx.media.recorder import Disk
from tests.media_kit import FarEnd, free_ports, noise


def test_without_a_daemon_a_leg_on_hold_lives_as_long_as_its_call(tmp_path: Path) -> None:
    """Nothing comes from it, and nothing has to; when nothing comes from the other side either, both end."""

    async def test() -> None:
        events: list[Event] = []
        heard = asyncio.Event()

        def tell(event: Event) -> None:
            events.append(event)
            if isinstance(event, FirstPacket):
                heard.set()

        first, last = free_ports(8)
        disk = Disk(tell)
        ports = PortPool(range(first, last, 2), ["127.0.0.1"])
        calls = Calls(asyncio.get_running_loop(), ports, PromptStore(tmp_path), disk, tell)
        with FarEnd() as caller, FarEnd() as seat:
            for number, leg in enumerate("cs"):
                calls.perform(Open(leg, "call", Side.CALLER, "127.0.0.1", first + 2 * number, 0))
            calls.perform(Connect("c", caller.remote()))
            calls.perform(Connect("s", replace(seat.remote(), strict=True, sending=False)))
            before = time.monotonic()
            caller.say(LocalMedia("127.0.0.1", first), noise(1, 1)[0])
            await asyncio.wait_for(heard.wait(), 30)
            calls.close_silent(before)
            assert len(calls) == 2
            calls.close_silent(time.monotonic())
            assert len(calls) == 0
        disk.close(5)

    asyncio.run(test())


def test_a_leg_ends_and_the_others_are_reported_though_its_last_words_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        events: list[Event] = []
        first, last = free_ports(4)
        disk = Disk(events.append)
        ports = PortPool(range(first, last, 2), ["127.0.0.1"])
        calls = Calls(asyncio.get_running_loop(), ports, PromptStore(tmp_path), disk, events.append)
        for number, leg in enumerate("ab"):
            calls.perform(Open(leg, "call", Side.CALLER, "127.0.0.1", first + 2 * number, 0))

        def fail(leg: Leg, _now: float, _wall: float) -> None:
            if leg.name == "a":
                raise ArithmeticError

        monkeypatch.setattr(Leg, "say_goodbye", fail)
        monkeypatch.setattr(Leg, "send_report", fail)
        with capture_logs() as logs:
            calls.pacer._then(time.monotonic() + 60)
            assert sorted(event.leg for event in events if isinstance(event, Account)) == ["a", "b"]
            calls.perform(Close("a"))
        assert [event.leg for event in events if isinstance(event, Closed)] == ["a"]
        assert len(calls) == 1
        assert [log["event"] for log in logs] == ["media.fault", "media.faults"]
        assert ports.free(time.monotonic() + 60) == 3, "its ports are had again"
        calls.close_all()
        disk.close(5)

    asyncio.run(test())
