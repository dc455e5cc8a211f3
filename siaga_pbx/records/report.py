"""What a centre reports of a day, a month or a year. Pure arithmetic over rows; `read` gets them from the database.

- Calls are those that arrived within the period. Test calls are counted and then left out of everything else.
- An answer time runs from the arrival to two-way talk with a seat (NENA-STA-020.1). A goal is judged by every call that
  was answered, and by every other that waited for longer than the goal's limit, live ones left out: who gave up earlier
  could not have been answered too late.
- Percentiles are by nearest rank: a time that was really measured.
- An agency's times run from its first order. Dispatches count when they were ordered within the period; one that was
  called off or rejected is judged by no deadline that it had not met by then.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import NamedTuple

from siaga_pbx.records.reader import LOST_OUTCOMES, Reader
from siaga_pbx.records.times import normalise

GOALS = ((15, 90), (20, 95))
"""NENA-STA-020.1: so many per cent of the calls answered within so many seconds."""

NONE = "none"
LIVE = "live"
TEST = "test"

_NOBODY_GOES = ("cancelled", "rejected")


class Call(NamedTuple):
    """The columns of a call that count; `callback` is what became of it on the call-back list."""

    received_at: str
    connected_at: str | None
    ended_at: str | None
    outcome: str | None
    identity_class: str | None
    trunk: str | None
    disposition: str | None
    callable: bool | None
    callback: str | None


class Sent(NamedTuple):
    """The columns of a dispatch that count."""

    agency: str
    state: str
    created_at: str
    accepted_at: str | None
    arrived_at: str | None
    accept_by: str | None
    arrive_by: str | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Times in seconds: how many, and their percentiles; None without any."""

    count: int
    median_s: float | None
    p90_s: float | None
    p95_s: float | None
    longest_s: float | None


@dataclass(frozen=True, slots=True)
class Goal:
    """`met` of the `judged` calls were answered within the limit; `reached`: as many per cent as are wanted."""

    within_s: int
    wanted_percent: int
    judged: int
    met: int
    percent: float | None
    reached: bool | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Calls lost before, or while, anybody spoke: of those who can be called, what became of them."""

    calls: int
    callable: int
    called: int
    dismissed: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Deadline:
    """How an agency kept one: `within` it and not; and how long it took when it did happen, in time or not."""

    within: int
    missed: int
    times: Spread


@dataclass(frozen=True, slots=True)
class AgencyReport:
    """One agency's dispatches."""

    dispatches: int
    called_off: int
    rejected: int
    accepted: Deadline
    arrived: Deadline


@dataclass(frozen=True, slots=True)
class Report:
    """Counts by key, most first; `hours`: calls that arrived in each hour of the local day."""

    calls: int
    tests: int
    outcomes: Mapping[str, int]
    identities: Mapping[str, int]
    trunks: Mapping[str, int]
    answers: Spread
    goals: tuple[Goal, ...]
    lost: Lost
    dispositions: Mapping[str, int]
    categories: Mapping[str, int]
    agencies: Mapping[str, AgencyReport]
    hours: tuple[int, ...]


def read(reader: Reader, start: datetime, end: datetime, zone: tzinfo, now: str) -> Report:
    """The report of the time from `start` until before `end`; `now` (UTC text) tells which deadlines are over.

    Raises StoreUnavailable.
    """
    span = normalise(start.isoformat()), normalise(end.isoformat())
    calls = map(Call._make, reader.calls_between(Call._fields[:-1], *span))
    sent = map(Sent._make, reader.dispatches_between(Sent._fields, *span))
    return make(calls, reader.categories_between(*span), sent, zone, now)


def make(calls: Iterable[Call], categories: Iterable[str], sent: Iterable[Sent], zone: tzinfo, now: str) -> Report:
    """The report of these rows; `categories` has one entry an incident."""
    everything = list(calls)
    real = [call for call in everything if call.outcome != TEST]
    answers = sorted(_between(call.received_at, call.connected_at) for call in real if call.connected_at)
    return Report(
        calls=len(real),
        tests=len(everything) - len(real),
        outcomes=_counted(call.outcome or LIVE for call in real),
        identities=_counted(call.identity_class or NONE for call in real),
        trunks=_counted(call.trunk or NONE for call in real),
        answers=_spread(answers),
        goals=tuple(_goals(real, answers)),
        lost=_lost([call for call in real if call.outcome in LOST_OUTCOMES]),
        dispositions=_counted(call.disposition or NONE for call in real),
        categories=_counted(categories),
        agencies=_agencies(sent, now),
        hours=_hours(real, zone),
    )


def _goals(calls: Sequence[Call], answers: Sequence[float]) -> Iterator[Goal]:
    waits = [_between(call.received_at, call.ended_at) for call in calls if call.ended_at and not call.connected_at]
    for limit, wanted in GOALS:
        met = sum(seconds <= limit for seconds in answers)
        judged = len(answers) + sum(seconds > limit for seconds in waits)
        percent = round(100 * met / judged, 2) if judged else None
        yield Goal(limit, wanted, judged, met, percent, 100 * met >= wanted * judged if judged else None)


def _lost(calls: Sequence[Call]) -> Lost:
    done = Counter(call.callback for call in calls if call.callback)
    # Of an erased call only what became of it is still known.
    waiting = sum(bool(call.callable) for call in calls if not call.callback)
    return Lost(len(calls), done.total() + waiting, done["called"], done["dismissed"], waiting)


def _agencies(sent: Iterable[Sent], now: str) -> Mapping[str, AgencyReport]:
    by_agency: dict[str, list[Sent]] = {}
    for one in sent:
        by_agency.setdefault(one.agency, []).append(one)
    return {agency: _agency(dispatches, now) for agency, dispatches in sorted(by_agency.items())}


def _agency(sent: Sequence[Sent], now: str) -> AgencyReport:
    asked = [one for one in sent if one.accepted_at or one.state not in _NOBODY_GOES]
    went = [one for one in sent if one.accepted_at and (one.arrived_at or one.state not in _NOBODY_GOES)]
    return AgencyReport(
        dispatches=len(sent),
        called_off=sum(one.state == "cancelled" for one in sent),
        rejected=sum(one.state == "rejected" for one in sent),
        accepted=_deadline([(one.created_at, one.accepted_at, one.accept_by) for one in asked], now),
        arrived=_deadline([(one.created_at, one.arrived_at, one.arrive_by) for one in went], now),
    )


def _deadline(dispatches: Sequence[tuple[str, str | None, str | None]], now: str) -> Deadline:
    """Of each: when it was ordered, when it happened, and until when it had to."""
    within = sum(bool(at and by and at <= by) for _, at, by in dispatches)
    missed = sum(bool(by and (at or now) > by) for _, at, by in dispatches)
    return Deadline(within, missed, _spread(sorted(_between(start, at) for start, at, _ in dispatches if at)))


def _hours(calls: Iterable[Call], zone: tzinfo) -> tuple[int, ...]:
    counts = Counter(datetime.fromisoformat(call.received_at).astimezone(zone).hour for call in calls)
    return tuple(counts[hour] for hour in range(24))


def _counted(keys: Iterable[str]) -> Mapping[str, int]:
    return dict(sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0])))


def _spread(times: Sequence[float]) -> Spread:
    """Of times in order."""
    if not times:
        return Spread(0, None, None, None, None)
    median, p90, p95, longest = (times[-(-percent * len(times) // 100) - 1] for percent in (50, 90, 95, 100))
    return Spread(len(times), median, p90, p95, longest)


def _between(start: str, end: str | None) -> float:
    """Seconds; a clock that was set back makes no time negative."""
    seconds = (datetime.fromisoformat(str(end)) - datetime.fromisoformat(start)).total_seconds()
    return max(0.0, round(seconds, 3))
