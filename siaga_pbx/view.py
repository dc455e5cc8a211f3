"""The running centre as the HTTP side sees it: `web.centre.CentreView`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from importlib.metadata import version

from siaga_pbx.build import Parts
from siaga_pbx.call import events as told
from siaga_pbx.call.commands import SeatState
from siaga_pbx.call.view import QueueView
from siaga_pbx.dispatch import order as orders
from siaga_pbx.dispatch.order import OrderRefused
from siaga_pbx.legs import Caller, Role
from siaga_pbx.ordering import place_order
from siaga_pbx.records.changes import Event, Row, Upsert
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.times import utc_text
from siaga_pbx.web import centre as web

_CAUSES: dict[type[OrderRefused], web.Cause] = {
    orders.UnknownCall: web.Cause.UNKNOWN,
    orders.NoIncident: web.Cause.UNKNOWN,
    orders.WhichIncident: web.Cause.CONFLICT,
    orders.UnknownCategory: web.Cause.INVALID,
    orders.NoAgency: web.Cause.INVALID,
}


class View:
    """Implements CentreView. Built when the parts are; nothing here blocks but what is awaited."""

    def __init__(
        self,
        parts: Parts,
        *,
        state: Callable[[], web.CentreState],
        sip_bound: Callable[[], bool],
        reload: Callable[[], Awaitable[tuple[str, ...]]],
    ) -> None:
        self._parts, self._state, self._sip_bound, self._reload = parts, state, sip_bound, reload
        self._started_at = parts.clock.utc()

    def status(self) -> web.Status:
        parts = self._parts
        config, queue = parts.config, parts.queue.view()
        return web.Status(
            centre=config.centre.id,
            name=config.centre.name,
            node=config.centre.id,
            version=version("siaga-pbx"),
            state=self._state(),
            at=parts.clock.utc(),
            started_at=self._started_at,
            queue=web.QueueStatus(waiting=len(queue.waiting), oldest_s=self.oldest_s(queue)),
            seats=self._seats(queue),
            calls=tuple(self._call(caller, queue) for caller in parts.switch.callers.live.values()),
            trunks=tuple(web.TrunkStatus(id=t.id, up=parts.hub.trunks_up.get(t.id)) for t in config.trunks),
            mqtt_connected=parts.dispatcher.connected,
            agencies=tuple(
                web.AgencyStatus(id=a.id, name=a.name, online=parts.dispatcher.agencies.get(a.id))
                for a in config.agencies
            ),
            outbox=web.OutboxStatus(pending=parts.dispatcher.pending, oldest_s=round(parts.dispatcher.oldest_s, 1)),
            journal_pending=parts.pending(),
            alarms=tuple(
                web.AlarmStatus(name=a.name, since=a.since, detail=a.detail) for a in parts.alarms.active.values()
            ),
            categories=tuple(web.CategoryStatus(id=c.id, name=c.name) for c in config.dialplan.categories),
        )

    def oldest_s(self, queue: QueueView) -> float:
        """How long the longest waiting caller has waited."""
        if queue.oldest_since is None:
            return 0.0
        return round(max(0.0, self._parts.tools.now() - queue.oldest_since), 1)

    def checks(self) -> Sequence[web.Check]:
        parts = self._parts
        state = self._state()
        return (
            web.Check(name="configuration", ok=True),
            web.Check(name="sip", ok=self._sip_bound(), detail="the SIP sockets are not bound"),
            web.Check(name="media", ok=parts.media.available, detail="no media worker answers"),
            web.Check(name="state", ok=state is web.CentreState.RUNNING, detail=f"the daemon is {state.value}"),
        )

    async def reload(self) -> web.Reloaded:
        return web.Reloaded(restart=await self._reload())

    async def dispatch(self, order: web.DispatchOrder) -> web.DispatchReceipt:
        return await self._order(order.call_id, order)

    async def update_dispatches(self, call_id: str, update: web.UpdateRequest) -> web.DispatchReceipt:
        return await self._order(call_id, update)

    async def cancel_dispatches(self, call_id: str, cancel: web.CancelRequest) -> web.DispatchReceipt:
        return await self._order(call_id, cancel)

    async def _order(self, call_id: str, asked: web.DispatchAsked) -> web.DispatchReceipt:
        try:
            receipt = await place_order(self._parts.dispatcher, call_id, asked)
        except OrderRefused as error:
            raise web.Refused(_CAUSES[type(error)], str(error)) from error
        except RecordsError as error:
            raise web.Refused(web.Cause.UNAVAILABLE, str(error)) from error
        return web.DispatchReceipt(incident_id=receipt.incident_id, dispatch_ids=receipt.dispatch_ids)

    def pause_seat(self, seat_id: str, reason: str | None) -> None:
        self._known(seat_id)
        self._parts.switch.tell(told.SeatPaused(seat_id, reason))

    def ready_seat(self, seat_id: str) -> None:
        if self._known(seat_id) is SeatState.OFFLINE:
            raise web.Refused(web.Cause.CONFLICT, f"seat {seat_id} is not registered")
        self._parts.switch.tell(told.SeatReady(seat_id))

    async def dismiss_callback(self, call_id: str, reason: str) -> None:
        parts = self._parts
        try:
            rows = await asyncio.to_thread(parts.reader.callbacks)
            if all(row["id"] != call_id for row in rows):
                raise web.Refused(web.Cause.UNKNOWN, f"call {call_id} is not on the call-back list")
            at = parts.clock.utc()
            row = {"id": call_id, "state": "dismissed", "at": at, "seat_id": None, "reason": reason}
            event = Event(at, "call", call_id, call_id, "callback_dismissed", {"reason": reason})
            done: Future[None] = parts.store.commit([Upsert("callback", row), event])
            await asyncio.wrap_future(done)
        except RecordsError as error:
            raise web.Refused(web.Cause.UNAVAILABLE, str(error)) from error

    def _known(self, seat_id: str) -> SeatState:
        for seat in self._parts.queue.view().seats:
            if seat.seat == seat_id:
                return seat.state
        raise web.Refused(web.Cause.UNKNOWN, f"there is no seat {seat_id}")

    def _seats(self, queue: QueueView) -> tuple[web.SeatStatus, ...]:
        names = {seat.id: seat.name or seat.id for seat in self._parts.config.seats}
        return tuple(
            web.SeatStatus(
                id=seat.seat,
                name=names.get(seat.seat, seat.seat),
                state=seat.state.value,
                reason=seat.reason,
                since=self._wall(seat.since),
                call_id=seat.call,
                skills=tuple(sorted(seat.skills)),
            )
            for seat in queue.seats
        )

    def _call(self, caller: Caller, queue: QueueView) -> web.LiveCall:
        state, since = web.CallState.WAITING, caller.arrived
        waiting = next((one for one in queue.waiting if one.call == caller.id), None)
        if caller.leg.role is Role.TEST:
            state = web.CallState.TEST
        elif caller.connected is not None:
            state = web.CallState.OVERFLOW if caller.connected == "overflow" else web.CallState.TALKING
        elif waiting is not None and waiting.offered:
            state = web.CallState.OFFERED
        return web.LiveCall(
            id=caller.id,
            state=state,
            trunk=caller.leg.trunk or "",
            received_at=caller.received_at,
            since=self._wall(since),
            seat_id=caller.connected if state is web.CallState.TALKING else None,
            identity_class=caller.identity_class,
            callable=caller.callable,
            priority=caller.priority,
            caller_number=caller.number,
            place=_place(self._parts.tools.log.row(caller.id)),
            unheard=self._parts.hub.audio.unheard_in(caller.id),
            on_hold_since=self._wall(caller.other.held_since) if caller.other and caller.other.held_since else None,
        )

    def _wall(self, moment: float) -> str:
        tools = self._parts.tools
        return utc_text(tools.epoch() - (tools.now() - moment))


def _place(row: Row) -> web.CallerPlace | None:
    """Where the network says that a caller is, of the call's row."""
    columns = {"lat": "lat", "lon": "lon", "radius_m": "radius_m", "method": "location_method", "address": "address"}
    known = {name: row[column] for name, column in columns.items() if row.get(column) is not None}
    return web.CallerPlace.model_validate(known) if known.keys() & {"lat", "address"} else None
