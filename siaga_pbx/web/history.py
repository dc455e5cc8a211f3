"""What is on record. Each of these shows callers, so each needs the token (see `gate`).

Routes are plain functions, which FastAPI runs in worker threads: a slow disk never holds up the loop of the calls.
"""

import base64
from datetime import UTC
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import AwareDatetime

from siaga_pbx.records.errors import NotOnRecord, NotPossible
from siaga_pbx.records.recordings import Recording, find
from siaga_pbx.web.centre import Cause, Refused
from siaga_pbx.web.live import UNKNOWN, Id
from siaga_pbx.web.problem import Problem
from siaga_pbx.web.records import (
    CallDetail,
    CallRecord,
    DispatchRecord,
    IncidentRecord,
    RecordsView,
    Row,
)

MAX_ROWS = 1000
"""Rows of one answer: reading and encoding them takes milliseconds, which the calls do not feel."""

Since = Annotated[AwareDatetime | None, Query(description="only rows from then on; ISO 8601 with a zone, such as Z")]
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="only the newest N")]


def history(records: RecordsView, recordings: Path) -> APIRouter:
    """Routes of calls, incidents, dispatches and the call-back list; `recordings` is the folder of the audio files."""
    router = APIRouter(prefix="/api/v1", tags=["records"])

    @router.get("/calls", response_model=list[CallRecord], summary="Calls, oldest first")
    def get_calls(since: Since = None, limit: Limit = 100) -> Response:
        return JSONResponse(records.calls(since=_text(since), limit=limit))

    @router.get("/calls/{call_id}", response_model=CallDetail, summary="A call, step by step", responses=UNKNOWN)
    def get_call(call_id: Id) -> Response:
        call = _known(records, call_id)
        detail = {
            "call": call,
            "events": records.events(call_id=call_id),
            "incidents": records.incidents(call_id=call_id),
            "dispatches": records.dispatches(call_id=call_id),
        }
        return JSONResponse(detail)

    @router.get(
        "/calls/{call_id}/recording",
        response_class=FileResponse,
        summary="The audio of a call: caller left, what the caller hears right",
        responses=UNKNOWN
        | {
            200: {"content": {"audio/wav": {}}, "description": "a WAV file"},
            409: {"model": Problem, "description": "it is not complete yet"},
        },
    )
    def get_recording(call_id: Id) -> Response:
        """Complete once the call is over. `Repr-Digest` (RFC 9530) is the SHA-256 on record: compare what you got."""
        found = _recording(_known(records, call_id), records, recordings)
        digest = base64.b64encode(bytes.fromhex(found.sha256)).decode()
        headers = {"repr-digest": f"sha-256=:{digest}:"}
        return FileResponse(found.path, media_type="audio/wav", filename=f"{call_id}.wav", headers=headers)

    @router.get("/incidents", response_model=list[IncidentRecord], summary="Incidents, oldest first")
    def get_incidents(since: Since = None, limit: Limit = 100) -> Response:
        return JSONResponse(records.incidents(since=_text(since), limit=limit))

    @router.get(
        "/dispatches", response_model=list[DispatchRecord], tags=["dispatch"], summary="Dispatches, oldest first"
    )
    def get_dispatches(since: Since = None, limit: Limit = 100) -> Response:
        return JSONResponse(records.dispatches(since=_text(since), limit=limit))

    @router.get("/callbacks", response_model=list[CallRecord], tags=["call-backs"], summary="Who is to be called back")
    def get_callbacks() -> Response:
        """Calls lost before anybody spoke, of callers who can be called; oldest first, until called or dismissed."""
        return JSONResponse(records.callbacks())

    return router


def _text(since: AwareDatetime | None) -> str | None:
    if since is None:
        return None
    moment = since.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _known(records: RecordsView, call_id: str) -> Row:
    call = records.call(call_id)
    if call is None:
        raise Refused(Cause.UNKNOWN, f"no call {call_id} is on record")
    return call


def _recording(call: Row, records: RecordsView, folder: Path) -> Recording:
    id = str(call["id"])
    try:
        return find(dict(call), lambda: [dict(event) for event in records.events(call_id=id)], folder)
    except NotOnRecord as error:
        raise Refused(Cause.UNKNOWN, str(error)) from error
    except NotPossible as error:
        raise Refused(Cause.CONFLICT, str(error)) from error
