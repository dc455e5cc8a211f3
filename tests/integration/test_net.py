"""The real stack on real sockets: a carrier, phones and strangers around a centre, over UDP, TCP and TLS."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from siaga_pbx.clock import Clock
from siaga_pbx.metrics import Metrics
from siaga_pbx.net.addresses import Addresses
from siaga_pbx.net.endpoint import Endpoint
from siaga_pbx.settings import Listen
from siaga_pbx.sip.digest import Challenge, authorise
from siaga_pbx.sip.events import (
    Answered,
    By,
    Confirmed,
    Ended,
    Event,
    Failed,
    IncomingCall,
    OptionsOutcome,
    Output,
    Registered,
    Ringing,
)
from siaga_pbx.sip.flow import Address, Hop, Target, Transport
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Response, parse
from siaga_pbx.sip.options import Invite, SeatOptions, StackSettings, TrunkOptions
from siaga_pbx.sip.sdp import LocalAudio, make_answer, make_offer
from siaga_pbx.sip.stack import Stack
from siaga_pbx.sip.uri import Uri
from tests.net_peers import UdpPeer, make_certificate, on_uvloop

E = TypeVar("E")

CENTRE, CARRIER, PHONE, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
OFFER = make_offer(LocalAudio(CARRIER, 40_000, 1, 1))
TRANSPORTS: tuple[Transport, ...] = ("udp", "tcp", "tls")


class Side:
    """A stack on its sockets. `on_event` answers what comes."""

    def __init__(
        self, host: str, transports: tuple[str, ...], other: str, more: tuple[Listen, ...] = (), **options: Any
    ) -> None:
        self.clock = Clock()
        self.addresses = Addresses(self.clock)
        self.settings = StackSettings(
            domain="siaga.local",
            own_hosts=frozenset({host}),
            trunks=(TrunkOptions("carrier", (ip_network(other),)),),
            seats=(SeatOptions("101", "rahasia"),),
            contact_for=self.addresses.contact_for,
        )
        self.stack = Stack(self.settings, os.urandom)
        self.registry = CollectorRegistry()
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda _: None
        listens = [*(Listen(transport, host, 0) for transport in transports), *more]
        self.endpoint = Endpoint(self.stack, listens, self.clock, self._take, Metrics(self.registry), **options)
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "Side":
        await self.endpoint.start()
        self.addresses.bound = self.endpoint.bound
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.close()

    def address(self, transport: str) -> Address:
        return next((own.host, own.port) for own in self.endpoint.bound if own.transport == transport)

    def do(self, outputs: list[Output]) -> None:
        self.endpoint.perform(outputs)

    async def event(self, kind: type[E], number: int = 1) -> E:
        """The event of that kind, as soon as there are so many."""
        while len(found := [event for event in self.events if isinstance(event, kind)]) < number:
            self._changed.clear()
            await self._changed.wait()
        return found[number - 1]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)
        self._changed.set()


def answers(side: Side) -> Callable[[Event], None]:
    """Rings, then answers, every call."""

    def on_event(event: Event) -> None:
        if isinstance(event, IncomingCall):
            assert event.sdp is not None
            answer, _ = make_answer(event.sdp, LocalAudio(CENTRE, 30_000, 7, 1))
            side.do(side.stack.ring(event.leg, side.clock.now()))
            side.do(side.stack.answer(event.leg, answer, side.clock.now()))

    return on_event


def invite(target: Target) -> Invite:
    to, caller = NameAddr.parse(f"<sip:112@{CENTRE}>"), NameAddr.parse(f"<sip:+6281234567890@{CARRIER}>")
    return Invite(target, Uri.parse(f"sip:112@{CENTRE}"), to, caller, OFFER)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_call_from_its_invite_to_its_bye(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def work() -> None:
        files: dict[str, Any] = {"certificate": certificate, "key": key}
        async with (
            Side(CENTRE, TRANSPORTS, CARRIER, **files) as centre,
            Side(CARRIER, TRANSPORTS, CENTRE, **files) as carrier,
        ):
            centre.on_event = answers(centre)
            target = Target(transport, *centre.address(transport))
            for call in range(1, 4):
                leg = f"call-{call}"
                carrier.do(carrier.stack.invite(leg, invite(target), carrier.clock.now()))
                assert (await carrier.event(Ringing, call)).status == 180
                assert (await carrier.event(Answered, call)).leg == leg
                incoming = await centre.event(IncomingCall, call)
                assert incoming.flow.transport == transport
                await centre.event(Confirmed, call)
                if call == 2:  # the other side hangs up: its way back must be good too
                    centre.do(centre.stack.hang_up(incoming.leg, centre.clock.now()))
                    assert (await carrier.event(Ended, call)).by is By.REMOTE
                else:
                    carrier.do(carrier.stack.hang_up(leg, carrier.clock.now()))
                    assert (await centre.event(Ended, call)).by is By.REMOTE
            for side in (centre, carrier):
                assert not side.metric("siaga_internal_errors_total", where="sip")
                assert not side.metric("siaga_sip_retransmissions_total")

    on_uvloop(work())


def test_a_hundred_calls_at_once_over_one_connection() -> None:
    async def work() -> None:
        async with Side(CENTRE, ("tcp",), CARRIER) as centre, Side(CARRIER, ("tcp",), CENTRE) as carrier:
            centre.on_event = answers(centre)
            target = Target("tcp", *centre.address("tcp"))
            for call in range(100):
                carrier.do(carrier.stack.invite(f"call-{call}", invite(target), carrier.clock.now()))
            await carrier.event(Answered, 100)
            await centre.event(Confirmed, 100)
            connections = {event.flow.connection for event in centre.events if isinstance(event, IncomingCall)}
            assert len(connections) == 1

    on_uvloop(work())


# Seats


def register(transport: str, contact: Address, number: int, challenge: Challenge | None = None) -> bytes:
    suffix = "" if transport == "udp" else f";transport={transport}"
    lines = [
        f"REGISTER sip:{CENTRE} SIP/2.0",
        f"Via: SIP/2.0/{transport.upper()} {contact[0]}:{contact[1]};branch=z9hG4bKr{number};rport",
        "From: <sip:101@siaga.local>;tag=phone",
        "To: <sip:101@siaga.local>",
        f"Call-ID: phone@{contact[0]}:{contact[1]}",
        f"CSeq: {number} REGISTER",
        f"Contact: <sip:101@{contact[0]}:{contact[1]}{suffix}>",
        "Content-Length: 0",
    ]
    if challenge is not None:
        credentials = authorise(challenge, "REGISTER", f"sip:{CENTRE}", "101", "rahasia", "c0ffee")
        lines.insert(-1, f"Authorization: {credentials}")
    return "\r\n".join([*lines, "", ""]).encode()


def challenge_of(data: bytes) -> Challenge:
    response = parse(data)
    assert isinstance(response, Response)
    assert response.status == 401
    header = response.headers.get("WWW-Authenticate")
    assert header is not None
    return Challenge.parse(header)


async def registered_udp(centre: Side, phone: UdpPeer) -> Registered:
    phone.send(register("udp", phone.address, 1), centre.address("udp"))
    challenge = challenge_of((await phone.receive())[0])
    phone.send(register("udp", phone.address, 2, challenge), centre.address("udp"))
    assert (await phone.receive())[0].startswith(b"SIP/2.0 200 ")
    return await centre.event(Registered)


def ring(centre: Side) -> None:
    caller = NameAddr.parse(f"<sip:112@{CENTRE}>")
    centre.do(centre.stack.invite_seat("seat-leg", "101", caller, OFFER, centre.clock.now()))


def test_a_phone_registers_over_udp_and_is_rung() -> None:
    async def work() -> None:
        async with Side(CENTRE, ("udp", "tcp"), CARRIER) as centre, UdpPeer(PHONE) as phone:
            assert (await registered_udp(centre, phone)).seat == "101"
            ring(centre)
            data, source = await phone.receive()
            assert data.startswith(b"INVITE sip:101@127.0.0.3:")
            assert source == centre.address("udp")

    on_uvloop(work())


def test_a_phone_that_died_gives_the_call_back_at_once() -> None:
    """Not after its ring time: the next seat is rung while the caller still waits for the first."""

    async def work() -> None:
        async with Side(CENTRE, ("udp",), CARRIER) as centre:
            async with UdpPeer(PHONE) as phone:
                await registered_udp(centre, phone)
            begin = centre.clock.now()
            ring(centre)
            assert (await centre.event(Failed)).status == 503
            assert centre.clock.now() - begin < 10  # long before the INVITE is given up (RFC 3261 17.1.1.2, timer B)

    on_uvloop(work())


def test_a_phone_registers_over_tcp_and_is_rung_down_its_connection() -> None:
    async def work() -> None:
        async with Side(CENTRE, ("udp", "tcp"), CARRIER) as centre:
            reader, writer = await asyncio.open_connection(*centre.address("tcp"), local_addr=(PHONE, 0))
            contact = writer.get_extra_info("sockname")
            writer.write(register("tcp", contact, 1))
            challenge = challenge_of(await reader.readuntil(b"\r\n\r\n"))
            writer.write(register("tcp", contact, 2, challenge))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 200 ")
            await centre.event(Registered)
            ring(centre)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"INVITE sip:101@")
            # The phone goes away in the middle of ringing.
            writer.transport.abort()
            assert (await centre.event(Failed)).status == 503

    on_uvloop(work())


# Health, strangers


def test_a_trunk_that_is_there_and_one_that_is_not() -> None:
    async def work() -> None:
        async with Side(CENTRE, ("udp", "tcp"), CARRIER) as centre, Side(CARRIER, ("udp",), CENTRE) as carrier:
            async with UdpPeer(CARRIER) as gone:
                silent = gone.address
            uri = Uri.parse(f"sip:{CARRIER}")
            targets: dict[str, Target | Hop] = {
                "up": Target("udp", *carrier.address("udp")),
                "no port": Target("udp", *silent),
                "no listener": Target("tcp", *silent),
                "no name": Hop("no.such.host.invalid"),
            }
            for token, target in targets.items():
                centre.do(centre.stack.options(token, target, uri, centre.clock.now()))
            outcomes = [await centre.event(OptionsOutcome, number) for number in range(1, 5)]
            assert {outcome.token: outcome.alive for outcome in outcomes} == {
                "up": True,
                "no port": False,
                "no listener": False,
                "no name": False,
            }

    on_uvloop(work())


def test_a_stranger_gets_no_answer_and_is_counted() -> None:
    async def work() -> None:
        async with AsyncExitStack() as stack:
            centre = await stack.enter_async_context(Side(CENTRE, ("udp",), CARRIER))
            stranger = await stack.enter_async_context(UdpPeer(STRANGER))
            phone = await stack.enter_async_context(UdpPeer(PHONE))
            call = register("udp", stranger.address, 1).replace(b"REGISTER", b"INVITE")
            stranger.send(call, centre.address("udp"))
            stranger.send(b"\xff\xfe not SIP", centre.address("udp"))
            await registered_udp(centre, phone)  # both were before it in the queue
            counted = [
                sample.value
                for family in centre.registry.collect()
                for sample in family.samples
                if sample.name in ("siaga_sip_dropped_total", "siaga_sip_malformed_total")
            ]
            assert sum(counted) == 2
            assert not [event for event in centre.events if isinstance(event, IncomingCall)]
            stranger.send(register("udp", stranger.address, 2), centre.address("udp"))
            challenge_of((await stranger.receive())[0])  # the first thing it is told

    on_uvloop(work())
