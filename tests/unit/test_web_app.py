"""The API (DESIGN.md 8): what each endpoint gives, and how it refuses."""

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from siaga_pbx.records.models import tables
from siaga_pbx.records.reader import Reader
from siaga_pbx.web.app import create_app
from siaga_pbx.web.centre import CancelRequest, CentreView, Check, Place, UpdateRequest
from siaga_pbx.web.records import CallRecord, DispatchRecord, EventRecord, IncidentRecord, RecordsView, Row
from tests.web_centre import AT, NUMBER, QUARANTINED, TOKEN, ACentre, Outage, SomeRecords, a_call


class Api:
    """The app over records in memory, asked from this machine."""

    def __init__(self, records: RecordsView | None = None, recordings: Path = Path("/nonexistent")) -> None:
        self.centre = ACentre()
        self.registry = CollectorRegistry()
        view: CentreView = self.centre
        self._app = create_app(
            view,
            TOKEN,
            records=records or SomeRecords(),
            outage=Outage,
            registry=self.registry,
            recordings=recordings,
            quarantined=lambda: QUARANTINED,
        )

    def get(self, path: str, *, signed_in: bool = True, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self._ask("GET", path, None, signed_in, headers or {})

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self._ask("POST", path, body, True, {})

    def _ask(self, method: str, path: str, body: object, signed_in: bool, more: Mapping[str, str]) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}", **more} if signed_in else more

        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return await http.request(method, path, json=body, headers=headers)

        return asyncio.run(answer())


def problem(answer: httpx.Response, status: int) -> str:
    """The one clear line of an error."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert "\n" not in body["detail"]
    return str(body["detail"])


def test_healthy() -> None:
    answer = Api().get("/-/healthy", signed_in=False)
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})


def test_ready_says_which_check_fails() -> None:
    api = Api()
    assert api.get("/-/ready").json()["ready"] is True
    api.centre.conditions = (
        Check(name="sip", ok=True, detail="not bound"),
        Check(name="media", ok=False, detail="no worker answers"),
    )
    answer = api.get("/-/ready")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert {"name": "sip", "ok": True, "detail": ""} in answer.json()["checks"]
    assert {"name": "media", "ok": False, "detail": "no worker answers"} in answer.json()["checks"]


def test_metrics_in_the_format_that_is_asked_for() -> None:
    api = Api()
    Gauge("siaga_queue_length", "Callers waiting.", registry=api.registry).set(3)
    plain = api.get("/metrics", signed_in=False)
    assert plain.headers["content-type"].startswith("text/plain")
    assert "siaga_queue_length 3.0" in plain.text
    opened = api.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")


def test_reload_tells_what_needs_a_restart_or_every_error() -> None:
    api = Api()
    assert api.post("/-/reload").json() == {"restart": ["sip.listen"]}
    api.centre.reload_error = "siaga.toml: queue.ring_s: found 0; accepted: seconds"
    assert "queue.ring_s" in problem(api.post("/-/reload"), 422)


def test_status_shows_callers_only_with_the_token() -> None:
    api = Api()
    assert NUMBER in api.get("/api/v1/status").text
    signed_out = api.get("/api/v1/status", signed_in=False)
    assert NUMBER not in signed_out.text
    assert [call["id"] for call in signed_out.json()["calls"]] == ["c2", "c1"]
    assert signed_out.json()["queue"] == {"waiting": 1, "oldest_s": 12.5}


def test_seats() -> None:
    seats = Api().get("/api/v1/seats", signed_in=False).json()
    assert [(seat["id"], seat["state"]) for seat in seats][:2] == [("101", "ready"), ("102", "talking")]


def test_pause_and_ready() -> None:
    api = Api()
    assert api.post("/api/v1/seats/101/pause", {"reason": "istirahat"}).status_code == 204
    assert api.centre.state.seats[0].state == "paused"
    assert api.centre.state.seats[0].reason == "istirahat"
    assert api.post("/api/v1/seats/101/ready").status_code == 204
    assert api.centre.state.seats[0].state == "ready"
    assert api.post("/api/v1/seats/101/pause").status_code == 204
    assert api.centre.state.seats[0].reason is None


@pytest.mark.parametrize("verb", ["pause", "ready"])
def test_an_unknown_seat(verb: str) -> None:
    assert "no seat 999" in problem(Api().post(f"/api/v1/seats/999/{verb}"), 404)


def test_dispatch() -> None:
    api = Api()
    answer = api.post("/api/v1/calls/c1/dispatches", {"category": "fire", "note": " Rumah terbakar ", "people": 2})
    assert answer.status_code == 201
    assert answer.json() == {"incident_id": "i1", "dispatch_ids": ["d1", "d2"]}
    (order,) = api.centre.orders
    assert (order.call_id, order.category, order.note, order.people) == ("c1", "fire", "Rumah terbakar", 2)


def test_those_who_are_dispatched_are_told_more_or_that_nobody_is_to_go() -> None:
    api = Api()
    more = {"category": "fire", "address": "Jl. Siliwangi 2", "place": {"lat": -6.7, "lon": 108.5}, "incident_id": "i9"}
    answer = api.post("/api/v1/calls/c1/dispatches/update", more)
    assert (answer.status_code, answer.json()["dispatch_ids"]) == (200, ["d1", "d2"])
    none = {"category": "fire", "agency": "damkar", "reason": " Alarm palsu "}
    assert api.post("/api/v1/calls/c1/dispatches/cancel", none).status_code == 200
    update, cancel = api.centre.changes
    assert isinstance(update, UpdateRequest)
    assert update.place == Place(lat=-6.7, lon=108.5, radius_m=None, method="manual")
    assert (update.address, update.incident_id) == ("Jl. Siliwangi 2", "i9")
    assert cancel == CancelRequest(category="fire", agency="damkar", reason="Alarm palsu")


@pytest.mark.parametrize("verb", ["update", "cancel"])
def test_what_cannot_be_updated_or_cancelled_is_refused(verb: str) -> None:
    api = Api()
    assert "no call c9" in problem(api.post(f"/api/v1/calls/c9/dispatches/{verb}", {}), 404)
    assert "name the category" in problem(api.post(f"/api/v1/calls/c1/dispatches/{verb}", {}), 409)
    assert problem(api.post(f"/api/v1/calls/c1/dispatches/{verb}", {"colour": "red"}), 422)
    assert not api.centre.changes


def test_a_dispatch_for_an_unknown_call_or_category_is_refused_and_nothing_is_done() -> None:
    api = Api()
    assert "no call c9" in problem(api.post("/api/v1/calls/c9/dispatches", {"category": "fire"}), 404)
    assert "no category storm" in problem(api.post("/api/v1/calls/c1/dispatches", {"category": "storm"}), 422)
    assert api.centre.orders == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "category"),
        ({"category": ""}, "category"),
        ({"category": "fire", "people": -1}, "people"),
        ({"category": "fire", "people": "many"}, "people"),
        ({"category": "fire", "note": "x" * 2001}, "note"),
        ({"category": "fire", "nota": "x"}, "nota"),
        ([], "body"),
        (None, "body"),
    ],
)
def test_a_dispatch_that_makes_no_sense_is_refused_by_its_key_and_nothing_is_done(body: object, named: str) -> None:
    api = Api()
    detail = problem(api.post("/api/v1/calls/c1/dispatches", body), 422)
    assert named in detail or named == "body"
    assert api.centre.orders == []


def test_an_error_of_input_never_repeats_the_input() -> None:
    detail = problem(Api().post("/api/v1/calls/c1/dispatches", {"category": "fire", "people": NUMBER}), 422)
    assert NUMBER not in detail


def test_dismiss_needs_a_reason() -> None:
    api = Api()
    assert "reason" in problem(api.post("/api/v1/callbacks/c1/dismiss", {"reason": "  "}), 422)
    assert "not on the call-back list" in problem(api.post("/api/v1/callbacks/c9/dismiss", {"reason": "x"}), 404)
    assert api.post("/api/v1/callbacks/c1/dismiss", {"reason": "menelepon lagi"}).status_code == 204
    assert api.centre.dismissed == [("c1", "menelepon lagi")]


def test_calls_oldest_first_the_newest_when_limited() -> None:
    api = Api(SomeRecords([a_call(number) for number in range(1, 6)]))

    def ids(query: str) -> list[str]:
        return [call["id"] for call in api.get(f"/api/v1/calls{query}").json()]

    assert ids("") == ["c1", "c2", "c3", "c4", "c5"]
    assert ids("?limit=2") == ["c4", "c5"]
    assert ids("?since=2026-11-24T07:04:00Z") == ["c4", "c5"]
    assert ids("?since=2026-11-24T14:04:00%2B07:00") == ["c4", "c5"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "since=yesterday", "since=2026-11-24T07:00:00"])
def test_a_range_that_makes_no_sense(query: str) -> None:
    assert query.partition("=")[0] in problem(Api().get(f"/api/v1/calls?{query}"), 422)


def test_a_call_with_its_steps() -> None:
    records = SomeRecords(
        [a_call(1), a_call(2)],
        [{"call_id": "c1", "kind": "answered"}, {"call_id": "c2", "kind": "answered"}],
        [{"id": "i1", "call_id": "c1", "opened_at": AT}],
        [{"id": "d1", "incident_id": "i1", "created_at": AT, "message": {"note": "x"}}],
    )
    detail = Api(records).get("/api/v1/calls/c1").json()
    assert detail["call"]["id"] == "c1"
    assert detail["events"] == [{"call_id": "c1", "kind": "answered"}]
    assert [row["id"] for row in detail["incidents"]] == ["i1"]
    assert detail["dispatches"][0]["message"] == {"note": "x"}
    assert Api(records).get("/api/v1/calls/c2").json()["dispatches"] == []
    assert "no call c3" in problem(Api(records).get("/api/v1/calls/c3"), 404)


def test_lists_of_dispatches_incidents_and_call_backs() -> None:
    records = SomeRecords(
        [a_call(1, "abandoned"), a_call(2)],
        [],
        [{"id": "i1", "call_id": "c1", "opened_at": AT}],
        [{"id": "d1", "incident_id": "i1", "created_at": AT}],
    )
    api = Api(records)
    assert [row["id"] for row in api.get("/api/v1/dispatches").json()] == ["d1"]
    assert [row["id"] for row in api.get("/api/v1/incidents").json()] == ["i1"]
    assert [row["id"] for row in api.get("/api/v1/callbacks").json()] == ["c1"]


def test_a_recording(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "c1.wav").write_bytes(b"RIFF....")
    (tmp_path / "secret").write_text("secret")
    digest = sha256(b"RIFF....").hexdigest()
    calls = [
        a_call(1, recording="c1.wav", recording_sha256=digest),
        a_call(2, recording="../secret", recording_sha256=digest),
        a_call(3, recording=str(tmp_path / "secret"), recording_sha256=digest),
        a_call(4, recording="gone.wav", recording_sha256=digest),
        a_call(5, recording=str(folder / "c1.wav"), recording_sha256=digest),
    ]
    api = Api(SomeRecords(calls), folder)
    answer = api.get("/api/v1/calls/c1/recording")
    assert (answer.headers["content-type"], answer.content) == ("audio/wav", b"RIFF....")
    assert 'filename="c1.wav"' in answer.headers["content-disposition"]
    encoded = answer.headers["repr-digest"].removeprefix("sha-256=:").removesuffix(":")
    assert b64decode(encoded).hex() == digest
    assert api.get("/api/v1/calls/c5/recording").status_code == 200
    for number in (2, 3, 4):
        assert "is kept elsewhere, or lost" in problem(api.get(f"/api/v1/calls/c{number}/recording"), 404)


def test_why_there_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "c9.wav").write_bytes(b"RIFF....")
    at = "2026-11-24T07:00:00.000Z"
    calls = [
        a_call(1, ended_at=None, recording="c1.wav"),
        a_call(2),
        a_call(3, answered_at=at),
        a_call(4, answered_at=at),
        a_call(5, answered_at=at),
        a_call(6, answered_at=at, recording="c6.wav"),
        a_call(9, answered_at=at, recording="c9.wav"),
    ]
    events: list[Row] = [
        {"call_id": "c4", "at": at, "kind": "recording_erased", "data": {}},
        {"call_id": "c5", "at": at, "kind": "erased", "data": {"digest": ""}},
        {
            "call_id": "c6",
            "at": at,
            "kind": "record_failed",
            "data": {"reason": "Read-only file system", "final": True},
        },
    ]
    api = Api(SomeRecords(calls, events), tmp_path)
    told = {
        "c1": (409, "call c1 is still running: its recording is complete when it is over"),
        "c2": (404, "call c2 was not recorded: it was never answered"),
        "c3": (404, "call c3 was not recorded"),
        "c4": (404, "the recording of call c4 was erased on 2026-11-24"),
        "c5": (404, "call c5 was erased on 2026-11-24"),
        "c6": (404, "call c6 was not recorded: Read-only file system"),
        "c8": (404, "no call c8 is on record"),
        "c9": (409, "call c9: its recording is not complete yet; try again in a minute"),
    }
    for call, (status, detail) in told.items():
        assert problem(api.get(f"/api/v1/calls/{call}/recording"), status) == detail


@pytest.mark.parametrize("path", ["/api/v1/calls", "/api/v1/calls/c1", "/api/v1/dispatches", "/api/v1/callbacks"])
def test_records_that_cannot_be_read_are_503_and_live_state_goes_on(path: str) -> None:
    api = Api(SomeRecords(fault=Outage("disk I/O error")))
    assert "disk I/O error" in problem(api.get(path), 503)
    assert api.get("/api/v1/status").status_code == 200


def test_a_fault_of_ours_is_json_too_and_tells_nothing() -> None:
    api = Api(SomeRecords(fault=RuntimeError(f"bad {NUMBER}")))
    assert NUMBER not in problem(api.get("/api/v1/calls"), 500)


def test_what_agencies_sent_and_could_not_be_used_is_shown_to_who_is_signed_in() -> None:
    api = Api()
    (one,) = api.get("/api/v1/quarantine").json()
    assert one == {
        "at": "2026-11-24T08:00:00.000Z",
        "topic": "siaga/ack/damkar",
        "reason": "not JSON",
        "payload": "<script>alert(1)</script>",
    }
    problem(api.get("/api/v1/quarantine", signed_in=False), 401)


def test_openapi_describes_every_endpoint_of_the_contract() -> None:
    document = Api().get("/api/v1/openapi.json").json()
    contract = {
        "get": {
            "/metrics",
            "/-/healthy",
            "/-/ready",
            "/api/v1/status",
            "/api/v1/seats",
            "/api/v1/calls",
            "/api/v1/calls/{call_id}",
            "/api/v1/calls/{call_id}/recording",
            "/api/v1/dispatches",
            "/api/v1/incidents",
            "/api/v1/callbacks",
            "/api/v1/quarantine",
            "/api/v1/calls/{call_id}/trace",
        },
        "post": {
            "/-/reload",
            "/api/v1/accesses",
            "/api/v1/calls/{call_id}/dispatches",
            "/api/v1/calls/{call_id}/dispatches/update",
            "/api/v1/calls/{call_id}/dispatches/cancel",
            "/api/v1/seats/{seat_id}/pause",
            "/api/v1/seats/{seat_id}/ready",
            "/api/v1/callbacks/{call_id}/dismiss",
        },
    }
    described = {verb: {path for path, verbs in document["paths"].items() if verb in verbs} for verb in ("get", "post")}
    assert described == contract
    assert all(verb["summary"] for verbs in document["paths"].values() for verb in verbs.values())
    assert "HTTPBearer" in document["components"]["securitySchemes"]


@pytest.mark.parametrize(
    ("model", "table"),
    [(CallRecord, "call"), (EventRecord, "event"), (IncidentRecord, "incident"), (DispatchRecord, "dispatch")],
)
def test_the_documented_columns_are_the_tables_columns(
    model: type[CallRecord | EventRecord | IncidentRecord | DispatchRecord], table: str
) -> None:
    assert list(model.model_fields) == list(tables()[table].c.keys())


def test_the_reader_of_the_records_serves(tmp_path: Path) -> None:
    """Checked by mypy; here it only must not be refused."""
    with Reader(f"sqlite:///{tmp_path / 'none.db'}") as reader:
        view: RecordsView = reader
        assert view is reader
