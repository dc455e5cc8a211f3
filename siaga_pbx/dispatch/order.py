"""What the rest of the daemon asks of `dispatcher.Dispatcher`, and how it is refused."""

from dataclasses import dataclass

from siaga_pbx.dispatch.message import Purpose

MANUAL = "manual"
"""The method of a location that a person gave."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is, in degrees (WGS 84), within `radius_m` metres; `method`: how that was found."""

    lat: float
    lon: float
    radius_m: float | None = None
    method: str = MANUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known. What a later report leaves empty stays as it was.

    `seat`: who reports it. `protected`: the informant's number is in no message.
    """

    note: str = ""
    address: str | None = None
    people: int | None = None
    place: Place | None = None
    seat: str | None = None
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Order(Report):
    """A call-taker's order to dispatch the agencies of a category.

    A second order for the same call and category updates what the first began, and begins anew what was closed.
    """

    call_id: str
    category: str
    purpose: Purpose = Purpose.ACTUAL


@dataclass(frozen=True, slots=True)
class Update(Report):
    """More is known: the agencies that were dispatched are told, no others, and none begins anew.

    It is about the call's open incident; `category` says which, if there are several. `incident_id` names the incident
    of another call: this one is about it too, one caller more.
    """

    call_id: str
    category: str | None = None
    incident_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody is to go any more, or nobody of one `agency`. `category` as in `Update`."""

    call_id: str
    category: str | None = None
    agency: str | None = None
    reason: str = ""
    seat: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """It is durable and is followed from here on, delivered or not. One dispatch an agency."""

    incident_id: str
    dispatch_ids: tuple[str, ...]


class OrderRefused(Exception):
    """The order cannot be carried out; nothing was written. The message is one line for a person."""


class UnknownCall(OrderRefused):
    """No such call is on record."""


class UnknownCategory(OrderRefused):
    """The dialplan has no such category."""


class NoAgency(OrderRefused):
    """No configured agency responds to this category, or the one that is named was not dispatched."""


class NoIncident(OrderRefused):
    """The call has no open incident to update or to cancel."""


class WhichIncident(OrderRefused):
    """It has several."""
