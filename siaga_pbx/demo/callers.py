"""The demo's callers: each dials 112 as its carrier would bring it in, talks, has its dispatch sent, and hangs up."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic, sleep
from typing import Any

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre, DemoFailed, free_port
from siaga_pbx.demo.compare import likeness, recording
from siaga_pbx.demo.phones import Caller, Conversation, Seat
from siaga_pbx.records.times import parse_utc

TALK_S = 4.0
ALIKE = 0.9
"""Correlation from which two waves count as the same: other voices stay below 0.3, G.711 through 8 bits above 0.95."""
_RECORDED_S = 0.5
"""Looked for in the recording, which keeps the pauses of a phone that sends late: on a busy machine there are many."""
_WAIT_S = 60.0
_SETTLE_S = 10.0


class Kind(Enum):
    """Who calls, by what the carrier's headers say."""

    SUBSCRIBER = "subscriber"
    NO_CREDIT = "no_credit"
    NO_SIM = "no_sim"


KINDS = (Kind.SUBSCRIBER, Kind.NO_CREDIT, Kind.NO_SIM, Kind.SUBSCRIBER, Kind.NO_CREDIT, Kind.SUBSCRIBER)
CATEGORIES = (("fire", "Rumah terbakar"), ("health", "Orang pingsan"))


@dataclass(slots=True)
class Report:
    """What became of one call; the booleans are what the demo is about."""

    number: str
    kind: Kind
    doing: str = "has not called yet"
    call_id: str = ""
    seat: str = ""
    waited_s: float = 0.0
    answered: bool = False
    heard_by_seat: float = 0.0
    heard_by_caller: float = 0.0
    recorded: bool = False
    dispatched: bool = False
    accepted: bool = False
    identity: str = ""
    failed: str = ""

    @property
    def bridged(self) -> bool:
        return min(self.heard_by_seat, self.heard_by_caller) >= ALIKE

    @property
    def good(self) -> bool:
        same_kind = self.identity == self.kind.value
        return all((self.answered, self.bridged, self.recorded, self.dispatched, self.accepted, same_kind))


def report(index: int) -> Report:
    """The report of the caller with this index, before the call."""
    return Report(f"+6281230000{index:03d}", KINDS[index % len(KINDS)])


def call_112(centre: Centre, index: int, report: Report, seats: list[Seat]) -> None:
    """One call from beginning to end; what goes wrong is in the report."""
    number = report.number.removeprefix("+")
    caller = Caller(
        number, (DAEMON, centre.sip_port), TRUNK, free_port(host=TRUNK), index, lambda invite: _adapt(invite, report)
    )
    try:
        _talk(centre, index, caller, report, seats)
    except (DemoFailed, TimeoutError) as error:
        report.failed = str(error)
        report.doing = "failed"
    finally:
        caller.hang_up()
        caller.stop()


def _adapt(invite: str, report: Report) -> str:
    """The INVITE as the carrier brings it: who has no credit is marked, who has no SIM has no number (DOMAIN)."""
    head, _, body = invite.partition("\r\n\r\n")
    lines = head.split("\r\n")
    tag = next(line for line in lines if line.startswith("From:")).partition(";tag=")[2]
    if report.kind is Kind.NO_SIM:
        lines = [
            f'From: "Anonymous" <sip:anonymous@anonymous.invalid>;tag={tag}' if line.startswith("From:") else line
            for line in lines
        ]
    else:
        lines.insert(-1, f"P-Asserted-Identity: <sip:{report.number}@{TRUNK};user=phone>")
    if report.kind is Kind.NO_CREDIT:
        lines.insert(-1, "P-Charge-Info: <sip:nocredit@carrier.invalid>")
    return "\r\n".join(lines) + "\r\n\r\n" + body


def _talk(centre: Centre, index: int, caller: Caller, report: Report, seats: list[Seat]) -> None:
    report.doing = "calls 112"
    caller.dial()
    report.doing = "hears the greeting, waits"
    row = _until(lambda: _connected(centre, caller.call_id), _WAIT_S, "no seat took the call")
    report.answered = True
    report.call_id, report.seat, report.identity = row["id"], row["seat_id"], row["identity_class"]
    report.waited_s = seconds_between(row["received_at"], row["connected_at"])
    report.doing = f"talks to seat {report.seat}"
    conversation = next(seat for seat in seats if seat.name == report.seat).conversations[-1]
    caller.talk()
    category, note = CATEGORIES[index % len(CATEGORIES)]
    centre.post(f"/api/v1/calls/{report.call_id}/dispatches", {"category": category, "note": note})
    report.dispatched = True
    sleep(TALK_S)
    caller.hang_up()
    report.doing = "has hung up; the ends are compared"
    _compare(centre, caller, conversation, report)
    _until(lambda: _accepted(centre, report.call_id), _SETTLE_S, "the agency did not accept the dispatch")
    report.accepted = True
    report.doing = "done"


def _compare(centre: Centre, caller: Caller, seat: Conversation, report: Report) -> None:
    """Both ends against each other, and both against the recording."""
    if caller.conversation is None:
        return
    said, seat_said = caller.conversation.sent(), seat.sent()
    report.heard_by_seat = likeness(said, seat.heard())
    report.heard_by_caller = likeness(seat_said, caller.conversation.heard())
    row = _until(lambda: _recorded(centre, report.call_id), _SETTLE_S, "the call was not recorded")
    left, right = recording(centre.folder / "recordings" / row["recording"])
    report.recorded = (
        min(likeness(said, left, least_s=_RECORDED_S), likeness(seat_said, right, least_s=_RECORDED_S)) >= ALIKE
    )


def _connected(centre: Centre, sip_call_id: str) -> Any:
    rows = centre.get("/api/v1/calls?limit=1000")
    return next((row for row in rows if row["sip_call_id"] == sip_call_id and row["connected_at"]), None)


def _recorded(centre: Centre, call_id: str) -> Any:
    detail = centre.get(f"/api/v1/calls/{call_id}")
    done = any(event["kind"] == "recorded" for event in detail["events"])
    return detail["call"] if done else None


def _accepted(centre: Centre, call_id: str) -> bool:
    dispatches = centre.get(f"/api/v1/calls/{call_id}")["dispatches"]
    return bool(dispatches) and all(one["accepted_at"] for one in dispatches)


def _until(ask: Callable[[], Any], seconds: float, otherwise: str) -> Any:
    """What `ask` says once it says something; DemoFailed if it never does."""
    deadline = monotonic() + seconds
    while not (answer := ask()):
        if monotonic() > deadline:
            raise DemoFailed(otherwise)
        sleep(0.1)
    return answer


def seconds_between(earlier: str, later: str) -> float:
    """Between two times of the record."""
    return (parse_utc(later) - parse_utc(earlier)).total_seconds()
