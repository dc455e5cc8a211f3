"""`siaga-pbx probe`: one real test call (RFC 5031, `urn:service:test.sos`) through the running daemon, with its audio.

It calls as any phone would: INVITE, 200, ACK, two seconds of G.711 that must come back sample by sample, BYE. What it
prints on stdout is in Prometheus's text format, for a timer unit that writes it to the textfile collector's folder.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network

import uvloop
from prometheus_client import CollectorRegistry

from siaga_pbx.clock import Clock
from siaga_pbx.config import Config
from siaga_pbx.metrics import Metrics
from siaga_pbx.net.addresses import Addresses
from siaga_pbx.net.endpoint import Endpoint
from siaga_pbx.settings import Listen
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.flow import Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.options import Invite, StackSettings, TrunkOptions
from siaga_pbx.sip.sdp import LocalAudio, NoCommonCodec, Sdp, make_offer, read_answer
from siaga_pbx.sip.stack import Stack
from siaga_pbx.sip.uri import Uri

ANSWER_S = 5.0
"""A daemon that has not answered a test call by then is not well."""
PACKETS = 100
MIN_ECHOED = 95
"""Of those, on one machine: what a busy loop may have cost."""
_LEG = "probe"
_PTIME_S = 0.02
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound


@dataclass(slots=True)
class Outcome:
    """What the call was like. `failed`: the one line that says what went wrong."""

    failed: str = ""
    answer_s: float = 0.0
    echoed: int = 0
    wrong: int = 0


@dataclass(slots=True)
class _Events:
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answer: sip.Answered | None = None
    status: int = 0

    def on_event(self, event: sip.Event) -> None:
        match event:
            case sip.Answered():
                self.answer = event
                self.answered.set()
            case sip.Failed():
                self.status = event.status
                self.answered.set()
                self.ended.set()
            case sip.Ended():
                self.ended.set()


class _Audio(asyncio.DatagramProtocol):
    """Sends numbered payloads and compares what comes back with what was sent."""

    def __init__(self) -> None:
        self.sent: dict[int, bytes] = {}
        self.echoed: set[int] = set()
        self.wrong = 0

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        payload = data[12:]
        if len(data) < 16 or not any(payload):
            return
        number = int.from_bytes(payload[:2], "big")
        if self.sent.get(number) == payload:
            self.echoed.add(number)
        elif number in self.sent:
            self.wrong += 1

    async def talk(self, transport: asyncio.DatagramTransport, far: tuple[str, int], payload_type: int) -> None:
        for number in range(1, PACKETS + 1):
            payload = number.to_bytes(2, "big") + os.urandom(158)
            self.sent[number] = payload
            header = struct.pack("!BBHII", 0x80, payload_type, number, number * 160, 0x51A6A112)
            transport.sendto(header + payload, far)
            await asyncio.sleep(_PTIME_S)


def run(config: Config) -> int:
    """0 when the daemon answered and every packet that came back was one we sent; else 1, with a line on stderr."""
    outcome = uvloop.run(call(config))
    good = not outcome.failed
    lines = (
        ("siaga_probe_success", "1 if the last test call went well.", int(good)),
        ("siaga_probe_answer_seconds", "From INVITE to 200 of the last test call.", round(outcome.answer_s, 4)),
        ("siaga_probe_echoed_ratio", "The share of its audio that came back.", round(outcome.echoed / PACKETS, 3)),
    )
    for name, text, value in lines:
        sys.stdout.write(f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n")
    if not good:
        sys.stderr.write(f"siaga-pbx: probe: {outcome.failed}\n")
    return 0 if good else 1


async def call(config: Config) -> Outcome:
    """Make the test call. Never raises for what the daemon does."""
    target = _target(config)
    if target is None:
        return Outcome(failed="[sip] listen has no udp:// address to call")
    events, clock = _Events(), Clock()
    addresses = Addresses(clock)
    settings = StackSettings(
        domain=config.sip.domain,
        own_hosts=frozenset(),
        trunks=(TrunkOptions("daemon", (ip_network(target.host),)),),
        seats=(),
        contact_for=addresses.contact_for,
    )
    stack = Stack(settings, os.urandom)
    listen = Listen("udp", target.host, 0)
    endpoint = Endpoint(stack, (listen,), clock, events.on_event, Metrics(CollectorRegistry()))
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    transport, audio = await loop.create_datagram_endpoint(_Audio, local_addr=(target.host, 0), family=family)
    await endpoint.start()
    addresses.bound = endpoint.bound
    try:
        return await _converse(_Session(config, target, stack, endpoint, events, clock, transport, audio))
    finally:
        await endpoint.close()
        transport.close()


@dataclass(frozen=True, slots=True)
class _Session:
    config: Config
    target: Target
    stack: Stack
    endpoint: Endpoint
    events: _Events
    clock: Clock
    transport: asyncio.DatagramTransport
    audio: _Audio


async def _converse(session: _Session) -> Outcome:
    stack, endpoint, clock, events = session.stack, session.endpoint, session.clock, session.events
    host, port = session.transport.get_extra_info("sockname")[:2]
    offer = make_offer(LocalAudio(host, port, 1, 1))
    uri = Uri.parse("urn:service:test.sos")
    own = NameAddr("", Uri("sip", "probe", session.config.sip.domain))
    started = clock.now()
    endpoint.perform(stack.invite(_LEG, Invite(session.target, uri, NameAddr("", uri), own, offer), started))
    if not await _within(events.answered.wait, ANSWER_S):
        endpoint.perform(stack.hang_up(_LEG, clock.now()))
        return Outcome(failed=f"no answer within {ANSWER_S:.0f} s: is the daemon running?")
    outcome = Outcome(answer_s=clock.now() - started)
    if events.answer is None:
        outcome.failed = f"refused with {events.status}"
        return outcome
    try:
        far = read_answer(offer, events.answer.sdp or Sdp(()))
    except NoCommonCodec:
        endpoint.perform(stack.hang_up(_LEG, clock.now()))
        outcome.failed = "answered without audio"
        return outcome
    await session.audio.talk(session.transport, (far.host, far.port), int(far.codec))
    await asyncio.sleep(0.1)  # the last packets are on their way
    endpoint.perform(stack.hang_up(_LEG, clock.now()))
    await _within(events.ended.wait, 2.0)
    await asyncio.sleep(0.05)  # for the answer to our BYE
    outcome.echoed, outcome.wrong = len(session.audio.echoed), session.audio.wrong
    if outcome.wrong:
        outcome.failed = f"{outcome.wrong} packets came back changed"
    elif outcome.echoed < MIN_ECHOED:
        outcome.failed = f"only {outcome.echoed} of {PACKETS} packets came back"
    return outcome


async def _within(wait: Callable[[], Awaitable[object]], seconds: float) -> bool:
    try:
        await asyncio.wait_for(wait(), seconds)
    except TimeoutError:
        return False
    return True


def _target(config: Config) -> Target | None:
    for listen in config.sip.listen:
        if listen.transport == "udp":
            return Target("udp", _WILDCARDS.get(listen.host, listen.host), listen.port)
    return None
