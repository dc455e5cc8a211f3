"""An order becomes rows: incident, dispatches and outbox, committed as one, and followed from there on."""

import asyncio
from collections.abc import Sequence

from siaga_pbx.config import Config
from siaga_pbx.dispatch.compose import ADDRESS_LIMIT, NOTE_LIMIT, Heading, clean, compose, later, passed_on
from siaga_pbx.dispatch.followed import ENGAGED, Followed, escalated, event_of, first_rows, next_rows, plan_of
from siaga_pbx.dispatch.followup import FollowUp, Past
from siaga_pbx.dispatch.ladder import CLOSED, Engage, Escalated
from siaga_pbx.dispatch.message import Dispatch, Kind
from siaga_pbx.dispatch.order import NoAgency, Order, Receipt, UnknownCall, UnknownCategory
from siaga_pbx.dispatch.outbox import Incident, Outbox
from siaga_pbx.dispatch.ports import Clock
from siaga_pbx.dispatch.resume import Resume
from siaga_pbx.records.changes import Change, Event, Insert, Update
from siaga_pbx.records.errors import ChangeRefused, StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store


class Intake:
    """Takes one order at a time: the caller sees to that."""

    def __init__(self, store: Store, reader: Reader, clock: Clock, resume: Resume, outbox: Outbox) -> None:
        self._store, self._reader, self._clock = store, reader, clock
        self._resume, self._outbox = resume, outbox

    async def take(self, order: Order, config: Config) -> Receipt:
        """Commits the order. Raises OrderRefused, StoreUnavailable; then nothing was written."""
        agencies = _agencies_for(order, config)
        call, incidents = await self._look_up(order.call_id)
        incident = await self._open_incident(order, incidents)
        if incident is None:
            return await self._begin(order, config, call, agencies)
        return await self._update(order, config, call, incident, agencies)

    async def engage(self, followed: Followed, engage: Engage, config: Config) -> None:
        """Dispatches another agency in the stead of one that did not answer. Raises StoreUnavailable."""
        utc, step = self._clock.utc(), Escalated(f"agency:{engage.agency}", engage.cause)
        incident = self._outbox.incident(followed.message.incident_id)
        agency = config.agency(engage.agency)
        if incident is None or agency is None:
            reason = "the incident is closed" if incident is None else "no such agency is configured"
            self._store.write([escalated(followed, utc, Escalated(step.step, step.cause, skipped=reason))])
            self._outbox.not_carried_out(followed, step.step, reason)
            return
        other = next((one for one in incident.dispatches.values() if one.agency == agency.id), None)
        if other is not None:  # it is engaged already: then it stands in for this one as well
            engaged = event_of(followed, utc, ENGAGED, {"agency": agency.id, "dispatch_id": other.id})
            await self._commit([escalated(followed, utc, step), engaged])
            other.relieves.add(followed.id)
            self._outbox.carry_out(other, [])
            return
        message = passed_on(followed.message, new_id(), agency.id, utc, later(utc, agency.accept_within_s))
        engaged = event_of(followed, utc, ENGAGED, {"agency": agency.id, "dispatch_id": message.dispatch_id})
        await self._commit([escalated(followed, utc, step), *first_rows(message), engaged])
        fresh = self._fresh(message, config)
        fresh.relieves.add(followed.id)
        self._outbox.follow(incident, fresh)

    # --- the two kinds of order ---------------------------------------------------------------------------------------

    async def _begin(self, order: Order, config: Config, call: Record, agencies: Sequence[str]) -> Receipt:
        utc = self._clock.utc()
        row: Record = {
            "id": new_id(),
            "call_id": order.call_id,
            "category": order.category,
            "lat": call["lat"],
            "lon": call["lon"],
            "note": None,
            "address": None,
            "people": None,
            "protected": False,
            "opened_at": utc,
            "closed_at": None,
            "status": "open",
        }
        row |= _told(order)
        messages = [self._first_message(order, config, call, row, agency, utc) for agency in agencies]
        opened = Event(utc, "call", order.call_id, order.call_id, "incident_opened", _summary(order, row))
        await self._commit([Insert("incident", row), opened, *(c for m in messages for c in first_rows(m))])
        incident = Incident(row)
        self._outbox.follow(incident, *(self._fresh(message, config) for message in messages))
        return Receipt(incident.id, tuple(message.dispatch_id for message in messages))

    async def _update(
        self, order: Order, config: Config, call: Record, incident: Incident, agencies: Sequence[str]
    ) -> Receipt:
        """New sequences for all whom it concerns; agencies that it did not yet concern are dispatched."""
        utc = self._clock.utc()
        told = _told(order) | {name: call[name] for name in ("lat", "lon") if call[name] is not None}
        row = incident.row | told
        by_agency = {followed.agency: followed for followed in incident.dispatches.values()}
        concerned = [f for f in by_agency.values() if f.agency in agencies or f.followup.state not in CLOSED]
        anew = {followed.id for followed in concerned if followed.followup.state in CLOSED}
        updates = {followed.id: self._next_message(order, config, call, row, followed, utc) for followed in concerned}
        new = [agency for agency in agencies if agency not in by_agency]
        messages = [self._first_message(order, config, call, row, agency, utc) for agency in new]
        changes: list[Change] = [Update("incident", incident.id, told)] if told else []
        changes.append(Event(utc, "call", order.call_id, order.call_id, "incident_updated", _summary(order, row)))
        changes += [c for followed in concerned for c in next_rows(followed, updates[followed.id])]
        changes += [c for message in messages for c in first_rows(message)]
        await self._commit(changes)
        incident.row |= told
        for followed in concerned:
            followed.message = updates[followed.id]
            self._outbox.carry_out(followed, followed.followup.update(self._clock.now(), anew=followed.id in anew))
        if messages:
            self._outbox.follow(incident, *(self._fresh(message, config) for message in messages))
        ids = {agency: followed.id for agency, followed in by_agency.items() if followed in concerned}
        ids |= {message.agency: message.dispatch_id for message in messages}
        return Receipt(incident.id, tuple(ids.values()))

    # --- what is on record --------------------------------------------------------------------------------------------

    async def _look_up(self, call_id: str) -> tuple[Record, list[Record]]:
        """The call and its incidents. Raises UnknownCall."""
        found = await asyncio.to_thread(self._read, call_id)
        if found is None:  # it may have been written a moment ago
            await self._commit([])
            found = await asyncio.to_thread(self._read, call_id)
        if found is None:
            raise UnknownCall(f"no call {call_id} is on record")
        return found

    def _read(self, call_id: str) -> tuple[Record, list[Record]] | None:
        call = self._reader.call(call_id)
        return None if call is None else (call, self._reader.incidents(call_id=call_id))

    async def _open_incident(self, order: Order, rows: Sequence[Record]) -> Incident | None:
        """The one that this order updates."""
        for row in reversed(rows):
            incident = self._outbox.incident(str(row["id"]))
            status = (incident.row if incident else row)["status"]
            if row["category"] == order.category and status == "open":
                return incident or await self._recall(str(row["id"]))
        return None

    async def _recall(self, incident_id: str) -> Incident | None:
        incident = await asyncio.to_thread(self._resume.incident, incident_id)
        if incident is not None and self._outbox.incident(incident_id) is None:
            self._outbox.follow(incident)
        return self._outbox.incident(incident_id)

    async def _commit(self, changes: Sequence[Change]) -> None:
        try:
            await asyncio.wrap_future(self._store.commit(changes))
        except ChangeRefused as error:
            raise StoreUnavailable(f"the database refuses it: {error}") from error

    # --- messages -----------------------------------------------------------------------------------------------------

    def _first_message(
        self, order: Order, config: Config, call: Record, incident: Record, agency: str, utc: str
    ) -> Dispatch:
        heading = Heading(
            dispatch_id=new_id(),
            agency=agency,
            sequence=1,
            kind=Kind.ALERT,
            purpose=order.purpose,
            sent_at=utc,
            accept_by=later(utc, plan_of(config.agency(agency)).accept_within_s),
            seat=order.seat,
            centre=config.centre.id,
        )
        return compose(heading, call, incident)

    def _next_message(
        self, order: Order, config: Config, call: Record, incident: Record, followed: Followed, utc: str
    ) -> Dispatch:
        old, followup = followed.message, followed.followup
        anew = followup.state in CLOSED  # or else its deadline stands
        heading = Heading(
            dispatch_id=old.dispatch_id,
            agency=old.agency,
            sequence=followup.sequence + 1,
            kind=Kind.ALERT if anew else Kind.UPDATE,
            purpose=order.purpose,
            sent_at=utc,
            accept_by=later(utc, followup.plan.accept_within_s) if anew else old.accept_by,
            seat=order.seat or old.seat,
            centre=old.centre,
        )
        return compose(heading, call, incident)

    def _fresh(self, message: Dispatch, config: Config) -> Followed:
        now = self._clock.now()
        return Followed(message, FollowUp(plan_of(config.agency(message.agency)), Past(now, now)))


def _agencies_for(order: Order, config: Config) -> Sequence[str]:
    categories: list[str] = [category.id for category in config.dialplan.categories]
    if order.category not in categories:
        known = ", ".join(categories) or "none is configured"
        raise UnknownCategory(f"no category {order.category!r} in the dialplan: {known}")
    agencies = [agency for agency in config.agencies_for(order.category) if config.agency(agency) is not None]
    if not agencies:
        raise NoAgency(f"no agency responds to category {order.category}")
    return agencies


def _told(order: Order) -> Record:
    """What the order says; what it leaves out stays as it was."""
    told: Record = {}
    if order.note:
        told["note"] = clean(order.note, NOTE_LIMIT)
    if order.address:
        told["address"] = clean(order.address, ADDRESS_LIMIT)
    if order.people is not None:
        told["people"] = order.people
    if order.protected:
        told["protected"] = True
    return told


def _summary(order: Order, incident: Record) -> Record:
    return {"incident": incident["id"], "category": order.category, "seat": order.seat, **_told(order)}
