"""`status` and `seats`: the centre now."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from siaga_pbx.commands.common import Row, Selection, load_config
from siaga_pbx.commands.output import print_json, print_table
from siaga_pbx.commands.running import running_daemon
from siaga_pbx.commands.times import between, duration
from siaga_pbx.config import Config

_SEATS = ("id", "name", "state", "for", "reason", "call", "skills")


def status(file: Path | None, selection: Selection) -> int:
    """Show the centre; --since counts the calls from then on by outcome, --limit bounds the live calls."""
    config = load_config(file)
    shown = dict(_now(config))
    if shown["state"] == "stopped" and shown["calls"]:
        from siaga_pbx.commands.onrecord import note_access, records

        with records(config) as reader:  # a daemon that runs notes it itself
            note_access(config, reader, "status", [str(call["id"]) for call in _rows(shown, "calls")])
    if selection.limit is not None:
        shown["calls"] = _rows(shown, "calls")[-selection.limit :]
    if (start := selection.start(config)) is not None:
        from siaga_pbx.commands.onrecord import records

        with records(config) as reader:
            shown["outcomes"] = Counter(str(call["outcome"] or "live") for call in reader.calls(since=start))
    if selection.as_json:
        print_json([shown])
    else:
        print_table(("what", "is"), _status_cells(shown), "")
    return 0


def seats(file: Path | None, selection: Selection) -> int:
    """List the seats; --since: those whose state has changed since then."""
    config = load_config(file)
    shown = _now(config)
    start = selection.start(config) or ""
    rows = [seat for seat in _rows(shown, "seats") if str(seat["since"] or "") >= start]
    rows = rows[-selection.limit :] if selection.limit is not None else rows
    if selection.as_json:
        print_json(rows)
    else:
        print_table(_SEATS, [_seat_cells(seat, shown["at"]) for seat in rows], "No seats.")
    return 0


def _now(config: Config) -> Row:
    """By the daemon or, when none runs, by what it left; the database's libraries take a second to import."""
    with running_daemon(config) as daemon:
        if daemon is not None:
            return daemon.get("/api/v1/status")
    from siaga_pbx.commands.onrecord import left_behind

    return left_behind(config)


def _seat_cells(seat: Row, at: object) -> tuple[object, ...]:
    lasted = duration(between(seat["since"], at))
    return seat["id"], seat["name"], seat["state"], lasted, seat["reason"], seat["call_id"], _listed(seat["skills"])


def _status_cells(status: Row) -> Iterator[tuple[str, object]]:
    at, queue = status["at"], _part(status, "queue")
    yield "centre", f"{status['name']} ({status['centre']})"
    yield "state", status["state"]
    if started_at := status["started_at"]:
        yield "up", duration(between(started_at, at))
        yield "waiting", f"{queue['waiting']}, the longest {duration(_number(queue['oldest_s']))}"
    states = Counter(str(seat["state"]) for seat in _rows(status, "seats"))
    yield "seats", ", ".join(f"{count} {state}" for state, count in states.items())
    if started_at:
        yield "trunks", _ups(_rows(status, "trunks"), "up", "up", "down")
        yield "broker", "connected" if status["mqtt_connected"] else "not connected"
        yield "agencies", _ups(_rows(status, "agencies"), "online", "online", "offline")
    yield "outbox", _part(status, "outbox")["pending"]
    yield "journal", status["journal_pending"]
    for call in _rows(status, "calls"):
        yield "call", _call_line(call, at)
    for alarm in _rows(status, "alarms"):
        yield "alarm", f"{alarm['name']}  {alarm['detail']}"
    for outcome, count in _part(status, "outcomes").items():
        yield f"calls {outcome}", count


def _call_line(call: Row, at: object) -> str:
    age, seat = duration(between(call["received_at"], at)), call["seat_id"]
    who = call["caller_number"] or call["identity_class"]
    facts = (call["id"], call["state"], age, who, call["trunk"], seat and f"seat {seat}")
    return "  ".join(str(fact) for fact in facts if fact)


def _ups(rows: list[Row], key: str, yes: str, no: str) -> str:
    said = ((row["id"], row[key]) for row in rows)
    return ", ".join(f"{name} {'not known' if up is None else yes if up else no}" for name, up in said)


def _rows(status: Row, key: str) -> list[Row]:
    rows = status[key]
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _part(status: Row, key: str) -> Row:
    part = status.get(key)
    return part if isinstance(part, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _listed(value: object) -> str:
    return " ".join(str(one) for one in value) if isinstance(value, list) else ""
