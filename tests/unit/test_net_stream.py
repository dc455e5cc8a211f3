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
from siaga_pbx.net.connection import MAX_UNSENT
from siaga_pbx.net.tls import TlsContexts
from siaga_pbx.sip.events import Send
from siaga_pbx.sip.flow import Address, Flow, Target
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
