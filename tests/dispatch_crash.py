"""Daemon, broker and an agency's end, killed at random (SIGKILL) while orders come in; what is left when it is over.

python -m tests.dispatch_crash [--dispatches 1000] [--kills 200] [--seed 1]
"""

import argparse
import asyncio
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from siaga_pbx.config import load
from siaga_pbx.demo.centre import free_port
from siaga_pbx.dispatch.agency_book import Saved
from siaga_pbx.records.changes import Insert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_now
from siaga_pbx.records.verify import verify
from tests.dispatch_centre import mosquitto, write_config

SETTLE_S = 120.0
"""How long nothing may have changed before it counts as stuck. How long it takes until then depends on the machine."""

_DESKS = 8  # orders under way at once: more would only load the machine
_NEW = re.compile(r"^new (\S+):(\d+) ", re.MULTILINE)
_UPDATED, _CANCELLED = 0.1, 0.05  # the share of dispatches that this happens to


@dataclass(frozen=True, slots=True)
class Size:
    """`kills` fall between the orders, every `pause_s` on average; on a slow machine as often among the orders.

    `pace`: how slow people are.
    """

    dispatches: int
    kills: int
    pause_s: float
    seed: int
    pace: float = 0.03


@dataclass(slots=True)
class Outcome:
    """What is left. `new`: how often the people there were told of a dispatch as new."""

    killed: Counter[str]
    ordered: int
    rows: list[Record]
    outbox: list[Record]
    incidents: list[Record]
    book: dict[str, int]
    new: Counter[str]
    problems: list[str]
    calls: dict[str, str]
    settled_s: float


class Machine:
    """One of the three, which can be killed and comes back."""

    def __init__(self, name: str, start: Callable[[], Awaitable[None]], kill: Callable[[], Awaitable[None]]) -> None:
        self.name, self.start, self.kill = name, start, kill


@dataclass
class Trial:
    """One run in a folder of its own."""

    folder: Path
    size: Size
    chance: random.Random = field(init=False)
    killed: Counter[str] = field(default_factory=Counter)
    _processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _logs: list[IO[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.size.seed)
        self._http = f"127.0.0.1:{free_port()}"
        self._broker = mosquitto(self.folder)
        self._desks = asyncio.Semaphore(_DESKS)
        self._due = asyncio.Semaphore(1)  # kills that the orders so far make room for
        self._confirmed = 0

    async def run(self) -> Outcome:
        """Orders, kills, waits until all is settled or nothing moves any more, and looks at what is there."""
        await self._broker.start()
        self._config = write_config(self.folder, self._broker.url, accept_within_s=600)
        self._agency = write_config(self.folder, self._broker.url, user="damkar")
        with self._config.open("a") as file:
            file.write(f'[http]\nlisten = "{self._http}"\n')
        self._database = load(self._config).records.database
        calls = self._calls()
        try:
            await self._start_agency()
            await self._start_daemon()
            async with httpx.AsyncClient(base_url=f"http://{self._http}", trust_env=False, timeout=3) as client:
                self._client = client
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._kill_at_random())
                    group.create_task(self._order(calls))
                began = time.monotonic()
                await self._settled()
                settled_s = time.monotonic() - began
        finally:
            await self._stop()
        return self._outcome(calls, settled_s)

    # --- the three machines -------------------------------------------------------------------------------------------

    async def _spawn(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        self._processes[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "siaga_pbx", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log if name == "daemon" else asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )

    async def _start_daemon(self) -> None:
        await self._spawn("daemon", "run", "--config", str(self._config))

    async def _start_agency(self) -> None:
        arguments = ("damkar", "--auto", "--pace", str(self.size.pace), "--config", str(self._agency))
        await self._spawn("agency", "agency", *arguments, "--state", str(self.folder / "book.json"))

    async def _kill(self, name: str) -> None:
        process = self._processes[name]
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _kill_at_random(self) -> None:
        machines = (
            Machine("daemon", self._start_daemon, lambda: self._kill("daemon")),
            Machine("broker", self._broker.start, self._broker.kill),
            Machine("agency", self._start_agency, lambda: self._kill("agency")),
        )
        for _ in range(self.size.kills):
            await self._due.acquire()
            await asyncio.sleep(self.chance.uniform(0, 2 * self.size.pause_s))
            machine = self.chance.choice(machines)
            await machine.kill()
            self.killed[machine.name] += 1
            await asyncio.sleep(self.chance.uniform(0, 0.5 * self.size.pause_s))
            await machine.start()

    async def _stop(self) -> None:
        for name in ("agency", "daemon"):
            if (process := self._processes.get(name)) is not None and process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()
        await self._broker.stop()
        for log in self._logs:
            log.close()

    # --- orders -------------------------------------------------------------------------------------------------------

    def _calls(self) -> list[str]:
        """Ended calls, on record before the daemon starts."""
        store = Store(self._database)
        store.open()
        ids = [new_id() for _ in range(self.size.dispatches)]
        row = {"received_at": utc_now(), "ended_at": utc_now(), "caller_number": "+6281200000789", "callable": True}
        store.commit([Insert("call", {"id": id, **row}) for id in ids]).result(30)
        store.close()
        return ids

    async def _order(self, calls: list[str]) -> None:
        """As many as the kills take time for; some at once."""
        whole_s = self.size.kills * 1.25 * self.size.pause_s
        orders = set[asyncio.Task[None]]()
        for call in calls:
            orders.add(asyncio.create_task(self._order_one(call)))
            await asyncio.sleep(self.chance.expovariate(len(calls) / whole_s))
        await asyncio.gather(*orders)

    async def _order_one(self, call: str) -> None:
        """An operator's: again, until it is confirmed. Sometimes more becomes known, or nobody is to go."""
        chance = random.Random(call)
        async with self._desks:
            await self._post(f"/api/v1/calls/{call}/dispatches", {"category": "fire", "note": "Rumah terbakar"})
        self._confirmed += 1
        if self._confirmed % (self.size.dispatches // self.size.kills) == 0:
            self._due.release()
        await asyncio.sleep(chance.uniform(0, 3))
        what = chance.random()
        if what < _UPDATED:
            await self._post(f"/api/v1/calls/{call}/dispatches/update", {"address": "Jl. Siliwangi 12"})
        elif what < _UPDATED + _CANCELLED:
            await self._post(f"/api/v1/calls/{call}/dispatches/cancel", {"reason": "Alarm palsu"})

    async def _post(self, path: str, body: dict[str, object]) -> None:
        while True:
            with suppress(httpx.HTTPError, OSError):
                token = (self.folder / "siaga.token").read_text().strip()
                headers = {"Authorization": f"Bearer {token}"}
                answer = await self._client.post(path, json=body, headers=headers)
                if answer.is_success or answer.status_code in (404, 422):  # it is over already: nobody is left to tell
                    assert answer.is_success or "/dispatches/" in path, answer.text
                    return
            await asyncio.sleep(0.3)

    # --- what is left -------------------------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Returns when nothing is expected of anybody any more, or nothing changes any more."""
        seen, changed_at = None, time.monotonic()
        with Reader(self._database) as reader:
            while time.monotonic() - changed_at < SETTLE_S:
                await asyncio.sleep(0.5)
                rows, waiting = await asyncio.to_thread(reader.dispatches), await asyncio.to_thread(reader.outbox)
                states = Counter(str(row["state"]) for row in rows)
                if set(states) <= {"cleared", "cancelled"} and not waiting:
                    return
                if (now := (states, len(waiting))) != seen:
                    seen, changed_at = now, time.monotonic()

    def _outcome(self, calls: list[str], settled_s: float) -> Outcome:
        saved = Saved.model_validate_json((self.folder / "book.json").read_bytes())
        book = {one.message.dispatch_id: one.message.sequence for one in saved.entries}
        book |= {one.dispatch_id: one.sequence for one in saved.turned}
        told = _NEW.findall((self.folder / "agency.log").read_text(errors="replace"))
        with Reader(self._database) as reader:
            rows, outbox, incidents = reader.dispatches(), reader.outbox(), reader.incidents()
        return Outcome(
            killed=self.killed,
            ordered=len(calls),
            rows=rows,
            outbox=outbox,
            incidents=incidents,
            book=book,
            new=Counter(id for id, _ in told),
            problems=[str(problem) for problem in verify(self._database)],
            calls={str(incident["id"]): str(incident["call_id"]) for incident in incidents},
            settled_s=settled_s,
        )


def check(outcome: Outcome) -> None:
    """Every dispatch is at the agency exactly once, none is lost, none is forgotten, and the chain verifies."""
    assert outcome.problems == []
    assert len({outcome.calls[str(row["incident_id"])] for row in outcome.rows}) == outcome.ordered, "an order is lost"
    assert outcome.outbox == []
    states = Counter(str(row["state"]) for row in outcome.rows)
    assert set(states) <= {"cleared", "cancelled"}, states
    assert {str(incident["status"]) for incident in outcome.incidents} == {"closed"}
    assert outcome.book == {str(row["id"]): row["sequence"] for row in outcome.rows}
    assert max(outcome.new.values()) == 1, "people were told twice"
    assert outcome.new.keys() <= outcome.book.keys()


def run(folder: Path, size: Size) -> Outcome:
    """The whole trial."""
    return asyncio.run(Trial(folder, size).run())


def main() -> None:
    """The full size, from a shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dispatches", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pause", type=float, default=1.5, metavar="S")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="siaga-crash-") as folder:
        outcome = run(Path(folder), Size(asked.dispatches, asked.kills, asked.pause, asked.seed))
        states = Counter(str(row["state"]) for row in outcome.rows)
        sequences = Counter(row["sequence"] for row in outcome.rows)
        sys.stdout.write(
            f"{outcome.ordered} orders, {len(outcome.rows)} dispatches, killed {dict(outcome.killed)},"
            f" {time.monotonic() - began:.0f} s, settled {outcome.settled_s:.0f} s after the last order\n"
            f"states {dict(states)}, sequences {dict(sequences)}, told as new {outcome.new.total()}\n"
        )
        check(outcome)
    sys.stdout.write("each is at the agency exactly once, none is lost or forgotten, the chain verifies\n")


if __name__ == "__main__":
    main()
