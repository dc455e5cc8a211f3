"""The real stack on real sockets, with what a carrier or a phone may be besides UDP on one address: a browser, a trunk
known by its certificate, IPv6, a name with several servers."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from siaga_pbx.settings import Listen
from siaga_pbx.sip.access import Trunk
from siaga_pbx.sip.events import Answered, Confirmed, Ended, Failed, IncomingCall, OptionsOutcome, Registered
from siaga_pbx.sip.flow import Hop, Target, Transport
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request, Response, make_response, parse
from siaga_pbx.sip.options import Invite, TrunkOptions
from siaga_pbx.sip.sdp import LocalAudio, make_answer
from siaga_pbx.sip.uri import Uri
from tests.authority import Authority
from tests.integration.test_net import CARRIER, CENTRE, OFFER, Side, answers, challenge_of, register
from tests.name_server import NameServer
from tests.net_peers import UdpPeer, on_uvloop

CALLED = Uri.parse("sip:113@carrier.example")
OURSELVES = NameAddr.parse(f"<sip:112@{CENTRE}>")


def by_name(hop: Hop, headers: tuple[tuple[str, str], ...] = ()) -> Invite:
    return Invite(hop, CALLED, NameAddr("", CALLED), OURSELVES, OFFER, headers)


# A browser (RFC 7118)


def test_a_browser_registers_is_rung_answers_and_calls() -> None:
    async def work() -> None:
        async with Side(CENTRE, ("udp", "ws"), CARRIER) as centre:
            host, port = centre.address("ws")
            async with connect(f"ws://{host}:{port}/", subprotocols=[Subprotocol("sip")]) as browser:
                own = ("df7jal23ls0d.invalid", 5060)  # it knows no address of its own (RFC 7118 5)
                await browser.send(register("ws", own, 1).decode())
                challenge = challenge_of(_bytes(await browser.recv()))
                await browser.send(register("ws", own, 2, challenge).decode())
                response = parse(_bytes(await browser.recv()))
                assert isinstance(response, Response)
                assert response.status == 200
                assert (await centre.event(Registered)).binding.source.transport == "ws"

                caller = NameAddr.parse(f"<sip:112@{CENTRE}>")
                centre.do(centre.stack.invite_seat("leg", "101", caller, OFFER, centre.clock.now()))
                invite = parse(_bytes(await browser.recv()))
                assert isinstance(invite, Request)
                assert str(invite.uri) == "sip:101@df7jal23ls0d.invalid:5060;transport=ws"
                assert invite.via.transport == "WS"
                assert (invite.headers.get("Contact") or "").endswith(f"{host}:{port};transport=ws>")
                answer, _ = make_answer(OFFER, LocalAudio("192.0.2.7", 4000, 1, 1))
                contact = (("Contact", "<sip:101@df7jal23ls0d.invalid;transport=ws>"),)
                ok = make_response(invite, 200, None, "browser", contact, str(answer).encode(), "application/sdp")
                await browser.send(bytes(ok).decode())
                assert (await centre.event(Answered)).leg == "leg"
                assert _bytes(await browser.recv()).startswith(b"ACK ")
                centre.do(centre.stack.hang_up("leg", centre.clock.now()))
                assert _bytes(await browser.recv()).startswith(b"BYE ")

                call = register("ws", own, 5).replace(b"REGISTER", b"INVITE").decode()
                await browser.send(call)
                assert _bytes(await browser.recv()).startswith(b"SIP/2.0 407 ")
            # Its page is closed: the next call is known to be lost at once, and another seat has it.
            await _until_gone(centre)
            centre.do(centre.stack.invite_seat("late", "101", caller, OFFER, centre.clock.now()))
            assert (await centre.event(Failed)).status == 503

    on_uvloop(work())


async def _until_gone(centre: Side) -> None:
    while (binding := centre.stack.binding("101")) is None or binding.source.connection is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


# A trunk known by its certificate (RFC 5922)


def test_a_certificate_makes_a_call_a_trunk_s_whatever_its_address(tmp_path: Path) -> None:
    async def work() -> None:
        authority = Authority(tmp_path)
        certificate, key = authority.pair("centre", CENTRE)
        async with AsyncExitStack() as stack:
            files: dict[str, Any] = {"certificate": certificate, "key": key, "ca": authority.certificate}
            centre = await stack.enter_async_context(Side(CENTRE, ("tls",), CARRIER, **files))
            centre.on_event = answers(centre)
            known = (*centre.settings.trunks, TrunkOptions("roaming", (), ("sbc.carrier.example",)))
            settings = replace(centre.settings, trunks=known)
            centre.do(centre.stack.configure(settings, centre.clock.now()))

            async def says(files: tuple[Path, Path] | None, host: str) -> tuple[asyncio.StreamReader, bytes]:
                context = ssl.create_default_context(cafile=authority.certificate)
                if files is not None:
                    context.load_cert_chain(*files)
                reader, writer = await asyncio.open_connection(
                    *centre.address("tls"), ssl=context, local_addr=(host, 0)
                )
                stack.callback(writer.close)
                writer.write(_call(writer.get_extra_info("sockname")))
                return reader, bytes(str(writer.get_extra_info("sockname")), "ascii")

            # A stranger first: nothing at all, with no certificate or with a good one for another name.
            strange = [await says(None, "127.0.0.7"), await says(authority.pair("other", "x.example"), "127.0.0.7")]
            reader, _ = await says(authority.pair("carrier", "sbc.carrier.example"), "127.0.0.8")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 100 ")
            call = await centre.event(IncomingCall)
            assert call.peer == Trunk("roaming")
            assert call.flow.names == {"sbc.carrier.example"}
            assert len([event for event in centre.events if isinstance(event, IncomingCall)]) == 1
            assert centre.metric("siaga_sip_dropped_total", reason="stranger") == 2
            for reader, _ in strange:
                reader.feed_eof()
                assert await reader.read() == b""
            # A reload that takes the name away takes the trunk away.
            centre.do(centre.stack.configure(centre.settings, centre.clock.now()))
            _, _ = await says(authority.pair("again", "sbc.carrier.example"), "127.0.0.8")
            while centre.metric("siaga_sip_dropped_total", reason="stranger") < 3:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.005)

    on_uvloop(work())


def _call(own: tuple[str, int]) -> bytes:
    body = str(OFFER).encode()
    return (
        f"INVITE sip:112@{CENTRE} SIP/2.0\r\nVia: SIP/2.0/TLS {own[0]}:{own[1]};branch=z9hG4bKc{own[1]};rport\r\n"
        f"From: <sip:+62811@carrier.example>;tag=c\r\nTo: <sip:112@{CENTRE}>\r\nCall-ID: call-{own[1]}\r\n"
        f"CSeq: 1 INVITE\r\nContact: <sip:c@{own[0]}:{own[1]};transport=tls>\r\nMax-Forwards: 70\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


# IPv6 and both at once


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_calls_on_both_families_at_once(transport: Transport) -> None:
    """One centre; each caller is told the address of its own family, in brackets where it needs them."""

    async def work() -> None:
        six = Listen(transport, "::1", 0)
        async with Side(CENTRE, (transport,), CARRIER, more=(six,)) as centre:
            centre.on_event = answers(centre)
            both = TrunkOptions("carrier", (ip_network(CARRIER), ip_network("::1")))
            centre.do(centre.stack.configure(replace(centre.settings, trunks=(both,)), centre.clock.now()))
            for own in centre.endpoint.bound:
                place = f"[{own.host}]" if ":" in own.host else own.host
                uri = Uri.parse(f"sip:112@{place}:{own.port}")
                caller = NameAddr.parse(f"<sip:c@{place}>")
                async with Side("::1" if ":" in own.host else CARRIER, (transport,), own.host) as carrier:
                    call = Invite(Target(transport, own.host, own.port), uri, NameAddr("", uri), caller, OFFER)
                    carrier.do(carrier.stack.invite("leg", call, carrier.clock.now()))
                    answer = (await carrier.event(Answered)).response
                    assert answer is not None
                    assert f"@{place}:{own.port}" in (answer.headers.get("Contact") or "")
                    carrier.do(carrier.stack.hang_up("leg", carrier.clock.now()))
                    await centre.event(Ended)
                    centre.events.clear()

    on_uvloop(work())


# A name with several servers (RFC 3263 4.3)


def _servers(*places: tuple[str, str, int]) -> dict[tuple[str, str], list[str]]:
    """SRV records of these: (protocol, address, port), in this order."""
    records: dict[tuple[str, str], list[str]] = {}
    for number, (protocol, address, port) in enumerate(places):
        host = f"s{number}.carrier.example."
        records.setdefault((f"_sip._{protocol}.carrier.example.", "SRV"), []).append(f"{number} 0 {port} {host}")
        records[host, "A"] = [address]
    return records


def test_the_next_server_has_the_call_when_the_first_is_dead() -> None:
    async def work() -> None:
        async with Side(CARRIER, ("udp",), CENTRE) as carrier, UdpPeer("127.0.0.9") as silent:
            carrier.on_event = answers(carrier)
            async with UdpPeer("127.0.0.8") as gone:
                dead = gone.address
            records = _servers(("udp", *dead), ("udp", *carrier.address("udp")), ("udp", *silent.address))
            async with NameServer(records) as names, Side(CENTRE, ("udp",), CARRIER, resolver=names.address) as centre:
                begin = centre.clock.now()
                call = by_name(Hop("carrier.example"))
                centre.do(centre.stack.invite("leg", call, begin))
                assert (await centre.event(Answered)).leg == "leg"
                assert centre.clock.now() - begin < 1.0
                await carrier.event(Confirmed)  # in the dialog all goes to the one that answered
                centre.do(centre.stack.hang_up("leg", centre.clock.now()))
                await carrier.event(Ended)
                # For a while the dead one is not tried first again, and the name is not asked for again.
                centre.do(centre.stack.options("health", Hop("carrier.example"), CALLED, centre.clock.now()))
                assert (await centre.event(OptionsOutcome)).alive
                assert names.asked["_sip._udp.carrier.example.", "SRV"] == 1

    on_uvloop(work())


@pytest.mark.parametrize("size", [100, 2000])
def test_a_large_call_goes_by_tcp_to_a_name_that_has_it(size: int) -> None:
    async def work() -> None:
        async with Side(CARRIER, ("udp", "tcp"), CENTRE) as carrier:
            carrier.on_event = answers(carrier)
            records = _servers(("udp", *carrier.address("udp")), ("tcp", *carrier.address("tcp")))
            async with (
                NameServer(records) as names,
                Side(CENTRE, ("udp", "tcp"), CARRIER, resolver=names.address) as centre,
            ):
                call = by_name(Hop("carrier.example"), (("X-Location", "x" * size),))
                centre.do(centre.stack.invite("leg", call, centre.clock.now()))
                await centre.event(Answered)
                assert (await carrier.event(IncomingCall)).flow.transport == ("udp" if size < 1000 else "tcp")
                await carrier.event(Confirmed)
                centre.do(centre.stack.hang_up("leg", centre.clock.now()))
                await carrier.event(Ended)

    on_uvloop(work())


def test_a_name_by_tls_is_verified_and_what_is_not_it_is_passed_over(tmp_path: Path) -> None:
    async def work() -> None:
        authority = Authority(tmp_path)
        good, bad = authority.pair("good", "carrier.example"), authority.pair("bad", "elsewhere.example")
        async with (
            Side(CARRIER, ("tls",), CENTRE, certificate=bad[0], key=bad[1]) as impostor,
            Side(CARRIER, ("tls",), CENTRE, certificate=good[0], key=good[1]) as carrier,
        ):
            carrier.on_event = answers(carrier)
            records = {
                ("_sips._tcp.carrier.example.", "SRV"): [
                    f"1 0 {impostor.address('tls')[1]} a.carrier.example.",
                    f"2 0 {carrier.address('tls')[1]} a.carrier.example.",
                ],
                ("a.carrier.example.", "A"): [CARRIER],
            }
            async with (
                NameServer(records) as names,
                Side(
                    CENTRE,
                    ("tls",),
                    CARRIER,
                    resolver=names.address,
                    certificate=good[0],
                    key=good[1],
                    ca=authority.certificate,
                ) as centre,
            ):
                hop = Hop("carrier.example", None, "tls", True)
                centre.do(centre.stack.invite("leg", by_name(hop), centre.clock.now()))
                await centre.event(Answered)
                assert not [event for event in impostor.events if isinstance(event, IncomingCall)]
                # Their BYE comes back by the connection that we dialled.
                call = await carrier.event(IncomingCall)
                await carrier.event(Confirmed)
                carrier.do(carrier.stack.hang_up(call.leg, carrier.clock.now()))
                await centre.event(Ended)

    on_uvloop(work())


def test_a_name_server_that_hangs_holds_up_nothing_else() -> None:
    async def work() -> None:
        async with NameServer({}) as names, Side(CENTRE, ("udp",), CARRIER, resolver=names.address) as centre:
            names.silent = True
            centre.on_event = answers(centre)
            for number in range(20):
                call = by_name(Hop(f"n{number}.example"))
                centre.do(centre.stack.invite(f"leg-{number}", call, centre.clock.now()))
            async with Side(CARRIER, ("udp",), CENTRE) as carrier:
                begin = centre.clock.now()
                target = Target("udp", *centre.address("udp"))
                to = NameAddr.parse(f"<sip:112@{CENTRE}>")
                call = Invite(target, to.uri, to, NameAddr.parse(f"<sip:c@{CARRIER}>"), OFFER)
                carrier.do(carrier.stack.invite("caller", call, carrier.clock.now()))
                await carrier.event(Answered)
                assert centre.clock.now() - begin < 1.0
            # Who gives up does not wait for the name server.
            centre.do(centre.stack.hang_up("leg-0", centre.clock.now()))
            assert (await centre.event(Failed)).status == 487

    on_uvloop(work())
