"""What the rest of the daemon asks of `dispatcher.Dispatcher`, and how it is refused."""

from dataclasses import dataclass

from siaga_pbx.dispatch.message import Purpose


@dataclass(frozen=True, slots=True)
class Order:
    """A call-taker's order to dispatch the agencies of a category.

    A second order for the same call and category updates what the first began: what it leaves empty stays as it was.
    `seat`: who orders it. `protected`: the informant's number is in no message.
    """

    call_id: str
    category: str
    note: str = ""
    address: str | None = None
    people: int | None = None
    seat: str | None = None
    protected: bool = False
    purpose: Purpose = Purpose.ACTUAL


@dataclass(frozen=True, slots=True)
class Receipt:
    """The order is durable and is followed from here on, delivered or not. One dispatch an agency."""

    incident_id: str
    dispatch_ids: tuple[str, ...]


class OrderRefused(Exception):
    """The order cannot be carried out; nothing was written. The message is one line for a person."""


class UnknownCall(OrderRefused):
    """No such call is on record."""


class UnknownCategory(OrderRefused):
    """The dialplan has no such category."""


class NoAgency(OrderRefused):
    """No configured agency responds to this category."""
