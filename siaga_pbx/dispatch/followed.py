"""A dispatch that is followed, and how it stands on record: outputs become changes, and rows become a past again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from siaga_pbx.config import Agency
from siaga_pbx.dispatch.followup import FollowUp
from siaga_pbx.dispatch.ladder import (
    LADDER,
    Alarm,
    Delivered,
    Escalated,
    GivenUp,
    Lowered,
    Moved,
    Noted,
    Output,
    Publish,
    Raised,
    State,
)
from siaga_pbx.dispatch.message import Dispatch, Kind
from siaga_pbx.dispatch.plan import Past, Plan
from siaga_pbx.records.changes import Change, Delete, Event, Insert, Update, Upsert
from siaga_pbx.records.reader import Record
from siaga_pbx.records.times import later, parse_utc

# The ladder's states and the columns that keep their times.
TIME_COLUMNS = {
    State.PUBLISHED: "published_at",
    State.RECEIVED: "received_at",
    State.ACCEPTED: "accepted_at",
    State.EN_ROUTE: "en_route_at",
    State.ON_SCENE: "arrived_at",
    State.CLEARED: "cleared_at",
}

# Kinds of events that a restart reads back.
BEGUN_ANEW = "begun_anew"
CANCEL_ORDERED = "cancel_ordered"
ENGAGED = "engaged"
RELIEVED = "relieved"
ESCALATED = "escalated"
_OVER = "_over"  # behind an alarm's name: it stands no more

_ALARMS = {str(alarm): alarm for alarm in Alarm}

# An agency that is no longer configured is followed like any other.
_NO_AGENCY = Agency(id="unknown")


@dataclass(slots=True)
class Followed:
    """One dispatch. `message` is its latest; `relieves` the dispatches it stands in for, should it be accepted."""

    message: Dispatch
    followup: FollowUp
    relieves: set[str] = field(default_factory=set)
    attempts: int = 0
    due: float | None = None  # when its timer is set to

    @property
    def id(self) -> str:
        return self.message.dispatch_id

    @property
    def agency(self) -> str:
        return self.message.agency


def plan_of(agency: Agency | None) -> Plan:
    """What an agency is given."""
    agency = agency or _NO_AGENCY
    return Plan(agency.accept_within_s, agency.arrive_within_s, agency.escalate)


def first_rows(message: Dispatch, plan: Plan) -> list[Change]:
    """A new dispatch and its entry in the outbox."""
    text, at = message.encode().decode(), message.sent_at
    row: Record = {
        "id": message.dispatch_id,
        "incident_id": message.incident_id,
        "agency": message.agency,
        "sequence": message.sequence,
        "state": str(State.PENDING),
        "message": text,
        "created_at": at,
        "next_attempt_at": at,
        "attempts": 0,
    } | _deadlines(message, plan)
    data = {"agency": message.agency, "sequence": message.sequence}
    ordered = Event(at, "dispatch", message.dispatch_id, message.call_id, "ordered", data)
    return [Insert("dispatch", row), _outbox_row(message, text), ordered]


def next_rows(followed: Followed, message: Dispatch, reason: str = "") -> list[Change]:
    """A new sequence of a dispatch: an alert begins it anew, a cancellation (for that `reason`) ends it."""
    text = message.encode().decode()
    row: Record = {"sequence": message.sequence, "message": text, "next_attempt_at": message.sent_at}
    data: Record = {"sequence": message.sequence}
    kind = "updated"
    match message.type:
        case Kind.ALERT:
            kind = BEGUN_ANEW
            row |= {"state": str(State.PENDING), "rejected_at": None, "reason": None}
            row |= dict.fromkeys(TIME_COLUMNS.values()) | _deadlines(message, followed.followup.plan)
        case Kind.CANCEL:
            kind = CANCEL_ORDERED
            row |= {"state": str(State.CANCELLED), "reason": reason or None}
            data |= {"reason": reason}
    event = event_of(followed, message.sent_at, kind, data)
    return [Update("dispatch", followed.id, row), _outbox_row(message, text), event]


def _deadlines(message: Dispatch, plan: Plan) -> Record:
    return {"accept_by": message.accept_by, "arrive_by": later(message.sent_at, plan.arrive_within_s)}


def _outbox_row(message: Dispatch, text: str) -> Change:
    row: Record = {
        "id": message.dispatch_id,
        "dispatch_id": message.dispatch_id,
        "agency": message.agency,
        "sequence": message.sequence,
        "message": text,
        "created_at": message.sent_at,
        "expires_at": message.expires_at,
    }
    return Upsert("outbox", row)


def changes_of(
    followed: Followed,
    outputs: Sequence[Output],
    utc: str,
    answer: Mapping[str, object] | None = None,
    values: Mapping[str, object] | None = None,
) -> list[Change]:
    """What the outputs are on record. `answer`: the agency's, if one caused them. `values`: further columns' values."""
    row: dict[str, object] = dict(values or {})
    events: list[Change] = []
    told = dict(answer or {})
    for output in outputs:
        match output:
            case Moved(old, new, reached):
                row |= {"state": str(new)} | {TIME_COLUMNS[s]: utc for s in reached if s in TIME_COLUMNS}
                if new is State.REJECTED:
                    row |= {"rejected_at": utc, "reason": told.get("reason")}
                elif old is State.REJECTED and new in LADDER:  # they have thought better of it
                    row |= {"rejected_at": None, "reason": None}
                events.append(event_of(followed, utc, str(new), told | {"from": str(old)}))
            case Publish():
                followed.attempts += 1
                row["attempts"] = followed.attempts
            case Delivered(sequence) | GivenUp(sequence):
                row["next_attempt_at"] = None
                kind = "delivered" if isinstance(output, Delivered) else "given_up"
                events += [Delete("outbox", followed.id), event_of(followed, utc, kind, told | {"sequence": sequence})]
            case Escalated():
                events.append(escalated(followed, utc, output))
            case Raised(alarm, detail):
                events.append(event_of(followed, utc, str(alarm), told | {"detail": detail}))
            case Lowered(alarm):
                events.append(event_of(followed, utc, f"{alarm}{_OVER}", {}))
            case Noted(kind, detail):
                events.append(event_of(followed, utc, kind, told | {"detail": detail}))
            case _:
                pass
    return [*events, Update("dispatch", followed.id, row)] if row else events


def escalated(followed: Followed, utc: str, step: Escalated) -> Event:
    """The event of a step of the ladder."""
    data = {"step": step.step, "cause": step.cause} | ({"skipped": step.skipped} if step.skipped else {})
    return event_of(followed, utc, ESCALATED, data)


def event_of(followed: Followed, utc: str, kind: str, data: Mapping[str, object]) -> Event:
    """An event of this dispatch."""
    return Event(utc, "dispatch", followed.id, followed.message.call_id, kind, data)


def past_of(row: Record, outbox: Record | None, events: Iterable[Record], now: float, utc: str) -> Past:
    """What is on record of a dispatch, for a follow-up that goes on at `now`."""

    def at(text: object) -> float:
        age_s = (parse_utc(utc) - parse_utc(str(text))).total_seconds()
        return now - max(0.0, age_s)

    ordered_at, round_, step_at, relieved = at(row["created_at"]), 1, None, False
    steps: list[str] = []
    alarms: dict[Alarm, str] = {}
    rejected = False
    for event in events:
        data = event["data"] if isinstance(event["data"], dict) else {}
        rejected = _rejects(str(event["kind"]), data, rejected)
        match event["kind"]:
            case "begun_anew":
                ordered_at, step_at, relieved = at(event["at"]), None, False
                steps.clear()
                round_ = int(data.get("sequence", 1))
                alarms.clear()
                rejected = False
            case "cancel_ordered":
                alarms.clear()
            case "escalated":
                steps.append(str(data.get("step")))
                step_at = at(event["at"])
            case "relieved":
                relieved = True
            case kind if (alarm := _ALARMS.get(str(kind))) is not None:
                alarms[alarm] = str(data.get("detail", ""))
            case kind if (alarm := _ALARMS.get(str(kind).removesuffix(_OVER))) is not None:
                alarms.pop(alarm, None)
    reached = {state for state, column in TIME_COLUMNS.items() if row[column] is not None}
    state = State(str(row["state"]))
    if state in LADDER:
        reached.update(LADDER[: LADDER.index(state) + 1])
    return Past(
        ordered_at=ordered_at,
        sequence_at=ordered_at if outbox is None else at(outbox["created_at"]),
        state=state,
        sequence=int(str(row["sequence"])),
        round=round_,
        delivered=outbox is None,
        reached=frozenset(reached),
        steps_taken=tuple(steps),
        step_at=step_at,
        relieved=relieved,
        alarms=alarms,
        rejected=rejected,
    )


def _rejects(kind: str, data: Mapping[str, object], before: bool) -> bool:
    """Whether a rejection is the last word of the agency's own end, by this event; its telephone is another end."""
    if kind in (State.REJECTED, Alarm.WITHDRAWN):
        return True
    by_voice = str(data.get("by", "")).startswith("call:")
    return before and (by_voice or kind not in (*LADDER[2:], "confirmed"))
