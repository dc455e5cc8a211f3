"""`dispatch`: send the agencies of a category to what a call reported."""

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
from siaga_pbx.web.centre import DispatchRequest

if TYPE_CHECKING:
    from siaga_pbx.dispatch.dispatcher import Dispatcher
    from siaga_pbx.dispatch.order import Order, Receipt


def dispatch(file: Path | None, call_id: str, asked: Row) -> int:
    """By the running daemon; when none runs it is committed here, and the daemon delivers it from its start on."""
    request = _request(asked)
    config = load_config(file)
    with running_daemon(config) as daemon:
        if daemon is not None:
            receipt = daemon.post(f"/api/v1/calls/{call_id}/dispatches", request.model_dump(mode="json"))
            incident, dispatches, then = receipt["incident_id"], receipt["dispatch_ids"], "on its way"
        else:
            incident, dispatches = _commit(config, call_id, request)
            then = "sent when the daemon starts: none runs now"
    ids = " ".join(str(one) for one in dispatches) if isinstance(dispatches, Sequence) else ""
    sys.stdout.write(f"incident {incident}, dispatch {ids}: on record, {then}\n")
    return 0


def _request(asked: Row) -> DispatchRequest:
    try:
        return DispatchRequest.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        raise Misused(f"--{first['loc'][0]}: {first['msg']}") from error


def _commit(config: Config, call_id: str, request: DispatchRequest) -> tuple[str, Sequence[str]]:
    from siaga_pbx.clock import Clock
    from siaga_pbx.commands.onrecord import records
    from siaga_pbx.dispatch.dispatcher import Dispatcher
    from siaga_pbx.dispatch.order import Order, OrderRefused
    from siaga_pbx.records.errors import RecordsError, StoreInUse
    from siaga_pbx.records.store import Store

    order = Order(call_id, **request.model_dump())
    store = Store(config.records.database, journal=config.journal_file)
    with records(config) as reader:
        try:
            # Calls that a crash left open are the daemon's to close, or to take over, when it starts.
            store.open(keep=[str(call["id"]) for call in reader.calls(ended=False)])
            receipt = asyncio.run(_take(Dispatcher(config, store, reader, Clock()), order))
        except StoreInUse as error:
            raise Failed("a daemon runs but does not answer over HTTP yet: try again") from error
        except (OrderRefused, RecordsError) as error:
            raise Failed(str(error)) from error
        finally:
            store.close()
    return receipt.incident_id, receipt.dispatch_ids


async def _take(dispatcher: "Dispatcher", order: "Order") -> "Receipt":
    """Not started, so it speaks to no broker: it commits, and that is all."""
    try:
        return await dispatcher.dispatch(order)
    finally:
        await dispatcher.close()
