"""Who reads of a caller is noted, whatever the route; who reads nothing of one is not."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from siaga_pbx.records.accesses import WINDOW_S, Access, AccessLog
from siaga_pbx.records.changes import Change, Event
from siaga_pbx.web.app import create_app
from tests.web_centre import TOKEN, ACentre, Outage, SomeRecords, a_call

NOTHING: Mapping[str, str] = {}
Noted = tuple[str, str, str | None, str]


def asked(
    path: str, headers: Mapping[str, str] = NOTHING, recordings: Path = Path("/nonexistent")
) -> tuple[int, list[Noted]]:
    """The status of a GET, and what was noted of it."""
    noted: list[Noted] = []
    app = create_app(
        ACentre(),
        TOKEN,
        records=SomeRecords([a_call(1, recording="c1.wav", recording_sha256="00" * 32)]),
        outage=Outage,
        registry=CollectorRegistry(),
        recordings=recordings,
        note=lambda *access: noted.append(access),
    )

    async def answer() -> int:
        transport = httpx.ASGITransport(app, client=("127.0.0.7", 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.get(path, headers=headers)).status_code

    return asyncio.run(answer()), noted


_SIGNED_IN = {"authorization": f"Bearer {TOKEN}"}
_WHO = "token from 127.0.0.7"


@pytest.mark.parametrize(
    ("path", "what", "call_id", "query"),
    [
        ("/api/v1/calls", "/api/v1/calls", None, ""),
        (
            "/api/v1/calls?limit=5&since=2026-11-24T00:00:00Z",
            "/api/v1/calls",
            None,
            "limit=5&since=2026-11-24T00:00:00Z",
        ),
        ("/api/v1/calls/c1", "/api/v1/calls/{call_id}", "c1", ""),
        ("/api/v1/callbacks", "/api/v1/callbacks", None, ""),
        ("/api/v1/dispatches", "/api/v1/dispatches", None, ""),
        ("/api/v1/incidents", "/api/v1/incidents", None, ""),
        ("/api/v1/status", "/api/v1/status", None, ""),
        ("/api/v1/quarantine", "/api/v1/quarantine", None, ""),
    ],
)
def test_what_shows_a_caller_is_noted(path: str, what: str, call_id: str | None, query: str) -> None:
    assert asked(path, _SIGNED_IN) == (200, [(_WHO, what, call_id, query)])


def test_a_recording_is_noted(tmp_path: Path) -> None:
    (tmp_path / "c1.wav").write_bytes(b"RIFF")
    status, noted = asked("/api/v1/calls/c1/recording", _SIGNED_IN, tmp_path)
    assert (status, noted) == (200, [(_WHO, "/api/v1/calls/{call_id}/recording", "c1", "")])
    status, noted = asked("/api/v1/calls/c1/recording", _SIGNED_IN | {"range": "bytes=1-2"}, tmp_path)
    assert (status, len(noted)) == (206, 1)


@pytest.mark.parametrize("path", ["/api/v1/seats", "/api/v1/openapi.json", "/metrics", "/-/healthy", "/"])
def test_what_shows_none_is_not(path: str) -> None:
    assert asked(path, _SIGNED_IN)[1] == []


@pytest.mark.parametrize("path", ["/api/v1/calls/c9", "/api/v1/calls?limit=0", "/api/v1/nothing"])
def test_what_is_refused_is_not(path: str) -> None:
    status, noted = asked(path, _SIGNED_IN)
    assert (status >= 400, noted) == (True, [])


def test_without_the_token_nothing_is_shown_or_noted() -> None:
    assert asked("/api/v1/calls") == (401, [])
    assert asked("/api/v1/status") == (200, [])


def test_a_command_names_its_user() -> None:
    headers = _SIGNED_IN | {"siaga-user": "budi"}
    assert asked("/api/v1/calls", headers)[1] == [("user budi", "/api/v1/calls", None, "")]


@pytest.mark.parametrize("name", ["", "b\tudi", "x" * 65])
def test_a_name_that_is_none_is_not_taken(name: str) -> None:
    assert asked("/api/v1/calls", _SIGNED_IN | {"siaga-user": name})[1][0][0] == _WHO


# --- the log ----------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0


def a_log() -> tuple[AccessLog, list[Change], Clock]:
    written: list[Change] = []
    clock = Clock()
    return AccessLog(written.extend, lambda: clock.now, lambda: "2026-11-24T00:00:00.000Z"), written, clock


def test_an_access_is_an_event_of_its_call() -> None:
    log, written, _ = a_log()
    log.note(Access("user budi", "export", "c1"))
    log.note(Access("user budi", "calls", query="limit=5"))
    call, listing = written
    assert isinstance(call, Event)
    assert isinstance(listing, Event)
    assert (call.subject, call.subject_id, call.call_id, call.kind) == ("call", "c1", "c1", "read")
    assert call.data == {"by": "user budi", "what": "export"}
    assert (listing.subject, listing.call_id) == ("system", None)
    assert listing.data == {"by": "user budi", "what": "calls", "query": "limit=5"}


def test_whoever_reads_the_same_again_is_noted_once_in_a_while() -> None:
    log, written, clock = a_log()
    for second in range(3 * int(WINDOW_S)):
        clock.now = float(second)
        log.note(Access("token", "/api/v1/callbacks"))
    assert len(written) == 3
    log.note(Access("token", "/api/v1/callbacks", "c1"))
    log.note(Access("somebody else", "/api/v1/callbacks"))
    assert len(written) == 5


def test_what_it_remembers_is_bounded() -> None:
    log, written, clock = a_log()
    for number in range(25_000):
        log.note(Access("token", "call", str(number)))
    assert len(written) == 25_000, "nothing is left out for that"
    assert len(log._noted) <= 10_000
    assert clock.now == 0.0
