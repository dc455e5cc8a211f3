"""300 calls at 10 a second from SIPp as the carrier, to 20 seats that SIPp registered with digest."""

import itertools
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.demo.callers import seconds_between
from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre, free_port
from tests.interop import sipp
from tests.interop.centres import until

CALLS, RATE = 300, 10
SEATS = {str(number): f"Meja {number}" for number in range(201, 221)}


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path, seats=SEATS, agencies={}, queue="ring_s = 10\nwrap_up_s = 0")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_no_call_fails_and_the_record_is_complete(centre: Centre, tmp_path: Path) -> None:
    server = (DAEMON, centre.sip_port)
    own, answering, calling = (free_port(host) for host in (DAEMON, DAEMON, TRUNK))
    seats = subprocess.Popen(
        sipp.command("seat", server, (DAEMON, answering), tmp_path, "-aa"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        sipp.register(server, {seat: centre.password(seat) for seat in SEATS}, answering, own, tmp_path)
        assert {seat["state"] for seat in centre.get("/api/v1/seats")} == {"ready"}
        numbers = tmp_path / "numbers.csv"
        numbers.write_text("SEQUENTIAL\n" + "\n".join(f"+62812{i:07d}" for i in range(CALLS)) + "\n")
        more = ("-inf", str(numbers), "-m", str(CALLS), "-r", str(RATE), "-timeout", "90", "-timeout_error")
        carrier = subprocess.run(
            sipp.command("carrier", server, (TRUNK, calling), tmp_path, *more),
            capture_output=True,
            timeout=120,
            check=False,
        )
    finally:
        seats.terminate()
        seats.wait(10)
    assert carrier.returncode == 0, carrier.stdout.decode(errors="replace")[-3000:]
    until(
        lambda: all(row["ended_at"] for row in calls(centre)),
        "the end of the last call, which is written a moment later",
    )
    rows = calls(centre)
    assert len(rows) == CALLS
    assert Counter(row["outcome"] for row in rows) == {"answered": CALLS}
    assert len({row["caller_number"] for row in rows}) == CALLS
    assert all(row[column] for row in rows for column in ("answered_at", "offered_at", "connected_at", "ended_at"))
    load = Counter(row["seat_id"] for row in rows)
    assert set(load) == set(SEATS)
    assert max(load.values()) - min(load.values()) <= 5, load
    never_two_at_once(rows)
    verified = subprocess.run(
        [*centre.command, "verify-records", "--config", str(centre.config)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr.decode()


def calls(centre: Centre) -> list[dict[str, str]]:
    return list(centre.get("/api/v1/calls?limit=1000"))


def never_two_at_once(rows: list[dict[str, str]]) -> None:
    """No seat is connected to a call before its last one was over."""
    by_seat = sorted(rows, key=lambda row: (row["seat_id"], row["connected_at"]))
    for seat, group in itertools.groupby(by_seat, key=lambda row: row["seat_id"]):
        for one, following in itertools.pairwise(group):
            assert seconds_between(one["ended_at"], following["offered_at"]) >= -0.001, (
                seat,
                one["id"],
                following["id"],
            )
