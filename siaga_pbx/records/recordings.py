"""The audio files of calls: where one is, why there is none, whether it is what was recorded; what crashes left.

A file is named in its call's row when the recording begins; its SHA-256 follows when it is complete.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from siaga_pbx.records.changes import Event, Update
from siaga_pbx.records.errors import NotOnRecord, NotPossible
from siaga_pbx.records.export import recording_of
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_now

Mend: TypeAlias = Callable[[Path], float]
"""Makes a file whole that a crash left, and returns its seconds: `siaga_pbx.media.wav.mend`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A complete one: its file, and the SHA-256 that is on record."""

    path: Path
    sha256: str


def find(call: Record, events: Callable[[], Sequence[Record]], folder: Path) -> Recording:
    """The call's recording; `events` reads the call's events, which are needed when something is wrong.

    Raises NotPossible when it is not complete yet, NotOnRecord when there is none (any more): with the reason.
    """
    name = f"call {call['id']}"
    if call["ended_at"] is None:
        raise NotPossible(f"{name} is still running: its recording is complete when it is over")
    path, digest = recording_of(call, folder), call["recording_sha256"]
    if path is not None and digest is not None:
        return Recording(path, str(digest))
    steps = events()
    if path is None:
        raise NotOnRecord(_why_none(name, call, steps, folder))
    told = _last(steps, "recorded")  # a version that had no column for it
    if told is None:
        raise NotPossible(f"{name}: its recording is not complete yet; try again in a minute")
    return Recording(path, str(told["sha256"]))


def digest_of(path: Path) -> str:
    """The file's SHA-256 as it is now. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def faults(reader: Reader, folder: Path) -> Iterator[str]:
    """What is wrong with the complete recordings, one line each. Reads every file."""
    for call in reader.recordings(complete=True):
        path = recording_of(call, folder)
        try:
            if path is None:
                yield f"recording of call {call['id']}: {call['recording']} is not in {folder}"
            elif digest_of(path) != call["recording_sha256"]:
                yield f"recording of call {call['id']}: changed since it was complete"
        except OSError as error:
            yield f"recording of call {call['id']}: {error.strerror or error}"


def complete_left(store: Store, reader: Reader, folder: Path, running: Callable[[str], bool], mend: Mend) -> int:
    """Makes whole what a crash of daemon and worker left of ended calls, and puts it on record; returns how many.

    The digest is that of the file as it is now, which the event says (`after_crash`); but where the chain has one that
    was taken when the recording was complete (by a version that had no column for it), that one counts.

    `running`: whether a worker still records the call. Takes its time: call it from a thread. Raises StoreUnavailable.
    """
    done = 0
    for call in reader.recordings(complete=False):
        id, path = str(call["id"]), recording_of(call, folder)
        if path is None or running(id):
            continue
        told = _last(reader.events(call_id=id, kind="recorded"), "recorded")
        if told is not None:
            store.write([Update("call", id, {"recording_sha256": told["sha256"]})])
            done += 1
            continue
        try:
            seconds, digest = mend(path), digest_of(path)
        except OSError as error:
            data: dict[str, object] = {"reason": error.strerror or str(error), "final": True}
            store.write([Event(utc_now(), "call", id, id, "record_failed", data)])
            continue
        data = {"seconds": round(seconds, 3), "sha256": digest, "after_crash": True}
        event = Event(utc_now(), "call", id, id, "recorded", data)
        store.write([event, Update("call", id, {"recording_sha256": digest})])
        done += 1
    return done


def _why_none(name: str, call: Record, steps: Sequence[Record], folder: Path) -> str:
    for kind, what in (("erased", f"{name} was erased"), ("recording_erased", f"the recording of {name} was erased")):
        at = next((str(step["at"]) for step in steps if step["kind"] == kind), None)
        if at is not None:
            return f"{what} on {at[:10]}"
    if call["recording"] is None:
        return f"{name} was not recorded" + ("" if call["answered_at"] else ": it was never answered")
    failed = _last(steps, "record_failed")
    if failed is not None and _last(steps, "recorded") is None:
        return f"{name} was not recorded: {failed.get('reason')}"
    return f"the recording of {name} is not in {folder}: {call['recording']} is kept elsewhere, or lost"


def _last(steps: Sequence[Record], kind: str) -> dict[str, object] | None:
    data = next((step["data"] for step in reversed(steps) if step["kind"] == kind), None)
    return data if isinstance(data, dict) else None
