"""What relaying costs and how long it takes: CPU, memory, loss and added delay of one media worker.

    .venv/bin/python -m benchmarks.media_relay [--calls 1,100,300,500] [--seconds 10] [--record]

A worker of its own, a client as in the daemon, and a generator process that plays both far ends of every call, all on
loopback. The delay is from the generator's send to its receipt, so it has the kernel's two ways in it too. At the end,
200 callers who only wait. Needs two idle cores: with less, the figures are those of the machine.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import LocalMedia, MediaEvent
from siaga_pbx.media.protocol import Codec, Remote, Side
from tests.media_process import Settings

TICKS = os.sysconf("SC_CLK_TCK")
TARGET_MS = 1.2
"""CPU milliseconds a second and call (docs: speed and size)."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class Bench:
    """Opens calls, lets the generator talk, closes them."""

    def __init__(self, client: MediaClient, generator: Process, far_port: int, folder: Path, record: bool) -> None:
        self.client = client
        self.generator = generator
        self.far_port = far_port
        self.folder = folder
        self.record = record
        self.rounds = 0

    async def open_calls(self, calls: int) -> list[tuple[str, int]]:
        legs = []
        for number in range(calls):
            call = f"{self.rounds}-{number}"
            for side in (Side.CALLER, Side.SEAT):
                leg = f"{call}-{side}"
                local = await self.open_leg(call, leg, side)
                self.client.connect(leg, Remote(host="127.0.0.1", port=self.far_port, codec=Codec.PCMA))
                legs.append((leg, local.port))
            if self.record:
                self.client.record(call, self.folder / f"{call}.wav")
            self.client.bridge(f"{call}-{Side.CALLER}", f"{call}-{Side.SEAT}")
        return legs

    async def open_leg(self, call: str, leg: str, side: Side) -> LocalMedia:
        """The reserve is for a burst of calls, not for hundreds at once: wait for it to fill up."""
        for _ in range(500):
            if (local := self.client.open(call, leg, side)) is not None:
                return local
            await asyncio.sleep(0.01)
        raise TimeoutError("no port in 5 s")

    async def run(self, calls: int, seconds: float) -> dict[str, float]:
        """One line of the table."""
        self.rounds += 1
        pid = self.client.worker_pids[0]
        idle = resident_kib(pid)
        legs = await self.open_calls(calls)
        ports = [port for _, port in legs]
        await self.talk(ports, 1.0)  # far ends are found, the first packets' silence ends
        before, size = cpu_seconds(pid), 0
        talk = asyncio.create_task(self.talk(ports, seconds))
        await asyncio.sleep(seconds)
        used, size = cpu_seconds(pid) - before, resident_kib(pid)
        figures = await talk
        for leg, _ in legs:
            self.client.close(leg)
        await asyncio.sleep(6)  # the ports rest
        return {
            "calls": calls,
            "cpu_ms_per_call_second": round(used / seconds / calls * 1000, 3),
            "worker_cpu_percent": round(used / seconds * 100, 1),
            "lost": figures["sent"] - figures["taken"],
            "sent": figures["sent"],
            "delay_median_ms": figures["delay_median_ms"],
            "delay_p99_ms": figures["delay_p99_ms"],
            "memory_kib_per_call": round((size - idle) / calls, 1),
        }

    async def wait(self, callers: int, seconds: float) -> dict[str, float]:
        """Callers who hear prompts, and no one else."""
        self.rounds += 1
        pid = self.client.worker_pids[0]
        idle = resident_kib(pid)
        legs = [f"{self.rounds}-{number}" for number in range(callers)]
        for leg in legs:
            await self.open_leg(leg, leg, Side.CALLER)
            self.client.connect(leg, Remote(host="127.0.0.1", port=self.far_port, codec=Codec.PCMA))
            self.client.play(leg, ("greeting",), ("waiting",))
        await asyncio.sleep(1)
        before = cpu_seconds(pid)
        await asyncio.sleep(seconds)
        used, size = cpu_seconds(pid) - before, resident_kib(pid)
        for leg in legs:
            self.client.close(leg)
        await asyncio.sleep(6)
        return {
            "waiting": callers,
            "worker_cpu_percent": round(used / seconds * 100, 1),
            "memory_kib_per_call": round((size - idle) / callers, 1),
        }

    async def talk(self, ports: list[int], seconds: float) -> dict[str, float]:
        assert self.generator.stdin is not None
        assert self.generator.stdout is not None
        self.generator.stdin.write(json.dumps({"ports": ports, "seconds": seconds}).encode() + b"\n")
        figures: dict[str, float] = json.loads(await self.generator.stdout.readline())
        return figures


async def main(numbers: list[int], seconds: float, record: bool) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(socket=folder / "media.sock", ports=(20000, 20000 + 4 * (max(*numbers, 100) + 70) - 1))
        events: list[MediaEvent] = []
        client = MediaClient(settings, events.append, spawn=settings.spawn)
        await client.start(30)
        generator = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.media_generator", stdin=PIPE, stdout=PIPE
        )
        assert generator.stdout is not None
        assert generator.stdin is not None
        bench = Bench(client, generator, int(await generator.stdout.readline()), folder, record)
        lines = []
        for calls in numbers:
            lines.append(await bench.run(calls, seconds))
            print(json.dumps(lines[-1] | {"record": record}), flush=True)
        print(json.dumps(await bench.wait(200, seconds)), flush=True)
        generator.stdin.close()
        await generator.wait()
        await client.stop()
    return 0 if all(line["cpu_ms_per_call_second"] <= TARGET_MS for line in lines if line["calls"] >= 300) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", default="1,100,300,500")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    sys.exit(asyncio.run(main([int(n) for n in given.calls.split(",")], given.seconds, given.record)))
