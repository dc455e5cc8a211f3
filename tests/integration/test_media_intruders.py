"""Third parties who try to be heard in a call, to divert its audio, or to drown it: nothing of a worker gives way."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from siaga_pbx.media.client import Remote
from siaga_pbx.media.events import LocalMedia, MediaUp
from siaga_pbx.media.protocol import Closed, FirstPacket, LegStats, Refused, Side, Why
from siaga_pbx.media.source import HANDED_OVER_S
from tests.media_kit import FRAME_S, PATIENCE_S, FarEnd, Media, media, new_settings, noise, shared_worker
from tests.media_process import Settings

CARRIER = (ip_network("127.0.0.1/32"), ip_network("127.0.0.2/32"))
POISON = noise(1, 666)[0]
SILENCE = b"\xd5" * 160


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from shared_worker(tmp_path_factory.mktemp("intruders"))


@dataclass
class Call:
    """A caller of a trunk that has two addresses, and a seat; both have been heard."""

    media: Media
    caller: FarEnd
    seat: FarEnd
    at_caller: LocalMedia
    at_seat: LocalMedia

    async def talk(self, frames: list[bytes], meanwhile: Callable[[], None] = lambda: None) -> None:
        """The caller says it all, a frame each 20 ms, and between any two something happens."""
        for frame in frames:
            self.caller.say(self.at_caller, frame)
            meanwhile()
            await asyncio.sleep(FRAME_S)

    async def hears(self, frames: list[bytes]) -> None:
        """The seat has heard these, all of them and in order, and nothing else but silence."""
        packets = await self.seat.heard_frame(frames[-1])
        assert [packet.payload for packet in packets if packet.payload != SILENCE] == frames

    async def account(self, leg: str) -> LegStats:
        self.media.client.close(leg)
        async with asyncio.timeout(PATIENCE_S):
            while not (closed := [one for one in self.media.events.of(Closed) if one.leg == leg]):
                await self.media.events.get(Closed, len(self.media.events.of(Closed)) + 1)
        return closed[0].stats


def with_call(settings: Settings, test: Callable[[Call], Awaitable[None]], *, keep: bool = True) -> None:
    async def run() -> None:
        async with media(settings, keep_workers=keep) as m:
            with FarEnd() as caller, FarEnd(ssrc=0x5678) as seat:
                call = Call(m, caller, seat, m.open("c"), m.open("s", Side.SEAT))
                m.client.connect("c", trunk(caller))
                m.client.connect("s", replace(seat.remote(), strict=True))
                m.client.bridge("c", "s")
                await m.found(("c", caller, call.at_caller, SILENCE), ("s", seat, call.at_seat, SILENCE))
                seat.forget()
                await test(call)

    asyncio.run(run())


def trunk(far: FarEnd) -> Remote:
    return replace(far.remote(), accept=CARRIER)


@pytest.mark.parametrize("mimics", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.0.0.3"])
def test_a_third_party_that_comes_later(shared: Settings, host: str, mimics: bool) -> None:
    """From the caller's own machine, another of the trunk's, and elsewhere; with the caller's numbers, or any."""

    async def test(call: Call) -> None:
        with FarEnd(host=host, ssrc=call.caller.ssrc if mimics else 0x666) as third:

            def inject() -> None:
                if mimics:
                    third.sequence, third.timestamp = call.caller.sequence, call.caller.timestamp
                third.say(call.at_caller, POISON)
                third.say(call.at_seat, POISON)

            await call.talk(noise(15, 1), inject)
            await call.hears(noise(15, 1))
            assert third.packets == []
            told = call.media.events.of(Refused)
            assert {(one.leg, one.why, one.host, one.port) for one in told} == {
                ("c", Why.STRANGER, *third.address),
                ("s", Why.STRANGER, *third.address),
            }
            assert len(told) == 2, "once, not for each packet"
            assert (await call.account("c")).rejected == 15
            assert (await call.account("s")).rejected == 15

    with_call(shared, test)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_re_invite_is_no_gap_in_the_lock(shared: Settings, host: str) -> None:
    """The media moves to another port. Whoever is quicker than the new one is not heard, and the old one is until
    then."""

    async def test(call: Call) -> None:
        caller, m = call.caller, call.media
        with FarEnd(ssrc=0x777) as moved, FarEnd(host=host, ssrc=caller.ssrc) as third:

            def inject() -> None:
                third.sequence, third.timestamp = caller.sequence, caller.timestamp
                third.say(call.at_caller, POISON)

            m.client.connect("c", trunk(moved))
            await moved.heard_number(1)  # it is in force: audio goes there from now on
            await call.talk(noise(10, 1), inject)
            await call.hears(noise(10, 1))
            call.seat.forget()
            call.caller = moved
            await call.talk(noise(10, 2), inject)
            caller.say(call.at_caller, POISON)  # the old one is a third party now
            await call.talk(noise(5, 3), inject)
            await call.hears([*noise(10, 2), *noise(5, 3)])
            assert third.packets == []
            (*_, found) = m.events.of(FirstPacket)
            assert found == FirstPacket("c", *moved.address, expected=True)
            assert (await call.account("c")).rejected == 26

    with_call(shared, test)


def test_a_seat_that_moves_is_taken_at_the_port_it_names(shared: Settings) -> None:
    async def test(call: Call) -> None:
        with FarEnd(ssrc=0x777) as moved, FarEnd(ssrc=0x5678) as third:
            call.media.client.connect("s", replace(moved.remote(), strict=True))
            await moved.heard_number(1)
            await asyncio.sleep(1.5 * HANDED_OVER_S)  # the old one is silent for long enough
            for frame in noise(10, 1):
                third.say(call.at_seat, POISON)
                moved.say(call.at_seat, frame)
                await asyncio.sleep(FRAME_S)
            await call.caller.heard_frame(noise(10, 1)[-1])
            assert POISON not in {packet.payload for packet in call.caller.packets}
            assert third.packets == []

    with_call(shared, test)


def test_rtcp_of_third_parties_is_not_read_and_a_goodbye_ends_nothing(shared: Settings) -> None:
    async def test(call: Call) -> None:
        ours = (await call.caller.heard_number(1))[0].ssrc
        block = struct.pack("!IIIIII", ours, 999, 0, 999, 0, 0)
        report = struct.pack("!BBHI", 0x81, 201, 7, call.caller.ssrc) + block
        goodbye = struct.pack("!BBHI", 0x81, 203, 1, call.caller.ssrc)
        at_rtcp = replace(call.at_caller, port=call.at_caller.port + 1)
        with FarEnd(host="127.0.0.2") as third, FarEnd() as namesake:

            def inject() -> None:
                third.send_raw(at_rtcp, report + goodbye)
                third.send_raw(call.at_caller, report + goodbye)
                namesake.send_raw(call.at_caller, goodbye)

            await call.talk(noise(10, 1), inject)
            call.caller.send_raw(at_rtcp, report[:8] + block.replace(b"\0\0\x03\xe7", b"\0\0\0\x07") + goodbye)
            namesake.send_raw(at_rtcp, report + goodbye)  # from its machine, but another port
            call.caller.send_raw(call.at_caller, goodbye)  # even its own
            await call.talk(noise(5, 2))
            await call.hears([*noise(10, 1), *noise(5, 2)])
            stats = await call.account("c")
            assert (stats.remote_lost, stats.rejected) == (7, 31)
            whys = [one.why for one in call.media.events.of(Refused)]
            assert len(whys) == 1, "one word a minute, whatever the reasons"

    with_call(shared, test)


@pytest.mark.quiet
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.3"])
def test_a_flood_costs_the_call_nothing(shared: Settings, host: str) -> None:
    """As fast as this machine sends, from the caller's own and from elsewhere, into both ports of both legs."""

    async def test(call: Call) -> None:
        places = [(at.address, at.port + up) for at in (call.at_caller, call.at_seat) for up in (0, 1)]
        stop = asyncio.Event()
        flood = asyncio.create_task(asyncio.to_thread(drown, host, places, stop))
        await call.talk(noise(100, 1))
        stop.set()
        sent = await flood
        await call.hears(noise(100, 1))
        assert sent > 20_000
        stats = [await call.account(leg) for leg in ("c", "s")]
        refused = sum(stat.rejected for stat in stats)
        assert sent * 0.99 <= refused <= sent, "all is counted, but what overflowed before the kernel was told"
        assert [stat.lost for stat in stats] == [0, 0]
        assert len(call.media.events.of(Refused)) <= 4
        counted = call.media.client.refused
        while counted[Why.STRANGER] + counted[Why.REPORT] < refused:
            await asyncio.sleep(FRAME_S)
            counted = call.media.client.refused

    with_call(shared, test)


def drown(host: str, places: list[tuple[str, int]], stop: asyncio.Event) -> int:
    """Send until told to stop; how many packets."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
        flooder.bind((host, 0))
        packet = struct.pack("!BBHII", 0x80, 8, 1, 160, 0x666) + POISON
        while not stop.is_set():
            for place in places:
                flooder.sendto(packet, place)
                sent += 1
    return sent


@pytest.mark.quiet
def test_a_flood_before_the_first_word(shared: Settings) -> None:
    """The far side is not known yet, and its first packets get through all the same."""

    async def run() -> None:
        async with media(shared, keep_workers=True) as m:
            with FarEnd() as caller:
                local = m.open("c")
                m.client.connect("c", trunk(caller))
                m.client.echo("c")
                stop = asyncio.Event()
                flood = asyncio.create_task(asyncio.to_thread(drown, "127.0.0.3", [(local.address, local.port)], stop))
                await m.events.get(Refused)
                await asyncio.sleep(0.5)
                await caller.talk(local, noise(20, 1))
                stop.set()
                await flood
                packets = await caller.heard_frame(noise(20, 1)[-1])
                assert [one.payload for one in packets if one.payload != SILENCE] == noise(20, 1)

    asyncio.run(run())


def test_the_lock_outlives_a_worker_in_the_middle_of_a_move(tmp_path: Path) -> None:
    """Killed after the re-INVITE, before the first packet of the new far side: old and new are known yet."""

    async def test(call: Call) -> None:
        m = call.media
        with FarEnd(ssrc=0x777) as moved, FarEnd(ssrc=call.caller.ssrc) as third:
            m.client.connect("c", trunk(moved))
            os.kill(m.client.worker_pids[0], signal.SIGKILL)
            await m.events.get(MediaUp, 2)
            call.seat.forget()
            await call.seat.heard_number(1)  # it is at work
            await call.talk(noise(5, 1), lambda: third.say(call.at_caller, POISON))
            call.caller = moved
            await call.talk(noise(5, 2), lambda: third.say(call.at_caller, POISON))
            await call.hears([*noise(5, 1), *noise(5, 2)])
            assert third.packets == []

    with_call(new_settings(tmp_path), test, keep=False)
