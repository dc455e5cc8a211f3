"""net/websocket: SIP over WebSocket (RFC 7118), with the client of the websockets library as the browser."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Origin, Subprotocol

from siaga_pbx.net.admission import StreamLimits
from siaga_pbx.net.websocket import MAX_OPENING, WebSocket
from siaga_pbx.sip.events import Send
from siaga_pbx.sip.flow import Flow, Target
from siaga_pbx.sip.message import MAX_BODY, MAX_HEAD
from tests.net_peers import LOOPS, Fixture, Run, make_certificate, on_uvloop, request

both = pytest.mark.parametrize("run", LOOPS)
SIP = [Subprotocol("sip")]


def browser(fixture: Fixture, path: str = "/", **options: Any) -> connect:
    host, port = fixture.address()
    scheme = "wss" if fixture.endpoint.bound[0].transport == "wss" else "ws"
    place = f"[{host}]" if ":" in host else host
    return connect(f"{scheme}://{place}:{port}{path}", **{"subprotocols": SIP, "compression": None, **options})


async def opened(fixture: Fixture, client: ClientConnection) -> Flow:
    """The flow of a client that has said something."""
    await client.send(request("REGISTER").decode())
    await client.recv()
    return fixture.core.received[-1][1]


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_message_a_frame_and_requests_come_back_down_the_connection(run: Run, host: str) -> None:
    async def work() -> None:
        async with Fixture(f"ws://{host}") as fixture, browser(fixture) as client:
            assert client.subprotocol == "sip"
            flow = await opened(fixture, client)
            assert flow.transport == "ws"
            assert flow.remote == client.local_address[:2]
            # What has no Content-Length is whole all the same: the frame says where it ends.
            await client.send(request("INFO", body=b"abc").replace(b"Content-Length: 3\r\n", b""))
            assert (await client.recv()).startswith("SIP/2.0 200")  # type: ignore[arg-type]
            assert fixture.core.received[-1][0].body == b"abc"
            for way in (flow, Target("ws", *flow.remote, flow=flow)):
                fixture.endpoint.perform([Send(way, request("INVITE"))])
                assert (await client.recv()).startswith("INVITE ")  # type: ignore[arg-type]
            await client.close()
            await fixture.core.until(lambda: fixture.core.closed == [flow])
            # Nobody can call a browser back: the packet is known to be lost at once.
            gone = Target("ws", *flow.remote, flow=flow)
            fixture.endpoint.perform([Send(gone, request("INVITE"))])
            await fixture.core.until(lambda: fixture.core.gone == [gone])

    run(work())


@both
def test_secure(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        certificate, key = make_certificate(tmp_path)
        async with (
            # A browser is never asked for a certificate of its own, which it would bother its user with.
            Fixture("wss://127.0.0.1", certificate=certificate, key=key, ca=certificate) as fixture,
            browser(fixture, "/ws?x=1", ssl=ssl.create_default_context(cafile=certificate)) as client,
        ):
            assert (await opened(fixture, client)).transport == "wss"

    run(work())


@both
def test_pieces_pings_and_keep_alives(run: Run) -> None:
    async def work() -> None:
        async with Fixture("ws://127.0.0.1") as fixture, browser(fixture) as client:
            await opened(fixture, client)
            whole = request("INFO").decode()
            await client.send([whole[:10], whole[10:30], whole[30:]])
            assert (await client.recv()).startswith("SIP/2.0 200")  # type: ignore[arg-type]
            await client.send("\r\n\r\n")  # RFC 5626 4.4.1
            assert await client.recv() == "\r\n"
            await client.send("\r\n")
            await (await client.ping())
            await client.send(b"\xff\xfe no SIP")
            await fixture.core.until(lambda: fixture.core.malformed)
            # It is still good: where one message ends, the next begins.
            await client.send(request("INFO"))
            assert (await client.recv()).startswith("SIP/2.0 200")  # type: ignore[arg-type]
            # What is no text goes as it is.
            fixture.endpoint.perform([Send(fixture.core.received[-1][1], b"SIP/2.0 200 \xff\r\n\r\n")])
            assert await client.recv() == b"SIP/2.0 200 \xff\r\n\r\n"

    run(work())


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/elsewhere", {}, 404),
        ("/", {"subprotocols": None}, 400),
        ("/", {"subprotocols": [Subprotocol("mqtt")]}, 400),
        ("/", {"origin": Origin("https://evil.example")}, 403),
        ("/", {}, 403),  # no browser, where only pages are let in
        ("/", {"origin": Origin("https://meja.example")}, 101),
    ],
)
def test_who_is_let_in(path: str, options: dict[str, Any], status: int) -> None:
    async def work() -> None:
        origins = ["https://meja.example"] if "origin" in options or (status == 403) else []
        async with Fixture("ws://127.0.0.1", origins=origins) as fixture:
            if status == 101:
                async with browser(fixture, path, **options) as client:
                    await opened(fixture, client)
                return
            with pytest.raises(InvalidHandshake) as refused:
                await browser(fixture, path, **options)
            assert isinstance(refused.value, InvalidStatus)
            assert refused.value.response.status_code == status
            assert fixture.metric("siaga_sip_dropped_total", reason="websocket") == 1

    on_uvloop(work())


async def _raw(fixture: Fixture, data: bytes) -> bytes:
    """All that is answered to these bytes, until the connection ends."""
    reader, writer = await asyncio.open_connection(*fixture.address())
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@both
@pytest.mark.parametrize(
    "data",
    [
        b"INVITE sip:112@x SIP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 100 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000,
        b"GET /" + b"a" * (MAX_OPENING + 1),
        b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 20,  # fewer and shorter than HTTP may have
        b"\r\n\r\n\r\n",
    ],
    ids=["sip", "http", "bytes", "many", "long", "wide", "empty"],
)
def test_what_is_no_handshake_is_closed(run: Run, data: bytes) -> None:
    async def work() -> None:
        async with Fixture("ws://127.0.0.1") as fixture:
            answer = await _raw(fixture, data)
            assert not answer or answer.startswith(b"HTTP/1.1 4")
            assert not fixture.core.received
            assert not fixture.core.malformed
            assert fixture.metric("siaga_sip_dropped_total", reason="websocket") == 1
            assert fixture.metric("siaga_internal_errors_total", where="sip") == 0

    run(work())


@both
def test_limits(run: Run) -> None:
    """Larger than any SIP message, in one frame or in many; and one that never ends."""

    async def work() -> None:
        async with Fixture("ws://127.0.0.1", limits=StreamLimits()) as fixture:
            for message in ("A" * (MAX_HEAD + MAX_BODY + 1), ["A" * 50_000] * 3):
                async with browser(fixture) as client:
                    await opened(fixture, client)
                    with contextlib.suppress(ConnectionClosed):  # it may be over before all is sent
                        await client.send(message)
                    with pytest.raises(ConnectionClosed) as closed:
                        await client.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1009
            async with browser(fixture) as client, browser(fixture) as silent:
                await opened(fixture, client)
                client.transport.write(Frame(Opcode.TEXT, b"INVITE", False).serialize(mask=True))
                await (await client.ping())
                assert fixture.endpoint._streams is not None
                now = fixture.clock.now
                fixture.clock.now = lambda: now() + 31  # type: ignore[method-assign]
                fixture.endpoint._streams.sweep()
                for cut in (client, silent):
                    with pytest.raises(ConnectionClosed):
                        await cut.recv()
                assert fixture.metric("siaga_sip_dropped_total", reason="stalled") == 1
                assert fixture.metric("siaga_sip_dropped_total", reason="silent") == 1

    run(work())


@both
def test_proxies_in_between_are_kept_open(run: Run) -> None:
    async def work() -> None:
        async with Fixture("ws://127.0.0.1") as fixture, browser(fixture) as client:
            await opened(fixture, client)
            pinged = asyncio.Event()
            receive: Callable[[Any], None] = client.protocol.recv_frame

            def watch(frame: Frame) -> None:
                pinged.set()
                receive(frame)

            client.protocol.recv_frame = watch  # type: ignore[method-assign]
            now = fixture.clock.now
            fixture.clock.now = lambda: now() + 26  # type: ignore[method-assign]
            assert fixture.endpoint._streams is not None
            fixture.endpoint._streams.sweep()
            await pinged.wait()
            await client.send(request("INFO"))
            assert (await client.recv()).startswith("SIP/2.0 200")  # type: ignore[arg-type]

    run(work())


_OPENING = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)


@given(st.lists(st.binary(max_size=64), max_size=8), st.booleans())
def test_no_bytes_raise(pieces: list[bytes], greets: bool) -> None:
    web = WebSocket(())
    for piece in [_OPENING, *pieces] if greets else pieces:
        web.feed(piece)
        web.owed()
    web.ping(), web.close(), web.pack(b"x"), web.owed()


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_any_cut_of_the_stream_gives_the_same_messages(cuts: list[int], random: Any) -> None:
    wire = _OPENING
    for number in range(3):
        data = request("INFO", branch=f"z9hG4bK{number}", body=random.randbytes(10))
        at = random.randrange(len(data))
        wire += Frame(Opcode.TEXT, data[:at], False).serialize(mask=True)
        wire += Frame(Opcode.CONT, data[at:], True).serialize(mask=True)
    web, calls = WebSocket(()), []
    while wire:
        size = cuts[len(wire) % len(cuts)]
        calls += [message.call_id for message in web.feed(wire[:size]) if hasattr(message, "call_id")]
        web.owed()
        wire = wire[size:]
    assert calls == ["z9hG4bK0", "z9hG4bK1", "z9hG4bK2"]
    assert not web.over
    assert not web.midway
