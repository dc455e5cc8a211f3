"""The media worker, a process of its own, with far ends on real sockets: what is said is heard, to the sample."""

import asyncio
import hashlib
import socket
import stat
import struct
import wave
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from siaga_pbx.media.events import LocalMedia, PortsAvailable, PortsExhausted
from siaga_pbx.media.g711 import TO_LAW, Samples, decode
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import (
    Closed,
    Codec,
    Dtmf,
    FirstPacket,
    Played,
    PromptMissing,
    Recorded,
    RecordFailed,
    Remote,
    Side,
)
from siaga_pbx.media.recorder import LEAD_S
from tests.media_kit import FarEnd, Media, Packet, media, new_settings, noise, shared_worker
from tests.media_process import Settings


@dataclass
class Call:
    """A caller and a seat at the worker, connected, not yet joined."""

    media: Media
    caller: FarEnd
    seat: FarEnd
    at_caller: LocalMedia
    at_seat: LocalMedia

    def bridge(self) -> None:
        self.media.client.bridge("c", "s")

    async def joined(self) -> None:
        """Join them, and see that each hears the other."""
        self.bridge()
        hello_caller, hello_seat = noise(2, 90), noise(2, 91)
        await self.media.found(
            ("c", self.caller, self.at_caller, hello_caller[0]), ("s", self.seat, self.at_seat, hello_seat[0])
        )
        self.caller.say(self.at_caller, hello_caller[1])
        self.seat.say(self.at_seat, hello_seat[1])
        await self.seat.heard(lambda packets: len(packets) > 0 and packets[-1].payload in _in_all_laws(hello_caller[1]))
        await self.caller.heard(lambda packets: len(packets) > 0 and packets[-1].payload in _in_all_laws(hello_seat[1]))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from shared_worker(tmp_path_factory.mktemp("media"))


def with_call(
    settings: Settings, test: Callable[[Call], Awaitable[None]], seat_codec: Codec = Codec.PCMA, event: int | None = 101
) -> None:
    """Run a test on a call of a caller in A-law and a seat."""

    async def run() -> None:
        async with media(settings, keep_workers=True) as m:
            with FarEnd() as caller, FarEnd(seat_codec, ssrc=0x5678) as seat:
                at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
                m.client.connect("c", caller.remote())
                m.client.connect("s", replace(seat.remote(event), strict=True))
                await test(Call(m, caller, seat, at_caller, at_seat))

    asyncio.run(run())


def _in_all_laws(codes: bytes) -> set[bytes]:
    return {codes, *(codes.translate(table) for table in TO_LAW.values())}


def check_stream(packets: list[Packet]) -> None:
    """One SSRC, sequence numbers without a hole, timestamps that only rise."""
    assert len({packet.ssrc for packet in packets}) == 1
    for before, after in pairwise(packets):
        assert (after.sequence - before.sequence) & 0xFFFF == 1
        assert 0 < (after.timestamp - before.timestamp) & 0xFFFFFFFF < 0x80000000


def steps_ms(packets: list[Packet]) -> list[float]:
    """What the timestamps say lies between packets."""
    return [((b.timestamp - a.timestamp) & 0xFFFFFFFF) / 8 for a, b in pairwise(packets)]


def test_relay_of_the_same_codec_is_byte_exact(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        of_caller, of_seat = noise(50, 1), noise(50, 2)
        await asyncio.gather(call.caller.talk(call.at_caller, of_caller), call.seat.talk(call.at_seat, of_seat))
        await call.seat.heard_frame(of_caller[-1])
        await call.caller.heard_frame(of_seat[-1])
        assert call.seat.audio().endswith(b"".join(of_caller))
        assert call.caller.audio().endswith(b"".join(of_seat))
        for far, local in ((call.seat, call.at_seat), (call.caller, call.at_caller)):
            check_stream(far.packets)
            assert {packet.source for packet in far.packets} == {(local.address, local.port)}

    with_call(shared, test)


def test_relay_converts_where_the_codecs_differ(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        of_caller, of_seat = noise(20, 1), noise(20, 2)
        await asyncio.gather(call.caller.talk(call.at_caller, of_caller), call.seat.talk(call.at_seat, of_seat))
        in_mu_law = b"".join(of_caller).translate(TO_LAW[Codec.PCMU])
        in_a_law = b"".join(of_seat).translate(TO_LAW[Codec.PCMA])
        await call.seat.heard_frame(in_mu_law[-160:])
        await call.caller.heard_frame(in_a_law[-160:])
        assert call.seat.audio().endswith(in_mu_law)
        assert call.caller.audio().endswith(in_a_law)
        assert {packet.payload_type for packet in call.seat.packets} == {0}
        assert {packet.payload_type for packet in call.caller.packets} == {8}

    with_call(shared, test, seat_codec=Codec.PCMU)


def test_from_greeting_to_seat_and_back_is_one_stream_without_a_gap(shared: Settings) -> None:
    async def test(call: Call) -> None:
        client, caller = call.media.client, call.caller
        client.play("c", ("greeting",), ("waiting",))
        await caller.heard_number(25)
        call.bridge()
        await caller.heard_number(35)  # the seat has not spoken yet
        of_seat = noise(25, 3)
        await call.seat.talk(call.at_seat, of_seat)
        await caller.heard_frame(of_seat[-1])
        client.unbridge("c")
        at_unbridge = len(caller.packets)
        await caller.heard_number(at_unbridge + 10)
        client.play("c", ("ready",))
        at_play = len(caller.packets)
        await caller.heard_number(at_play + 10)
        packets = list(caller.packets)
        check_stream(packets)
        assert max(steps_ms(packets)) <= 40
        payloads = [packet.payload for packet in packets]
        store = PromptStore()
        greeting = list(store.frames(["greeting"], [], Codec.PCMA, lambda: None))
        begun = payloads.index(of_seat[0])
        assert payloads[begun : begun + 25] == of_seat
        markers = [at for at, packet in enumerate(packets) if packet.marker]
        first, cut, switched = markers[:3]
        assert (first, switched) == (0, begun)
        assert 25 <= cut < begun
        assert payloads[:cut] == greeting[:cut]
        assert set(payloads[cut:begun]) == {b"\xd5" * 160}
        assert len(markers) == 5  # and silence, and the last prompt
        assert packets[-1].payload in list(store.frames(["ready"], [], Codec.PCMA, lambda: None))

    with_call(shared, test)


def test_a_prompt_is_played_to_the_sample_and_told_of(shared: Settings) -> None:
    async def test(call: Call) -> None:
        call.media.client.play("s", ("not-known",))
        await call.media.events.get(Played)
        frames = list(PromptStore().frames(["not-known"], [], Codec.PCMU, lambda: None))
        await call.seat.heard_number(len(frames) + 5)
        assert call.seat.audio()[: len(frames) * 160] == b"".join(frames)
        assert set(call.seat.audio()[len(frames) * 160 :]) == {0xFF}
        assert call.media.events.of(Played) == [Played("s")]

    with_call(shared, test, seat_codec=Codec.PCMU)


def test_a_prompt_that_is_not_there_is_told_of_and_the_rest_played(shared: Settings) -> None:
    async def test(call: Call) -> None:
        call.media.client.play("c", ("no-such", "failed"))
        assert (await call.media.events.get(PromptMissing)).name == "no-such"
        await call.caller.heard_number(5)
        assert call.caller.audio()[:160] == next(PromptStore().frames(["failed"], [], Codec.PCMA, lambda: None))

    with_call(shared, test)


def test_echo(shared: Settings) -> None:
    async def test(call: Call) -> None:
        call.media.client.echo("c")
        frames = noise(20, 5)
        await call.caller.talk(call.at_caller, frames)
        await call.caller.heard_frame(frames[-1])
        assert call.caller.audio().endswith(b"".join(frames[1:]))
        check_stream(call.caller.packets)

    with_call(shared, test)


def test_keys_are_read_and_passed_under_the_others_number(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        call.seat.forget()
        for code in (1, 1, 11):
            await call.caller.press(call.at_caller, code)
            await call.caller.talk(call.at_caller, noise(3, code))
        await call.media.events.get(Dtmf, 3)
        assert [event.digit for event in call.media.events.of(Dtmf)] == ["1", "1", "#"]
        await call.seat.heard(lambda packets: sum(packet.payload_type == 96 for packet in packets) >= 24)
        events = [packet for packet in call.seat.packets if packet.payload_type == 96]
        assert [packet.payload[0] for packet in events] == [1] * 16 + [11] * 8
        assert len({packet.timestamp for packet in events}) == 3
        assert [bool(packet.payload[1] & 0x80) for packet in events[:8]] == [False] * 5 + [True] * 3

    with_call(shared, test, event=96)


def test_feature_codes_of_the_seat_are_read_and_held_back(shared: Settings) -> None:
    async def test(call: Call) -> None:
        call.media.client.relay_events("s", False)
        await call.joined()
        before, after = noise(5, 7), noise(5, 8)
        await call.seat.talk(call.at_seat, before)
        await call.seat.press(call.at_seat, 10)
        await call.seat.press(call.at_seat, 1)
        await call.seat.talk(call.at_seat, after)
        assert (await call.media.events.get(Dtmf, 2)).leg == "s"
        assert [event.digit for event in call.media.events.of(Dtmf)] == ["*", "1"]
        await call.caller.heard_frame(after[-1])
        assert {packet.payload_type for packet in call.caller.packets} == {8}
        check_stream(call.caller.packets)
        payloads = [packet.payload for packet in call.caller.packets]
        assert payloads[payloads.index(before[0]) :][:5] == before
        assert payloads[-5:] == after

    with_call(shared, test)


def test_a_third_party_is_not_heard(shared: Settings) -> None:
    """It sends first, later, with the caller's own SSRC and numbers; from the same host, and from another."""

    async def test(call: Call) -> None:
        with FarEnd(ssrc=0x666) as stranger, FarEnd(host="127.0.0.2", ssrc=call.caller.ssrc) as mimic:
            poison = noise(1, 66)[0]
            for _ in range(3):
                mimic.say(call.at_caller, poison)
                stranger.say(call.at_seat, poison)
            await call.joined()
            for frame in noise(20, 1):
                call.caller.say(call.at_caller, frame)
                mimic.sequence, mimic.timestamp = call.caller.sequence, call.caller.timestamp
                mimic.say(call.at_caller, poison)
                stranger.say(call.at_caller, poison)  # another port of the caller's host: too late, one is taken
                stranger.say(call.at_seat, poison)
                await asyncio.sleep(0.005)
            await call.seat.heard_frame(noise(20, 1)[-1])
            assert poison not in {packet.payload for packet in (*call.seat.packets, *call.caller.packets)}
            assert not stranger.packets
            assert not mimic.packets
        call.media.client.close("c")
        call.media.client.close("s")
        await call.media.events.get(Closed, 2)
        rejected = {closed.leg: closed.stats.rejected for closed in call.media.events.of(Closed)}
        assert rejected == {"c": 43, "s": 23}

    with_call(shared, test)


@pytest.mark.quiet
def test_a_trunk_may_send_from_another_of_its_addresses_after_two_seconds(shared: Settings) -> None:
    async def run() -> None:
        async with media(shared, keep_workers=True) as m:
            with FarEnd() as named, FarEnd(host="127.0.0.2") as gateway, FarEnd(host="127.0.0.3") as stranger:
                local = m.open("c")
                m.client.connect("c", replace(named.remote(), accept=(ip_network("127.0.0.2/32"),)))
                m.client.echo("c")
                for _ in range(130):
                    gateway.say(local, b"\x11" * 160)
                    stranger.say(local, b"\x22" * 160)
                    await asyncio.sleep(0.02)
                first = await m.events.get(FirstPacket)
                assert first == FirstPacket("c", *gateway.address, expected=False)
                packets = await gateway.heard(lambda packets: any(p.payload == b"\x11" * 160 for p in packets))
                assert b"\x22" * 160 not in {packet.payload for packet in packets}
                m.client.close("c")
                stats = (await m.events.get(Closed)).stats
                assert 80 <= stats.rejected - 130 <= 110  # the stranger's all, and the gateway's of two seconds

    asyncio.run(run())


def test_a_seat_behind_nat_is_heard_and_answered_where_it_sends_from(shared: Settings) -> None:
    async def run() -> None:
        async with media(shared, keep_workers=True) as m:
            with FarEnd() as seat:
                local = m.open("s", Side.SEAT)
                here = ip_network("127.0.0.1/32")
                remote = Remote(host="10.255.0.9", port=4000, telephone_event=101, accept=(here,), strict=True)
                m.client.connect("s", remote)
                seat.say(local, b"\x11" * 160)
                assert await m.events.get(FirstPacket) == FirstPacket("s", *seat.address, expected=False)
                m.client.play("s", ("ready",))
                await seat.heard_number(5)

    asyncio.run(run())


def test_a_re_offer_moves_the_far_side(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        with FarEnd(Codec.PCMU, ssrc=0x9999) as moved:
            call.media.client.connect("c", moved.remote())
            of_seat, of_caller = noise(10, 1), noise(10, 2)
            await moved.talk(call.at_caller, noise(10, 4))  # the first may be there before the worker knows of the move
            await call.media.events.get(FirstPacket, 3)
            await call.seat.talk(call.at_seat, of_seat)
            await moved.talk(call.at_caller, of_caller)
            await moved.heard_frame(of_seat[-1].translate(TO_LAW[Codec.PCMU]))
            await call.seat.heard_frame(of_caller[-1].translate(TO_LAW[Codec.PCMA]))
            check_stream(moved.packets)
            call.caller.forget()
            poison = noise(1, 77)[0]
            call.caller.say(call.at_caller, poison)  # where it was before it is a stranger
            await moved.talk(call.at_caller, noise(3, 5))
            assert poison.translate(TO_LAW[Codec.PCMA]) not in {packet.payload for packet in call.seat.packets}
            assert call.caller.packets == []

    with_call(shared, test)


def test_who_holds_us_hears_nothing_and_is_heard(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        call.media.client.connect("c", replace(call.caller.remote(), sending=False))
        of_caller = noise(5, 1)
        await call.caller.talk(call.at_caller, of_caller)
        await call.seat.heard_frame(of_caller[-1])
        call.caller.forget()
        await call.seat.talk(call.at_seat, noise(5, 2))
        call.media.client.connect("c", call.caller.remote())
        back = noise(5, 3)
        await call.seat.talk(call.at_seat, back)
        await call.caller.heard_frame(back[-1])
        assert noise(5, 2)[2] not in [packet.payload for packet in call.caller.packets]

    with_call(shared, test)


def test_odd_packets_harm_nothing(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        junk = [
            b"", b"\x80", b"\0" * 12, b"\x80\x08" + b"\0" * 10, b"\x9f\x08" + b"\xff" * 14, b"\xbf" + b"\xff" * 60,
            struct.pack("!BBHII", 0x80, 13, 1, 2, 3) + b"noise", struct.pack("!BBHII", 0x80, 101, 1, 2, 3) + b"\1",
            b"\x80" + bytes(range(60)), b"\x81\xc8\0\6" + b"\0" * 9, bytes(3000),
        ]  # fmt: skip
        for packet in junk:
            call.caller.send_raw(call.at_caller, packet)
        frames = noise(5, 1)
        await call.caller.talk(call.at_caller, frames)
        await call.seat.heard_frame(frames[-1])
        call.media.client.close("c")
        stats = (await call.media.events.get(Closed)).stats
        assert stats.malformed + stats.duplicate >= len(junk) - 2

    with_call(shared, test)


def test_loss_jitter_and_gap_are_counted(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        frames = noise(30, 1)
        for number, frame in enumerate(frames):
            if number % 10 == 5:
                call.caller.sequence, call.caller.timestamp = call.caller.sequence + 1, call.caller.timestamp + 160
            else:
                call.caller.say(call.at_caller, frame)
            if number == 20:
                await asyncio.sleep(0.15)
            await asyncio.sleep(0.02)
        await call.seat.heard_frame(frames[-1])
        call.media.client.close("c")
        stats = (await call.media.events.get(Closed)).stats
        assert (stats.received, stats.lost, stats.duplicate, stats.rejected) == (29, 3, 0, 0)
        assert stats.longest_gap_ms >= 150
        assert stats.jitter_ms > 1
        assert stats.sent > 0

    with_call(shared, test)


def test_reports_go_both_ways(shared: Settings) -> None:
    """RTCP on the port above: ours every five seconds, theirs read into the account."""

    async def run() -> None:
        async with media(shared, keep_workers=True) as m:
            pair = rtp_and_rtcp()
            with FarEnd(bound=pair[0]) as caller, FarEnd(bound=pair[1]) as reports:
                local = m.open("c")
                m.client.connect("c", caller.remote())
                m.client.play("c", ("greeting",))
                await caller.talk(local, noise(10, 1))
                (report,) = await reports.heard_number(1)
                ours = caller.packets[0].ssrc
                # A sender report's "sequence number and timestamp" are its length and SSRC.
                assert (report.payload_type, report.sequence, report.timestamp) == (200 - 128, 12, ours)
                at_rtcp = replace(local, port=local.port + 1)
                block = struct.pack("!IIIIII", ours, 5, 0, 80, 0, 0)
                reports.send_raw(at_rtcp, struct.pack("!BBHI", 0x81, 201, 7, caller.ssrc) + block)
                with FarEnd(host="127.0.0.2") as stranger:
                    lie = struct.pack("!IIIIII", ours, 999, 0, 999, 0, 0)
                    stranger.send_raw(at_rtcp, struct.pack("!BBHI", 0x81, 201, 7, caller.ssrc) + lie)
                await caller.talk(local, noise(3, 2))
                m.client.close("c")
                stats = (await m.events.get(Closed)).stats
                assert (stats.remote_lost, stats.remote_jitter_ms, stats.rejected) == (5, 10.0, 1)

    asyncio.run(run())


def test_the_recording_is_what_was_said_and_heard(shared: Settings, tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        path = tmp_path / "call.wav"
        client, caller = call.media.client, call.caller
        client.record("call", path)
        client.play("c", ("greeting",))
        await caller.heard_number(20)
        call.bridge()
        await caller.heard(lambda packets: sum(packet.marker for packet in packets) == 2)  # the worker has joined them
        of_caller, of_seat = noise(45, 1), noise(45, 2)
        await asyncio.gather(caller.talk(call.at_caller, of_caller), call.seat.talk(call.at_seat, of_seat))
        await caller.heard_frame(of_seat[-1])
        await call.seat.heard_frame(of_caller[-1])
        client.close("c")
        client.close("s")
        recorded = await call.media.events.get(Recorded)
        assert (recorded.call, recorded.path, recorded.lost_ms) == ("call", str(path), 0)
        assert recorded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        left, right = read_stereo(path)
        assert recorded.seconds == len(left) / 8000
        at_left, at_right = find(left, b"".join(of_caller)), find(right, b"".join(of_seat))
        assert find(right, caller.audio()[: 19 * 160]) == round(LEAD_S * 8000), "it begins with the greeting"
        assert at_left is not None, "all that the caller said is on the left, in one piece"
        assert at_right is not None, "all that the seat said is on the right, in one piece"
        assert abs(at_left - at_right) <= 160, "they began at the same time"

    with_call(shared, test)


def test_a_recording_that_cannot_be_made_ends_no_call(shared: Settings, tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        (tmp_path / "file").write_text("no folder")
        call.media.client.record("call", tmp_path / "file" / "call.wav")
        failed = await call.media.events.get(RecordFailed)
        assert (failed.call, failed.final) == ("call", False)
        await call.joined()
        call.media.client.close("c")
        call.media.client.close("s")
        assert (await call.media.events.get(RecordFailed, 2)).final

    with_call(shared, test)


def test_ports_run_out_rest_and_come_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with media(new_settings(tmp_path, pairs=4)) as m:
            await _until(lambda: m.client.ports_free == 4)
            used = {m.open(f"l{n}", call=f"call{n}").port for n in range(4)}
            assert len(used) == 4
            assert m.client.open("late", "late", Side.CALLER) is None
            assert m.client.open("later", "later", Side.CALLER) is None
            await m.events.get(PortsExhausted)
            assert m.client.available
            m.client.close("l0")
            await m.events.get(Closed)
            assert m.client.open("late", "late", Side.CALLER) is None  # the port rests
            await m.events.get(PortsAvailable)
            assert m.open("late", call="late").port in used
            assert len(m.events.of(PortsExhausted)) == 1

    asyncio.run(run())


def test_a_leg_that_is_gone_is_no_matter(shared: Settings) -> None:
    async def run() -> None:
        async with media(shared, keep_workers=True) as m:
            m.open("c")
            m.client.close("c")
            m.client.close("c")
            for command in (m.client.unbridge, m.client.echo, m.client.close):
                command("c")
                command("never")
            m.client.bridge("c", "never")
            m.client.play("never", ("greeting",))
            await m.events.get(Closed)
            m.open("d")
            m.client.close("d")
            await m.events.get(Closed, 2)
            assert [closed.leg for closed in m.events.of(Closed)] == ["c", "d"]

    asyncio.run(run())


def rtp_and_rtcp() -> tuple[socket.socket, socket.socket]:
    """A far end's two sockets, one port apart."""
    for _ in range(100):
        rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        rtp.bind(("127.0.0.1", 0))
        try:
            rtcp.bind(("127.0.0.1", rtp.getsockname()[1] + 1))
        except OSError:
            rtp.close()
            rtcp.close()
        else:
            return rtp, rtcp
    pytest.fail("no two ports in a row")


def read_stereo(path: Path) -> tuple[Samples, Samples]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 2, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(np.int16)
    return samples[:, 0], samples[:, 1]


def find(track: Samples, codes: bytes) -> int | None:
    """Where this A-law audio stands in the track, to the sample."""
    at = track.tobytes().find(decode(codes, Codec.PCMA).tobytes())
    return at // 2 if at >= 0 else None


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came to be")
