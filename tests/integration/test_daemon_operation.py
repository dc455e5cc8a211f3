"""Running the daemon: draining, reloading, the commands against it, its metrics and its API's door."""

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from siaga_pbx.demo.centre import TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, hear_each_other, pick_up, registered
from tests.interop.centres import alarms, ended, metric, metrics, row, running, seat_state, siaga, until

QUEUE = "ring_s = 30\nrest_s = 1\nwrap_up_s = 0"
CALL_COLUMNS = {
    *("id", "sip_call_id", "trunk", "called", "caller_number", "identity_class", "callable", "language", "lat", "lon"),
    *("radius_m", "location_method", "received_at", "answered_at", "offered_at", "connected_at", "ended_at", "seat_id"),
    *("outcome", "ended_by", "sip_status", "reason", "priority", "disposition", "recording", "rtp_lost"),
    *("rtp_jitter_ms", "node", "rtp_mos", "recording_sha256", "address"),
}
DISPATCH_COLUMNS = {
    *("id", "incident_id", "agency", "sequence", "state", "message", "created_at", "published_at", "received_at"),
    *("accepted_at", "arrived_at", "cleared_at", "next_attempt_at", "attempts", "en_route_at", "rejected_at", "reason"),
    *("accept_by", "arrive_by"),
}


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("operation"), queue=QUEUE)) as made:
        yield made


def test_commands_against_the_running_daemon(centre: Centre) -> None:
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 80) as mouth,
        Rtp(SEAT, 81) as ear,
    ):
        call, _ = bridged(caller, seat, mouth, ear)
        until(lambda: row(centre, call.call_id)["connected_at"], "the connection")
        call_id = str(row(centre, call.call_id)["id"])
        assert siaga(centre, "dispatch", call_id, "--category", "fire", "--note", "asap tebal").returncode == 0
        (status,) = rows_of(centre, "status")
        assert status["state"] == "running"
        assert [(one["id"], one["state"], one["seat_id"]) for one in status["calls"]] == [(call_id, "talking", "101")]
        seats = rows_of(centre, "seats")
        assert [(one["id"], one["state"], one["call_id"]) for one in seats] == [
            ("101", "talking", call_id),
            ("102", "offline", None),
        ]
        call.bye()
        ended(centre, call.call_id)
    assert siaga(centre, "dispatch", call_id, "--category", "health").returncode == 0, "for a call that is over, too"
    until(lambda: {one["state"] for one in rows_of(centre, "dispatches")} & {"accepted", "en_route"}, "acceptance")
    sent = rows_of(centre, "dispatches")
    assert [one["agency"] for one in sent] == ["damkar", "psc119"]
    assert all(set(one) == DISPATCH_COLUMNS for one in sent)
    assert sent[0]["message"]["note"] == "asap tebal"
    calls = rows_of(centre, "calls")
    assert [one["id"] for one in calls] == [call_id]
    assert set(calls[0]) == CALL_COLUMNS
    assert siaga(centre, "calls", "--json", "--limit", "0").returncode == 2


@pytest.mark.parametrize(("call", "category"), [("", "no-such"), ("01a20c00-0000-7000-8000-000000000000", "fire")])
def test_a_dispatch_for_what_is_unknown_writes_nothing(centre: Centre, call: str, category: str) -> None:
    call = call or rows_of(centre, "calls")[0]["id"]
    before = rows_of(centre, "dispatches")
    refused = siaga(centre, "dispatch", call, "--category", category)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1, "a line that says why"
    assert [one["id"] for one in rows_of(centre, "dispatches")] == [one["id"] for one in before]


def test_probe(centre: Centre, tmp_path: Path) -> None:
    assert centre.daemon is not None
    probed = siaga(centre, "probe")
    assert probed.returncode == 0, probed.stderr
    assert "siaga_probe_success 1" in probed.stdout
    assert "test" in {one["outcome"] for one in rows_of(centre, "calls")}
    nobody = Centre(tmp_path)
    nobody.configure()
    failed = siaga(nobody, "probe")
    assert failed.returncode == 1
    assert "siaga_probe_success 0" in failed.stdout


def test_promtool_likes_the_metrics(centre: Centre) -> None:
    text = metrics(centre)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert metric(centre, 'siaga_calls_total{identity="subscriber",outcome="answered",trunk="carrier"}') >= 1
    assert "6281230000099" not in text


def test_who_has_no_token_gets_nothing(centre: Centre) -> None:
    assert stat.S_IMODE((centre.folder / "siaga.token").stat().st_mode) == 0o600
    call = rows_of(centre, "calls")[0]["id"]
    before = len(rows_of(centre, "dispatches"))
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        order = {"category": "fire"}
        posts = (f"/api/v1/calls/{call}/dispatches", "/-/reload", "/api/v1/seats/101/pause")
        for path in posts:
            answer = httpx.post(f"{centre.url}{path}", json=order, headers=headers, timeout=5)
            assert answer.status_code == 401, path
        assert httpx.get(f"{centre.url}/api/v1/calls", headers=headers, timeout=5).status_code == 401
    assert len(rows_of(centre, "dispatches")) == before
    assert httpx.get(f"{centre.url}/-/healthy", headers={"Host": "evil.example"}, timeout=5).status_code >= 400


def test_reload_loses_nothing(centre: Centre) -> None:
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 82) as mouth,
        Rtp(SEAT, 83) as ear,
        Rtp(TRUNK, 84) as next_mouth,
        Rtp(SEAT, 85) as next_ear,
    ):
        call, _ = bridged(caller, seat, mouth, ear)
        waiting = caller.invite(next_mouth.sdp)
        waiting.final()
        centre.seats = {**centre.seats, "103": "Meja 3"}
        centre.configure()
        reload(centre)
        until(lambda: "103" in {one["id"] for one in centre.get("/api/v1/seats")}, "the new seat")
        assert seat_state(centre, "101") == "talking"
        good = centre.config.read_text()
        centre.config.write_text(good.replace("ring_s = 30", "ring_s = -1"))
        reload(centre)
        until(lambda: metric(centre, "siaga_config_last_reload_successful") == 0, "the refusal")
        assert "reload_failed" in alarms(centre)
        assert "103" in {one["id"] for one in centre.get("/api/v1/seats")}, "the configuration that was good stays"
        centre.config.write_text(good)
        reload(centre)
        until(lambda: metric(centre, "siaga_config_last_reload_successful") == 1, "the good one")
        until(lambda: "reload_failed" not in alarms(centre), "the end of the alarm")
        hear_each_other(mouth, ear)
        call.bye()
        pick_up(seat, next_ear)  # the one who waited all the while
        waiting.bye()
        for one in (call, waiting):
            assert ended(centre, one.call_id)["outcome"] == "answered"


def test_sigterm_drains(centre: Centre) -> None:
    """Calls go on, a new one is taken, and the process ends with the last of them."""
    daemon = centre.daemon
    assert daemon is not None
    with (
        registered(centre, "101") as seat,
        registered(centre, "102") as other,
        carrier(centre) as caller,
        Rtp(TRUNK, 86) as mouth,
        Rtp(SEAT, 87) as ear,
        Rtp(TRUNK, 88) as late_mouth,
        Rtp(SEAT, 89) as late_ear,
    ):
        call, _ = bridged(caller, seat, mouth, ear)
        daemon.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{centre.url}/-/ready", timeout=5).status_code == 503, "the drain")
        late, _ = bridged(caller, other, late_mouth, late_ear)
        hear_each_other(late_mouth, late_ear)
        hear_each_other(mouth, ear)
        call.bye()
        assert httpx.get(f"{centre.url}/-/healthy", timeout=5).status_code == 200
        assert daemon.poll() is None
        late.bye()
        assert daemon.wait(20) == 0
    outcomes = {one["sip_call_id"]: one["outcome"] for one in rows_of(centre, "calls")}
    assert [outcomes[one.call_id] for one in (call, late)] == ["answered", "answered"]
    assert siaga(centre, "probe").returncode == 1


def test_a_second_sigterm_forces(centre: Centre) -> None:
    """Everybody is told, also the seat that rings; and a caller who cannot be told is offered to nobody any more."""
    assert centre.daemon is not None
    if centre.daemon.poll() is not None:  # the drain before was its end
        centre.start_daemon()
    daemon = centre.daemon
    with (
        registered(centre, "101") as seat,
        registered(centre, "102") as other,
        carrier(centre) as caller,
        carrier(centre) as lost,
        Rtp(TRUNK, 90) as mouth,
        Rtp(SEAT, 91) as ear,
    ):
        call, taken = bridged(caller, seat, mouth, ear)
        waiting = lost.invite(mouth.sdp)
        waiting.final()
        lost.deaf = True
        rung = other.offered()
        rung.ring()
        daemon.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{centre.url}/-/ready", timeout=5).status_code == 503, "the drain")
        daemon.send_signal(signal.SIGTERM)
        assert 'text="Service stopping"' in call.hung_up()["Reason"]
        taken.hung_up()
        rung.cancelled()
        assert daemon.wait(20) == 0
        for one in (seat, other):
            assert one.hears_nothing(lambda message: message.method == "INVITE" and message.status == 0, 0.1)
    outcomes = {one["sip_call_id"]: (one["outcome"], one["ended_by"]) for one in rows_of(centre, "calls")}
    assert outcomes[call.call_id] == ("answered", "system")
    assert outcomes[waiting.call_id] == ("failed", "system")
    assert siaga(centre, "verify-records").returncode == 0


def rows_of(centre: Centre, command: str) -> list[dict[str, Any]]:
    """What a command prints with --json."""
    done = siaga(centre, command, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def reload(centre: Centre) -> None:
    assert centre.daemon is not None
    os.kill(centre.daemon.pid, signal.SIGHUP)
