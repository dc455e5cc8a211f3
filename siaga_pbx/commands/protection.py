"""`hold`, `erase`, `export` and `accesses`: what must stay, what may go, what is held, who has read it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from siaga_pbx.commands.common import Row, Selection, load_config, zone_of
from siaga_pbx.commands.failures import Failed, Misused
from siaga_pbx.commands.history import TABLE_ROWS
from siaga_pbx.commands.onrecord import note_access, own_store, records
from siaga_pbx.commands.output import print_json, print_table
from siaga_pbx.commands.running import running_daemon, user
from siaga_pbx.commands.times import local
from siaga_pbx.config import Config
from siaga_pbx.records.custody import Custody, Erased
from siaga_pbx.records.errors import NotPossible, RecordsError
from siaga_pbx.records.export import Held
from siaga_pbx.records.export import export as write_export
from siaga_pbx.records.numbers import e164
from siaga_pbx.records.times import utc_now

T = TypeVar("T")

PATIENCE_S = 3600.0
"""An erasure goes through all that is recorded, some seconds a million events, and a hold waits until it is done."""

_ACCESSES = ("time", "who", "what", "call")


def hold(file: Path | None, call_id: str, reason: str | None, release: bool) -> int:
    """Places a hold, or releases it."""
    if release == (reason is not None):
        raise Misused("either --reason TEXT, to hold it, or --release")
    config = load_config(file)
    path = f"/api/v1/calls/{call_id}/hold"
    with running_daemon(config, PATIENCE_S) as daemon:
        if daemon is not None:
            answer = daemon.delete(path) if release else daemon.put(path, {"reason": reason})
            held = str(answer["call_id"])
        elif release:
            held = _alone(config, lambda custody, by: custody.release(call_id, by))
        else:
            held = _alone(config, lambda custody, by: custody.hold(call_id, str(reason), by))
    sys.stdout.write(f"call {held}: {'released' if release else 'held, nothing of it goes until it is released'}\n")
    return 0


def erase(file: Path | None, call_id: str | None, number: str | None, reason: str) -> int:
    """Erases a call, or all of a number; 1 when some of it had to stay."""
    if (call_id is None) == (number is None):
        raise Misused("name either CALL_ID or --number")
    config = load_config(file)
    with running_daemon(config, PATIENCE_S) as daemon:
        if daemon is not None:
            wanted = {"call_id": call_id} if number is None else {"number": _number(number, config)}
            erased = _erased(daemon.post("/api/v1/erasures", {**wanted, "reason": reason}))
        elif number is not None:
            digits = _number(number, config)
            erased = _alone(config, lambda custody, by: custody.erase_number(digits, reason, by))
        else:
            erased = _alone(config, lambda custody, by: custody.erase_call(str(call_id), reason, by))
    besides = f"in others' records {erased.events} events, {erased.texts} texts"
    sys.stdout.write(f"erased: {len(erased.calls)} calls, {erased.files} recordings; {besides}\n")
    for left, why in ((erased.held, "it is held"), (erased.going_on, "it, or its incident, goes on: when it is over")):
        for id in left:
            sys.stdout.write(f"not erased: call {id}: {why}\n")
    return 1 if erased.held or erased.going_on else 0


def export(file: Path | None, number: str, to: Path) -> int:
    """Writes what is held about a number into a ZIP file or a folder."""
    config = load_config(file)
    asked = _number(number, config)
    with records(config) as reader:
        held = Held.of(reader, asked)
        if not held.calls and not held.mentions:
            raise Failed(f"nothing of {asked} is on record")
        note_access(config, reader, "export", held.concerned)
        about = {"centre": config.centre.id, "number": asked, "made_at": utc_now(), "made_by": user()}
        try:
            files = write_export(reader, held, config.records.recordings, to, about)
        except NotPossible as error:
            raise Failed(str(error)) from error
    mentions = f", {len(held.mentions)} mentions in others' records" if held.mentions else ""
    sys.stdout.write(f"{to}: {len(held.calls)} calls{mentions}, {files} files\n")
    return 0


def accesses(file: Path | None, call_id: str | None, selection: Selection) -> int:
    """Lists who has read what, oldest first."""
    config = load_config(file)
    everything = selection.as_json or selection.since is not None or call_id is not None
    limit = selection.limit or (None if everything else TABLE_ROWS)
    with records(config) as reader:
        rows = reader.accesses(call_id=call_id, since=selection.start(config), limit=limit)
    if selection.as_json:
        print_json(rows)
    else:
        print_table(_ACCESSES, _cells(rows, zone_of(config)), "No accesses.")
    return 0


def _cells(rows: Sequence[Row], zone: ZoneInfo) -> Iterator[tuple[object, ...]]:
    for row in rows:
        data = row["data"] if isinstance(row["data"], dict) else {}
        query = f"?{data['query']}" if data.get("query") else ""
        yield local(row["at"], zone), data.get("by"), f"{data.get('what')}{query}", row["call_id"]


def _number(text: str, config: Config) -> str:
    try:
        return e164(text, config.centre.country)
    except RecordsError as error:
        raise Misused(f"--number: {error}") from error


def _erased(answer: Row) -> Erased:
    def ids(name: str) -> tuple[str, ...]:
        found = answer[name]
        return tuple(map(str, found)) if isinstance(found, list) else ()

    counts = {name: int(str(answer[name])) for name in ("files", "events", "texts")}
    return Erased(ids("calls"), ids("held"), ids("going_on"), **counts)


def _alone(config: Config, act: Callable[[Custody, str], T]) -> T:
    """While no daemon runs."""
    with records(config) as reader, own_store(config, reader) as store:
        return act(Custody(store, reader, config.records.recordings), f"user {user()}")
