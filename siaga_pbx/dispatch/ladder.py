"""The words of a dispatch's follow-up: its states, its alarms, and what `followup.FollowUp` asks to be carried out."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias


class State(StrEnum):
    """How far a dispatch has come. States never go back; a rejection and an acceptance may take each other back."""

    PENDING = "pending"
    PUBLISHED = "published"
    RECEIVED = "received"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EN_ROUTE = "en_route"
    ON_SCENE = "on_scene"
    CLEARED = "cleared"
    FAILED = "failed"
    CANCELLED = "cancelled"


LADDER = (State.PUBLISHED, State.RECEIVED, State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED)
"""The states whose times are kept, in order: a later one implies those before it."""

Answer: TypeAlias = Literal[
    State.RECEIVED, State.ACCEPTED, State.REJECTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED
]
"""The states that an agency can answer with."""

CLOSED = (State.REJECTED, State.CLEARED, State.FAILED, State.CANCELLED)
"""A new order for a dispatch in one of these begins it anew."""

# Failed ranks below "received": if the agency's end comes back after all, its answer counts.
RANK = {
    State.PENDING: 0,
    State.PUBLISHED: 1,
    State.FAILED: 2,
    State.RECEIVED: 3,
    State.ACCEPTED: 4,
    State.REJECTED: 4,
    State.EN_ROUTE: 5,
    State.ON_SCENE: 6,
    State.CLEARED: 7,
    State.CANCELLED: 8,
}


class Alarm(StrEnum):
    """Why a dispatch needs a person's eye. The values name the daemon's alarms."""

    NO_SUBSCRIBER = "dispatch_no_subscriber"
    """The broker has nobody to pass it to (MQTT 5 reason code 0x10)."""
    REFUSED = "dispatch_refused"
    """The broker does not take it (0x80 and above: rights, quota)."""
    UNANSWERED = "dispatch_unanswered"
    """A deadline was missed, or the agency rejected it, and the ladder has come to its alarm."""
    STEP_FAILED = "dispatch_step_failed"
    """A step of the ladder was not carried out."""
    WITHDRAWN = "dispatch_withdrawn"
    """The agency rejects what it was already on its way to."""
    FAILED = "dispatch_failed"
    """Given up: the agency's end has not received it, or its latest sequence, for `LIFETIME_S`."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the dispatch's message of this sequence; then call `published` or `unpublished`."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The state changed. `reached`: the states of the ladder that it came to by that, the new one among them."""

    old: State
    new: State
    reached: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The agency's end has this sequence, the latest: no more publications, the outbox's entry is done."""

    sequence: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """No more publications: the outbox's entry goes, an alarm is raised."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Escalated:
    """A step of the ladder was taken, or passed over as `skipped` says; to be recorded: a restart counts them."""

    step: str
    cause: str
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Engage:
    """A step of the ladder: dispatch another agency to the incident. To be recorded as `Escalated`, together with that
    dispatch. Call `relieved` once it accepts, `not_carried_out` if it cannot be done.
    """

    agency: str
    cause: str


@dataclass(frozen=True, slots=True)
class Call:
    """Call the people there by voice, while `calling` says so; then `spoken` if they accept, or `not_carried_out`."""

    target: str


@dataclass(frozen=True, slots=True)
class Raised:
    alarm: Alarm
    detail: str


@dataclass(frozen=True, slots=True)
class Lowered:
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Noted:
    """To be recorded, and nothing else."""

    kind: str
    detail: str


Output: TypeAlias = Publish | Moved | Delivered | GivenUp | Escalated | Engage | Call | Raised | Lowered | Noted
