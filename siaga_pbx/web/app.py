"""The HTTP side of the centre, put together: `create_app` gives the ASGI app that `server.HttpServer` runs."""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from siaga_pbx.web.accesses import Accounted, Note
from siaga_pbx.web.centre import CentreView
from siaga_pbx.web.console import console
from siaga_pbx.web.gate import Gate
from siaga_pbx.web.history import history
from siaga_pbx.web.live import live
from siaga_pbx.web.operations import operations
from siaga_pbx.web.problem import Problem, answer_with_problems
from siaga_pbx.web.protection import Keeper, accesses, protection
from siaga_pbx.web.quarantine import Payload, quarantine
from siaga_pbx.web.records import RecordsView
from siaga_pbx.web.traces import Message as TracedBytes
from siaga_pbx.web.traces import traces

DESCRIPTION = """
The interface of a 112 centre: what goes on now, what is on record, and what may be asked of it.

**Sign-in.** `Authorization: Bearer TOKEN`; the token stands in `siaga.token` beside the centre's database, readable by
the daemon's user. On the machine itself metrics, health and live status need none; whatever changes something or shows
a caller does, and from any other machine so does everything.

**Forms.** Times are UTC, always `2026-11-24T00:00:00.000Z`; ids are UUIDv7 and sort by time; the keys of what is on
record are the column names of the database. Lists are oldest first. An error is `application/problem+json` (RFC 9457)
with one clear line in `detail`, and then nothing has changed.
"""


def _no_trace(_call_id: str) -> Sequence[TracedBytes]:
    return ()


def _unnoted(by: str, what: str, call_id: str | None, query: str) -> None:
    """For a server over no records of anybody, such as a test's."""


_TOKEN = {"type": "http", "scheme": "bearer", "description": "the content of siaga.token"}


def _tell_of_the_token(app: FastAPI) -> None:
    """In the description alone: the gate decides, and FastAPI's own way would look for it in each request once more."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        document["components"]["securitySchemes"] = {"HTTPBearer": _TOKEN}
        return document | {"security": [{"HTTPBearer": []}]}

    app.openapi = openapi  # type: ignore[method-assign]


def create_app(
    centre: CentreView,
    token: str,
    *,
    records: RecordsView,
    registry: CollectorRegistry,
    outage: type[Exception],
    recordings: Path,
    quarantined: Callable[[], Sequence[Payload]] = tuple,
    traced: Callable[[str], Sequence[TracedBytes]] = _no_trace,
    keeper: Keeper | None = None,
    note: Note = _unnoted,
    host: str = "127.0.0.1",
    names: Iterable[str] = (),
) -> ASGIApp:
    """The app, behind its gate.

    `records` is read in worker threads and raises `outage` when it cannot be; `recordings` is the folder of the audio
    files, `quarantined` gives what came from agencies and could not be used, `traced` the SIP messages of a call.
    `keeper` holds and erases (None: no routes for it), `note` is told who reads of a caller.
    `host` is the address listened on, `names` are further host names that the server is reached by (a proxy's).
    """
    app = FastAPI(
        title="siaga-pbx",
        version=version("siaga-pbx"),
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={401: {"model": Problem, "description": "the token is missing or wrong"}},
    )
    answer_with_problems(app, outage)
    shown = quarantine(quarantined), traces(traced)
    routers = (operations(centre, registry), live(centre), history(records, recordings), *shown)
    kept = (accesses(note), *(() if keeper is None else (protection(keeper),)))
    for router in (*routers, *kept):
        app.include_router(router)
    app.include_router(console())
    _tell_of_the_token(app)
    return Gate(Accounted(app, note), token=token, host=host, names=names)
