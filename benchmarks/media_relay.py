"""What relaying costs and how long it takes: CPU, memory, loss and added delay, of a media worker and of rtp.io.

    .venv/bin/python -m benchmarks.media_relay [--calls 1,100,200,300,500] [--seconds 10] [--relays siaga-pbx,rtp.io]

A generator process plays both far ends of every call, all on loopback; both relays get the same, one after the other.
The delay is from the generator's send to its receipt, so it has the kernel's two ways in it too. Then a worker beside a
daemon that is busy for 60 ms of every 250. Needs two idle cores: with less, the figures are those of the machine.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.relays import RELAYS, cpu_seconds, resident_kib

MANY, RECORDED, BUSY_CALLS = 500, 200, 100
BUSY_S, BUSY_EVERY_S = 0.06, 0.25


@dataclass(frozen=True)
class Line:
    """Of one relay with so many calls. CPU is milliseconds a second and call; memory is beyond the idle process."""

    relay: str
    calls: int
    recorded: bool
    cpu_ms: float
    median_ms: float
    p99_ms: float
    lost: int
    sent: int
    kib: float


class Bench:
    """Opens calls, lets the generator talk, closes them."""

    def __init__(self, generator: Process, far_port: int, seconds: float) -> None:
        self._generator, self._far_port, self._seconds = generator, far_port, seconds

    async def line(self, relay: str, calls: int, recorded: bool, busy: bool = False) -> Line:
        with tempfile.TemporaryDirectory() as folder:
            async with RELAYS[relay](Path(folder), self._far_port, calls) as (pid, open_calls):
                await asyncio.sleep(0.5)
                idle = resident_kib(pid)
                ports = await open_calls(calls, recorded)
                await self._talk(ports, 1.5)  # far ends are found, the first packets' silence ends
                blocking = asyncio.create_task(_be_busy()) if busy else None
                before = cpu_seconds(pid)
                figures = await self._talk(ports, self._seconds)
                used, size = cpu_seconds(pid) - before, resident_kib(pid)
                if blocking is not None:
                    blocking.cancel()
        return Line(
            relay,
            calls,
            recorded,
            round(used / (self._seconds + 0.5) / calls * 1000, 2),
            figures["delay_median_ms"],
            figures["delay_p99_ms"],
            int(figures["sent"] - figures["taken"]),
            int(figures["sent"]),
            round((size - idle) / calls, 1),
        )

    async def _talk(self, ports: list[int], seconds: float) -> dict[str, float]:
        assert self._generator.stdin is not None
        assert self._generator.stdout is not None
        self._generator.stdin.write(json.dumps({"ports": ports, "seconds": seconds}).encode() + b"\n")
        figures: dict[str, float] = json.loads(await self._generator.stdout.readline())
        return figures


async def _be_busy() -> None:
    """As a daemon that has much to do: its loop, which the worker's client runs in, is held up."""
    while True:
        until = time.monotonic() + BUSY_S
        while time.monotonic() < until:
            pass
        await asyncio.sleep(BUSY_EVERY_S - BUSY_S)


def table_of(lines: list[Line]) -> Table:
    heads = ("relay", "recording", "calls", "CPU ms/s a call", "of a core", "delay median", "p99", "lost", "KiB a call")
    table = Table(*heads, title="Relaying G.711, two legs a call, 50 packets a second each way")
    for one in lines:
        table.add_row(
            one.relay,
            "on" if one.recorded else "off",
            str(one.calls),
            f"{one.cpu_ms:.2f}",
            f"{one.cpu_ms * one.calls / 10:.0f} %",
            f"{one.median_ms:.2f} ms",
            f"{one.p99_ms:.2f} ms",
            f"{one.lost} of {one.sent}",
            f"{one.kib:.1f}",
        )
    return table


def verdicts(lines: list[Line], quiet: Line, busy: Line) -> dict[str, bool]:
    """What was promised, as far as it was measured."""
    of = {(line.relay, line.calls, line.recorded): line for line in lines}
    mine, theirs = (of.get((relay, MANY, False)) for relay in RELAYS)
    off, on = (of.get(("siaga-pbx", RECORDED, recorded)) for recorded in (False, True))
    found = {f"p99 beside a busy daemon {busy.p99_ms} ms, else {quiet.p99_ms}": busy.p99_ms - quiet.p99_ms < 1}
    if mine is not None:
        found[f"{MANY} calls, {mine.lost} packets lost"] = mine.lost == 0
    if mine is not None and theirs is not None:
        found[f"CPU a call {mine.cpu_ms} ms, rtp.io's {theirs.cpu_ms}"] = mine.cpu_ms <= theirs.cpu_ms
        found[f"memory a call {mine.kib} KiB, rtp.io's {theirs.kib}"] = mine.kib * 10 <= theirs.kib
    if on is not None and off is not None:
        found[f"{RECORDED} calls recorded {on.cpu_ms} ms, else {off.cpu_ms}"] = on.cpu_ms <= 1.5 * off.cpu_ms
    return found


async def main(relays: list[str], numbers: list[int], seconds: float) -> int:
    console = Console(width=130)
    generator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.media_generator", stdin=PIPE, stdout=PIPE
    )
    assert generator.stdout is not None
    assert generator.stdin is not None
    bench = Bench(generator, int(await generator.stdout.readline()), seconds)
    lines = []
    for calls in numbers:
        for recorded in (False, True):
            for relay in relays:
                lines.append(await bench.line(relay, calls, recorded))
                console.print(lines[-1])
    quiet = await bench.line("siaga-pbx", BUSY_CALLS, False)
    busy = await bench.line("siaga-pbx", BUSY_CALLS, False, busy=True)
    generator.stdin.close()
    await generator.wait()
    console.print(table_of(lines))
    found = verdicts(lines, quiet, busy)
    for what, good in found.items():
        console.print(f"{'met' if good else 'NOT MET'}: {what}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="1,100,200,300,500")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--relays", default=",".join(RELAYS))
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.relays.split(","), [int(n) for n in given.calls.split(",")], given.seconds)))
