"""The report: numbers that were worked out by hand, and a naive computation that it must agree with."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.records.changes import Change, Insert, Upsert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.report import (
    AgencyReport,
    Call,
    Deadline,
    Goal,
    Lost,
    Report,
    Sent,
    Spread,
    make,
    read,
)
from siaga_pbx.records.times import normalise, utc_text
from tests.records_databases import Database

_JAKARTA = ZoneInfo("Asia/Jakarta")
_START = datetime(2026, 11, 24, tzinfo=_JAKARTA)
_END = _START + timedelta(days=1)
_NOW = "2026-11-25T12:00:00.000Z"


def at(seconds: float | None) -> str | None:
    """That many seconds into the local day, as the records have it."""
    return None if seconds is None else normalise((_START + timedelta(milliseconds=round(seconds * 1000))).isoformat())


def call(
    received: float,
    connected: float | None = None,
    ended: float | None = None,
    outcome: str = "answered",
    **more: object,
) -> tuple[str, Change]:
    """A call by the seconds of the local day."""
    row = {"id": new_id(), "trunk": "telkomsel", "identity_class": "subscriber", "callable": True, "outcome": outcome}
    times = {"received_at": at(received), "connected_at": at(connected), "ended_at": at(ended)}
    return str(row["id"]), Insert("call", row | times | more)


def sent(call_id: str, agency: str, created: float, **more: object) -> list[Change]:
    """An incident with one dispatch."""
    incident = new_id()
    opened = {"id": incident, "call_id": call_id, "category": "fire", "opened_at": at(created), "status": "open"}
    row = {"id": new_id(), "incident_id": incident, "agency": agency, "sequence": 1, "created_at": at(created)}
    return [Insert("incident", opened), Insert("dispatch", row | more)]


def deadlines(created: float) -> dict[str, object]:
    """Of an agency with 60 s to accept and 900 s to arrive."""
    return {"accept_by": at(created + 60), "arrive_by": at(created + 900)}


def test_a_day_that_was_worked_out_by_hand(database: Database) -> None:
    first, one = call(0, 4.2, 100)  # at midnight sharp
    second, two = call(3600, 3615, 3700, disposition="prank")  # 15 s to the millisecond: in time
    changes = [one, two]
    changes.append(call(3601, 3616.001, 3700, trunk="indosat")[1])  # 15.001 s: not
    changes.append(call(7200, 7231, 7300, identity_class="no_sim", callable=False)[1])
    lost, left = call(7201, ended=7205, outcome="abandoned")  # 4 s: could not have been answered too late
    changes.append(left)
    changes.append(call(7202, ended=7222.5, outcome="abandoned", callable=False)[1])  # 20.5 s: too late for both
    changes.append(call(86399.999, ended=86420, outcome="abandoned", trunk=None)[1])
    dismissed, away = call(40000, 40002, 40010, outcome="interrupted")
    changes.append(away)
    changes.append(call(50000, 50100, 50200, outcome="test")[1])  # never counts
    changes.append(call(50000, ended=None, outcome="")[1])
    changes += [call(-0.001, 5, 9)[1], call(86400, 86401, 86402)[1]]  # the days before and after
    changes.append(Upsert("callback", {"id": lost, "state": "called", "at": at(8000)}))
    changes.append(Upsert("callback", {"id": dismissed, "state": "dismissed", "at": at(50000)}))
    changes += sent(first, "damkar", 10, state="on_scene", accepted_at=at(40), arrived_at=at(610), **deadlines(10))
    changes += sent(first, "damkar", 20, state="cleared", accepted_at=at(110), arrived_at=at(2000), **deadlines(20))
    changes += sent(second, "damkar", 30, state="received", **deadlines(30))
    changes += sent(second, "damkar", 40, state="cancelled", **deadlines(40))
    changes += sent(second, "damkar", 50, state="rejected", **deadlines(50))
    changes += sent(second, "psc119", 60, state="cancelled", accepted_at=at(65), **deadlines(60))
    changes += sent(second, "psc119", 86401, state="received", **deadlines(86401))
    store = database.store()
    store.open()
    store.commit(changes).result(10)
    with Reader(database.url) as reader:
        report = read(reader, _START, _END, _JAKARTA, _NOW)
    store.close()

    hours = [0] * 24
    hours[0], hours[1], hours[2], hours[11], hours[13], hours[23] = 1, 2, 3, 1, 1, 1
    # answered after 2, 4.2, 15, 15.001 and 31 s; nobody at all after 20.5 and 20.001 s
    assert report == Report(
        calls=9,
        tests=1,
        outcomes={"answered": 4, "abandoned": 3, "interrupted": 1, "live": 1},
        identities={"subscriber": 8, "no_sim": 1},
        trunks={"telkomsel": 7, "indosat": 1, "none": 1},
        answers=Spread(5, 15.0, 31.0, 31.0, 31.0),
        goals=(Goal(15, 90, 7, 3, 42.86, False), Goal(20, 95, 7, 4, 57.14, False)),
        lost=Lost(calls=4, callable=3, called=1, dismissed=1, waiting=1),
        dispositions={"none": 8, "prank": 1},
        categories={"fire": 6},
        agencies={
            "damkar": AgencyReport(
                dispatches=5,
                called_off=1,
                rejected=1,
                accepted=Deadline(1, 2, Spread(2, 30.0, 90.0, 90.0, 90.0)),
                arrived=Deadline(1, 1, Spread(2, 600.0, 1980.0, 1980.0, 1980.0)),
            ),
            "psc119": AgencyReport(
                dispatches=1,
                called_off=1,
                rejected=0,
                accepted=Deadline(1, 0, Spread(1, 5.0, 5.0, 5.0, 5.0)),
                arrived=Deadline(0, 0, Spread(0, None, None, None, None)),
            ),
        },
        hours=tuple(hours),
    )


def test_a_day_without_calls() -> None:
    report = make([], [], [], _JAKARTA, _NOW)
    assert (report.calls, report.goals[0].percent, report.goals[0].reached) == (0, None, None)
    assert (report.answers.median_s, report.hours) == (None, (0,) * 24)


def test_a_goal_is_reached_at_its_per_cent_sharp() -> None:
    quick, slow = ((at(0), at(seconds), at(99), "answered", None, None, None, None, None) for seconds in (10, 16))
    ten = [*[Call(*quick)] * 9, Call(*slow)]  # type: ignore[arg-type]  # at() of a number is text
    assert [goal.reached for goal in make(ten, [], [], _JAKARTA, _NOW).goals] == [True, True]
    assert [goal.reached for goal in make(ten[1:], [], [], _JAKARTA, _NOW).goals] == [False, True]


def test_hours_are_those_of_the_clock_on_the_wall() -> None:
    moment = Call("2026-11-24T20:20:00.000Z", None, None, None, None, None, None, None, None)
    for zone, hour in (("Asia/Jayapura", 5), ("Asia/Kathmandu", 2), ("UTC", 20)):
        report = make([moment], [], [], ZoneInfo(zone), _NOW)
        assert report.hours.index(1) == hour, zone


# --- against a naive computation --------------------------------------------------------------------------------------

_second = st.integers(0, 200_000).map(lambda ms: utc_text(1_795_478_400 + ms / 1000 + 0.0001))
_seconds = st.integers(0, 60_000).map(lambda ms: utc_text(1_795_478_400 + ms / 1000 + 0.0001))
_calls = st.builds(
    Call,
    received_at=_seconds,
    connected_at=st.none() | _seconds,
    ended_at=st.none() | _seconds,
    outcome=st.sampled_from([None, "answered", "abandoned", "failed", "test", "overflowed"]),
    identity_class=st.sampled_from([None, "subscriber", "no_sim"]),
    trunk=st.sampled_from([None, "a", "b"]),
    disposition=st.sampled_from([None, "prank"]),
    callable=st.sampled_from([None, True, False]),
    callback=st.sampled_from([None, "called", "dismissed"]),
)
_sent = st.builds(
    Sent,
    agency=st.sampled_from(["a", "b"]),
    state=st.sampled_from(["pending", "accepted", "cancelled", "rejected", "failed", "cleared"]),
    created_at=_second,
    accepted_at=st.none() | _second,
    arrived_at=st.none() | _second,
    accept_by=st.none() | _second,
    arrive_by=st.none() | _second,
)


def _seconds_between(start: str, end: str | None) -> Fraction:
    a, b = (datetime.strptime(str(t), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) for t in (start, end))
    return max(Fraction(0), Fraction((b - a) // timedelta(milliseconds=1), 1000))


def _percentile(times: Sequence[Fraction], percent: int) -> float | None:
    """The least time that so many per cent of them do not exceed."""
    for time in sorted(times):
        if sum(other <= time for other in times) * 100 >= percent * len(times):
            return float(time)
    return None


def _check(spread: Spread, times: Sequence[Fraction]) -> None:
    assert spread.count == len(times)
    found = (spread.median_s, spread.p90_s, spread.p95_s, spread.longest_s)
    assert found == tuple(_percentile(times, percent) for percent in (50, 90, 95, 100))


@given(st.lists(_calls, max_size=30))
def test_calls_against_a_naive_count(calls: list[Call]) -> None:
    report = make(calls, [], [], UTC, _NOW)
    real = [one for one in calls if one.outcome != "test"]
    assert (report.calls, report.tests) == (len(real), len(calls) - len(real))
    for counts, column in ((report.trunks, "trunk"), (report.identities, "identity_class")):
        for key, count in counts.items():
            assert count == sum((getattr(one, column) or "none") == key for one in real)
        assert sum(counts.values()) == len(real)
    assert sum(report.outcomes.values()) == sum(report.dispositions.values()) == sum(report.hours) == len(real)
    _check(report.answers, [_seconds_between(one.received_at, one.connected_at) for one in real if one.connected_at])
    for goal in report.goals:
        met = judged = 0
        for one in real:
            if one.connected_at:
                judged += 1
                met += _seconds_between(one.received_at, one.connected_at) <= goal.within_s
            elif one.ended_at:
                judged += _seconds_between(one.received_at, one.ended_at) > goal.within_s
        assert (goal.met, goal.judged) == (met, judged)
        assert goal.reached == (None if judged == 0 else Fraction(met, judged) >= Fraction(goal.wanted_percent, 100))
    lost = [one for one in real if one.outcome in ("abandoned", "failed")]
    states = Counter(one.callback or ("waiting" if one.callable else "no") for one in lost)
    assert (report.lost.calls, report.lost.callable) == (len(lost), len(lost) - states["no"])
    found = (report.lost.called, report.lost.dismissed, report.lost.waiting)
    assert found == (states["called"], states["dismissed"], states["waiting"])


@given(st.lists(_sent, max_size=30), _second)
def test_agencies_against_a_naive_count(sent: list[Sent], now: str) -> None:
    report = make([], [], sent, UTC, now)
    for agency, found in report.agencies.items():
        theirs = [one for one in sent if one.agency == agency]
        assert found.dispatches == len(theirs)
        assert found.called_off == sum(one.state == "cancelled" for one in theirs)
        accepted, arrived = [0, 0], [0, 0]
        accept_times, arrive_times = [], []
        for one in theirs:
            off = one.state in ("cancelled", "rejected")
            if one.accepted_at:
                accept_times.append(_seconds_between(one.created_at, one.accepted_at))
            if one.accept_by and not (off and not one.accepted_at):
                if one.accepted_at and one.accepted_at <= one.accept_by:
                    accepted[0] += 1
                elif one.accepted_at or now > one.accept_by:
                    accepted[1] += 1
            if not one.accepted_at:
                continue
            if one.arrived_at:
                arrive_times.append(_seconds_between(one.created_at, one.arrived_at))
            if one.arrive_by and not (off and not one.arrived_at):
                if one.arrived_at and one.arrived_at <= one.arrive_by:
                    arrived[0] += 1
                elif one.arrived_at or now > one.arrive_by:
                    arrived[1] += 1
        assert [found.accepted.within, found.accepted.missed] == accepted
        assert [found.arrived.within, found.arrived.missed] == arrived
        _check(found.accepted.times, accept_times)
        _check(found.arrived.times, arrive_times)
    assert set(report.agencies) == {one.agency for one in sent}


@pytest.mark.parametrize("count", [1, 10, 11, 99, 100, 101])
def test_percentiles_are_times_that_were_measured(count: int) -> None:
    calls = [Call(str(at(0)), at(n), at(999), "answered", None, None, None, None, None) for n in range(1, count + 1)]
    answers = make(calls, [], [], UTC, _NOW).answers
    assert answers.median_s == (count + 1) // 2
    assert answers.longest_s == count
