"""Workers and daemons are killed in mid-call, and the call goes on: what is said is heard, to the sample."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import pytest

from siaga_pbx.media.events import LocalMedia, MediaDown, MediaUp
from siaga_pbx.media.keeper import RESPAWN_S
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import (
    Closed,
    Codec,
    Command,
    Connect,
    Dtmf,
    Echo,
    FirstPacket,
    LegStats,
    List,
    Open,
    OpenFailed,
    Played,
    Record,
    Recorded,
    RecordGap,
    Remote,
    Side,
)
from siaga_pbx.media.wire import commands
from tests.integration.test_media import find, read_stereo
from tests.media_kit import FRAME_S, PATIENCE_S, FarEnd, Media, Packet, media, new_settings, noise
from tests.media_process import Settings

pytestmark = pytest.mark.quiet
"""They measure gaps of a tenth of a second, which a machine busy with other tests stretches."""

BACK_S = 1.0
"""How soon after a worker's death its calls are to be heard again."""
PAUSE_S = 0.5
"""A pause that no relay makes, nor a busy machine under it: what this file stops lasts longer."""


@dataclass
class Call:
    media: Media
    caller: FarEnd
    seat: FarEnd
    at_caller: LocalMedia
    at_seat: LocalMedia


def with_call(
    settings: Settings, test: Callable[[Call], Awaitable[None]], *, ping_s: float = 0.5, join: bool = True
) -> None:
    """Run a test on a caller and a seat who hear each other."""

    async def run() -> None:
        async with media(settings, ping_s=ping_s) as m:
            with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
                at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
                m.client.connect("c", caller.remote())
                m.client.connect("s", replace(seat.remote(), strict=True))
                if join:
                    m.client.bridge("c", "s")
                    (hello, of_caller), (hello_seat, of_seat) = noise(2, 90), noise(2, 91)
                    await m.found(("c", caller, at_caller, hello), ("s", seat, at_seat, hello_seat))
                    caller.say(at_caller, of_caller)  # what came before may have come before the bridge
                    seat.say(at_seat, of_seat)
                    await asyncio.gather(seat.heard_frame(of_caller), caller.heard_frame(of_seat))
                await test(Call(m, caller, seat, at_caller, at_seat))

    asyncio.run(run())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def keeper_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def longest_gap(packets: list[Packet]) -> float:
    """Seconds between two packets of audio that is not silence."""
    spoken = [packet.at for packet in packets if set(packet.payload) != {0xD5}]
    return max(after - before for before, after in pairwise(spoken))


async def speak_until_heard(far: FarEnd, to: LocalMedia, other: FarEnd) -> bytes:
    """What is said before the legs are bridged is lost. Returns the last word, which is not."""
    word = b""
    async with asyncio.timeout(30):
        while all(set(packet.payload) == {0xD5} for packet in other.packets):
            word = noise(1, 90 + far.sequence)[0]
            far.say(to, word)
            await asyncio.sleep(0.02)
    return word


def what_was_heard(packets: list[Packet], said: list[bytes]) -> list[int]:
    """Which of the frames said came through, in order: their numbers. Nothing else did, but silence."""
    numbers = {frame: number for number, frame in enumerate(said)}
    spoken = [packet.payload for packet in packets if set(packet.payload) != {0xD5}]
    return [numbers[payload] for payload in spoken]


def check_going_on(packets: list[Packet], local: LocalMedia) -> None:
    """Two streams, from the same port: the second begins with a marker and goes on where the clock is."""
    assert {packet.source for packet in packets} == {(local.address, local.port)}
    streams = [packets[0].ssrc, packets[-1].ssrc]
    assert streams[0] != streams[1]
    turn = next(at for at, packet in enumerate(packets) if packet.ssrc == streams[1])
    assert [packet.ssrc for packet in packets] == streams[:1] * turn + streams[1:] * (len(packets) - turn)
    before, after = packets[turn - 1], packets[turn]
    assert after.marker
    passed = (after.timestamp - before.timestamp) & 0xFFFFFFFF
    assert abs(passed / 8000 - (after.at - before.at)) < PAUSE_S
    for stream in (packets[:turn], packets[turn:]):
        assert all((b.sequence - a.sequence) & 0xFFFF == 1 for a, b in pairwise(stream))


def test_a_killed_worker_is_replaced_and_both_hear_each_other_again(tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        m, caller, seat = call.media, call.caller, call.seat
        path = tmp_path / "call.wav"
        m.client.record("call", path)
        (pid,) = m.client.worker_pids
        of_caller, of_seat = noise(150, 1), noise(150, 2)
        caller.forget()
        seat.forget()

        async def murder() -> None:
            await seat.heard_frame(of_caller[60])
            kill(pid)

        await asyncio.gather(caller.talk(call.at_caller, of_caller), seat.talk(call.at_seat, of_seat), murder())
        await asyncio.gather(seat.heard_frame(of_caller[-1]), caller.heard_frame(of_seat[-1]))
        for far, said, local in ((seat, of_caller, call.at_seat), (caller, of_seat, call.at_caller)):
            heard = what_was_heard(far.packets, said)
            assert heard == sorted(heard)
            turn = next(at for at in range(len(heard)) if heard[at] != at)
            assert (heard[turn] - turn) * FRAME_S < BACK_S, "counted in what is missing"
            assert heard[turn:] == list(range(heard[turn], 150)), "from then on all of it"
            check_going_on(far.packets, local)
        assert (await m.events.get(MediaDown)).legs == ("c", "s")
        up = await m.events.get(MediaUp, 2)
        assert (up.legs, up.resumed) == ((), ("c", "s"))
        assert m.client.worker_pids != (pid,)
        m.client.close("c")
        m.client.close("s")
        recorded = await m.events.get(Recorded)
        (gap,) = m.events.of(RecordGap)
        assert gap.reason == "the media worker died"
        assert 0 < gap.seconds < BACK_S + 0.8  # and what had not been written yet
        assert recorded.lost_ms == round(gap.seconds * 1000)
        check_recording(path, of_caller, of_seat, gap)

    with_call(new_settings(tmp_path), test)


def check_recording(path: Path, of_caller: list[bytes], of_seat: list[bytes], gap: RecordGap) -> None:
    """Both sides lie where they were said: before the gap, behind it, and apart from each other."""
    left, right = read_stereo(path)
    for track, said in ((left, of_caller), (right, of_seat)):
        places = {number: find(track, frame) for number, frame in enumerate(said)}
        found = {number: place for number, place in places.items() if place is not None}
        first, last = min(found), max(found)
        assert first <= 1
        assert last == len(said) - 1
        assert abs((found[last] - found[first]) - 160 * (last - first)) <= 160
        at = {number: found[first] + 160 * (number - first) for number in range(len(said))}
        start, end = gap.start_s * 8000 - 320, (gap.start_s + gap.seconds) * 8000 + 320
        missing = [number for number in at if number not in found and not start <= at[number] <= end]
        assert len(missing) <= 2, "the first may be too early, and one is cut where the clock is put right"
    start, end = round(gap.start_s * 8000), round((gap.start_s + gap.seconds) * 8000)
    assert not left[start:end].any()


def test_all_that_a_leg_was_sent_goes_on(tmp_path: Path) -> None:
    """Prompts whose first part is through, an echo, silence; keys that are not passed on."""

    async def test(call: Call) -> None:
        m = call.media
        with FarEnd() as tester, FarEnd() as alone:
            at_tester, at_alone = m.open("t", call="test"), m.open("a", call="alone")
            m.client.connect("t", tester.remote())
            m.client.echo("t")
            m.client.connect("a", alone.remote())
            m.client.play("a", ("failed",), ("waiting",))
            await m.events.get(Played)
            m.client.relay_events("s", False)
            m.client.unbridge("c")
            m.client.bridge("c", "s")
            word = noise(1, 1)[0]
            await m.found(("t", tester, at_tester, word), ("a", alone, at_alone, word))
            kill(m.client.worker_pids[0])
            await m.events.get(MediaUp, 2)
            for far in (tester, alone, call.caller, call.seat):
                far.forget()
            echoed = noise(10, 5)
            await tester.talk(at_tester, echoed)
            await tester.heard_frame(echoed[-1])
            await alone.heard_number(10)
            waiting = list(_prompt("waiting", 10))
            assert [packet.payload for packet in alone.packets[:10]] == waiting
            await call.seat.press(call.at_seat, 5)
            await m.events.get(Dtmf)
            await call.seat.talk(call.at_seat, noise(2, 6))
            await call.caller.heard_frame(noise(2, 6)[-1])
            assert {packet.payload_type for packet in call.caller.packets} == {Codec.PCMA}
            assert m.events.of(Played) == [Played("a")]
            m.client.unbridge("c")
            kill(m.client.worker_pids[0])
            await m.events.get(MediaUp, 3)
            call.caller.forget()
            await call.caller.heard_number(5)
            assert {packet.payload for packet in call.caller.packets} == {b"\xd5" * 160}

    with_call(new_settings(tmp_path), test)


def _prompt(name: str, frames: int) -> list[bytes]:
    source = PromptStore().frames([], [name], Codec.PCMA, lambda: None)
    return [next(source) for _ in range(frames)]


def test_the_source_found_stays_the_only_one(tmp_path: Path) -> None:
    """A gateway that sends from elsewhere is heard at once, and a third party not at all, though it is there first."""

    async def run() -> None:
        async with media(new_settings(tmp_path)) as m:
            with FarEnd() as named, FarEnd(host="127.0.0.2") as gateway, FarEnd(host="127.0.0.2") as stranger:
                local = m.open("c")
                m.client.connect("c", replace(named.remote(), accept=(ip_network("127.0.0.2/32"),)))
                m.client.echo("c")
                while not m.events.of(FirstPacket):
                    gateway.say(local, noise(1, 1)[0])
                    await asyncio.sleep(FRAME_S)
                kill(m.client.worker_pids[0])
                poison = noise(1, 66)[0]
                while len(m.events.of(MediaUp)) < 2:
                    with suppress(OSError):
                        stranger.say(local, poison)
                    await asyncio.sleep(0.001)
                gateway.forget()
                frames = noise(10, 2)
                for frame in frames:
                    stranger.say(local, poison)
                    gateway.say(local, frame)
                    await asyncio.sleep(FRAME_S)
                await gateway.heard_frame(frames[-1])
                assert poison not in {packet.payload for packet in gateway.packets}
                assert stranger.packets == []
                assert len(m.events.of(FirstPacket)) == 1

    asyncio.run(run())


def test_a_legs_account_goes_on(tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        m = call.media
        await call.caller.talk(call.at_caller, noise(20, 1))
        await call.seat.heard_frame(noise(20, 1)[-1])
        told = 0
        while told < 22:  # with its reports to the far side; two words at least were said before
            state = m.client.state_of("c")
            told = state.account.stats.received if state is not None and state.account is not None else 0
            await asyncio.sleep(FRAME_S)
        kill(m.client.worker_pids[0])
        await m.events.get(MediaUp, 2)
        call.seat.forget()
        await call.seat.heard_number(1)  # the new one is at work
        await call.caller.talk(call.at_caller, noise(20, 2))
        await call.seat.heard_frame(noise(20, 2)[-1])
        m.client.close("c")
        assert (await m.events.get(Closed)).stats.received == told + 20

    with_call(new_settings(tmp_path), test)


def test_a_leg_made_while_no_worker_is_there(tmp_path: Path) -> None:
    """The seat is called, moved and joined in the moment of the caller's worker's death."""

    async def run() -> None:
        async with media(new_settings(tmp_path, pairs=16, workers=2)) as m:
            with FarEnd() as caller, FarEnd() as seat, FarEnd() as elsewhere:
                at_caller = m.open("c")
                m.client.connect("c", caller.remote())
                kill(m.client.worker_pids[0])
                await m.events.get(MediaDown)
                at_seat = m.open("s", Side.SEAT)
                m.client.connect("s", elsewhere.remote())
                m.client.connect("s", seat.remote())
                m.client.play("s", ("ready",))
                m.client.bridge("c", "s")
                m.open("gone", Side.SEAT)
                m.client.close("gone")
                assert await m.events.get(Closed) == Closed("gone", LegStats())
                m.legs.remove("gone")
                assert len(m.events.of(MediaUp)) == 2, "all this before there was another"
                await m.events.get(MediaUp, 3)
                of_caller, of_seat = noise(10, 1), noise(10, 2)
                await asyncio.gather(caller.talk(at_caller, of_caller), seat.talk(at_seat, of_seat))
                await asyncio.gather(seat.heard_frame(of_caller[-1]), caller.heard_frame(of_seat[-1]))
                m.events.all.clear()

    asyncio.run(run())


def test_one_workers_death_is_not_heard_in_the_calls_of_another(tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        m = call.media
        with FarEnd() as other:
            at_other = m.open("o", call="other")
            m.client.connect("o", other.remote())
            m.client.echo("o")
            first, second = m.client.worker_pids
            of_caller, of_other = noise(60, 1), noise(60, 2)

            async def murder() -> None:
                await asyncio.sleep(0.3)
                kill(second)

            await asyncio.gather(call.caller.talk(call.at_caller, of_caller), other.talk(at_other, of_other), murder())
            await call.seat.heard_frame(of_caller[-1])
            assert call.seat.audio().endswith(b"".join(of_caller)), "not a packet is missing"
            await other.heard_frame(of_other[-1])
            assert m.client.worker_pids[0] == first
            assert (await m.events.get(MediaDown)).legs == ("o",)

    with_call(new_settings(tmp_path, pairs=16, workers=2), test)


def test_a_port_that_somebody_took_meanwhile_is_told_of(tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        m = call.media
        (pid,) = m.client.worker_pids
        keeper = keeper_of(pid)
        os.kill(keeper, signal.SIGSTOP)
        kill(pid)
        await m.events.get(MediaDown)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
            theirs.bind((call.at_seat.address, call.at_seat.port))
            os.kill(keeper, signal.SIGCONT)
            failed = await m.events.get(OpenFailed)
            assert (failed.leg, failed.reason) == ("s", os.strerror(98))
        m.client.play("c", ("greeting",))
        call.caller.forget()
        await call.caller.heard_number(5)
        m.client.close("s")
        assert await m.events.get(Closed) == Closed("s", LegStats())
        m.legs.remove("s")
        m.events.all.clear()

    with_call(new_settings(tmp_path), test)


def test_a_worker_that_dies_with_its_keeper_is_replaced_as_soon(tmp_path: Path) -> None:
    """The keeper that stands by takes over; and when all of them go, the daemon starts anew."""

    async def test(call: Call) -> None:
        m = call.media
        (pid,) = m.client.worker_pids
        of_caller = noise(150, 1)
        call.seat.forget()

        async def murder() -> None:
            await call.seat.heard_frame(of_caller[60])
            kill(keeper_of(pid))
            kill(pid)

        await asyncio.gather(call.caller.talk(call.at_caller, of_caller), murder())
        await call.seat.heard_frame(of_caller[-1])
        heard = what_was_heard(call.seat.packets, of_caller)
        turn = next(at for at in range(len(heard)) if heard[at] != at)
        assert (heard[turn] - turn) * FRAME_S < BACK_S, "counted in what is missing"
        assert (await m.events.get(MediaUp, 2)).resumed == ("c", "s")
        (pid,) = m.client.worker_pids
        keeper = keeper_of(pid)
        for one in (*(child for child in children_of(keeper) if child != pid), keeper, pid):
            kill(one)
        await m.events.get(MediaUp, 3)
        await call.caller.talk(call.at_caller, noise(5, 1))
        await call.seat.heard_frame(noise(5, 1)[-1])

    with_call(new_settings(tmp_path), test)


def test_a_standby_is_replaced_and_goes_with_its_keeper(tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        m = call.media
        (pid,) = m.client.worker_pids
        keeper = keeper_of(pid)
        (standby,) = children_of(keeper) - {pid}
        await asyncio.sleep(RESPAWN_S)  # one that dies at once is not
        kill(standby)
        await until(lambda: bool(children_of(keeper) - {pid, standby}))
        family = {keeper, *children_of(keeper)}
        m.client.close("c")
        m.client.close("s")
        await m.events.get(Closed, 2)
        m.legs.clear()
        os.kill(keeper, signal.SIGTERM)
        await until(lambda: not any(is_alive(one) for one in family))
        await m.events.get(MediaUp, 2)

    with_call(new_settings(tmp_path), test)


async def until(true: Callable[[], bool]) -> None:
    """Waits for other processes."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be asked why does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_outlives_its_keeper(tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        m = call.media
        (pid,) = m.client.worker_pids
        kill(keeper_of(pid))
        of_caller = noise(20, 1)
        await call.caller.talk(call.at_caller, of_caller)
        await call.seat.heard_frame(of_caller[-1])
        assert call.seat.audio().endswith(b"".join(of_caller))
        assert m.client.worker_pids == (pid,)
        assert m.events.of(MediaDown) == []

    with_call(new_settings(tmp_path), test)


def test_workers_that_the_service_manager_starts(tmp_path: Path) -> None:
    """The daemon cannot start any itself. One that waits takes the place of one that is gone with all its processes."""
    settings = new_settings(tmp_path)

    async def unit() -> asyncio.subprocess.Process:
        program, *arguments = settings.spawn
        return await asyncio.create_subprocess_exec(program, *arguments, "--wait", "--index", "0")

    async def run() -> None:
        first = await unit()
        async with media(settings, spawn=["/bin/false"]) as m:
            (pid,) = m.client.worker_pids
            assert keeper_of(pid) == first.pid
            second = await unit()
            with FarEnd() as caller:
                local = m.open("c")
                m.client.connect("c", caller.remote())
                m.client.echo("c")
                for one in (*children_of(first.pid), first.pid):
                    kill(one)
                await first.wait()
                await m.events.get(MediaUp, 2)
                frames = noise(5, 1)
                await caller.talk(local, frames)
                await caller.heard_frame(frames[-1])
                assert keeper_of(m.client.worker_pids[0]) == second.pid
        assert await asyncio.wait_for(second.wait(), 10) == 0

    asyncio.run(run())


@dataclass
class Daemon:
    """A daemon to kill (`tests.media_daemon`), with a call between two far ends."""

    process: subprocess.Popen[bytes]
    at: dict[str, LocalMedia]

    @classmethod
    async def start(cls, settings: Settings, caller: FarEnd, seat: FarEnd) -> "Daemon":
        legs = json.dumps({"c": caller.address, "s": seat.address})
        process = subprocess.Popen(  # noqa: ASYNC220  asyncio's would wait for its worker too
            [sys.executable, "-m", "tests.media_daemon", settings.as_json(), legs], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        places = json.loads(await asyncio.to_thread(process.stdout.readline))
        daemon = cls(process, {leg: LocalMedia(*place) for leg, place in places.items()})
        for far, other, leg in ((caller, seat, "c"), (seat, caller, "s")):
            word = await speak_until_heard(far, daemon.at[leg], other)
            await asyncio.to_thread(process.stdout.readline)
            await other.heard_frame(word)
        return daemon

    async def die(self) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_killed_daemons_calls_go_on_and_the_next_takes_them_over(tmp_path: Path) -> None:
    settings = new_settings(tmp_path)

    async def run() -> None:
        with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
            daemon = await Daemon.start(settings, caller, seat)
            of_caller, of_seat = noise(100, 1), noise(100, 2)
            seat.forget()
            caller.forget()

            async def murder() -> None:
                await seat.heard_frame(of_caller[30])
                await daemon.die()
                await seat.heard_frame(of_caller[40])
                await caller.press(daemon.at["c"], 5)  # nobody is there to be told

            async def next_daemon() -> None:
                await seat.heard_frame(of_caller[70])
                await take_over(settings, daemon, caller, seat, said_all)

            said_all = asyncio.Event()
            taking_over = asyncio.create_task(next_daemon())
            await asyncio.gather(seat.talk(daemon.at["s"], of_seat), caller.talk(daemon.at["c"], of_caller), murder())
            await caller.heard_frame(of_seat[-1])
            assert what_was_heard(caller.packets, of_seat) == list(range(100))
            assert longest_gap(caller.packets) < PAUSE_S
            assert len({packet.ssrc for packet in caller.packets}) == 1
            said_all.set()
            await taking_over

    asyncio.run(run())


async def take_over(settings: Settings, daemon: Daemon, caller: FarEnd, seat: FarEnd, said_all: asyncio.Event) -> None:
    async with media(settings) as m:
        assert m.events.of(Dtmf) == [], "not before the leg is claimed"
        (legs,) = m.client.surviving().values()
        assert [(leg.open.leg, leg.open.call, leg.open.side) for leg in legs] == [
            ("c", "call", Side.CALLER),
            ("s", "call", Side.SEAT),
        ]
        assert [(leg.open.address, leg.open.port) for leg in legs] == [
            (daemon.at[leg].address, daemon.at[leg].port) for leg in "cs"
        ]
        assert [leg.connect.source for leg in legs if leg.connect] == [caller.address, seat.address]
        assert legs[1].events is not None
        assert not legs[1].events.on
        assert m.client.claim("c")
        assert m.client.claim("s")
        assert not m.client.claim("never")
        m.legs += ["c", "s"]
        m.client.release_unclaimed()
        assert m.client.surviving() == {}
        assert (await m.events.get(Dtmf)).digit == "5"
        await said_all.wait()
        kill(m.client.worker_pids[0])  # and what the new one knows is enough to make it all again
        await m.events.get(MediaUp, 2)
        of_caller = noise(10, 7)
        await caller.talk(daemon.at["c"], of_caller)
        await seat.heard_frame(of_caller[-1])
        m.client.close("c")
        m.client.close("s")
        recorded = await m.events.get(Recorded)
        assert recorded.path == str(settings.socket.with_name("call.wav"))
        assert len(m.events.of(RecordGap)) == 1
        await m.events.get(Closed, 2)
        m.legs.clear()


def test_what_ended_while_no_daemon_was_there(tmp_path: Path) -> None:
    """A leg whose far side went silent is closed by the worker; the next daemon learns of it, and of the recording."""
    settings = new_settings(tmp_path, linger_s=1.0)

    async def run() -> None:
        with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
            daemon = await Daemon.start(settings, caller, seat)
            await daemon.die()
            keep_up = asyncio.create_task(caller.talk(daemon.at["c"], noise(200, 1)))
            await asyncio.sleep(1.8)  # nothing is told to anybody, so there is nothing to wait for
            async with media(settings) as m:
                assert [leg.open.leg for leg in m.client.surviving()["call"]] == ["c"]
                assert not m.client.claim("s")
                closed = await m.events.get(Closed)
                assert (closed.leg, closed.stats.received) == ("s", 1)
                assert m.client.claim("c")
                m.legs.append("c")
                m.client.release_unclaimed()
            keep_up.cancel()

    asyncio.run(run())


async def connected(path: Path) -> socket.socket:
    for _ in range(1000):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            await asyncio.sleep(0.01)
        else:
            return connection
    raise AssertionError("there is no worker")


def test_a_daemon_that_does_not_read_is_left_and_harms_no_call(tmp_path: Path) -> None:
    settings = new_settings(tmp_path, linger_s=2.0)
    to_worker = commands()

    async def run() -> None:
        program, *arguments = settings.spawn
        process = await asyncio.create_subprocess_exec(program, *arguments, "--index", "0")
        daemon = await connected(settings.socket.with_name("media.sock.0"))
        worker = struct.unpack("3i", daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        loop = asyncio.get_running_loop()
        port = settings.ports[0]
        with FarEnd() as caller:
            remote = Remote(host=caller.address[0], port=caller.address[1])
            local = LocalMedia("127.0.0.1", port)
            hello: list[Command] = [
                Open("c", "call", Side.CALLER, local.address, port, 0),
                Connect("c", remote),
                Echo("c"),
            ]
            hello += [Record("call", str(tmp_path / "call.wav"))]
            await loop.sock_sendall(daemon, b"".join(to_worker.encode(command) for command in hello))
            frames = noise(100, 1)
            while not caller.packets:
                caller.say(local, b"\xd5" * 160)
                await asyncio.sleep(FRAME_S)

            async def flood() -> None:
                with suppress(OSError):
                    while True:
                        await loop.sock_sendall(daemon, to_worker.encode(List()) * 20)
                        await asyncio.sleep(0.001)

            flooding = asyncio.create_task(flood())
            await caller.talk(local, frames)
            await caller.heard_frame(frames[-1])
            assert caller.audio().endswith(b"".join(frames)), "not a packet is missing"
            assert longest_gap(caller.packets) < PAUSE_S
            async with asyncio.timeout(10):
                await flooding  # it was left
        daemon.close()
        os.kill(worker, signal.SIGTERM)
        assert await process.wait() == 0

    asyncio.run(run())
