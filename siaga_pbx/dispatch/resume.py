"""Incidents from the database, with their dispatches as they stand. These block: call them from a thread."""

import json
from collections.abc import Callable, Mapping

import structlog

from siaga_pbx.dispatch.followed import ENGAGED, Followed, past_of
from siaga_pbx.dispatch.followup import LIFETIME_S, FollowUp
from siaga_pbx.dispatch.message import Dispatch, PayloadError
from siaga_pbx.dispatch.outbox import Incident
from siaga_pbx.dispatch.plan import Plan
from siaga_pbx.dispatch.ports import Clock
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.times import later

log = structlog.get_logger(__name__)

_RESUMED_S = 2 * LIFETIME_S  # what is older is read when its agency answers


class Resume:
    """Reads incidents. `plan(agency)` is what the configuration gives an agency. All raise StoreUnavailable."""

    def __init__(self, reader: Reader, clock: Clock, plan: Callable[[str], Plan]) -> None:
        self._reader, self._clock, self._plan = reader, clock, plan

    def open_incidents(self) -> list[Incident]:
        """Those that are not closed and not old, or of which an agency has not received the latest; oldest first."""
        since = later(self._clock.utc(), -_RESUMED_S)
        rows = {str(row["id"]): row for row in self._reader.incidents(since=since, status="open")}
        outbox = self._outbox()
        for dispatch_id in outbox:
            dispatch = self._reader.dispatch(dispatch_id)
            row = self._reader.incident(str(dispatch["incident_id"])) if dispatch is not None else None
            if row is not None and row["status"] == "open":
                rows[str(row["id"])] = row
        return [self._incident(row, outbox) for row in sorted(rows.values(), key=lambda row: str(row["opened_at"]))]

    def incident(self, incident_id: str) -> Incident | None:
        """One incident, open or closed."""
        row = self._reader.incident(incident_id)
        return None if row is None else self._incident(row, self._outbox())

    def incident_of_dispatch(self, dispatch_id: str) -> Incident | None:
        """The incident that a dispatch belongs to."""
        row = self._reader.dispatch(dispatch_id)
        return None if row is None else self.incident(str(row["incident_id"]))

    def _outbox(self) -> Mapping[str, Record]:
        return {str(row["dispatch_id"]): row for row in self._reader.outbox()}

    def _incident(self, row: Record, outbox: Mapping[str, Record]) -> Incident:
        incident = Incident(row)
        relieves: dict[str, set[str]] = {}
        for dispatch in self._reader.dispatches(incident_id=incident.id):
            id = str(dispatch["id"])
            events = self._reader.events(subject="dispatch", subject_id=id)
            for event in events:
                if event["kind"] == ENGAGED and isinstance(event["data"], dict):
                    relieves.setdefault(str(event["data"].get("dispatch_id")), set()).add(id)
            try:
                message = Dispatch.parse(json.dumps(dispatch["message"]).encode())
            except PayloadError as error:  # erased
                log.info("dispatch not followed", dispatch=id, reason=str(error))
                continue
            past = past_of(dispatch, outbox.get(id), events, self._clock.now(), self._clock.utc())
            followed = Followed(message, FollowUp(self._plan(message.agency), past))
            followed.attempts = int(str(dispatch["attempts"]))
            incident.dispatches[id] = followed
        for id, relieved in relieves.items():
            if id in incident.dispatches:
                incident.dispatches[id].relieves |= relieved
        return incident
