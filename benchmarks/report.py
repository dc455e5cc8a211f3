"""What a report costs: CPU and time of the command over a day, a month and a year of calls.

Run: python benchmarks/report.py [--calls 100000] [--folder DIR]
Of the answered calls a quarter has an incident with a dispatch. Events are not read, so there are none.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import insert

from siaga_pbx.records.database import migrate, writer_engine
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.models import tables
from siaga_pbx.records.times import parse_utc, utc_text

_YEAR_S = 365 * 86_400
_START = parse_utc("2026-01-01T00:00:00+07:00").timestamp()
_CONFIG = """
[centre]
id = "cirebon"
name = "Cirebon Siaga 112"
dialplan = "dialplan.toml"
[sip]
listen = ["udp://127.0.0.1:0"]
domain = "siaga.local"
[[trunk]]
id = "telkomsel"
addresses = ["127.0.0.2/32"]
[[agency]]
id = "damkar"
name = "Dinas Pemadam Kebakaran"
categories = ["fire"]
[[agency]]
id = "psc119"
name = "PSC 119"
categories = ["health"]
[records]
database = "sqlite:///siaga.db"
keep_calls_days = 1825
keep_recordings_days = 365
[mqtt]
broker = "mqtt://127.0.0.1:1"
"""
_DIALPLAN = """
[[route]]
match = ["112"]
action = "queue"
[[category]]
id = "fire"
name = "Kebakaran"
agencies = ["damkar"]
[[category]]
id = "health"
name = "Kesehatan"
agencies = ["psc119"]
"""
_Rows = dict[str, list[dict[str, object]]]


def make_year(folder: Path, calls: int) -> Path:
    """A database with that many calls, evenly spread; returns the configuration."""
    (folder / "siaga.toml").write_text(_CONFIG)
    (folder / "dialplan.toml").write_text(_DIALPLAN)
    url = f"sqlite:///{folder / 'siaga.db'}"
    migrate(url)
    chance = random.Random(112)
    rows: _Rows = {"call": [], "incident": [], "dispatch": []}
    for number in range(calls):
        for table, row in _call(_START + number * _YEAR_S / calls, chance):
            rows[table].append(row)
    engine = writer_engine(url, 5, "benchmark")
    with engine.begin() as connection:
        for table, many in rows.items():
            connection.execute(insert(tables()[table]), many)
    engine.dispose()
    return folder / "siaga.toml"


def _call(at: float, chance: random.Random) -> Iterator[tuple[str, dict[str, object]]]:
    id, answered = new_id(), chance.random() < 0.85
    talk = at + min(chance.expovariate(1 / 6), 90)
    kind = chance.choices(("subscriber", "no_sim", "no_credit"), (8, 1, 1))[0]
    row: dict[str, object] = {"id": id, "received_at": utc_text(at), "ended_at": utc_text(talk + 60)}
    row |= {"connected_at": utc_text(talk) if answered else None, "outcome": "answered" if answered else "abandoned"}
    row |= {"identity_class": kind, "callable": kind == "subscriber", "caller_number": "+6281234567890"}
    row |= {"trunk": chance.choice(("telkomsel", "indosat", "xl")), "disposition": chance.choice((None, "prank"))}
    yield "call", row
    if answered and chance.random() < 0.25:
        category, agency = chance.choice((("fire", "damkar"), ("health", "psc119")))
        incident, opened = new_id(), utc_text(talk + 30)
        opening: dict[str, object] = {
            "id": incident,
            "call_id": id,
            "category": category,
            "opened_at": opened,
            "status": "closed",
        }
        yield "incident", opening
        accepted = talk + 30 + chance.expovariate(1 / 30)
        sent: dict[str, object] = {
            "id": new_id(),
            "incident_id": incident,
            "agency": agency,
            "sequence": 1,
            "created_at": opened,
        }
        sent |= {"state": "cleared", "accepted_at": utc_text(accepted), "arrived_at": utc_text(accepted + 500)}
        sent |= {"accept_by": utc_text(talk + 90), "arrive_by": utc_text(talk + 930)}
        yield "dispatch", sent


def measure(config: Path, *period: str) -> str:
    """Runs the command; its wall time and CPU, with the interpreter's start in them."""
    command = [sys.executable, "-m", "siaga_pbx", "report", *period, "--config", str(config), "--format", "json"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{wall:.2f} s, {cpu:.2f} s of CPU"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        config = make_year(Path(folder), options.calls)
        for period in (("--day", "2026-11-24"), ("--month", "2026-11"), ("--year", "2026")):
            print(f"{' '.join(period)}: {measure(config, *period)}")


if __name__ == "__main__":
    main()
