"""A flood of 20,000 messages a second while people call 112: is every call answered, and how soon does the seat ring?

    .venv/bin/python -m benchmarks.flood [--rate 20000] [--seconds 20] [--calls 10] [KIND ...]

KIND is WHAT-FROM: register or malformed, from a stranger, from nat (the address that the seats are registered from),
from many (thousands of sources) or from the trunk's own address. The daemon with its media worker, broker and database
has one core; the sender, the carrier and the phones have another. The rate that the sender reached is in the table.
Nobody repeats a request: what is lost is a call that is not answered.
"""

import argparse
import asyncio
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from subprocess import PIPE

import httpx
import uvloop

from benchmarks.batches import Batches
from benchmarks.signalling import Generator, Socket, cpu_s, daemon, memory_kib, until
from siaga_pbx.demo.centre import DAEMON, TRUNK

NAT = "127.0.0.3"
STRANGER = "127.0.0.9"
WHAT = ("register", "malformed")
FROM = ("stranger", "nat", "many", "trunk")
KINDS = tuple(f"{what}-{source}" for source in FROM for what in WHAT)
MESSAGES = 8192
"""Different ones, sent again and again."""
BURST = 20
"""Sent between two looks at the clock."""
SEATS_USED = 20
REFRESH_S = 40.0
"""A third of what is granted: one that is lost harms nothing."""
_DROPPED = re.compile(r'^siaga_sip_dropped_total\{reason="(\w+)"\} (\S+)$', re.M)


def register(number: int, host: str) -> bytes:
    """A REGISTER of some phone that answers a challenge we never made."""
    seat = 201 + number % 120
    return (
        f"REGISTER sip:siaga.local SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5060;branch=z9hG4bKflood{number};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:{seat}@siaga.local>;tag={number}\r\nTo: <sip:{seat}@siaga.local>\r\n"
        f"Call-ID: flood-{number}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{seat}@{host}:5060>\r\nExpires: 60\r\n"
        f'Authorization: Digest username="{seat}", realm="siaga.local", nonce="{number:054x}", '
        f'uri="sip:siaga.local", response="{number:032x}", algorithm=MD5, qop=auth, nc=00000001, cnonce="x"\r\n'
        "User-Agent: flood\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def malformed(number: int, host: str) -> bytes:
    """Garbage, requests cut off, and INVITEs that look whole until the last header."""
    chance = random.Random(number)
    match number % 4:
        case 0:
            return chance.randbytes(chance.randrange(1, 600))
        case 1:
            return register(number, host)[: chance.randrange(1, 300)]
        case 2:
            return register(number, host).replace(b"CSeq: 1 REGISTER", b"CSeq: one REGISTER")
        case _:
            return register(number, host).replace(b"REGISTER", b"INVITE").replace(b"CSeq: 1", b"CSeq: 99999999999")


def flood(kind: str, address: tuple[str, int], rate: float, seconds: float) -> int:
    """Sends at that rate; how many it were. A sender that cannot keep up does not catch up."""
    what, _, source = kind.partition("-")
    host = {"stranger": STRANGER, "nat": NAT, "trunk": TRUNK, "many": ""}[source]
    make = register if what == "register" else malformed
    messages = [make(number, host or STRANGER) for number in range(MESSAGES)]
    sources = [] if host else [_anybody() for _ in messages]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        if host:
            out.bind((host, 0))
        out.connect(address)
        batches = Batches(out, messages, sources)
        print("ready", flush=True)
        sys.stdin.readline()
        sent, due, end = 0, time.monotonic(), time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now < due:
                time.sleep(due - now)
            sent += batches.send(BURST)
            due = max(due + BURST / rate, now - 0.01)
    return sent


def _anybody() -> str:
    """An address out of 127.0.0.0/8, none of which is used here."""
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


@contextmanager
def sender(kind: str, port: int, rate: float, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.flood", "--send", kind, "--port", str(port)]
    command += ["--rate", str(rate), "--seconds", str(seconds)]
    started = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)
    try:
        assert started.stdin is not None, "a pipe"
        assert started.stdout is not None, "a pipe"
        started.stdout.readline()  # it has its messages made: that is no part of the flood
        started.stdin.write("go\n")
        started.stdin.flush()
        yield started
    finally:
        started.kill()
        started.wait()


class Behind(Generator):
    """Carrier and phones, the phones behind one NAT."""

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.trunk, _ = await loop.create_datagram_endpoint(lambda: Socket(self.at_trunk), (TRUNK, 0))
        self.phones, _ = await loop.create_datagram_endpoint(lambda: Socket(self.at_phones), (NAT, 0))

    async def stay(self, seats: list[str]) -> None:
        """Registers each seat again and again, long before its time is up, as phones do."""
        while True:
            for seat in seats:
                await asyncio.sleep(REFRESH_S / len(seats))
                self.register(seat)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one flood did. Milliseconds from INVITE to the seat's INVITE; memory in KiB, when it began and ended."""

    kind: str
    sent_a_second: float
    calls: int
    answered: int
    median_ms: float
    p99_ms: float
    cpu: float
    memory: tuple[int, int]
    dropped: dict[str, int]

    def __str__(self) -> str:
        drops = ", ".join(f"{reason} {count}" for reason, count in self.dropped.items())
        return (
            f"{self.kind:20} {self.sent_a_second:8.0f} {self.calls:6d} {self.calls - self.answered:6d} "
            f"{self.median_ms:7.1f} {self.p99_ms:7.1f} {self.cpu * 100:5.0f} % "
            f"{self.memory[0]:8d} {self.memory[1]:8d}   {drops}"
        )


HEADING = "flood                   msg/s  calls   lost   median  p99 ms     CPU  KiB before, after  dropped"


def dropped(url: str) -> dict[str, int]:
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {reason: int(float(count)) for reason, count in _DROPPED.findall(text)}


async def under(
    kind: str, generator: Generator, url: str, pid: int, rate: float, seconds: float, calls: float, first: int
) -> Outcome:
    """`calls` a second for so long, with the flood all the while ("none": without)."""
    generator.calls.clear()
    before, memory = await asyncio.to_thread(dropped, url), memory_kib(pid)
    count = int(calls * seconds)
    with sender(kind, generator.server[1], rate, seconds) if kind != "none" else nullcontext() as flooding:
        began, cpu = time.monotonic(), cpu_s(pid)
        for index in range(count):
            generator.call(f"62812{first + index:07d}")
            await asyncio.sleep(max(0.0, began + (index + 1) / calls - time.monotonic()))
        spent = (cpu_s(pid) - cpu) / (time.monotonic() - began)
        sent = int((await asyncio.to_thread(flooding.communicate))[0] or 0) if flooding is not None else 0
    await until(lambda: all(call.over for call in generator.calls.values()), 15)
    after = await asyncio.to_thread(dropped, url)
    made = list(generator.calls.values())
    rung = sorted((call.rung - call.invited) * 1000 for call in made if call.rung) or [float("nan")]
    return Outcome(
        kind,
        sent / seconds,
        count,
        sum(1 for call in made if call.over and call.released),
        statistics.median(rung),
        rung[min(len(rung) - 1, int(len(rung) * 0.99))],
        spent,
        (memory, memory_kib(pid)),
        {reason: new - before.get(reason, 0) for reason, new in after.items() if new > before.get(reason, 0)},
    )


def share_out() -> tuple[set[int], set[int]]:
    """A core for the daemon with all that is its own, and one for those who send; one for both if there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    return (set(cores), set(cores)) if len(cores) < 2 else ({cores[1]}, {cores[0]})


async def run(kinds: list[str], rate: float, seconds: float, calls: float) -> None:
    its_own, ours = share_out()
    os.sched_setaffinity(0, its_own)  # for what is started now
    with daemon("at-once") as (centre, pid):
        os.sched_setaffinity(0, ours)
        generator = Behind((DAEMON, centre.sip_port))
        await generator.open()
        seats = list(centre.seats)[:SEATS_USED]
        await generator.register_all(seats)
        staying = asyncio.create_task(generator.stay(seats))
        print(HEADING)
        for number, kind in enumerate(["none", *kinds]):
            print(await under(kind, generator, centre.url, pid, rate, seconds, calls, number * 10_000), flush=True)
        staying.cancel()
        generator.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kinds", nargs="*", metavar="KIND", choices=[*KINDS, []], default=[])
    arguments.add_argument("--rate", type=float, default=20_000)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--calls", type=float, default=10)
    arguments.add_argument("--send", help=argparse.SUPPRESS)
    arguments.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.send:
        print(flood(given.send, (DAEMON, given.port), given.rate, given.seconds))
    else:
        uvloop.run(run(given.kinds or list(KINDS), given.rate, given.seconds, given.calls))


if __name__ == "__main__":
    main()
