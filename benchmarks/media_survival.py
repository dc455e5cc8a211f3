"""How long calls are mute when their media worker is killed: from the last packet of the old to the first of the new.

    .venv/bin/python -m benchmarks.media_survival [--calls 1,50,200,500] [--cold]

Two legs a call, both recorded and played to, which costs the new worker more than a bridge; the far ends only listen.
With `--cold` the keeper is killed too, and the daemon has to start a Python anew.
"""

import argparse
import asyncio
import os
import resource
import selectors
import signal
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.protocol import Remote, Side
from tests.media_process import Settings

ENOUGH_S = 5.0


class Listeners:
    """All far ends, in a thread: the longest pause that each had."""

    def __init__(self, number: int) -> None:
        self.gaps = [0.0] * number
        self._last = [0.0] * number
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
        for index, one in enumerate(self._sockets):
            one.bind(("127.0.0.1", 0))
            self._selector.register(one, selectors.EVENT_READ, index)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ports(self) -> list[int]:
        return [int(one.getsockname()[1]) for one in self._sockets]

    @property
    def hearing(self) -> int:
        """How many heard something in the last 100 ms."""
        now = time.monotonic()
        return sum(now - last < 0.1 for last in self._last)

    def forget(self) -> None:
        self.gaps = [0.0] * len(self.gaps)

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        for one in self._sockets:
            one.close()

    def _run(self) -> None:
        while not self._ending:
            for key, _ in self._selector.select(0.1):
                self._sockets[key.data].recv(2048)
                now = time.monotonic()
                if self._last[key.data]:
                    self.gaps[key.data] = max(self.gaps[key.data], now - self._last[key.data])
                self._last[key.data] = now


def keeper_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


async def opened(client: MediaClient, number: int, side: Side) -> None:
    for _ in range(1000):
        if client.open(f"{number // 2}", f"{number}", side) is not None:
            return
        await asyncio.sleep(0.005)  # the reserve fills up again
    raise SystemExit("there are not enough ports")


async def measure(calls: int, *, cold: bool) -> str:
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(socket=Path(name) / "media.sock", ports=(30000, 33999))
        client = MediaClient(settings, lambda event: None, spawn=settings.spawn)
        await client.start()
        client.release_unclaimed()
        listeners = Listeners(2 * calls)
        for number, port in enumerate(listeners.ports()):
            side = (Side.CALLER, Side.SEAT)[number % 2]
            await opened(client, number, side)
            client.connect(f"{number}", Remote(host="127.0.0.1", port=port))
            client.play(f"{number}", (), ("waiting",))
            if side is Side.CALLER:
                client.record(f"{number // 2}", Path(name) / f"{number}.wav")
        await asyncio.sleep(2)
        assert listeners.hearing > 1.8 * calls
        listeners.forget()
        (pid,) = client.worker_pids
        if cold:
            os.kill(keeper_of(pid), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(ENOUGH_S)
        hearing, gaps = listeners.hearing, sorted(gap * 1000 for gap in listeners.gaps)
        listeners.close()
        for number in range(2 * calls):
            client.close(f"{number}")
        await asyncio.sleep(1)
        await client.stop()
    return (
        f"{calls:5} calls: median {statistics.median(gaps):5.0f} ms, worst {gaps[-1]:5.0f}; {hearing} legs hear again"
    )


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="1,50,200,500")
    parser.add_argument("--cold", action="store_true", help="kill the keeper too")
    options = parser.parse_args()
    for calls in map(int, options.calls.split(",")):
        print(asyncio.run(measure(calls, cold=options.cold)), flush=True)


if __name__ == "__main__":
    main()
