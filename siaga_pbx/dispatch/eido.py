"""An incident as a NENA Emergency Incident Data Object (NENA-STA-021.1, EIDO version 1.0), for other centres' systems.

Values of its registries are used where they are known to fit; the centre's own words stand beside them.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree.ElementTree import Element

from siaga_pbx.dispatch.export import Origin, Sent, add, in_one_line, place
from siaga_pbx.dispatch.message import Dispatch, Location, Purpose
from siaga_pbx.records.reader import Record

Component: TypeAlias = dict[str, object]

# Common incident types (APCO ANS 2.103), which the Incident Type registry holds.
_TYPES: Mapping[str, str] = {
    "fire": "FUNK",
    "accident": "MVAUNK",
    "disaster": "MAJORINC",
    "health": "SICK",
    "riot": "CIVDIS",
}
_UNKNOWN_TROUBLE = "TROUBLE"
# urn:emergency:service:responder.*
_RESPONDERS: Mapping[str, str] = {"fire": "fire", "health": "ems", "security": "police", "riot": "police"}

_PIDF_NAMESPACES = {
    "xmlns": "urn:ietf:params:xml:ns:pidf",
    "xmlns:gp": "urn:ietf:params:xml:ns:pidf:geopriv10",
    "xmlns:gml": "http://www.opengis.net/gml",
    "xmlns:gs": "http://www.opengis.net/pidflo/1.0",
}
_EPSG_2D = "urn:ogc:def:crs:EPSG::4326"
_METRE = "urn:ogc:def:uom:EPSG::9001"


@dataclass(frozen=True, slots=True)
class Case:
    """An incident on record, with what was dispatched (one at least) and its call's row, if that is there still."""

    incident: Record
    dispatches: Sequence[Sent]
    call: Record | None


def document(case: Case, origin: Origin) -> Component:
    """The EIDO, to be written as JSON."""
    return _Writer(case, origin).write()


class _Writer:
    def __init__(self, case: Case, origin: Origin) -> None:
        self._case, self._origin = case, origin
        self._latest = max((sent.message for sent in case.dispatches), key=lambda message: message.sent_at)
        self._agents: dict[str, Component] = {}

    def write(self) -> Component:
        latest, notes, location, callback = self._latest, self._notes(), self._location(), self._callback()
        document: Component = self._prologue(self._urn("incidentid", latest.incident_id))
        document["eidoVersion"] = "1.0"
        document["issuingElementIdentification"] = self._origin.element
        document["incidentComponent"] = self._incident(bool(location))
        if self._case.call is not None:
            document["callComponent"] = [self._call(self._case.call, bool(location), bool(callback))]
        document |= {"callbackComponent": callback} if callback else {}
        document["dispatchComponent"] = [self._dispatch(sent) for sent in self._case.dispatches]
        document["notesComponent"] = notes
        document["agencyComponent"] = self._agencies()
        document |= {"agentComponent": list(self._agents.values())} if self._agents else {}
        document |= {"locationComponent": location} if location else {}
        document["@context"] = {"@vocab": "./JSON-LD_Contexts/EmergencyIncidentDataObjectType.jsonld"}
        return document

    def _incident(self, located: bool) -> Component:
        incident, latest = self._case.incident, self._latest
        component = self._prologue(self._id("incident")) | {
            "incidentTypeCommonRegistryText": _TYPES.get(latest.category, _UNKNOWN_TROUBLE),
            "incidentTypeInternalCode": latest.category,
            "incidentTypeInternalText": self._origin.category(latest.category),
            "incidentStatusCommonRegistryText": ["Closed" if incident["closed_at"] else "Active"],
            "incidentStatusInternalText": [str(incident["status"])],
            "internalIncidentId": latest.incident_id,
            "incidentPriorityInternalText": str(latest.priority),
            "incidentCommonPriorityNumber": 10 - latest.priority,  # theirs: 0 is lowest, 10 highest
            "notesReference": [_reference(self._id("note"))],
        }
        return component | (self._agent(latest) or {}) | (self._located() if located else {})

    def _call(self, call: Record, located: bool, callable_: bool) -> Component:
        state = "callEnd" if call["ended_at"] else "callAnswered" if call["connected_at"] else "callBegin"
        component = self._prologue(self._urn("callid", str(call["id"]))) | {
            "callStateRegistryText": state,
            "standardPrimaryCallType": "emergency",
            "direction": "incoming",
            "callStartTimestamp": str(call["received_at"]),
        }
        component |= {"answerDate": str(call["connected_at"])} if call["connected_at"] else {}
        component |= {"callBackReference": _reference(self._id("callback"))} if callable_ else {}
        return component | (self._agent(self._latest) or {}) | (self._located() if located else {})

    def _callback(self) -> list[Component]:
        callback = self._latest.callback
        if callback is None or callback.number is None:  # none, or protected
            return []
        return [self._prologue(self._id("callback")) | {"callBackInformationUri": [f"tel:{callback.number}"]}]

    def _dispatch(self, sent: Sent) -> Component:
        component = self._prologue(self._id(f"dispatch:{sent.message.dispatch_id}"), sent.message) | {
            "agencyReference": _reference(self._agency_id(sent.message.agency)),
            "notesReference": [_reference(self._id(f"state:{sent.message.dispatch_id}"))],
        }
        agent = self._agent(sent.message)
        return component | ({"agentReference": agent["agentReference"][0]} if agent else {})

    def _notes(self) -> list[Component]:
        latest = self._latest
        facts = [latest.note, f"where: {place(latest)}"]
        facts += [f"people affected: {latest.people}"] if latest.people is not None else []
        facts += [f"this is no incident but a {latest.status}"] if latest.status is not Purpose.ACTUAL else []
        facts += ["the informant's identity is protected"] if latest.protected else []
        notes = [self._note("note", "; ".join(fact for fact in facts if fact), latest)]
        for sent in self._case.dispatches:
            text = f"{sent.message.agency}: {sent.row['state']}"
            notes.append(self._note(f"state:{sent.message.dispatch_id}", text, sent.message))
        return notes

    def _note(self, name: str, text: str, message: Dispatch) -> Component:
        """A note is HTML."""
        return self._prologue(self._id(name), message) | {"notesActionComments": html.escape(text)}

    def _agencies(self) -> list[Component]:
        """The centre, and whom it dispatched."""
        own = self._prologue(self._origin.element) | {
            "agencyRoleDescriptionRegistryText": ["CallReceiving", "Dispatch"],
            "agencyType": ["psap"],
            "incidentOwningAgencyIndicator": True,
        }
        others = []
        for agency in sorted({sent.message.agency for sent in self._case.dispatches}):
            responds = self._origin.agencies.get(agency, ())
            kinds = sorted({_RESPONDERS[one] for one in responds if one in _RESPONDERS}) or ["other"]
            roles = {"agencyRoleDescriptionRegistryText": ["Responding"], "agencyType": kinds}
            others.append(self._prologue(self._agency_id(agency)) | roles)
        return [own, *others]

    def _agent(self, message: Dispatch) -> dict[str, list[Component]] | None:
        """The call-taker's seat; people have no names here."""
        if message.seat is None:
            return None
        id = f"seat-{message.seat}@{self._origin.element}"
        self._agents[id] = self._prologue(id) | {
            "agentRoleRegistryText": ["Call Taking"],
            "agencyReference": _reference(self._origin.element),
            "agentWorkstationPositionIdentification": message.seat,
        }
        return {"agentReference": [_reference(id)]}

    def _location(self) -> list[Component]:
        location = self._latest.location
        if location is None:
            return []
        component = self._prologue(self._id("location")) | {"locationTypeDescriptionRegistryText": "Caller"}
        component |= {"locationDescriptionText": location.address} if location.address else {}
        if location.lat is not None and location.lon is not None:
            component["locationByValue"] = _pidf_lo(location, self._origin, self._latest.sent_at)
        return [component]

    def _located(self) -> Component:
        return {"locationReference": [_reference(self._id("location"))]}

    def _prologue(self, id: str, message: Dispatch | None = None) -> Component:
        at = (message or self._latest).sent_at
        return {
            "$id": id,
            "lastUpdateTimeStamp": at,
            "updatedByAgencyReference": _reference(self._origin.element),
        }

    def _urn(self, kind: str, id: str) -> str:
        """NENA-STA-010: an id of letters and digits, and the element that gave it."""
        return f"urn:emergency:uid:{kind}:{id.replace('-', '')}:{self._origin.element}"

    def _id(self, part: str) -> str:
        return f"{self._urn('incidentid', self._latest.incident_id)}:{part}"

    def _agency_id(self, agency: str) -> str:
        return f"{agency}.{self._origin.domain}"


def _reference(id: str) -> Component:
    return {"$ref": id}


def _pidf_lo(location: Location, origin: Origin, at: str) -> str:
    """RFC 5491: a point, or a circle where the radius is known; latitude first."""
    presence = Element("presence", {**_PIDF_NAMESPACES, "entity": f"pres:caller@{origin.element}"})
    device = add(presence, "tuple", id="caller")
    geopriv = add(add(device, "status"), "gp:geopriv")
    shape = "gs:Circle" if location.radius_m else "gml:Point"
    figure = add(add(geopriv, "gp:location-info"), shape, srsName=_EPSG_2D)
    add(figure, "gml:pos", f"{location.lat} {location.lon}")
    if location.radius_m:
        add(figure, "gs:radius", f"{location.radius_m}", uom=_METRE)
    add(geopriv, "gp:usage-rules")
    if location.method:
        add(geopriv, "gp:method", location.method)
    add(device, "timestamp", at)
    return in_one_line(presence)
