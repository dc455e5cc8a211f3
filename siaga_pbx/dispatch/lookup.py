"""Which call and which incident an order is about: what is followed, or else what is on record."""

import asyncio
from collections.abc import Sequence

from siaga_pbx.dispatch.order import NoIncident, UnknownCall, WhichIncident
from siaga_pbx.dispatch.outbox import Incident, Outbox
from siaga_pbx.dispatch.resume import Resume
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store

JOINED = "incident_joined"
"""The kind of a call's event: it is about an incident that another call has opened."""


class Lookup:
    """All raise StoreUnavailable when the database cannot be read."""

    def __init__(self, store: Store, reader: Reader, resume: Resume, outbox: Outbox) -> None:
        self._store, self._reader, self._resume, self._outbox = store, reader, resume, outbox

    async def call(self, call_id: str) -> Record:
        """Raises UnknownCall."""
        call, _ = await self._look_up(call_id)
        return call

    async def ordered(self, call_id: str, category: str) -> tuple[Record, Incident | None]:
        """The call, and its open incident of a category, if there is one. Raises UnknownCall."""
        call, incidents = await self._look_up(call_id)
        found = await self._open(incidents, category)
        return call, found[-1] if found else None

    async def concerned(self, call_id: str, category: str | None) -> Incident:
        """The open incident that a call has opened, or has joined. Raises NoIncident, WhichIncident."""
        found = [one for one in await self.all_of(call_id) if category in (None, one.row["category"])]
        if not found:
            raise NoIncident(f"call {call_id} has no open incident{f' of category {category}' if category else ''}")
        if category is None and len(found) > 1:
            categories = ", ".join(str(incident.row["category"]) for incident in found)
            raise WhichIncident(f"call {call_id} has several open incidents: name the category ({categories})")
        return found[-1]

    async def all_of(self, call_id: str) -> list[Incident]:
        """The open incidents that a call has opened, or has joined."""
        rows = await asyncio.to_thread(lambda: [*self._joined_by(call_id), *self._opened_by(call_id)])
        return await self._open(rows, None)

    async def named(self, incident_id: str) -> Incident:
        """The open incident of that id. Raises NoIncident."""
        row = await asyncio.to_thread(self._reader.incident, incident_id)
        found = await self._open([row] if row else [], None)
        if not found:
            raise NoIncident(f"no open incident {incident_id} is on record")
        return found[0]

    async def has_joined(self, call_id: str, incident: Incident) -> bool:
        """Whether the call is one of those that the incident counts."""
        if call_id == incident.row["call_id"]:
            return True
        rows = await asyncio.to_thread(self._joined_by, call_id)
        return any(row["id"] == incident.id for row in rows)

    # --- what is on record --------------------------------------------------------------------------------------------

    async def _look_up(self, call_id: str) -> tuple[Record, list[Record]]:
        """The call and the incidents that it opened, by one turn of a thread: whoever orders waits for it."""
        found = await asyncio.to_thread(self._reader.call_with_incidents, call_id)
        if found is None:  # it may have been written a moment ago
            await asyncio.wrap_future(self._store.commit([]))
            found = await asyncio.to_thread(self._reader.call_with_incidents, call_id)
        if found is None:
            raise UnknownCall(f"no call {call_id} is on record")
        return found

    def _opened_by(self, call_id: str) -> list[Record]:
        return self._reader.incidents(call_id=call_id)

    def _joined_by(self, call_id: str) -> list[Record]:
        events = self._reader.events(subject="call", subject_id=call_id)
        ids = [event["data"].get("incident") for event in events if _is_joining(event)]  # type: ignore[attr-defined]
        rows = (self._reader.incident(str(id)) for id in dict.fromkeys(ids))
        return [row for row in rows if row is not None]

    async def _open(self, rows: Sequence[Record], category: str | None) -> list[Incident]:
        """Those that are open by what is known now, in the order of `rows`."""
        found = []
        for row in rows:
            incident = self._outbox.incident(str(row["id"]))
            status = (incident.row if incident else row)["status"]
            if status == "open" and category in (None, row["category"]):
                incident = incident or await self._recall(str(row["id"]))
                found += [incident] if incident else []
        return found

    async def _recall(self, incident_id: str) -> Incident | None:
        incident = await asyncio.to_thread(self._resume.incident, incident_id)
        if incident is not None and self._outbox.incident(incident_id) is None:
            self._outbox.follow(incident)
        return self._outbox.incident(incident_id)


def _is_joining(event: Record) -> bool:
    return event["kind"] == JOINED and isinstance(event["data"], dict)
