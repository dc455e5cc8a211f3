"""What a conference costs: CPU of a media worker, by the number of parties, beside a bridge of two.

    .venv/bin/python -m benchmarks.media_conference [--parties 3,8] [--conferences 10] [--seconds 10]

Every party talks all the time, 20 ms of A-law in a packet, from one socket on loopback that takes what they are sent.
"""

import argparse
import asyncio
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.relays import cpu_seconds, resident_kib
from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import LocalMedia, MediaEvent
from siaga_pbx.media.g711 import FRAME, encode
from siaga_pbx.media.protocol import Codec, Remote, Side
from tests.media_process import Settings

TICK_S = 0.02
BRIDGE = 2


async def measure(parties: int, conferences: int, seconds: float) -> tuple[float, float]:
    """Milliseconds of CPU a second, and KiB, for each conference (of two parties: a bridge)."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        ports = 16000, 16000 + 2 * (parties * conferences + 80) - 1
        settings = Settings(socket=Path(folder) / "media.sock", ports=ports)
        events: list[MediaEvent] = []
        client = MediaClient(settings, events.append, spawn=settings.spawn)
        await client.start(30)
        pid = client.worker_pids[0]
        talk = Talk(far)
        await talk.go_on([], 1.0)
        idle, size = cpu_seconds(pid), resident_kib(pid)
        await talk.go_on([], seconds)
        idle = cpu_seconds(pid) - idle
        legs = [(f"call-{n}", f"call-{n}-{party}") for n in range(conferences) for party in range(parties)]
        at = [await _open(client, call, leg, far.getsockname()[1]) for call, leg in legs]
        for one, (call, leg) in enumerate(legs):
            if parties > BRIDGE:
                client.confer(leg)
            elif one % BRIDGE:
                client.bridge(f"{call}-0", leg)
        await talk.go_on(at, 2.0)
        before = cpu_seconds(pid)
        await talk.go_on(at, seconds)
        used, size = cpu_seconds(pid) - before - idle, resident_kib(pid) - size
        for _, leg in legs:
            client.close(leg)
        await asyncio.sleep(0.5)
        await client.stop()
    return used / seconds / conferences * 1000, size / conferences


async def _open(client: MediaClient, call: str, leg: str, far_port: int) -> LocalMedia:
    for _ in range(1000):
        if (local := client.open(call, leg, Side.CALLER)) is not None:
            client.connect(leg, Remote(host="127.0.0.1", port=far_port, codec=Codec.PCMA))
            return local
        await asyncio.sleep(0.01)
    raise TimeoutError("no port in 10 s")


class Talk:
    """All parties' streams, which go on from where they were."""

    def __init__(self, far: socket.socket) -> None:
        self._far = far
        self._packets = 0
        self._codes = encode(np.round(3000 * np.sin(np.arange(FRAME))).astype(np.int16), Codec.PCMA)

    async def go_on(self, at: list[LocalMedia], seconds: float) -> None:
        start = time.monotonic()
        for tick in range(round(seconds / TICK_S)):
            await asyncio.sleep(max(0.0, start + tick * TICK_S - time.monotonic()))
            self._packets += 1
            timestamp = self._packets * FRAME & 0xFFFFFFFF
            for leg, local in enumerate(at):
                header = struct.pack("!BBHII", 0x80, Codec.PCMA, self._packets & 0xFFFF, timestamp, 0x1000 + leg)
                self._far.sendto(header + self._codes, (local.address, local.port))


async def main(numbers: list[int], conferences: int, seconds: float) -> None:
    heads = ("parties", "CPU ms/s a conference", "of a core", "KiB a conference")
    table = Table(*heads, title=f"{conferences} conferences, every party talking")
    for parties in (BRIDGE, *numbers):
        cpu_ms, kib = await measure(parties, conferences, seconds)
        name = f"{parties} (a bridge)" if parties == BRIDGE else str(parties)
        table.add_row(name, f"{cpu_ms:.1f}", f"{cpu_ms / 10:.2f} %", f"{kib:.0f}")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parties", default="3,8")
    parser.add_argument("--conferences", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    sys.exit(asyncio.run(main([int(n) for n in given.parties.split(",")], given.conferences, given.seconds)))
