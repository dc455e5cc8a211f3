"""The end of data: recordings and the content of calls go when their days are over; the chain still verifies."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from siaga_pbx.records.changes import Change, Erase, Event, Update
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_text

_GROUP = 50  # calls a transaction: the daemon's own writes get their turn in between
_COMMIT_S = 30.0  # how long one of them may take
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Keep:
    """How long, in days after the end of a call; `recordings` is the folder of the files."""

    calls_days: int
    recordings_days: int
    recordings: Path


@dataclass(frozen=True, slots=True)
class Purged:
    """How many calls lost their content, and how many files are gone."""

    calls: int
    files: int


def purge(store: Store, reader: Reader, keep: Keep, now: float) -> Purged:
    """Erases what is due at `now` (seconds since the epoch). Takes its time: call it from a thread, once a day.

    Raises StoreUnavailable when the database fails, TimeoutError when it hangs; what was erased stays so, and the next
    run goes on from there. A call is erased with its recording, even if recordings are to be kept for longer.
    """
    oldest_recording = now - keep.recordings_days * _DAY_S
    recorded = reader.recorded(before=utc_text(oldest_recording))
    due = reader.unerased(before=utc_text(now - keep.calls_days * _DAY_S))
    files = sum(_remove(keep.recordings, str(call["recording"])) for call in [*recorded, *due] if call["recording"])
    _commit(store, (change for call in recorded for change in _recording_gone(call, utc_text(now))))
    _commit(store, (Erase(str(call["id"])) for call in due))
    files += sum(_remove(keep.recordings, name) for name in _orphans(keep.recordings, oldest_recording))
    return Purged(len(due), files)


def _commit(store: Store, changes: Iterable[Change]) -> None:
    waiting = list(changes)
    for start in range(0, len(waiting), _GROUP):
        store.commit(waiting[start : start + _GROUP]).result(_COMMIT_S)


def _recording_gone(call: Record, at: str) -> tuple[Change, ...]:
    id = str(call["id"])
    return Event(at, "call", id, id, "recording_erased"), Update("call", id, {"recording": None})


def _remove(folder: Path, name: str) -> bool:
    """Deletes a file in the folder; one that is elsewhere is none of ours, whatever a row says."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return False
    with suppress(OSError):
        path.unlink()
        return True
    return False


def _orphans(folder: Path, before: float) -> Iterator[str]:
    """Recordings as old as that, whether a call knows them or not: those of a crash, too."""
    for path in folder.glob("**/*.wav"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                yield str(path)
