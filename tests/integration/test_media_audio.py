"""Audio work of a real worker with far ends on real sockets: packets of any length, comfort noise, keys, RTCP, and
announcements that a seat's answer cuts."""

import asyncio
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from siaga_pbx.media.dtmf import KeyReader
from siaga_pbx.media.events import LocalMedia
from siaga_pbx.media.g711 import TO_LAW, decode
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import Closed, Codec, Dtmf, Remote, Side
from siaga_pbx.media.rtcp import Reporter
from siaga_pbx.media.rtp import Receiver
from siaga_pbx.media.sender import Sender
from tests.media_kit import FarEnd, Media, Packet, media, noise, shared_worker
from tests.media_process import Settings

SILENCE = b"\xd5" * 160
NOISE = 13


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from shared_worker(tmp_path_factory.mktemp("audio"))


@dataclass
class Call:
    """A caller and a seat, connected; `joined` lets them hear each other."""

    media: Media
    caller: FarEnd
    seat: FarEnd
    at_caller: LocalMedia
    at_seat: LocalMedia

    async def joined(self) -> None:
        self.media.client.bridge("c", "s")
        of_caller, of_seat = noise(2, 90)
        await self.media.found(("c", self.caller, self.at_caller, of_caller), ("s", self.seat, self.at_seat, of_seat))


def with_call(
    settings: Settings,
    test: Callable[[Call], Awaitable[None]],
    *,
    caller_shape: Callable[[Remote], Remote] = lambda remote: remote,
    seat_shape: Callable[[Remote], Remote] = lambda remote: remote,
    seat_codec: Codec = Codec.PCMA,
) -> None:
    """Run a test on a call; the shapes are what the two said in their SDP."""

    async def run() -> None:
        async with media(settings, keep_workers=True) as m:
            with FarEnd() as caller, FarEnd(seat_codec, ssrc=0x5678) as seat:
                at_caller, at_seat = m.open("c"), m.open("s", Side.SEAT)
                m.client.connect("c", caller_shape(caller.remote()))
                m.client.connect("s", seat_shape(replace(seat.remote(), strict=True)))
                await test(Call(m, caller, seat, at_caller, at_seat))

    asyncio.run(run())


def check_stream(packets: list[Packet]) -> None:
    assert len({packet.ssrc for packet in packets}) == 1
    for before, after in pairwise(packets):
        assert (after.sequence - before.sequence) & 0xFFFF == 1
        assert (after.timestamp - before.timestamp) & 0xFFFFFFFF < 0x80000000


def spoken(packets: list[Packet]) -> list[Packet]:
    """Without the silence that stands in for a far side that is late: this one may be, on a busy machine."""
    return [packet for packet in packets if set(packet.payload) not in ({0xD5}, {0xFF})]


def heard_by(far: FarEnd) -> bytes:
    return b"".join(packet.payload for packet in spoken(far.packets))


def frames_of(length_ms: int, number: int, seed: int) -> list[bytes]:
    codes = np.random.default_rng(seed).integers(0, 256, (number, length_ms * 8), dtype=np.uint8)
    return [row.tobytes() for row in codes]


async def talk(far: FarEnd, to: LocalMedia, packets: list[bytes], rate: float = 8000.0) -> None:
    """Packets of any length at their pace, by a clock of so many samples a second."""
    start, passed = monotonic(), 0.0
    for codes in packets:
        await asyncio.sleep(max(0.0, start + passed - monotonic()))
        far.say(to, codes)
        passed += len(codes) / rate


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "sizes"), [(10, {80}), (20, {160}), (30, {80}), (40, {160}), (60, {160})])
def test_a_phone_with_packets_of_any_length_is_heard_to_the_sample(
    shared: Settings, length: int, sizes: set[int]
) -> None:
    """By a seat that takes 20 ms at most, and in mu-law."""

    async def test(call: Call) -> None:
        await call.joined()
        said = frames_of(length, 600 // length, length)
        await talk(call.caller, call.at_caller, said)
        wanted = b"".join(said).translate(TO_LAW[Codec.PCMU])
        await call.seat.heard(lambda _: heard_by(call.seat).endswith(wanted))
        check_stream(call.seat.packets)
        assert {len(packet.payload) for packet in spoken(call.seat.packets)[-400 // length :]} == sizes

    with_call(shared, test, seat_shape=lambda remote: replace(remote, max_ptime_ms=20), seat_codec=Codec.PCMU)


@pytest.mark.parametrize("ptime", [10, 30, 60])
def test_prompts_come_in_packets_of_the_length_that_is_asked_for(shared: Settings, ptime: int) -> None:
    async def test(call: Call) -> None:
        call.media.client.play("c", ("ready",))
        frames = b"".join(PromptStore().frames(["ready"], [], Codec.PCMA, lambda: None))
        packets = await call.caller.heard(lambda _: len(call.caller.audio()) >= len(frames))
        check_stream(packets)
        assert call.caller.audio()[: len(frames)] == frames
        assert {len(packet.payload) for packet in packets} == {ptime * 8}
        assert min((b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(packets)) == ptime * 8

    with_call(shared, test, caller_shape=lambda remote: replace(remote, ptime_ms=ptime, max_ptime_ms=ptime))


def test_long_packets_pass_as_they_are_to_who_takes_them(shared: Settings) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        said = frames_of(60, 10, 1)
        await talk(call.caller, call.at_caller, said)
        await call.seat.heard_frame(said[-1])
        assert [packet.payload for packet in spoken(call.seat.packets)[-10:]] == said

    with_call(shared, test, seat_shape=lambda remote: replace(remote, max_ptime_ms=60))


@pytest.mark.parametrize("rate", [8040.0, 7960.0])
def test_a_clock_that_is_not_ours_costs_nothing(shared: Settings, rate: float) -> None:
    """25 times the drift of a bad one; an hour of it is in the unit tests, in virtual time."""

    async def test(call: Call) -> None:
        await call.joined()
        said = noise(60, 5)
        await talk(call.caller, call.at_caller, said, rate)
        await call.seat.heard_frame(said[-1])
        assert heard_by(call.seat).endswith(b"".join(said))

    with_call(shared, test)


# --- comfort noise ----------------------------------------------------------------------------------------------------


def rest(far: FarEnd, to: LocalMedia, level: int) -> None:
    """The far side has nothing to say, and says how loud that is (RFC 3389)."""
    far.send_raw(to, far.packet(bytes([level]), NOISE, False, far.sequence, far.timestamp))
    far.sequence = (far.sequence + 1) & 0xFFFF


@pytest.mark.parametrize("takes_noise", [True, False])
def test_silence_suppression_passes(shared: Settings, takes_noise: bool) -> None:
    async def test(call: Call) -> None:
        await call.joined()
        before, after = noise(10, 1), noise(10, 2)
        await call.caller.talk(call.at_caller, before)
        await call.seat.heard_frame(before[-1])
        rest(call.caller, call.at_caller, 50)
        await asyncio.sleep(0.7)  # the silence, which is the caller's to make
        call.caller.timestamp = (call.caller.timestamp + 5600) & 0xFFFFFFFF
        await call.caller.talk(call.at_caller, after)
        check_stream(await call.seat.heard_frame(after[-1]))
        packets = spoken(call.seat.packets)
        payloads = [packet.payload for packet in packets]
        first, last = payloads.index(before[-1]) + 1, payloads.index(after[0])
        assert payloads[first - 10 : first] == before
        assert payloads[last : last + 10] == after
        between = packets[first:last]
        if takes_noise:
            assert {(packet.payload_type, packet.payload) for packet in between} == {(NOISE, b"\x32")}
            assert len(between) >= 2, "it is said again while the caller is silent"
        else:
            assert {packet.payload_type for packet in between} == {Codec.PCMA}
            samples = decode(b"".join(packet.payload for packet in between), Codec.PCMA).astype(float)
            assert 10 * np.log10((samples**2).mean() / 32768**2) == pytest.approx(-50, abs=1.5)
            assert len(between) >= 15
        call.media.client.close("c")
        call.media.client.close("s")
        await call.media.events.get(Closed, 2)
        assert [closed.stats.malformed for closed in call.media.events.of(Closed)] == [0, 0]

    with_call(shared, test, seat_shape=lambda remote: replace(remote, comfort_noise=takes_noise))


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_that_are_sent_are_read_by_who_gets_them(shared: Settings) -> None:
    async def test(call: Call) -> None:
        call.media.client.play("s", (), ("waiting",))
        await call.seat.heard_number(5)
        call.media.client.send_keys("s", "112#")
        packets = await call.seat.heard(lambda packets: sum(packet.payload_type == 101 for packet in packets) >= 28)
        check_stream(packets)
        reader = KeyReader()
        events = [packet for packet in packets if packet.payload_type == 101]
        assert "".join(filter(None, (reader.read(packet.timestamp, packet.payload) for packet in events))) == "112#"
        assert sum(packet.payload[1] >> 7 for packet in events) == 12, "each end three times"
        assert sum(packet.marker for packet in events) == 4
        audio = len(call.seat.audio())
        await call.seat.heard(lambda _: len(call.seat.audio()) > audio + 10 * 160)  # and the prompt goes on

    with_call(shared, test)


def test_keys_are_read_whatever_the_network_does_to_them(shared: Settings) -> None:
    """Lost packets, duplicates, no end, a press of nine seconds in two segments, and the same key again."""

    async def test(call: Call) -> None:
        await call.joined()

        def event(code: int, duration: int, *, start: int, end: bool = False, times: int = 1) -> None:
            packet = call.caller.packet(
                struct.pack("!BBH", code, end << 7 | 10, duration), 101, False, call.caller.sequence, start & 0xFFFFFFFF
            )
            call.caller.sequence = (call.caller.sequence + 1) & 0xFFFF
            for _ in range(times):
                call.caller.send_raw(call.at_caller, packet)

        at = 500_000
        event(1, 320, start=at)  # its first packet is lost, and its end
        event(1, 800, start=at + 4000, end=True)  # all but one end
        event(2, 160, start=at + 8000, times=3)  # each three times
        event(2, 320, start=at + 8000, times=3)
        event(2, 320, start=at + 8000, end=True, times=3)
        for duration in range(160, 65536, 1600):
            event(3, duration, start=at + 16000)
        event(3, 65535, start=at + 16000)
        for duration in range(160, 6400, 160):
            event(3, duration, start=at + 16000 + 65535)  # RFC 4733 2.5.1.3
        for _ in range(3):
            event(3, 6400, start=at + 16000 + 65535, end=True)
        event(3, 160, start=at + 16000 + 65535 + 8000)
        event(11, 800, start=at + 120_000, end=True)
        await call.media.events.get(Dtmf, 6)
        assert "".join(told.digit for told in call.media.events.of(Dtmf)) == "11233#"

    with_call(shared, test)


# --- announcements ----------------------------------------------------------------------------------------------------


def test_an_announcement_waits_for_what_is_said_and_is_cut_by_the_seats_answer(
    shared: Settings,
) -> None:
    place = ("position", "number-23", "position-end")

    async def test(call: Call) -> None:
        call.media.client.play("c", ("ready",), ("waiting",))
        await call.caller.heard_number(5)
        call.media.client.play("c", place, ("waiting",), after=True)
        store = PromptStore()
        ready = list(store.frames(["ready"], [], Codec.PCMA, lambda: None))
        told = list(store.frames(place, [], Codec.PCMA, lambda: None))
        parts = ("position", "number-20", "number-3", "position-end")
        assert told == list(store.frames(parts, [], Codec.PCMA, lambda: None))
        await call.caller.heard_number(len(ready) + len(told) // 2)
        call.media.client.bridge("c", "s")
        await call.caller.heard(lambda packets: sum(packet.marker for packet in packets) == 2)
        of_seat = noise(10, 3)
        await call.seat.talk(call.at_seat, of_seat)
        packets = list(await call.caller.heard_frame(of_seat[-1]))
        check_stream(packets)
        payloads = [packet.payload for packet in packets]
        cut, switched = [at for at, packet in enumerate(packets) if packet.marker][1:3]
        assert len(ready) < cut < len(ready) + len(told)
        assert payloads[:cut] == (ready + told)[:cut], "to the sample, no part of it twice or left out"
        assert set(payloads[cut:switched]) == {SILENCE}
        assert payloads[switched : switched + 10] == of_seat

    with_call(shared, test)


def test_it_follows_one_round_of_the_waiting_loop(shared: Settings, tmp_path: Path) -> None:
    async def test(call: Call) -> None:
        call.media.client.play("c", (), ("number-1",))
        await call.caller.heard_number(3)
        call.media.client.play("c", ("en/number-2",), ("number-1",), after=True)
        store = PromptStore()
        once = list(store.frames(["number-1", "en/number-2", "number-1"], [], Codec.PCMA, lambda: None))
        await call.caller.heard_number(len(once))
        assert [packet.payload for packet in call.caller.packets[: len(once)]] == once

    with_call(shared, test)


# --- RTCP -------------------------------------------------------------------------------------------------------------


class Reports(asyncio.DatagramProtocol):
    """A far side's RTCP port."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.news = asyncio.Event()
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.append(data)
        self.news.set()

    async def number(self, number: int) -> list[bytes]:
        async with asyncio.timeout(30):
            while len(self.got) < number:
                self.news.clear()
                await self.news.wait()
        return self.got


def pair() -> tuple[socket.socket, socket.socket]:
    """A phone's two ports, RTCP above RTP."""
    while True:
        first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        first.bind(("127.0.0.1", 0))
        second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            second.bind(("127.0.0.1", first.getsockname()[1] + 1))
        except OSError:
            first.close()
            second.close()
        else:
            return first, second


def judged_by_tshark(folder: Path, packets: list[bytes], fields: list[str]) -> list[list[str]]:
    """What tshark, which is nobody's friend here, reads in RTCP packets: a line each of the fields asked for."""
    port = 5005
    records = []
    for number, data in enumerate(packets):
        udp = struct.pack("!HHHH", port, port, 8 + len(data), 0) + data
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0,
            socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2"),
        )  # fmt: skip
        packet = header + udp
        records.append(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    file = folder / "reports.pcap"
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + b"".join(records))
    asked = [part for field in fields for part in ("-e", field)]
    read = subprocess.run(
        ["tshark", "-r", str(file), "-d", f"udp.port=={port},rtcp", "-T", "fields", "-E", "separator=;", *asked],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.split(";") for line in read.stdout.splitlines()]


def test_reports_as_tshark_reads_them(shared: Settings, tmp_path: Path) -> None:
    """A report in time, of what was lost; in the last one what ours was answered with; and a BYE."""

    async def run() -> tuple[list[bytes], FarEnd, float]:
        loop = asyncio.get_running_loop()
        rtp, rtcp = pair()
        transport, reports = await loop.create_datagram_endpoint(Reports, sock=rtcp)
        async with media(shared, keep_workers=True) as m:
            with FarEnd(bound=rtp) as caller:
                at = m.open("c")
                m.client.connect("c", caller.remote())
                m.client.play("c", ("greeting",))
                said = noise(20, 1)
                await caller.talk(at, said[:10])
                caller.sequence = (caller.sequence + 10) & 0xFFFF  # lost
                caller.timestamp = (caller.timestamp + 1600) & 0xFFFFFFFF
                await caller.talk(at, said[10:])
                await reports.number(1)
                receiver = Receiver()
                for packet in caller.packets:
                    receiver.take(packet.sequence, packet.timestamp, packet.ssrc, packet.at, True)
                ours = Sender(lambda data, _: len(data), lambda n: bytes(n), lambda _: None, 0)
                ours.ssrc, ours.sent, ours.octets = caller.ssrc, 20, 3200
                report = Reporter("phone").report(ours, receiver, monotonic(), 1_800_000_000.5)
                sent_at = monotonic()
                transport.sendto(report, (at.address, at.port + 1))
                await caller.talk(at, noise(10, 2))
                m.client.close("c")
                closed = await m.events.get(Closed)
                held = monotonic() - sent_at
                assert closed.stats.remote_lost == 0
                got = list(await reports.number(2))
                await caller.heard_number(int.from_bytes(got[-1][20:24], "big"))
                transport.close()
                return got, caller, held

    got, caller, held = asyncio.run(run())
    fields = [
        "rtcp.pt", "rtcp.length_check", "rtcp.senderssrc", "rtcp.ssrc.identifier", "rtcp.ssrc.fraction",
        "rtcp.ssrc.cum_nr", "rtcp.ssrc.jitter", "rtcp.ssrc.lsr", "rtcp.ssrc.dlsr", "rtcp.sender.packetcount",
        "rtcp.sender.octetcount", "rtcp.timestamp.rtp", "rtcp.sdes.type", "_ws.malformed", "rtcp.timestamp.ntp.msw",
    ]  # fmt: skip
    first, last = (
        dict(zip(fields, line, strict=True)) for line in judged_by_tshark(tmp_path, [got[0], got[-1]], fields)
    )
    assert (first["rtcp.pt"], last["rtcp.pt"]) == ("200,202", "200,202,203"), "SR, SDES; and at the end BYE"
    for report in (first, last):
        assert not report["_ws.malformed"]
        assert report["rtcp.length_check"] in ("1", "True")
        assert int(report["rtcp.senderssrc"].split(",")[0], 16) == caller.packets[0].ssrc
        assert int(report["rtcp.ssrc.identifier"].split(",")[0], 16) == caller.ssrc
        assert report["rtcp.sdes.type"].split(",")[0] == "1", "the CNAME"
        sent = int(report["rtcp.sender.packetcount"])
        assert int(report["rtcp.sender.octetcount"]) == 160 * sent
    assert first["rtcp.ssrc.cum_nr"] == last["rtcp.ssrc.cum_nr"] == "10"
    assert first["rtcp.ssrc.fraction"] == str(10 * 256 // 30)
    assert last["rtcp.ssrc.fraction"] == "0", "since the last report"
    assert int(last["rtcp.sender.packetcount"]) == len(caller.packets)
    assert first["rtcp.ssrc.lsr"] == first["rtcp.ssrc.dlsr"] == "0"
    assert int(last["rtcp.ssrc.lsr"]) == (1_800_000_000 + 2208988800 << 16 | 0x8000) & 0xFFFFFFFF
    assert 0 < int(last["rtcp.ssrc.dlsr"]) / 65536 <= held
    stamp, final = int(last["rtcp.timestamp.rtp"]), caller.packets[-1].timestamp
    assert (stamp - final) & 0xFFFFFFFF < 2 * 8000, "of the moment, by the clock of the packets"


@pytest.mark.parametrize("where", ["muxed", "named"])
def test_reports_go_where_the_sdp_says(shared: Settings, where: str) -> None:
    """To the port of the audio (RFC 5761), or to one of its own (RFC 3605); and are taken from there."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        transport, reports = await loop.create_datagram_endpoint(Reports, local_addr=("127.0.0.1", 0))
        async with media(shared, keep_workers=True) as m:
            with FarEnd() as caller:
                at = m.open("c")
                own = transport.get_extra_info("sockname")[:2]
                named = {"rtcp_mux": True} if where == "muxed" else {"rtcp": own}
                m.client.connect("c", replace(caller.remote(), **named))
                m.client.echo("c")
                await caller.talk(at, noise(5, 1))
                await caller.heard_number(2)
                theirs = caller.packets[0].ssrc
                ours = Sender(lambda data, _: len(data), lambda n: bytes(n), lambda _: None, 0)
                ours.ssrc, ours.sent = caller.ssrc, 5
                receiver = Receiver()
                for sequence in (1, 3):
                    receiver.take(sequence, 160 * sequence, theirs, 1.0 + sequence / 50, True)
                report = Reporter("phone").report(ours, receiver, 2.0, 1_800_000_000.0)
                if where == "muxed":
                    caller.send_raw(at, report)
                else:
                    transport.sendto(report, (at.address, at.port + 1))
                await caller.talk(at, noise(5, 2))
                m.client.close("c")
                closed = await m.events.get(Closed)
                assert closed.stats.remote_lost == 1
                assert (closed.stats.malformed, closed.stats.rejected) == (0, 0)
                if where == "muxed":
                    goodbye = await caller.heard(lambda packets: packets[-1].payload_type == 200 & 0x7F)
                    assert goodbye[-1].source == (at.address, at.port)
                else:
                    await reports.number(1)
                transport.close()

    asyncio.run(run())
