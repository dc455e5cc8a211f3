"""A dispatch as an OASIS Common Alerting Protocol 1.2 message, for systems that take alerts in.

It is private, addressed to its agency. CAP has no word for how far an agency has come: that is a parameter.
"""

from collections.abc import Mapping
from datetime import datetime
from xml.etree.ElementTree import Element

from siaga_pbx.dispatch.export import Origin, Sent, add, in_one_line, place
from siaga_pbx.dispatch.message import Dispatch, Kind
from siaga_pbx.records.times import parse_utc

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
# CAP 1.2, 3.2.2: its own list of categories.
_CATEGORIES: Mapping[str, str] = {
    "fire": "Fire",
    "accident": "Rescue",
    "disaster": "Safety",
    "health": "Health",
    "security": "Security",
    "riot": "Security",
}
_HEADLINE = 160  # characters that a headline should not exceed (CAP 1.2, 3.2.2)


def alert(sent: Sent, origin: Origin) -> str:
    """The CAP message of a dispatch's latest sequence, in one line."""
    row, message = sent.row, sent.message
    root = Element("alert", {"xmlns": NAMESPACE})
    add(root, "identifier", _identifier(message, message.sequence))
    add(root, "sender", _sender(origin))
    add(root, "sent", _time(parse_utc(message.sent_at)))
    add(root, "status", message.status.value.capitalize())
    add(root, "msgType", message.type.value.capitalize())
    add(root, "scope", "Private")
    add(root, "addresses", message.agency)
    if message.type is not Kind.ALERT:  # required for these, CAP 1.2, 3.2.1
        first = _time(parse_utc(str(row["created_at"])))
        add(root, "references", f"{_sender(origin)},{_identifier(message, 1)},{first}")
    add(root, "incidents", message.incident_id)
    _information(root, sent, origin)
    return in_one_line(root)


def _information(root: Element, sent: Sent, origin: Origin) -> None:
    message = sent.message
    info = add(root, "info")
    add(info, "language", "id-ID")
    add(info, "category", _CATEGORIES.get(message.category, "Other"))
    add(info, "event", origin.category(message.category))
    if message.type is Kind.CANCEL:
        add(info, "responseType", "AllClear")
    add(info, "urgency", "Past" if message.type is Kind.CANCEL else "Immediate")
    add(info, "severity", "Unknown")  # nobody has been there yet
    add(info, "certainty", "Likely")  # a caller reports it, and a call-taker believed it
    _pair(info, "eventCode", "siaga-pbx category", message.category)
    add(info, "effective", _time(parse_utc(message.sent_at)))
    add(info, "expires", _time(parse_utc(message.expires_at)))
    add(info, "senderName", origin.name)
    add(info, "headline", f"{origin.category(message.category)}: {place(message)}"[:_HEADLINE])
    if message.note:
        add(info, "description", message.note)
    if message.callback is not None and message.callback.number is not None:
        add(info, "contact", message.callback.number)
    for name, value in _parameters(sent).items():
        _pair(info, "parameter", name, value)
    _area(info, message)


def _parameters(sent: Sent) -> dict[str, str]:
    message, callback = sent.message, sent.message.callback
    found = {
        "state": sent.row["state"],
        "priority": message.priority,
        "people": message.people,
        "accept_by": message.accept_by,
        "protected": str(message.protected).lower(),
        "identity_class": callback.identity_class if callback else None,
        "callable": str(callback.callable).lower() if callback else None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _area(info: Element, message: Dispatch) -> None:
    location = message.location
    if location is None:
        return
    area = add(info, "area")
    add(area, "areaDesc", place(message))
    if location.lat is not None and location.lon is not None:
        radius_km = (location.radius_m or 0.0) / 1000
        add(area, "circle", f"{_number(location.lat)},{_number(location.lon)} {_number(radius_km)}")


def _identifier(message: Dispatch, sequence: int) -> str:
    """Unique with the sender; it has none of the characters that CAP forbids here: space, comma, < and &."""
    return f"{message.dispatch_id}.{sequence}"


def _sender(origin: Origin) -> str:
    return f"{origin.centre}@{origin.domain}"


def _time(moment: datetime) -> str:
    """CAP 1.2, 3.3.2: whole seconds; UTC is -00:00, and never Z."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}-00:00"


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _pair(parent: Element, name: str, value_name: str, value: str) -> None:
    pair = add(parent, name)
    add(pair, "valueName", value_name)
    add(pair, "value", value)
