"""The end of data: recordings and the content of calls go when their days are over; the chain still verifies."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from siaga_pbx.records.changes import Event
from siaga_pbx.records.custody import Custody
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_text

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Keep:
    """How long, in days after the end of a call."""

    calls_days: int
    recordings_days: int


@dataclass(frozen=True, slots=True)
class Purged:
    """How many calls lost their content, how many files are gone; how many calls were due but must stay."""

    calls: int
    files: int
    kept: int = 0


def purge(store: Store, reader: Reader, custody: Custody, keep: Keep, now: float) -> Purged:
    """Erases what is due at `now` (seconds since the epoch), and notes it. Takes its time: call it from a thread.

    Raises StoreUnavailable when the database fails, TimeoutError when it hangs, NotPossible when a file cannot be
    removed; what was erased stays so, and the next run goes on from there. A call is erased with its recording, even if
    recordings are to be kept for longer.
    """
    oldest_call, oldest_recording = (now - days * _DAY_S for days in (keep.calls_days, keep.recordings_days))
    recordings = custody.erase_recordings(reader.recorded(before=utc_text(oldest_recording)))
    calls = custody.erase_due(reader.unerased(before=utc_text(oldest_call)))
    files = recordings.files + calls.files + sum(_orphans_removed(custody, oldest_recording))
    kept = {*recordings.held, *recordings.going_on, *calls.held, *calls.going_on}
    purged = Purged(len(calls.calls), files, len(kept))
    told = {"calls": purged.calls, "recordings": purged.files, "kept": purged.kept}
    limits = {"keep_calls_days": keep.calls_days, "keep_recordings_days": keep.recordings_days}
    store.write([Event(utc_text(now), "system", "records", None, "retention", told | limits)])
    return purged


def _orphans_removed(custody: Custody, before: float) -> Iterator[bool]:
    """Recordings as old as that, whether a call knows them or not: those of a crash, too."""
    for path in custody.recordings.glob("**/*.wav"):
        if _is_older(path, before) and not custody.is_held(path):
            with suppress(OSError):
                path.unlink()
                yield True


def _is_older(path: Path, before: float) -> bool:
    with suppress(OSError):
        return path.stat().st_mtime < before
    return False
