"""What signalling costs: CPU of the daemon a call, INVITE to the seat's INVITE, BYE to the seat's BYE, memory a call.

    .venv/bin/python -m benchmarks.signalling [--rates 10,20,50,100,200] [--seconds 20] [--answer at-once|by-seat]
    .venv/bin/python -m benchmarks.signalling --waiting 200 [--seconds 20]

The second is what so many callers cost who wait for one of ten seats, all of which talk: they hear the greeting and the
waiting audio of a real media worker, whose CPU and memory are told apart from the daemon's.

A generator of plain UDP datagrams is carrier and phones at once, so that both ends of a latency are one clock. The
daemon is a process of its own with its real database, broker and media worker; only its own CPU and memory are counted.
"""

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from siaga_pbx.sip.digest import Challenge, authorise

SEATS = 120
BUSY_SEATS = 10
HOLD_S = 1.0
PORTS = 16000
"""Enough that no call waits for the ports of those before it, which are held back for some seconds."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_NUMBER = re.compile(rb"^From:[^\r]*?sip:\+?(\d+)@", re.M)
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)


def header(message: bytes, name: bytes) -> str:
    """A header's value; the generator reads what we write, which has no odd forms."""
    at = message.find(b"\r\n" + name + b": ")
    return message[at + len(name) + 4 : message.index(b"\r\n", at + 2)].decode() if at >= 0 else ""


class Socket(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._take(data)


@dataclass(slots=True)
class Call:
    invited: float
    rung: float = 0.0
    answered: float = 0.0
    hung_up: float = 0.0
    released: float = 0.0
    over: bool = False

    @property
    def ended(self) -> bool:
        """At both ends."""
        return self.over and self.released > 0


@dataclass(slots=True)
class Generator:
    """Carrier and phones. `calls` by the caller's number."""

    server: tuple[str, int]
    hold_s: float = HOLD_S
    calls: dict[str, Call] = field(default_factory=dict)
    registered: int = 0
    trunk: asyncio.DatagramTransport | None = None
    phones: asyncio.DatagramTransport | None = None
    _seat_calls: dict[str, str] = field(default_factory=dict)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.trunk, _ = await loop.create_datagram_endpoint(lambda: Socket(self.at_trunk), (TRUNK, 0))
        self.phones, _ = await loop.create_datagram_endpoint(lambda: Socket(self.at_phones), (DAEMON, 0))

    def close(self) -> None:
        for transport in (self.trunk, self.phones):
            if transport is not None:
                transport.close()

    def _send(self, transport: asyncio.DatagramTransport | None, *lines: str, body: str = "") -> None:
        assert transport is not None, "open() comes first"
        kind = ("Content-Type: application/sdp",) if body else ()
        text = "\r\n".join((*lines, *kind, f"Content-Length: {len(body)}", "", body))
        transport.sendto(text.encode(), self.server)

    def _here(self, transport: asyncio.DatagramTransport | None) -> str:
        assert transport is not None, "open() comes first"
        host, port = transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    # The phones

    async def register_all(self, seats: Iterable[str]) -> None:
        """One after the other, as a person would switch them on: all at once is a flood of one address."""
        for count, seat in enumerate(seats, start=self.registered + 1):
            self.register(seat)
            assert await until(lambda count=count: self.registered >= count), f"seat {seat} is not registered"  # type: ignore[misc]

    def register(self, seat: str, authorization: str = "") -> None:
        here = self._here(self.phones)
        self._send(
            self.phones,
            f"REGISTER sip:{self.server[0]} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{seat}{len(authorization)};rport",
            f"From: <sip:{seat}@siaga.local>;tag={seat}",
            f"To: <sip:{seat}@siaga.local>",
            f"Call-ID: reg-{seat}",
            f"CSeq: {2 if authorization else 1} REGISTER",
            f"Contact: <sip:{seat}@{here}>",
            "Expires: 120",
            "Max-Forwards: 70",
            *((f"Authorization: {authorization}",) if authorization else ()),
        )

    def at_phones(self, data: bytes) -> None:
        if data.startswith(b"SIP/2.0 401"):
            seat = header(data, b"Call-ID").removeprefix("reg-")
            challenge = Challenge.parse(header(data, b"WWW-Authenticate"))
            uri = f"sip:{self.server[0]}"
            self.register(seat, str(authorise(challenge, "REGISTER", uri, seat, f"demo-{seat}", "0123456789abcdef")))
        elif data.startswith(b"SIP/2.0 200") and b" REGISTER" in data:
            self.registered += 1
        elif data.startswith(b"INVITE"):
            self._seat_invited(data)
        elif data.startswith(b"BYE"):
            call = self.calls.get(self._seat_calls.pop(header(data, b"Call-ID"), ""))
            if call is not None:
                call.released = time.monotonic()
            self._answer(self.phones, data, "200 OK")
        elif data.startswith(b"OPTIONS"):
            self._answer(self.phones, data, "200 OK")

    def _seat_invited(self, data: bytes) -> None:
        number = _NUMBER.search(data)
        if number is None:
            return
        call = self.calls.get(number[1].decode())
        if call is not None and not call.rung:
            call.rung = time.monotonic()
        self._seat_calls[header(data, b"Call-ID")] = number[1].decode()
        contact = f"Contact: <sip:seat@{self._here(self.phones)}>"
        self._answer(self.phones, data, "180 Ringing", contact)
        self._answer(self.phones, data, "200 OK", contact, body=_SDP.format(host=DAEMON, port=9))

    def _answer(
        self, transport: asyncio.DatagramTransport | None, request: bytes, status: str, *more: str, body: str = ""
    ) -> None:
        to = header(request, b"To")
        self._send(
            transport,
            f"SIP/2.0 {status}",
            f"Via: {header(request, b'Via')}",
            f"From: {header(request, b'From')}",
            f"To: {to if ';tag=' in to else to + ';tag=s'}",
            f"Call-ID: {header(request, b'Call-ID')}",
            f"CSeq: {header(request, b'CSeq')}",
            *more,
            body=body,
        )

    # The carrier

    def call(self, number: str) -> None:
        self.calls[number] = Call(time.monotonic())
        self._request("INVITE", number, "", 1, _SDP.format(host=TRUNK, port=9))

    def _request(self, method: str, number: str, tag: str, sequence: int, body: str = "") -> None:
        here = self._here(self.trunk)
        self._send(
            self.trunk,
            f"{method} sip:112@{self.server[0]}:{self.server[1]} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{method}{number}",
            f"From: <sip:+{number}@carrier.invalid>;tag=c{number}",
            f"To: <sip:112@{self.server[0]}>{tag and ';tag=' + tag}",
            f"Call-ID: {number}@carrier",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:sbc@{here}>",
            f"P-Asserted-Identity: <sip:+{number}@carrier.invalid;user=phone>",
            "Max-Forwards: 70",
            "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK",
            "Supported: timer, 100rel",
            body=body,
        )

    def at_trunk(self, data: bytes) -> None:
        if not data.startswith(b"SIP/2.0 200"):
            if data.startswith((b"BYE", b"OPTIONS")):
                self._answer(self.trunk, data, "200 OK")
            return
        number = header(data, b"Call-ID").partition("@")[0]
        call, tag = self.calls.get(number), header(data, b"To").partition(";tag=")[2]
        if call is None:  # of an earlier row, and late
            return
        if b" INVITE\r\n" in data:
            self._request("ACK", number, tag, 1)
            if not call.answered:
                call.answered = time.monotonic()
                asyncio.get_running_loop().call_later(self.hold_s, self._hang_up, number, tag)
        else:
            call.over = True

    def _hang_up(self, number: str, tag: str) -> None:
        self.calls[number].hung_up = time.monotonic()
        self._request("BYE", number, tag, 2)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def by_thread(pid: int) -> dict[str, float]:
    """CPU seconds of each thread of a process so far, by its name."""
    spent: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        fields = rest.split()
        name = head.partition("(")[2]
        spent[name] = spent.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    return spent


def memory_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KIB


@contextmanager
def daemon(answer: str, count: int = SEATS) -> Iterator[tuple[Centre, int]]:
    """A centre with so many seats and no wrap-up, and its daemon's pid."""
    seats = {str(number): f"Meja {number}" for number in range(201, 201 + count)}
    queue = f'ring_s = 10\nwrap_up_s = 0\nanswer = "{answer}"'
    folder = Path(tempfile.mkdtemp(prefix="siaga-bench-"))
    centre = Centre(folder, seats=seats, agencies={}, queue=queue, media="record = false", rtp=12000, ports=PORTS)
    try:
        centre.start()
        assert centre.daemon is not None, "started"
        yield centre, centre.daemon.pid
    finally:
        centre.stop()


async def until(done: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Asks a hundred times a second; the generator's callbacks have no one event to wait for."""
    for _ in range(int(seconds * 100)):
        if done():
            return True
        await asyncio.sleep(0.01)
    return done()


async def at_rate(generator: Generator, pid: int, rate: float, seconds: float, first: int) -> str:
    """One row of the table."""
    idle_from, idle_cpu = time.monotonic(), cpu_s(pid)
    await asyncio.sleep(2)
    idle = (cpu_s(pid) - idle_cpu) / (time.monotonic() - idle_from)
    generator.calls.clear()
    generator.hold_s = min(HOLD_S, SEATS / 2 / rate)  # or there would be more calls than seats
    count, began, before, threads = int(rate * seconds), time.monotonic(), cpu_s(pid), by_thread(pid)
    for index in range(count):
        generator.call(f"62812{first + index:07d}")
        await asyncio.sleep(max(0.0, began + (index + 1) / rate - time.monotonic()))
    await until(lambda: all(call.ended for call in generator.calls.values()))
    spent = cpu_s(pid) - before - idle * (time.monotonic() - began)
    calls = list(generator.calls.values())
    good = sum(1 for call in calls if call.ended)
    rung = sorted((call.rung - call.invited) * 1000 for call in calls if call.rung)
    bye = sorted((call.released - call.hung_up) * 1000 for call in calls if call.released)
    shares = {name: (now - threads.get(name, 0.0)) / count * 1000 for name, now in by_thread(pid).items()}
    shown = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(shares.items(), key=lambda one: -one[1]) if ms > 0.05)
    return (
        f"{rate:7.0f} {count:7d} {count - good:7d} {spent / count * 1000:9.2f}  "
        f"{statistics.median(rung):7.2f} {rung[int(len(rung) * 0.99)]:7.2f}  "
        f"{statistics.median(bye):7.2f} {bye[int(len(bye) * 0.99)]:7.2f}   {shown}"
    )


async def memory_a_call(generator: Generator, pid: int, calls: int, first: int) -> float:
    """KiB of the daemon that each of so many bridged calls takes beyond idle, at its second time."""
    taken = 0.0
    for turn in range(2):
        generator.calls.clear()
        before = memory_kib(pid)
        for index in range(calls):
            generator.call(f"62812{first + turn * calls + index:07d}")
            await asyncio.sleep(0.02)
        await until(lambda: all(call.rung for call in generator.calls.values()))
        await asyncio.sleep(0.5)
        taken = (memory_kib(pid) - before) / calls
        await until(lambda: all(call.over for call in generator.calls.values()), generator.hold_s + 10)
        if turn == 0:
            print(f"memory a bridged call, the first time: {taken:.0f} KiB")
    return taken


async def run(rates: list[float], seconds: float, answer: str) -> None:
    with daemon(answer) as (centre, pid):
        generator = Generator((DAEMON, centre.sip_port))
        await generator.open()
        await generator.register_all(centre.seats)
        print(f"answer = {answer}; {SEATS} seats; calls are held {HOLD_S} s, less above 60 calls/s")
        print(" calls/s   calls  failed  CPU ms/call   INVITE median  p99 ms   BYE median  p99 ms   by thread")
        first = 0
        for rate in rates:
            print(await at_rate(generator, pid, rate, seconds, first), flush=True)
            first += int(rate * seconds)
        generator.hold_s = 6.0
        taken = await memory_a_call(generator, pid, 100, first)
        print(f"memory a bridged call, re-used: {taken:.0f} KiB")
        generator.close()


async def wait(callers: int, seconds: float) -> None:
    """What callers cost who wait, beside BUSY_SEATS that talk. The media workers are the daemon's other processes."""
    with daemon("at-once", BUSY_SEATS) as (centre, pid):
        generator = Generator((DAEMON, centre.sip_port), hold_s=seconds + 60)
        await generator.open()
        await generator.register_all(centre.seats)
        for index in range(BUSY_SEATS + 20):  # as many again wait a while, so that what is made once is made
            generator.call(f"62811{index:07d}")
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        memory, workers = memory_kib(pid), media_of(pid)
        for index in range(callers):
            generator.call(f"62812{index:07d}")
            await asyncio.sleep(0.02)
        assert await until(lambda: all(call.answered for call in generator.calls.values())), "a caller is not answered"
        await asyncio.sleep(5)
        grown, before, media, began = memory_kib(pid) - memory, cpu_s(pid), sum(map(cpu_s, workers)), time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - began
        own = (cpu_s(pid) - before) / elapsed * 100
        theirs = (sum(map(cpu_s, workers)) - media) / elapsed * 100
        each = grown / callers
        print(f"{callers} callers wait, {BUSY_SEATS} seats talk: {own:.1f} % of a core, {each:.1f} KiB a caller")
        print(f"media worker and broker beside it: {theirs:.1f} %")
        generator.close()


def media_of(pid: int) -> list[int]:
    """The processes under that one, which are its media workers and the broker."""
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [grandchild for child in children for grandchild in media_of(child)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rates", default="10,20,50")
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--answer", choices=("at-once", "by-seat"), default="at-once")
    arguments.add_argument("--waiting", type=int, default=0)
    given = arguments.parse_args()
    if given.waiting:
        uvloop.run(wait(given.waiting, given.seconds))
        return
    uvloop.run(run([float(rate) for rate in given.rates.split(",")], given.seconds, given.answer))


if __name__ == "__main__":
    main()
