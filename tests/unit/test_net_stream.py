"""net/stream and net/connection: framing, re-use, dialling, time-outs and limits, over TCP and TLS."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siaga_pbx.net.admission import StreamLimits
from siaga_pbx.net.connection import MAX_UNSENT, PING_S
from siaga_pbx.net.tls import TlsContexts
from siaga_pbx.sip.events import Send
from siaga_pbx.sip.flow import Address, Flow, Target
from siaga_pbx.sip.message import MAX_HEAD
from tests.authority import HOUR, Authority, Pair
from tests.net_peers import LOOPS, Core, Fixture, Run, make_certificate, request

pytestmark = pytest.mark.parametrize("run", LOOPS)


async def connect(address: Address, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*address, **options)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that still comes until the connection ends, however it ends."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


def pass_time(fixture: Fixture, seconds: float) -> None:
    """Lets the endpoint's clock run ahead, and the sweeper come by."""
    now = fixture.clock.now
    fixture.clock.now = lambda: now() + seconds  # type: ignore[method-assign]
    assert fixture.endpoint._streams is not None
    fixture.endpoint._streams.sweep()


def limits(**values: float) -> StreamLimits:
    return StreamLimits(**values)  # type: ignore[arg-type]  # whole numbers where they must be


def test_messages_in_any_pieces_are_answered_on_their_connection(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            wire = request(branch="z9hG4bKa") + request(branch="z9hG4bKb", body=b"v=0\r\n")
            for byte in wire[:150]:
                writer.write(bytes([byte]))
                await writer.drain()
            writer.write(wire[150:] + request(branch="z9hG4bKc"))
            for branch in (b"a", b"b", b"c"):
                assert b"Call-ID: z9hG4bK" + branch in await reader.readuntil(b"\r\n\r\n")
            flows = {flow for _, flow in fixture.core.received}
            assert len(flows) == 1
            flow = flows.pop()
            assert (flow.transport, flow.local, flow.remote) == (
                "tcp",
                fixture.address(),
                writer.get_extra_info("sockname"),
            )
            writer.close()
            await fixture.core.until(lambda: fixture.core.closed == [flow])

    run(work())


def test_keep_alives_are_answered_and_are_no_messages(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            writer.write(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"\r\n"
            writer.write(request())
            assert await reader.readuntil(b"\r\n\r\n")
            writer.close()
            assert len(fixture.core.received) == 1
            assert not fixture.core.malformed

    run(work())


def test_a_stream_that_cannot_be_read_any_further_is_closed(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            writer.write(b"A" * 200_000)
            assert await ended(reader) == b""
            assert [error.fatal for error, _ in fixture.core.malformed] == [True]
            writer.close()

    run(work())


def test_one_connection_is_dialled_for_many_sends_and_used_again(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as ours, Fixture("tcp://127.0.0.1") as theirs:
            target = Target("tcp", *theirs.address())
            ours.endpoint.perform([Send(target, request(branch=f"z9hG4bK{number}")) for number in range(20)])
            await ours.core.until(lambda: len(ours.core.received) == 20)
            ours.endpoint.perform([Send(target, request(branch="z9hG4bKlater"))])
            await ours.core.until(lambda: len(ours.core.received) == 21)
            calls = [message.call_id for message, _ in theirs.core.received]
            assert calls == [f"z9hG4bK{number}" for number in range(20)] + ["z9hG4bKlater"]
            assert len({flow.connection for _, flow in theirs.core.received}) == 1
            # and they use it for a request of their own
            back = theirs.core.received[0][1]
            theirs.endpoint.perform([Send(back, request("BYE"))])
            await ours.core.until(lambda: len(ours.core.received) == 22)

    run(work())


def test_who_dialled_keeps_the_connection_open(run: Run) -> None:
    """A ping now and then (RFC 5626 4.4.1), and none on a connection that the peer opened."""

    async def work() -> None:
        pings: asyncio.Queue[bytes] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            pings.put_nowait(await reader.readexactly(4))
            writer.write(b"\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Fixture("tcp://127.0.0.1") as ours:
            reader, writer = await connect(ours.address())
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
            ours.endpoint.perform([Send(Target("tcp", *server.sockets[0].getsockname()), request(branch="z9hG4bKx"))])
            assert ours.endpoint._streams is not None
            await until(lambda: len(ours.endpoint._streams._open) == 2)  # type: ignore[union-attr]
            pass_time(ours, PING_S + 1)
            assert await pings.get() == b"\r\n\r\n"
            writer.write(request(branch="z9hG4bKy"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 200")
            writer.close()

    run(work())


def test_a_request_goes_down_the_flow_while_it_is_open_else_to_a_new_connection(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as ours, Fixture("tcp://127.0.0.1") as seat:
            reader, writer = await connect(ours.address())
            writer.write(request("REGISTER"))
            await reader.readuntil(b"\r\n\r\n")
            flow = ours.core.received[0][1]
            target = Target("tcp", *seat.address(), flow=flow)
            ours.endpoint.perform([Send(target, request("INVITE"))])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"INVITE ")
            assert not seat.core.received
            writer.close()
            await ours.core.until(lambda: ours.core.closed)
            ours.endpoint.perform([Send(target, request("INVITE")), Send(flow, request("BYE"))])
            await seat.core.until(lambda: seat.core.received)
            await ours.core.until(lambda: ours.core.gone == [flow])

    run(work())


def test_a_dial_that_fails_is_told_for_each_way_and_tried_anew(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                target = Target("tcp", *taken.getsockname())
                fixture.endpoint.perform([Send(target, request()), Send(target, request())])
                await fixture.core.until(lambda: fixture.core.gone == [target])
                fixture.core.gone.clear()
                fixture.endpoint.perform([Send(target, request())])
                await fixture.core.until(lambda: fixture.core.gone == [target])

    run(work())


def test_a_name_that_is_none_and_a_peer_that_never_answers_end_as_unreachable(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1", limits=limits(dial_s=0.2)) as fixture:
            bad = Target("tcp", "no.such.host.invalid", 5060)
            with socket.socket() as full:  # a queue of connections that is full takes no more
                full.bind(("127.0.0.1", 0))
                full.listen(0)
                first = await connect(full.getsockname())
                silent = Target("tcp", *full.getsockname())
                fixture.endpoint.perform([Send(bad, request()), Send(silent, request())])
                await fixture.core.until(lambda: set(fixture.core.gone) == {bad, silent})
                first[1].close()

    run(work())


def test_a_peer_that_reads_nothing_is_given_up(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            writer.write(request("REGISTER"))
            await reader.readuntil(b"\r\n\r\n")
            flow = fixture.core.received[0][1]
            packet = request("INVITE", body=bytes(60_000))
            # Megabytes lie in the kernel's buffers before ours fill.
            for _ in range((16 * 1024 * 1024 + MAX_UNSENT) // len(packet)):
                fixture.endpoint.perform([Send(flow, packet)])
                if fixture.core.gone:
                    break
            await fixture.core.until(lambda: fixture.core.closed == [flow])
            writer.transport.abort()

    run(work())


def test_who_says_nothing_or_never_ends_a_message_is_cut_off(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            silent, pinging, dribbling, good = [await connect(fixture.address()) for _ in range(4)]
            pinging[1].write(b"\r\n\r\n")
            assert await pinging[0].readexactly(2)
            good[1].write(request())
            assert await good[0].readuntil(b"\r\n\r\n")
            dribbling[1].write(request() + b"INVITE sip:")
            assert await dribbling[0].readuntil(b"\r\n\r\n")
            pass_time(fixture, 31)
            for reader, writer in (silent, pinging, dribbling):
                assert await ended(reader) == b""
                writer.close()
            assert fixture.metric("siaga_sip_dropped_total", reason="silent") == 2
            assert fixture.metric("siaga_sip_dropped_total", reason="stalled") == 1
            good[1].write(request())
            assert await good[0].readuntil(b"\r\n\r\n")
            pass_time(fixture, 901)
            assert await ended(good[0]) == b""
            good[1].close()

    run(work())


def test_strangers_share_what_trunks_do_not_need(run: Run) -> None:
    async def work() -> None:
        few = limits(connections=4, reserved=1, per_source=2)
        async with Fixture("tcp://127.0.0.1", limits=few, is_trunk=lambda host: host == "127.0.0.9") as fixture:
            sources = ["127.0.0.1"] * 2 + ["127.0.0.2"]
            strangers = [await connect(fixture.address(), local_addr=(source, 0)) for source in sources]
            for reader, writer in strangers:
                writer.write(request())
                assert await reader.readuntil(b"\r\n\r\n")
            for host in ("127.0.0.1", "127.0.0.3"):
                with socket.create_connection(fixture.address(), source_address=(host, 0)) as refused:
                    refused.setblocking(False)
                    with pytest.raises(ConnectionResetError):
                        await asyncio.get_running_loop().sock_recv(refused, 1)
            assert fixture.metric("siaga_sip_dropped_total", reason="connections_of_source") == 1
            assert fixture.metric("siaga_sip_dropped_total", reason="connections") == 1
            trunk = await connect(fixture.address(), local_addr=("127.0.0.9", 0))
            trunk[1].write(request("INVITE"))
            assert await trunk[0].readuntil(b"\r\n\r\n")
            # One goes, another has its place.
            strangers[2][1].close()
            await fixture.core.until(lambda: fixture.core.closed)
            again = await connect(fixture.address(), local_addr=("127.0.0.2", 0))
            again[1].write(request())
            assert await again[0].readuntil(b"\r\n\r\n")
            for _, writer in (*strangers[:2], trunk, again):
                writer.close()

    run(work())


def test_connections_that_are_reset_at_once_cost_nothing(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1", limits=limits(connections=8, reserved=0)) as fixture:
            for _ in range(50):
                hasty = socket.create_connection(fixture.address())
                hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                hasty.close()
                await asyncio.sleep(0)
            reader, writer = await connect(fixture.address())
            writer.write(request())
            assert await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(work())


def test_close_lets_out_what_is_written(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
            flow = fixture.core.received[0][1]
            fixture.endpoint.perform([Send(flow, request("BYE", body=bytes(60_000)))])
            await fixture.endpoint.close()
            assert len(await reader.read()) > 60_000
            with pytest.raises(ConnectionRefusedError):
                await connect(fixture.address())
            writer.close()

    run(work())


def test_headers_without_end_are_refused_and_counted(run: Run) -> None:
    """64 KiB of them and no more: nothing of it is kept, and whoever comes next is served."""

    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            writer.write(request("INVITE")[:-2] + b"X-Filler: y\r\n" * (MAX_HEAD // 13 + 10))
            assert await ended(reader) == b""
            [(error, flow)] = fixture.core.malformed
            assert (error.reason, error.status, error.fatal) == ("head-too-large", 513, True)
            await fixture.core.until(lambda: fixture.core.closed == [flow])
            writer.close()

    run(work())


def test_a_peer_that_stops_reading_is_cut_off_in_time(run: Run) -> None:
    """With less than the buffer may hold: nothing grows, and yet it is not waited for for ever."""

    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address(), limit=1024)
            writer.write(request("REGISTER"))
            await reader.readuntil(b"\r\n\r\n")
            flow = fixture.core.received[0][1]
            [connection] = fixture.endpoint._streams._open.values()  # type: ignore[union-attr]
            while connection.unread_since is None:
                fixture.endpoint.perform([Send(flow, request("INVITE", body=bytes(60_000)))])
                await asyncio.sleep(0)
            assert not fixture.core.closed
            pass_time(fixture, 31)
            await fixture.core.until(lambda: fixture.core.closed == [flow])
            assert fixture.metric("siaga_sip_dropped_total", reason="unread") == 1
            writer.transport.abort()

    run(work())


def test_one_who_reads_again_is_kept(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            reader, writer = await connect(fixture.address())
            writer.write(request("REGISTER"))
            await reader.readuntil(b"\r\n\r\n")
            flow = fixture.core.received[0][1]
            [connection] = fixture.endpoint._streams._open.values()  # type: ignore[union-attr]
            sent = 0
            while connection.unread_since is None:
                fixture.endpoint.perform([Send(flow, packet := request("INVITE", body=bytes(60_000)))])
                sent += len(packet)
                await asyncio.sleep(0)
            assert len(await reader.readexactly(sent)) == sent
            await until(lambda: connection.unread_since is None)
            writer.write(request("REGISTER"))
            await reader.readuntil(b"\r\n\r\n")
            pass_time(fixture, 31)
            writer.write(request("REGISTER"))
            assert await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(work())


def test_a_peer_that_breaks_off_before_it_answers_is_lost(run: Run) -> None:
    """The connection was ours and no flow named it; its RST fails what waits, not timer B."""

    async def work() -> None:
        async with Fixture("tcp://127.0.0.1") as fixture:
            accepted: list[asyncio.StreamWriter] = []

            async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                accepted.append(writer)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

            server = await asyncio.start_server(reset, "127.0.0.1", 0)
            target = Target("tcp", *server.sockets[0].getsockname())
            fixture.endpoint.perform([Send(target, request("INVITE"))])
            await fixture.core.until(lambda: fixture.core.gone == [target])
            server.close()

    run(work())


# RFC 5923


def test_a_trunk_gets_our_requests_by_the_connection_that_it_opened(run: Run) -> None:
    async def work() -> None:
        trunks = {"127.0.0.2"}
        async with Fixture("tcp://127.0.0.1", is_trunk=trunks.__contains__) as fixture:
            pairs = {}
            for host in ("127.0.0.2", "127.0.0.3"):
                pairs[host] = reader, writer = await connect(fixture.address(), local_addr=(host, 0))
                via = f"SIP/2.0/TCP {host}:5999;branch=z9hG4bKx;alias".encode()
                writer.write(request().replace(b"SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1", via))
                await reader.readuntil(b"\r\n\r\n")
            reader, writer = pairs["127.0.0.2"]
            target = Target("tcp", "127.0.0.2", 5999)
            fixture.endpoint.perform([Send(target, request("INVITE"))])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"INVITE ")
            # A stranger who says so is not believed: it might sit behind the NAT of somebody's phone.
            other = Target("tcp", "127.0.0.3", 5999)
            fixture.endpoint.perform([Send(other, request("INVITE"))])
            await fixture.core.until(lambda: fixture.core.gone == [other])
            # And when it is closed, another is dialled.
            writer.close()
            await fixture.core.until(lambda: fixture.core.closed)
            fixture.core.gone.clear()
            fixture.endpoint.perform([Send(target, request("INVITE"))])
            await fixture.core.until(lambda: fixture.core.gone == [target])
            pairs["127.0.0.3"][1].close()

    run(work())


# TLS


def tls_fixture(folder: Path, **options: Any) -> tuple[Fixture, ssl.SSLContext]:
    certificate, key = make_certificate(folder)
    client = ssl.create_default_context(cafile=certificate)
    return Fixture("tls://127.0.0.1", certificate=certificate, key=key, **options), client


def test_tls_speaks_1_2_and_later_only(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        fixture, client = tls_fixture(tmp_path)
        async with fixture:
            reader, writer = await connect(fixture.address(), ssl=client)
            writer.write(request())
            assert await reader.readuntil(b"\r\n\r\n")
            assert fixture.core.received[0][1].transport == "tls"
            writer.close()
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await connect(fixture.address(), ssl=old)
            await until(lambda: fixture.metric("siaga_sip_dropped_total", reason="handshake") == 1)

    run(work())


async def until(condition: Callable[[], bool]) -> None:
    """For what nothing announces: looks again and again."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.01)


def test_a_handshake_that_never_ends_is_cut_off_and_its_place_given_back(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        fixture, client = tls_fixture(tmp_path, limits=limits(handshake_s=0.3, connections=1, reserved=0))
        async with fixture:
            reader, writer = await connect(fixture.address())
            writer.write(b"\x16\x03")
            assert await ended(reader) == b""
            writer.close()
            await until(lambda: fixture.metric("siaga_sip_dropped_total", reason="handshake") == 1)
            reader, writer = await connect(fixture.address(), ssl=client)
            writer.write(request())
            assert await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(work())


def test_tls_is_dialled_and_the_server_is_verified(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        theirs, _ = tls_fixture(tmp_path / "theirs")
        trusting = Fixture("tcp://127.0.0.1")
        async with theirs:
            target = Target("tls", *theirs.address())
            async with Fixture("tcp://127.0.0.1") as wary:
                wary.endpoint.perform([Send(target, request())])
                await wary.core.until(lambda: wary.core.gone == [target])
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "theirs" / "certificate.pem"))
            async with trusting:
                trusting.endpoint.perform([Send(target, request())])
                await trusting.core.until(lambda: trusting.core.received)

    run(work())


def test_a_renewed_certificate_is_taken_and_a_bad_one_is_not(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        fixture, first = tls_fixture(tmp_path)
        async with fixture:
            (tmp_path / "certificate.pem").write_text("no certificate")
            with pytest.raises(OSError):
                fixture.endpoint.reload_certificate()
            (await connect(fixture.address(), ssl=first))[1].close()
            certificate, _ = make_certificate(tmp_path)
            fixture.endpoint.reload_certificate()
            with pytest.raises(ssl.SSLError):
                await connect(fixture.address(), ssl=first)
            (await connect(fixture.address(), ssl=ssl.create_default_context(cafile=certificate)))[1].close()

    run(work())


def test_who_proves_a_name_has_it_and_who_proves_none_is_let_in(run: Run, tmp_path: Path) -> None:
    """Whatever address it comes from, and by the certificate that it has, not the one that it says it has."""

    async def work() -> None:
        ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
        certificate, key = ours.pair("centre", "127.0.0.1")
        names: list[frozenset[str]] = []
        few = limits(connections=2, reserved=1)
        async with Fixture(
            "tls://127.0.0.1",
            certificate=certificate,
            key=key,
            ca=ours.certificate,
            limits=few,
            is_trunk=lambda who: who == "sbc.carrier.example",
        ) as fixture:

            async def say(files: Pair | None) -> None:
                context = ssl.create_default_context(cafile=ours.certificate)
                if files is not None:
                    context.load_cert_chain(*files)
                reader, writer = await connect(fixture.address(), ssl=context)
                writers.append(writer)
                writer.write(request())
                await reader.readuntil(b"\r\n\r\n")
                names.append(fixture.core.received[-1][1].names)

            writers: list[asyncio.StreamWriter] = []
            # More than strangers may have: each is one only until its certificate is seen.
            await say(ours.pair("carrier", "SBC.carrier.example", "sip.carrier.example"))
            await say(None)
            for writer in writers:
                writer.close()
            await fixture.core.until(lambda: len(fixture.core.closed) == 2)
            await say(ours.pair("common-name"))
            assert names == [
                frozenset({"sbc.carrier.example", "sip.carrier.example"}),
                frozenset(),
                frozenset({"common-name"}),
            ]
            writers[-1].close()
            await fixture.core.until(lambda: len(fixture.core.closed) == 3)
            for bad in (
                theirs.pair("forged", "sbc.carrier.example"),
                ours.pair("old", "sbc.carrier.example", valid_for=-HOUR),
            ):
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                    await say(bad)
                writers[-1].close()
            assert len(names) == 3
            await until(lambda: fixture.metric("siaga_sip_dropped_total", reason="handshake") == 2)

    run(work())


def test_a_trunk_known_by_its_certificate_is_called_by_its_own_connection(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        authority = Authority(tmp_path)
        certificate, key = authority.pair("centre", "127.0.0.1")
        async with Fixture(
            "tls://127.0.0.1",
            certificate=certificate,
            key=key,
            ca=authority.certificate,
            is_trunk=lambda who: who == "sbc.carrier.example",
        ) as fixture:
            context = ssl.create_default_context(cafile=authority.certificate)
            context.load_cert_chain(*authority.pair("carrier", "sbc.carrier.example"))
            reader, writer = await connect(fixture.address(), ssl=context)
            via = b"SIP/2.0/TLS sbc.carrier.example:5061;branch=z9hG4bKx;alias"
            writer.write(request().replace(b"SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1", via))
            await reader.readuntil(b"\r\n\r\n")
            target = Target("tls", "127.0.0.1", 5061, name="sbc.carrier.example")
            fixture.endpoint.perform([Send(target, request("INVITE"))])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"INVITE ")
            # It has not shown another name, so what is for another does not go there.
            other = Target("tls", "127.0.0.1", 5061, name="other.example")
            fixture.endpoint.perform([Send(other, request("INVITE"))])
            await fixture.core.until(lambda: fixture.core.gone == [other])
            writer.close()

    run(work())


def test_a_server_that_is_dialled_by_name_must_have_that_name(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        authority = Authority(tmp_path)
        files = authority.pair("carrier", "sbc.carrier.example", "another.example")
        theirs = Fixture("tls://127.0.0.1", certificate=files[0], key=files[1])
        async with (
            theirs,
            Fixture("tls://127.0.0.1", certificate=files[0], key=files[1], ca=authority.certificate) as us,
        ):
            good, bad = (Target("tls", *theirs.address(), name=name) for name in ("sbc.carrier.example", "x.example"))
            us.endpoint.perform([Send(good, request()), Send(bad, request())])
            await us.core.until(lambda: us.core.gone == [bad])
            await us.core.until(lambda: us.core.received)
            # Of all its names only the one that we dialled is taken for proven: any authority vouched for the others.
            assert us.core.received[0][1].names == {"sbc.carrier.example"}

    run(work())


def test_a_bad_certificate_is_an_error_at_the_start(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        certificate, _ = make_certificate(tmp_path / "one")
        _, key = make_certificate(tmp_path / "other")
        with pytest.raises(OSError):
            TlsContexts(certificate, key)
        fixture = Fixture("tls://127.0.0.1", certificate=certificate, key=key)
        with pytest.raises(OSError):
            await fixture.endpoint.start()

    run(work())


def test_flows_are_numbered_once(run: Run) -> None:
    async def work() -> None:
        async with Fixture("tcp://127.0.0.1", core=Core()) as fixture:
            for _ in range(5):
                reader, writer = await connect(fixture.address())
                writer.write(request())
                await reader.readuntil(b"\r\n\r\n")
                writer.close()
            flows: list[Flow] = [flow for _, flow in fixture.core.received]
            assert len({flow.connection for flow in flows}) == 5

    run(work())
