"""The relays that are measured: a media worker of ours, and rtp.io. Each line has a fresh process, so that nothing that
an earlier line left makes the next look small."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import LocalMedia, MediaEvent
from siaga_pbx.media.protocol import Codec, Remote, Side
from tests.media_process import Settings

FIRST_PORT = 16000
_HERE = Path(__file__).parent

Open: TypeAlias = Callable[[int, bool], Awaitable[list[int]]]
"""Opens so many bridged calls, recorded or not: the ports of all their legs, the two of a call beside each other."""
Relay: TypeAlias = tuple[int, Open]
"""The process that relays, and how to give it calls."""


@asynccontextmanager
async def ours(folder: Path, far_port: int, calls: int) -> AsyncIterator[Relay]:
    """A worker, and a client of it in this process, as in the daemon."""
    ports = (FIRST_PORT, FIRST_PORT + 4 * (calls + 80) - 1)
    settings = Settings(socket=folder / "media.sock", ports=ports)
    events: list[MediaEvent] = []
    client = MediaClient(settings, events.append, spawn=settings.spawn)
    await client.start(30)

    async def open_leg(call: str, leg: str, side: Side) -> LocalMedia:
        """The reserve is for a burst of calls, not for hundreds at once: wait for it to fill up."""
        for _ in range(1000):
            if (local := client.open(call, leg, side)) is not None:
                return local
            await asyncio.sleep(0.01)
        raise TimeoutError("no port in 10 s")

    legs: list[str] = []

    async def open_calls(calls: int, record: bool) -> list[int]:
        ports = []
        for number in range(calls):
            call = f"call-{number}"
            for side in (Side.CALLER, Side.SEAT):
                legs.append(f"{call}-{side}")
                local = await open_leg(call, legs[-1], side)
                client.connect(legs[-1], Remote(host="127.0.0.1", port=far_port, codec=Codec.PCMA))
                ports.append(local.port)
            if record:
                client.record(call, folder / f"{call}.wav")
            client.bridge(*legs[-2:])
        return ports

    try:
        yield client.worker_pids[0], open_calls
    finally:
        for leg in legs:
            client.close(leg)
        await asyncio.sleep(1)
        await client.stop()


@asynccontextmanager
async def rtp_io(folder: Path, far_port: int, _calls: int) -> AsyncIterator[Relay]:
    """rtp.io in a process of its own. What it records are the packets as they are, a file for each way."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, _HERE / "rtp_io.py", stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=folder,
        limit=1 << 20,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    into, out = process.stdin, process.stdout
    await out.readline()

    async def open_calls(calls: int, record: bool) -> list[int]:
        into.write(json.dumps({"calls": calls, "far_port": far_port, "record": record}).encode() + b"\n")
        ports: list[int] = json.loads(await out.readline())
        return ports

    try:
        yield process.pid, open_calls
    finally:
        process.kill()
        await process.wait()


RELAYS = {"siaga-pbx": ours, "rtp.io": rtp_io}

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
