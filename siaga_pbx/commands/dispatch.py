"""`dispatch`: send the agencies of a category to what a call reported, tell them more, or that nobody is to go."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from siaga_pbx.commands.common import Row, load_config
from siaga_pbx.commands.failures import Failed, Misused
from siaga_pbx.commands.running import running_daemon
from siaga_pbx.config import Config
from siaga_pbx.web.centre import CancelRequest, DispatchAsked, DispatchRequest, UpdateRequest

if TYPE_CHECKING:
    from siaga_pbx.dispatch.dispatcher import Dispatcher
    from siaga_pbx.dispatch.order import Receipt


# The options that the API names otherwise.
_MEMBERS = {"incident": "incident_id"}
_PATHS: dict[type[DispatchAsked], str] = {DispatchRequest: "", UpdateRequest: "/update", CancelRequest: "/cancel"}


def dispatch(file: Path | None, call_id: str, asked: Row, *, update: bool, cancel: bool) -> int:
    """By the running daemon; when none runs it is committed here, and the daemon delivers it from its start on."""
    kind = CancelRequest if cancel else UpdateRequest if update else DispatchRequest
    if update and cancel:
        raise Misused("--update or --cancel, not both")
    request = _request(kind, {_MEMBERS.get(name, name): value for name, value in asked.items() if value is not None})
    config = load_config(file)
    with running_daemon(config) as daemon:
        if daemon is not None:
            path = f"/api/v1/calls/{call_id}/dispatches{_PATHS[kind]}"
            receipt = daemon.post(path, request.model_dump(mode="json"))
            incident, dispatches, then = receipt["incident_id"], receipt["dispatch_ids"], "on its way"
        else:
            incident, dispatches = _commit(config, call_id, request)
            then = "sent when the daemon starts: none runs now"
    ids = " ".join(str(one) for one in dispatches) if isinstance(dispatches, Sequence) else ""
    sys.stdout.write(f"incident {incident}, dispatch {ids}: on record, {then}\n")
    return 0


def _request(kind: type[DispatchAsked], asked: Row) -> DispatchAsked:
    values = dict(asked)
    if isinstance(place := values.get("place"), str):
        values["place"] = _place(place)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).removesuffix("_id")
        what = "makes no sense here" if first["type"] == "extra_forbidden" else first["msg"]
        raise Misused(f"--{option}: {what}") from error


def _place(text: str) -> Row:
    """LAT,LON or LAT,LON,METRES."""
    lat, _, rest = text.partition(",")
    lon, _, radius_m = rest.partition(",")
    return {"lat": lat, "lon": lon, "radius_m": radius_m or None}


def _commit(config: Config, call_id: str, request: DispatchAsked) -> tuple[str, Sequence[str]]:
    from siaga_pbx.clock import Clock
    from siaga_pbx.commands.onrecord import records
    from siaga_pbx.dispatch.dispatcher import Dispatcher
    from siaga_pbx.dispatch.order import OrderRefused
    from siaga_pbx.records.errors import RecordsError, StoreInUse
    from siaga_pbx.records.store import Store

    store = Store(config.records.database, journal=config.journal_file)
    with records(config) as reader:
        try:
            # Calls that a crash left open are the daemon's to close, or to take over, when it starts.
            store.open(keep=[str(call["id"]) for call in reader.calls(ended=False)])
            receipt = asyncio.run(_take(Dispatcher(config, store, reader, Clock()), call_id, request))
        except StoreInUse as error:
            raise Failed("a daemon runs but does not answer over HTTP yet: try again") from error
        except (OrderRefused, RecordsError) as error:
            raise Failed(str(error)) from error
        finally:
            store.close()
    return receipt.incident_id, receipt.dispatch_ids


async def _take(dispatcher: "Dispatcher", call_id: str, request: DispatchAsked) -> "Receipt":
    """Not started, so it speaks to no broker: it commits, and that is all."""
    from siaga_pbx.ordering import place_order

    try:
        return await place_order(dispatcher, call_id, request)
    finally:
        await dispatcher.close()
