"""What is on record. Each of these shows callers, so each needs the token (see `gate`).

Routes are plain functions, which FastAPI runs in worker threads: a slow disk never holds up the loop of the calls.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import AwareDatetime

from siaga_pbx.web.centre import Cause, Refused
from siaga_pbx.web.live import UNKNOWN, Id
from siaga_pbx.web.records import (
    CallDetail,
    CallRecord,
    DispatchRecord,
    IncidentRecord,
    RecordsView,
    Row,
    shown,
)

MAX_ROWS = 1000
"""Rows in one JSON list: each answer fits in memory many times over. NDJSON is streamed and has no limit."""

NDJSON = "application/x-ndjson"
_CHUNK_ROWS = 200

Since = Annotated[AwareDatetime | None, Query(description="only rows from then on; ISO 8601 with a zone, such as Z")]
Limit = Annotated[
    int | None, Query(ge=1, description=f"only the newest N; at most {MAX_ROWS} (100 if absent) but with NDJSON")
]
Accept = Annotated[str, Header(description=f"{NDJSON} streams one object a line, every row unless limited")]


def history(records: RecordsView, recordings: Path) -> APIRouter:
    """Routes of calls, incidents, dispatches and the call-back list; `recordings` is the folder of the audio files."""
    router = APIRouter(prefix="/api/v1", tags=["records"])

    @router.get("/calls", response_model=list[CallRecord], summary="Calls, oldest first")
    def get_calls(since: Since = None, limit: Limit = None, accept: Accept = "") -> Response:
        return _rows(records.calls(_text(since), _count(limit, accept)), accept)

    @router.get("/calls/{call_id}", response_model=CallDetail, summary="A call, step by step", responses=UNKNOWN)
    def get_call(call_id: Id) -> Response:
        call = _known(records, call_id)
        detail = {
            "call": shown(call),
            "events": _list(records.events(call_id)),
            "incidents": _list(records.incidents(call_id=call_id)),
            "dispatches": _list(records.dispatches(call_id=call_id)),
        }
        return JSONResponse(detail)

    @router.get(
        "/calls/{call_id}/recording",
        response_class=FileResponse,
        summary="The audio of a call: caller left, seat right",
        responses=UNKNOWN | {200: {"content": {"audio/wav": {}}, "description": "a WAV file"}},
    )
    def get_recording(call_id: Id) -> Response:
        path = _recording(_known(records, call_id), recordings)
        return FileResponse(path, media_type="audio/wav", filename=f"{call_id}.wav")

    @router.get("/incidents", response_model=list[IncidentRecord], summary="Incidents, oldest first")
    def get_incidents(since: Since = None, limit: Limit = None, accept: Accept = "") -> Response:
        return _rows(records.incidents(_text(since), _count(limit, accept)), accept)

    @router.get(
        "/dispatches", response_model=list[DispatchRecord], tags=["dispatch"], summary="Dispatches, oldest first"
    )
    def get_dispatches(since: Since = None, limit: Limit = None, accept: Accept = "") -> Response:
        return _rows(records.dispatches(_text(since), _count(limit, accept)), accept)

    @router.get("/callbacks", response_model=list[CallRecord], tags=["call-backs"], summary="Who is to be called back")
    def get_callbacks() -> Response:
        """Calls abandoned by a caller who can be called, until somebody called or dismissed them; oldest first."""
        return _rows(records.callbacks(), "")

    return router


def _text(since: AwareDatetime | None) -> str | None:
    if since is None:
        return None
    moment = since.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _count(limit: int | None, accept: str) -> int | None:
    if accept == NDJSON:
        return limit
    return min(limit or 100, MAX_ROWS)


def _rows(rows: Iterable[Row], accept: str) -> Response:
    if accept == NDJSON:
        return StreamingResponse(_lines(rows), media_type=NDJSON)
    return JSONResponse(_list(rows))


def _list(rows: Iterable[Row]) -> list[dict[str, object]]:
    return [shown(row) for row in rows]


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK_ROWS)):
        yield "".join(json.dumps(shown(row), ensure_ascii=False) + "\n" for row in chunk)


def _known(records: RecordsView, call_id: str) -> Row:
    call = records.call(call_id)
    if call is None:
        raise Refused(Cause.UNKNOWN, f"no call {call_id} is on record")
    return call


def _recording(call: Row, recordings: Path) -> Path:
    """The call's audio file. It must lie in the folder: a row that was tampered with opens no other file."""
    name = call.get("recording")
    path = (recordings / name).resolve() if isinstance(name, str) and name else None
    if path is None or not path.is_relative_to(recordings.resolve()) or not path.is_file():
        raise Refused(Cause.UNKNOWN, f"call {call['id']} has no recording")
    return path
