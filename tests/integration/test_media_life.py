"""Media workers and their daemons: found, started, lost, replaced; each outlives the other."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import MediaDown, MediaUp, StrayLegs
from siaga_pbx.media.protocol import Closed, RecordFailed, Remote, Side
from tests.media_kit import Events, FarEnd, media, new_settings, noise
from tests.media_process import Settings


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came to be")


def running(pid: int) -> bool:
    """Whether the process is there and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    async def run() -> None:
        async with media(new_settings(tmp_path), ping_s=0.1) as m:
            (pid,) = m.client.worker_pids
            os.kill(pid, signal.SIGSTOP)
            down = await m.events.get(MediaDown)
            assert down.reason == "the worker does not answer"
            await m.events.get(MediaUp, 2)
            assert not running(pid)
            assert m.client.worker_pids != (pid,)

    asyncio.run(run())


def test_a_worker_keeps_its_calls_when_its_daemon_is_gone(tmp_path: Path) -> None:
    """And the next daemon finds them, and ends them after telling."""
    settings = new_settings(tmp_path)

    async def first() -> int:
        client = MediaClient(settings, Events().take, spawn=settings.spawn)
        await client.start()
        with FarEnd() as caller, FarEnd() as seat:
            at_caller, at_seat = (client.open("call", leg, Side.CALLER) for leg in "cs")
            assert at_caller is not None
            assert at_seat is not None
            client.connect("c", caller.remote())
            client.connect("s", seat.remote())
            client.bridge("c", "s")
            await asyncio.gather(caller.talk(at_caller, noise(5, 1)), seat.talk(at_seat, noise(5, 2)))
            await seat.heard_frame(noise(5, 1)[-1])
            pid = client.worker_pids[0]
            await client.stop(keep_workers=True)
            seat.forget()
            await caller.talk(at_caller, noise(5, 3))
            await seat.heard_frame(noise(5, 3)[-1])
        return pid

    async def second(pid: int) -> None:
        async with media(settings) as m:
            assert m.client.worker_pids == (pid,)
            assert m.events.of(StrayLegs) == []
            assert [leg.open.leg for leg in m.client.surviving()["call"]] == ["c", "s"]
            m.client.release_unclaimed()
            strays = await m.events.get(StrayLegs)
            assert [(leg.open.call, leg.open.leg, leg.open.side) for leg in strays.legs] == [
                ("call", "c", Side.CALLER),
                ("call", "s", Side.CALLER),
            ]
            assert m.client.surviving() == {}
            m.open("new")
            m.client.close("new")
            assert (await m.events.get(Closed)).leg == "new"  # those of the strays are nobody's

    second_pid = asyncio.run(first())
    asyncio.run(second(second_pid))


@pytest.mark.parametrize("legs", [0, 2])
def test_a_worker_that_nobody_needs_ends(tmp_path: Path, legs: int) -> None:
    """Without a daemon legs whose far side is silent end first, connected or not."""
    settings = new_settings(tmp_path, linger_s=0.5)

    async def run() -> int:
        client = MediaClient(settings, Events().take, spawn=settings.spawn)
        await client.start()
        for number in range(legs):
            client.open("call", f"leg{number}", Side.CALLER)
        client.connect("leg0", Remote(host="127.0.0.1", port=9))
        client.play("leg0", ("greeting",), ("waiting",))
        pid = client.worker_pids[0]
        await client.stop(keep_workers=True)
        return pid

    pid = asyncio.run(run())
    deadline = time.monotonic() + 10
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(pid)
    assert not settings.socket.with_name("media.sock.0").exists()


def test_a_daemon_that_stops_takes_idle_workers_with_it(tmp_path: Path) -> None:
    async def run() -> int:
        async with media(new_settings(tmp_path)) as m:
            return m.client.worker_pids[0]

    assert not running(asyncio.run(run()))


def test_calls_are_spread_over_the_workers_and_kept_together(tmp_path: Path) -> None:
    async def run() -> None:
        async with media(new_settings(tmp_path, pairs=32, workers=2)) as m:
            assert len(set(m.client.worker_pids)) == 2
            for number in range(4):
                m.open(f"c{number}", call=f"call{number}")
            for number in range(4):
                m.open(f"s{number}", Side.SEAT, call=f"call{number}")
            assert [len(worker.book.legs) for worker in m.client._workers] == [4, 4]
            with FarEnd() as caller, FarEnd() as seat:
                for number in (0, 1):  # one on each
                    caller.forget()
                    m.client.connect(f"c{number}", caller.remote())
                    m.client.connect(f"s{number}", seat.remote())
                    m.client.bridge(f"c{number}", f"s{number}")
                    m.client.unbridge(f"c{number}")
                    await caller.heard_number(2)
            os.kill(m.client.worker_pids[1], signal.SIGKILL)
            down = await m.events.get(MediaDown)
            assert len(down.legs) == 4
            assert m.client.available
            assert m.client.open("another", "another", Side.CALLER) is not None
            m.client.close("another")
            await m.events.get(MediaUp, 3)

    asyncio.run(run())


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    settings = new_settings(tmp_path)

    async def run() -> None:
        async with media(settings) as m:
            events = Events()
            other = MediaClient(settings, events.take, spawn=settings.spawn)
            await other.start(timeout_s=0.3)
            assert not other.available
            await events.get(MediaDown)
            await other.stop()
            m.open("c")
            assert m.client.available

    asyncio.run(run())


def test_a_worker_that_cannot_be_started_is_told_of(tmp_path: Path) -> None:
    async def run() -> None:
        events = Events()
        settings = new_settings(tmp_path)
        client = MediaClient(settings, events.take, spawn=["/does/not/exist"])
        await client.start(timeout_s=0.2)
        down = await events.get(MediaDown)
        assert "No such file" in down.reason
        client.release_unclaimed()
        assert client.open("c", "c", Side.CALLER) is None
        client.record("c", tmp_path / "a.wav")
        await events.get(RecordFailed)
        await client.stop()

    asyncio.run(run())


def test_the_socket_and_the_worker_are_this_users_alone(tmp_path: Path) -> None:
    settings = new_settings(tmp_path)

    async def run() -> None:
        async with media(settings) as m:
            assert settings.socket.with_name("media.sock.0").stat().st_mode & 0o077 == 0
            assert os.getsid(m.client.worker_pids[0]) != os.getsid(0)
            second = await asyncio.create_subprocess_exec(
                *settings.spawn, "--index", "0", stderr=asyncio.subprocess.PIPE
            )
            _, complaint = await second.communicate()
            assert second.returncode == 1
            assert b"runs already" in complaint

    asyncio.run(run())


def test_settings_travel_to_the_process() -> None:
    settings = Settings(socket=Path("/run/media.sock"), ports=(30000, 30007), workers=2, prompts=Path("/prompts"))
    assert Settings.from_json(settings.as_json()) == settings
