"""What a worker carries, without a process of its own."""

import asyncio
import time
import wave
from dataclasses import replace
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
from structlog.testing import capture_logs

from siaga_pbx.media.calls import Calls
from siaga_pbx.media.events import LocalMedia
from siaga_pbx.media.g711 import decode
from siaga_pbx.media.leg import Leg
from siaga_pbx.media.ports import PortPool
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import (
    Account,
    Close,
    Closed,
    Codec,
    Connect,
    Event,
    FirstPacket,
    Open,
    Record,
    Recorded,
    Side,
)
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


def test_what_came_while_the_worker_stood_still_is_recorded_where_it_was_said(tmp_path: Path) -> None:
    """It is read after the first tick, which must not write what is to come as silence."""
    said = noise(200, 1)

    async def test() -> None:
        reports: Queue[Event] = Queue()
        first, last = free_ports(2)
        disk, ports = Disk(reports.put), PortPool(range(first, last, 2), ["127.0.0.1"])
        calls = Calls(asyncio.get_running_loop(), ports, PromptStore(tmp_path), disk, lambda _: None)
        calls.perform(Open("c", "call", Side.CALLER, "127.0.0.1", first, 0))
        calls.perform(Record("call", str(tmp_path / "a.wav")))
        recording, start = calls._recordings["call"], time.monotonic()
        for number, words in enumerate(said):
            now = start + 0.02 * (135 if 60 <= number < 135 else number)
            if not 60 < number < 135:
                calls._then(now)
            recording.left.write(number * 160, words, Codec.PCMA, now)
        calls.close_all()
        disk.close(30)
        recorded = reports.get_nowait()
        assert isinstance(recorded, Recorded), "without a gap"

    asyncio.run(test())
    with wave.open(str(tmp_path / "a.wav")) as file:
        left = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)[:, 0]
    assert (left[-len(said) * 160 :] == decode(b"".join(said), Codec.PCMA)).all()
