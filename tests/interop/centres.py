"""A running centre for a test, and what a test asks of it: rows, events, alarms, metrics, commands."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx

from siaga_pbx.demo.centre import Centre

WITHIN_S = 20.0
"""How long a condition may take before the test fails; on an idle machine none takes two seconds."""

T = TypeVar("T")


@contextmanager
def running(centre: Centre) -> Iterator[Centre]:
    """The centre, started; ended with all its processes."""
    try:
        centre.start()
        yield centre
    finally:
        centre.stop()


def until(ask: Callable[[], T], what: str = "it", within: float = WITHIN_S) -> T:
    """What `ask` says once that is true; the test fails if it never is."""
    deadline = monotonic() + within
    while not (answer := ask()):
        assert monotonic() < deadline, f"{what} did not come within {within:.0f} s"
        sleep(0.05)
    return answer


def row(centre: Centre, call_id: str) -> dict[str, Any]:
    """The row of the call with this SIP Call-ID, once there is one."""

    def ask() -> dict[str, Any] | None:
        rows = centre.get("/api/v1/calls?limit=1000")
        return next((one for one in rows if one["sip_call_id"] == call_id), None)

    found = until(ask, "the call's row")
    assert found is not None
    return found


def ended(centre: Centre, call_id: str) -> dict[str, Any]:
    """The row once the call is over."""
    until(lambda: row(centre, call_id)["outcome"], "the end of the call")
    return row(centre, call_id)


def kinds(centre: Centre, call_id: str) -> list[str]:
    """The kinds of the call's events so far, in their order."""
    return [event["kind"] for event in centre.get(f"/api/v1/calls/{row(centre, call_id)['id']}")["events"]]


def seat_state(centre: Centre, seat: str) -> str:
    return str(next(one for one in centre.get("/api/v1/seats") if one["id"] == seat)["state"])


def alarms(centre: Centre) -> set[str]:
    """The names of the alarms that stand."""
    return {alarm["name"] for alarm in centre.get("/api/v1/status")["alarms"]}


def metrics(centre: Centre) -> str:
    return httpx.get(f"{centre.url}/metrics", timeout=5).text


def metric(centre: Centre, series: str) -> float:
    """The value of one series, by its full name with labels; 0 when it is not there yet."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics(centre), re.MULTILINE)
    return float(found[1]) if found else 0.0


def siaga(centre: Centre, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours against the centre's configuration."""
    return subprocess.run(
        [*centre.command, *arguments, "--config", str(centre.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def log_of(centre: Centre, name: str = "daemon") -> str:
    return (Path(centre.folder) / f"{name}.log").read_text(errors="replace")
