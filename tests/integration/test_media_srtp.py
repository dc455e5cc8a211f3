"""SRTP through a real worker, with a phone that is libsrtp itself: what is protected, refused, and survives."""

import asyncio
import base64
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from pylibsrtp import Error, Policy, Session

from siaga_pbx.media.client import Remote
from siaga_pbx.media.events import LocalMedia, MediaUp
from siaga_pbx.media.protocol import Closed, Dtmf, FirstPacket, Refused, Side, Srtp, SrtpSuite, Why
from tests.integration.test_media import rtp_and_rtcp
from tests.media_kit import FRAME_S, FarEnd, Media, media, new_settings, noise, shared_worker
from tests.media_process import Settings

POISON = noise(1, 666)[0]
SILENCE = b"\xd5" * 160
SIP_FROM = (ip_network("127.0.0.1"),)


def new_keys(suite: SrtpSuite = SrtpSuite.SHA1_80) -> Srtp:
    return Srtp(suite, *(base64.b64encode(os.urandom(30)).decode() for _ in range(2)))


PROFILES = {
    SrtpSuite.SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpSuite.SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


def key_of(keys: Srtp) -> Session:
    """What the phone protects with: what is theirs for the worker."""
    theirs = base64.b64decode(keys.theirs)
    return Session(Policy(theirs, Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[keys.suite]))


class Phone(FarEnd):
    """A seat's: protects what it sends, opens what it gets. What it cannot open is `odd`; `wire` is all of it as it
    came."""

    def __init__(self, keys: Srtp, host: str = "127.0.0.1") -> None:
        super().__init__(host=host, ssrc=0x5678)
        self.odd = 0
        self.wire: list[bytes] = []
        self.rekey(keys)

    def rekey(self, keys: Srtp) -> None:
        """Its keys as the worker has them."""
        self.keys = keys
        self.out = key_of(keys)
        ours = base64.b64decode(keys.ours)
        self.inward = Session(Policy(ours, Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[keys.suite]))

    def remote(self, telephone_event: int | None = 101) -> Remote:
        return replace(super().remote(telephone_event), strict=True, srtp=self.keys)

    def send_raw(self, to: LocalMedia, packet: bytes) -> None:
        super().send_raw(to, bytes(self.out.protect(packet)))

    def send_bare(self, to: LocalMedia, packet: bytes) -> None:
        super().send_raw(to, packet)

    def opened(self, packet: bytes) -> bytes | None:
        self.wire.append(packet)
        try:
            return bytes(self.inward.unprotect(packet))
        except Error:
            self.odd += 1
            return None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from shared_worker(tmp_path_factory.mktemp("srtp"))


@dataclass
class Call:
    media: Media
    caller: FarEnd
    seat: Phone
    at_caller: LocalMedia
    at_seat: LocalMedia

    async def begin(self) -> None:
        """Both have said a word, in silence."""
        await self.media.found(("c", self.caller, self.at_caller, SILENCE), ("s", self.seat, self.at_seat, SILENCE))

    async def talk(self, seed: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Both talk, and hear all that the other says."""
        of_caller, of_seat = noise(10, seed), noise(10, seed + 1)
        self.caller.forget()
        self.seat.forget()
        for caller, seat in zip(of_caller, of_seat, strict=True):
            self.caller.say(self.at_caller, caller)
            self.seat.say(self.at_seat, seat)
            meanwhile()
            await asyncio.sleep(FRAME_S)
        await asyncio.gather(self.seat.heard_frame(of_caller[-1]), self.caller.heard_frame(of_seat[-1]))
        for far, said in ((self.seat, of_caller), (self.caller, of_seat)):
            assert [packet.payload for packet in far.packets if packet.payload != SILENCE] == said

    async def settled(self, number: int) -> None:
        """The worker has carried out all commands so far: it has made and closed a leg since."""
        leg = f"settled {number}"
        assert self.media.client.open("call", leg, Side.SEAT, "127.0.0.1") is not None
        self.media.client.close(leg)
        while leg not in {event.leg for event in self.media.events.of(Closed)}:
            await self.media.events.get(Closed, len(self.media.events.of(Closed)) + 1)

    def refused(self) -> set[Why]:
        return {event.why for event in self.media.events.of(Refused) if event.leg == "s"}


def with_call(
    settings: Settings,
    test: Callable[[Call], Awaitable[None]],
    *,
    suite: SrtpSuite = SrtpSuite.SHA1_80,
    keep: bool = True,
    hidden: bool = False,
) -> None:
    async def run() -> None:
        async with media(settings, keep_workers=keep) as m:
            with FarEnd() as caller, Phone(new_keys(suite)) as seat:
                call = Call(m, caller, seat, m.open("c"), m.open("s", Side.SEAT))
                m.client.connect("c", caller.remote())
                m.client.connect(
                    "s", replace(seat.remote(), host="10.9.9.9", accept=SIP_FROM) if hidden else seat.remote()
                )
                m.client.bridge("c", "s")
                await asyncio.gather(caller.heard_number(1), seat.heard_number(0 if hidden else 1))
                await test(call)

    asyncio.run(run())


@pytest.mark.parametrize("suite", list(SrtpSuite))
def test_both_hear_each_other(shared: Settings, suite: SrtpSuite) -> None:
    async def test(call: Call) -> None:
        await call.begin()
        await call.talk(1)
        assert not any(frame in packet for packet in call.seat.wire for frame in noise(10, 1))
        assert call.seat.odd == 0
        await call.seat.press(call.at_seat, 7)
        assert (await call.media.events.get(Dtmf)).digit == "7"
        call.media.client.close("s")
        stats = (await call.media.events.get(Closed)).stats
        assert (stats.rejected, stats.malformed, stats.lost) == (0, 0, 0)

    with_call(shared, test, suite=suite)


def test_only_what_has_the_key_is_taken(shared: Settings) -> None:
    """In the clear, with another key, and again: from the phone's own address."""

    async def test(call: Call) -> None:
        await call.begin()
        seat, other = call.seat, key_of(new_keys())
        seat.send_bare(call.at_seat, seat.packet(POISON, 8, False, seat.sequence, seat.timestamp))
        kept = bytes(seat.out.protect(seat.packet(POISON, 8, False, (seat.sequence + 100) & 0xFFFF, 0)))

        def inject() -> None:
            bare = seat.packet(POISON, 8, False, seat.sequence, seat.timestamp)
            seat.send_bare(call.at_seat, bare)
            seat.send_bare(call.at_seat, bytes(other.protect(bare)))
            seat.send_bare(call.at_seat, kept[:-1] + bytes([kept[-1] ^ 1]))

        await call.talk(1, inject)
        assert call.refused() == {Why.UNPROTECTED}
        call.media.client.close("s")
        stats = (await call.media.events.get(Closed)).stats
        assert (stats.received, stats.rejected) == (11, 31)

    with_call(shared, test)


def test_replays_are_not_heard(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.begin()
        again = bytes(call.seat.out.protect(call.seat.packet(noise(1, 5)[0], 8, False, call.seat.sequence, 0)))
        call.seat.sequence += 1
        call.seat.send_bare(call.at_seat, again)
        await call.caller.heard_frame(noise(1, 5)[0])
        await call.talk(1, lambda: call.seat.send_bare(call.at_seat, again))
        assert call.refused() == {Why.UNPROTECTED}

    with_call(shared, test)


def test_a_phone_without_keys_is_silent_to_us_and_the_caller_stays(shared: Settings) -> None:
    async def test(call: Call) -> None:
        call.caller.say(call.at_caller, SILENCE)
        for number in range(10):
            call.seat.send_bare(call.at_seat, call.seat.packet(POISON, 8, False, number, 160 * number))
            await asyncio.sleep(FRAME_S)
        call.caller.forget()
        await call.caller.heard_number(5)
        assert {packet.payload for packet in call.caller.packets} == {SILENCE}
        assert [event.leg for event in call.media.events.of(FirstPacket)] == ["c"], "it has not been found"

    with_call(shared, test)


def test_behind_nat_the_first_with_the_key_is_the_phone(shared: Settings) -> None:
    """Not the first that sends from the address of its SIP."""

    async def test(call: Call) -> None:
        with Phone(new_keys()) as third:
            for _ in range(5):
                third.say(call.at_seat, POISON)
            await call.begin()
            await call.talk(1, lambda: third.say(call.at_seat, POISON))
            assert third.packets == []
            assert third.wire == []
            found = [event for event in call.media.events.of(FirstPacket) if event.leg == "s"]
            assert [(event.host, event.port) for event in found] == [call.seat.address]

    with_call(shared, test, hidden=True)


def test_rekeyed_within_the_call(shared: Settings) -> None:
    """A re-INVITE with a new key of theirs, and then one that changes both, and the suite."""

    async def test(call: Call) -> None:
        await call.begin()
        await call.talk(1)
        old = key_of(call.seat.keys)
        for number, keys in enumerate(
            (replace(call.seat.keys, theirs=new_keys().theirs), new_keys(SrtpSuite.SHA1_32)), 2
        ):
            call.seat.rekey(keys)
            call.media.client.connect("s", call.seat.remote())
            await call.settled(number)
            await call.talk(10 * number)
        call.seat.send_bare(call.at_seat, bytes(old.protect(call.seat.packet(POISON, 8, False, 9, 0))))
        await call.talk(50)
        assert Why.UNPROTECTED in call.refused()

    with_call(shared, test)


def test_reports_are_protected_too(shared: Settings) -> None:
    """SRTCP both ways, on a port of its own."""

    async def test(call: Call) -> None:
        pair = rtp_and_rtcp()
        seat, m = call.seat, call.media
        with FarEnd(bound=pair[0]), Reports(seat, pair[1]) as reports:
            m.client.connect("s", replace(seat.remote(), rtcp=reports.address))
            await call.begin()
            await call.talk(1)
            ours = seat.packets[-1].ssrc
            await reports.heard_number(1)
            assert (reports.packets[0].payload_type, reports.packets[0].timestamp) == (200 - 128, ours)
            block = struct.pack("!IIIIII", ours, 7, 0, 80, 0, 0)
            report = struct.pack("!BBHI", 0x81, 201, 7, seat.ssrc) + block
            at_rtcp = replace(call.at_seat, port=call.at_seat.port + 1)
            lie = report.replace(b"\0\0\0\x07" + block[8:], b"\0\0\0\x63" + block[8:])
            reports.send_raw(at_rtcp, bytes(seat.out.protect_rtcp(report)))
            reports.send_raw(at_rtcp, lie)
            await call.talk(3)
            m.client.close("s")
            stats = (await m.events.get(Closed)).stats
            assert (stats.remote_lost, stats.rejected) == (7, 1)

    with_call(shared, test)


class Reports(FarEnd):
    """A phone's RTCP port."""

    def __init__(self, phone: Phone, bound: socket.socket) -> None:
        super().__init__(bound=bound)
        self._phone = phone

    def opened(self, packet: bytes) -> bytes | None:
        return bytes(self._phone.inward.unprotect_rtcp(packet))


def test_the_rounds_of_the_numbers_outlive_a_worker(tmp_path: Path) -> None:
    """A phone that has talked for an hour: another worker must know in which round its numbers are, and a third that
    they have gone round since."""

    async def test(call: Call) -> None:
        m, seat = call.media, call.seat
        await call.begin()
        for index in range(seat.sequence, 0x33000, 0x7000):
            packet = seat.packet(SILENCE, 8, False, index & 0xFFFF, 160 * index & 0xFFFFFFFF)
            seat.send_bare(call.at_seat, bytes(seat.out.protect(packet)))
            await asyncio.sleep(FRAME_S)
        rolls = 0
        while rolls != 3:  # as the worker has told
            await asyncio.sleep(FRAME_S)
            state = m.client.state_of("s")
            rolls = state.connect.rolls if state is not None and state.connect is not None else 0
        seat.sequence = (index + 1) & 0xFFFF
        before = seat.packets[-1].ssrc
        os.kill(m.client.worker_pids[0], signal.SIGKILL)
        await m.events.get(MediaUp, 2)
        await seat.heard(lambda packets: packets[-1].ssrc != before)
        await call.talk(1)
        assert call.refused() == set()
        assert seat.odd == 0, "no index of ours came twice: another SSRC"

    with_call(new_settings(tmp_path), test, keep=False)
