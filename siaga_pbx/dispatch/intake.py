"""An order becomes rows: incident, dispatches and outbox, committed as one, and followed from there on."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from siaga_pbx.config import Config
from siaga_pbx.dispatch.compose import Heading, compose, improved, passed_on, told_by
from siaga_pbx.dispatch.followed import ENGAGED, Followed, escalated, event_of, first_rows, next_rows, plan_of
from siaga_pbx.dispatch.followup import FollowUp
from siaga_pbx.dispatch.ladder import CLOSED, Engage, Escalated, State
from siaga_pbx.dispatch.lookup import JOINED, Lookup
from siaga_pbx.dispatch.message import Dispatch, Kind, Purpose
from siaga_pbx.dispatch.order import Cancel, NoAgency, NoIncident, Order, Receipt, Report, UnknownCategory, Update
from siaga_pbx.dispatch.outbox import Incident, Outbox
from siaga_pbx.dispatch.plan import Past
from siaga_pbx.dispatch.ports import Clock
from siaga_pbx.records import changes as record
from siaga_pbx.records.changes import Change, Event, Insert
from siaga_pbx.records.errors import ChangeRefused, StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import later


class Intake:
    """Takes one order at a time: the caller sees to that. What is refused (OrderRefused, StoreUnavailable) has left
    nothing behind.
    """

    def __init__(self, store: Store, clock: Clock, lookup: Lookup, outbox: Outbox) -> None:
        self._store, self._clock, self._lookup, self._outbox = store, clock, lookup, outbox

    async def take(self, order: Order, config: Config) -> Receipt:
        """Dispatches the agencies of a category, or tells them more."""
        agencies = _agencies_for(order, config)
        call, incident = await self._lookup.ordered(order.call_id, order.category)
        if incident is None:
            return await self._begin(order, config, call, agencies)
        told = improved(order, incident.row, call) | told_by(order)
        concerned = [
            followed
            for followed in incident.dispatches.values()
            if followed.agency in agencies or followed.followup.state not in CLOSED
        ]
        known = {followed.agency for followed in incident.dispatches.values()}
        draft = _Draft(self._clock.utc(), config, call, incident.row | told, order.seat, order.purpose)
        nexts = {f.id: draft.next(f, Kind.ALERT if f.followup.state in CLOSED else Kind.UPDATE) for f in concerned}
        firsts = [draft.first(agency) for agency in agencies if agency not in known]
        event = draft.event(order.call_id, "incident_updated", told)
        return await self._send(incident, told, [event], nexts, firsts, config)

    async def update(self, update: Update, config: Config) -> Receipt:
        """Tells those who are dispatched more. Raises NoIncident when there is nobody to tell."""
        call = await self._lookup.call(update.call_id)
        if update.incident_id is not None:
            incident = await self._lookup.named(update.incident_id)
        else:
            incident = await self._lookup.concerned(update.call_id, update.category)
        told = improved(update, incident.row, call) | told_by(update)
        events = []
        joins = not await self._lookup.has_joined(update.call_id, incident)
        if joins:
            told["callers"] = _count(incident.row["callers"]) + 1
            call = await self._lookup.call(str(incident.row["call_id"]))
        concerned = [f for f in incident.dispatches.values() if f.followup.state not in CLOSED]
        if not concerned:
            raise NoIncident(f"nobody is dispatched to incident {incident.id} any more: order anew")
        purpose = concerned[0].message.status
        draft = _Draft(self._clock.utc(), config, call, incident.row | told, update.seat, purpose)
        if joins:
            events.append(draft.event(update.call_id, JOINED, {}))
        events.append(draft.event(str(incident.row["call_id"]), "incident_updated", told | {"by": update.call_id}))
        nexts = {followed.id: draft.next(followed, Kind.UPDATE) for followed in concerned}
        return await self._send(incident, told, events, nexts, [], config)

    async def relocate(self, call_id: str, config: Config) -> None:
        """The record knows better where a caller is: those who are dispatched are told, where it is news to them."""
        await self._commit([])  # the news may have been written a moment ago
        for incident in await self._lookup.all_of(call_id):
            better = improved(Report(), incident.row, await self._lookup.call(call_id))
            if any(incident.row[column] != value for column, value in better.items()):
                with suppress(NoIncident):  # nobody goes there any more
                    await self.update(Update(call_id=call_id, incident_id=incident.id), config)

    async def cancel(self, cancel: Cancel, config: Config) -> Receipt:
        """Tells them that nobody is to go. Raises NoAgency when the one that is named was not dispatched."""
        await self._lookup.call(cancel.call_id)
        incident = await self._lookup.concerned(cancel.call_id, cancel.category)
        call = await self._lookup.call(str(incident.row["call_id"]))
        concerned = [
            followed
            for followed in incident.dispatches.values()
            if cancel.agency in (None, followed.agency)
            and followed.followup.state not in (State.CLEARED, State.CANCELLED)
        ]
        if not concerned:
            raise NoAgency(f"incident {incident.id}: {cancel.agency or 'nobody'} is not dispatched to it")
        purpose = concerned[0].message.status
        draft = _Draft(self._clock.utc(), config, call, incident.row, cancel.seat, purpose, cancel.reason)
        nexts = {followed.id: draft.next(followed, Kind.CANCEL) for followed in concerned}
        data: Record = {"agencies": [followed.agency for followed in concerned], "reason": cancel.reason}
        event = draft.event(cancel.call_id, "incident_cancelled", data)
        return await self._send(incident, {}, [event], nexts, [], config, cancel.reason)

    async def engage(self, followed: Followed, engage: Engage, config: Config) -> None:
        """Dispatches another agency in the stead of one that did not answer. Raises StoreUnavailable."""
        utc, step = self._clock.utc(), Escalated(f"agency:{engage.agency}", engage.cause)
        incident = self._outbox.incident(followed.message.incident_id)
        agency = config.agency(engage.agency)
        if incident is None or agency is None or not followed.followup.escalates:
            reason = "no such agency is configured" if agency is None else "nobody waits for it any more"
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
        await self._commit([escalated(followed, utc, step), *first_rows(message, plan_of(agency)), engaged])
        fresh = self._fresh(message, config)
        fresh.relieves.add(followed.id)
        self._outbox.follow(incident, fresh)

    # --- rows ---------------------------------------------------------------------------------------------------------

    async def _begin(self, order: Order, config: Config, call: Record, agencies: Sequence[str]) -> Receipt:
        utc = self._clock.utc()
        row: Record = {
            "id": new_id(),
            "call_id": order.call_id,
            "category": order.category,
            **dict.fromkeys(("note", "address", "people", "lat", "lon", "radius_m", "location_method", "closed_at")),
            "protected": False,
            "callers": 1,
            "opened_at": utc,
            "status": "open",
        }
        row |= improved(order, row, call) | told_by(order)
        draft = _Draft(utc, config, call, row, order.seat, order.purpose)
        messages = [draft.first(agency) for agency in agencies]
        opened = draft.event(order.call_id, "incident_opened", told_by(order))
        rows = [change for one in messages for change in first_rows(one, plan_of(config.agency(one.agency)))]
        await self._commit([Insert("incident", row), opened, *rows])
        self._outbox.follow(Incident(row), *(self._fresh(message, config) for message in messages))
        return Receipt(str(row["id"]), tuple(message.dispatch_id for message in messages))

    async def _send(
        self,
        incident: Incident,
        told: Record,
        events: Sequence[Change],
        nexts: Mapping[str, Dispatch],
        firsts: Sequence[Dispatch],
        config: Config,
        reason: str = "",
    ) -> Receipt:
        """New sequences for those who are dispatched, first ones for those who were not yet; committed as one."""
        changes: list[Change] = [record.Update("incident", incident.id, told)] if told else []
        changes += events
        changes += [c for id, message in nexts.items() for c in next_rows(incident.dispatches[id], message, reason)]
        changes += [c for one in firsts for c in first_rows(one, plan_of(config.agency(one.agency)))]
        await self._commit(changes)
        incident.row |= told
        for id, message in nexts.items():
            followed, now = incident.dispatches[id], self._clock.now()
            followed.message = message
            if message.type is Kind.CANCEL:
                outputs = followed.followup.cancel(now)
            else:
                outputs = followed.followup.update(now, anew=message.type is Kind.ALERT)
            self._outbox.carry_out(followed, outputs)
        if firsts:
            self._outbox.follow(incident, *(self._fresh(message, config) for message in firsts))
        return Receipt(incident.id, (*nexts, *(message.dispatch_id for message in firsts)))

    async def _commit(self, changes: Sequence[Change]) -> None:
        try:
            await asyncio.wrap_future(self._store.commit(changes))
        except ChangeRefused as error:
            raise StoreUnavailable(f"the database refuses it: {error}") from error

    def _fresh(self, message: Dispatch, config: Config) -> Followed:
        now = self._clock.now()
        return Followed(message, FollowUp(plan_of(config.agency(message.agency)), Past(now, now)))


class _Draft:
    """What one order says to whom it concerns. `call` is the one that opened the incident; both are rows."""

    def __init__(
        self,
        utc: str,
        config: Config,
        call: Record,
        incident: Record,
        seat: str | None,
        purpose: Purpose,
        reason: str = "",
    ) -> None:
        self._utc, self._config, self._call, self._incident = utc, config, call, incident
        self._seat, self._purpose, self._reason = seat, purpose, reason

    def first(self, agency: str) -> Dispatch:
        """The first message of a new dispatch."""
        heading = Heading(
            dispatch_id=new_id(),
            agency=agency,
            sequence=1,
            kind=Kind.ALERT,
            purpose=self._purpose,
            sent_at=self._utc,
            accept_by=later(self._utc, plan_of(self._config.agency(agency)).accept_within_s),
            seat=self._seat,
            centre=self._config.centre.id,
        )
        return compose(heading, self._call, self._incident)

    def next(self, followed: Followed, kind: Kind) -> Dispatch:
        """The next sequence of one that is followed. An alert asks anew; else its deadline stands."""
        old, followup = followed.message, followed.followup
        anew = kind is Kind.ALERT
        heading = Heading(
            dispatch_id=old.dispatch_id,
            agency=old.agency,
            sequence=followup.sequence + 1,
            kind=kind,
            purpose=self._purpose,
            sent_at=self._utc,
            accept_by=later(self._utc, followup.plan.accept_within_s) if anew else old.accept_by,
            seat=self._seat or old.seat,
            centre=old.centre,
        )
        return compose(heading, self._call, self._incident, self._reason)

    def event(self, call_id: str, kind: str, told: Record) -> Event:
        """The step on a call's record."""
        data = {"incident": self._incident["id"], "category": self._incident["category"], "seat": self._seat}
        return Event(self._utc, "call", call_id, call_id, kind, data | told)


def _agencies_for(order: Order, config: Config) -> Sequence[str]:
    categories: list[str] = [category.id for category in config.dialplan.categories]
    if order.category not in categories:
        known = ", ".join(categories) or "none is configured"
        raise UnknownCategory(f"no category {order.category!r} in the dialplan: {known}")
    agencies = [agency for agency in config.agencies_for(order.category) if config.agency(agency) is not None]
    if not agencies:
        raise NoAgency(f"no agency responds to category {order.category}")
    return agencies


def _count(value: object) -> int:
    return value if isinstance(value, int) else 1
