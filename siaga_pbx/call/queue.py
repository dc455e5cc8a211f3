"""The queue: who is offered which call, and when. Pure: every input takes `now` and returns what to do about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from siaga_pbx.call.commands import Command, SeatState
from siaga_pbx.call.events import CallId, Event, SeatId


class QueueSettings(Protocol):
    """Seconds, and the overflow target (None: there is none). `config.QueueSettings` is one."""

    @property
    def ring_s(self) -> float: ...
    @property
    def rest_s(self) -> float: ...
    @property
    def wrap_up_s(self) -> float: ...
    @property
    def widen_s(self) -> float: ...
    @property
    def overflow_s(self) -> float: ...
    @property
    def overflow(self) -> str | None: ...


class SeatSettings(Protocol):
    """`config.Seat` is one."""

    @property
    def id(self) -> SeatId: ...
    @property
    def skills(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class SeatView:
    """`since`: when it entered its state; `call`: what it is offered or talks to; `reason`: of a pause."""

    seat: SeatId
    state: SeatState
    since: float
    reason: str | None
    call: CallId | None
    skills: frozenset[str]
    registered: bool
    suspect: bool


@dataclass(frozen=True, slots=True)
class WaitingView:
    """A caller without a seat. `since`: when it began to wait; `offered`: the seats that ring for it now."""

    call: CallId
    since: float
    priority: int
    skills: frozenset[str]
    offered: tuple[SeatId, ...]
    overflowing: bool


@dataclass(frozen=True, slots=True)
class QueueView:
    """Seats as configured; waiting callers in the order they are served; how many seats are in each state."""

    seats: tuple[SeatView, ...]
    waiting: tuple[WaitingView, ...]
    oldest_since: float | None
    seats_by_state: Mapping[SeatState, int]


class Queue:
    """Callers, seats, and who gets whom.

    Call `start` once the stored registrations are restored, `handle` for each event, `handle_timer` at `next_deadline`,
    `audit` every few seconds. Carry out the commands in order. Nothing raises for what a peer did.
    """

    def __init__(self, settings: QueueSettings, seats: Iterable[SeatSettings]) -> None:
        raise NotImplementedError

    def start(self, now: float) -> list[Command]:
        """Raises the alarm if no seat is registered."""
        raise NotImplementedError

    def handle(self, event: Event, now: float) -> list[Command]:
        raise NotImplementedError

    def handle_timer(self, now: float) -> list[Command]:
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        raise NotImplementedError

    def configure(self, settings: QueueSettings, seats: Iterable[SeatSettings], now: float) -> list[Command]:
        """Takes new settings. Calls and seats keep their state; a seat that is no more leaves when its leg is over."""
        raise NotImplementedError

    def view(self) -> QueueView:
        raise NotImplementedError

    def audit(self, seat_dialogs: Mapping[SeatId, CallId], callers: set[CallId], now: float) -> list[Command]:
        """The watchdog: compares what the queue believes with the dialogs there really are, and repairs.

        `seat_dialogs`: every seat with a leg of a queue call, ringing or up; `callers`: every live caller's leg that
        was given to the queue. A difference is repaired when two audits in a row have found it.
        """
        raise NotImplementedError
