"""What may go of the record and what must stay: holds, erasure on request, and erasure when the days are over.

What remains of an erased call is in docs/adr/0502: its times, outcome, trunk, seat, agencies and categories.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import TypeVar

from siaga_pbx.records.changes import Blank, Change, Erase, Event, Update, Upsert
from siaga_pbx.records.closing import HELD, RELEASED
from siaga_pbx.records.errors import NotOnRecord, NotPossible
from siaga_pbx.records.mentions import EVENT, Mention, mentions_of
from siaga_pbx.records.numbers import Spelling
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import later, utc_now

GOES_ON = timedelta(days=2)
"""So long after somebody was to be there an open incident is still followed: its agencies may need what it says."""

_GROUP = 50  # calls a transaction: the daemon's own writes get their turn in between
_COMMIT_S = 30.0  # how long one of them may take

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Erased:
    """Ids of calls: erased, left because they are held, left because they (or their incident) go on.

    `files`: recordings that are gone. In others' records: `events` that had the number and lost what they say, and
    `texts` that it was struck from.
    """

    calls: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    going_on: tuple[str, ...] = ()
    files: int = 0
    events: int = 0
    texts: int = 0


def _nobody_asks(_calls: Collection[str]) -> None:
    """Nobody has anything of these calls in memory."""


class Custody:
    """One thing at a time, from any thread; each takes its time. `recordings` is the folder of the audio files.
    `changed` is told the ids of calls whose records have lost content, for who has some of it in memory.

    Everything raises StoreUnavailable when the database fails, and TimeoutError when it hangs; what is done stays so.
    """

    def __init__(
        self,
        store: Store,
        reader: Reader,
        recordings: Path,
        utc: Callable[[], str] = utc_now,
        changed: Callable[[Collection[str]], object] = _nobody_asks,
    ) -> None:
        self._store, self._reader, self._utc, self._changed = store, reader, utc, changed
        self.recordings = recordings
        self._lock = Lock()

    # --- holds --------------------------------------------------------------------------------------------------------

    def hold(self, id: str, reason: str, by: str) -> str:
        """Nothing of the call goes until it is released; returns its id. A hold that stands gets the new reason.

        `id`: a call's, live or over, or an incident's. Raises NotOnRecord.
        """
        with self._lock:
            call_id, at = self._call_of(id), self._utc()
            row: Record = {"id": call_id, "reason": reason, "placed_at": at, "placed_by": by}
            row |= {"released_at": None, "released_by": None}
            self._commit([Upsert("hold", row), Event(at, "call", call_id, call_id, HELD, {"by": by})])
        return call_id

    def release(self, id: str, by: str) -> str:
        """From now on it may go again. Raises NotOnRecord, NotPossible when it is not held."""
        with self._lock:
            call_id, at = self._call_of(id), self._utc()
            if not self._reader.holds(call_id=call_id):
                raise NotPossible(f"call {call_id} is not held")
            released = Update("hold", call_id, {"released_at": at, "released_by": by})
            self._commit([released, Event(at, "call", call_id, call_id, RELEASED, {"by": by})])
        return call_id

    def holds(self) -> list[Record]:
        """Those that stand."""
        return self._reader.holds()

    # --- erasure ------------------------------------------------------------------------------------------------------

    def erase_call(self, id: str, reason: str, by: str) -> Erased:
        """Erases an ended call. Raises NotOnRecord, and NotPossible when it is held, or goes on."""
        with self._lock:
            call = self._reader.call(self._call_of(id))
            due, left = self._due([] if call is None else [call])
            for ids, why in ((left.held, "is held"), (left.going_on, "or its incident goes on: when it is over")):
                if ids:
                    raise NotPossible(f"call {ids[0]} {why}")
            return self._noted(self._erase(due, left), reason, by)

    def erase_number(self, number: str, reason: str, by: str) -> Erased:
        """Erases the ended calls of a number (E.164), and the number wherever else it stands, however it is written.

        Of another's record goes the number alone, and what an event says. Raises NotOnRecord.
        """
        with self._lock:
            self._commit([])
            spelling = Spelling(number)
            calls, mentions = self._reader.calls_from(number), mentions_of(self._reader, spelling)
            if not calls and not mentions:
                raise NotOnRecord(f"nothing of {number} is on record")
            theirs = {str(call["id"]) for call in calls}
            others = [mention for mention in mentions if mention.call_id not in theirs]
            return self._noted(self._erase_and_strike(calls, others, spelling), reason, by)

    def erase_due(self, calls: Sequence[Record]) -> Erased:
        """Erases these calls, rows with `id` and `recording`; but not those that must stay."""
        with self._lock:
            *_, erased = self._erase(*self._due(calls))
            return erased

    def erase_recordings(self, calls: Sequence[Record]) -> Erased:
        """The same, but of each the recording alone."""
        with self._lock:
            due, left = self._due(calls)
            files = 0
            for group in _groups(due):
                files += sum(self._remove(call) for call in group)
                self._commit([change for call in group for change in self._recording_gone(str(call["id"]))])
            return Erased(_ids(due), left.held, left.going_on, files)

    def is_held(self, file: Path) -> bool:
        """Whether it is a held call's recording: a file is named after its call."""
        return bool(self._reader.holds(call_id=file.name.partition(".")[0]))

    def _noted(self, steps: Iterator[Erased], reason: str, by: str) -> Erased:
        """Takes the steps, each of which tells what is done by then, and notes that, wherever they end."""
        erased = Erased()
        try:
            for erased in steps:  # noqa: B007  the last one tells all
                pass
        finally:
            self._note(erased, reason, by)
        self._commit([])
        return erased

    def _erase(self, due: Sequence[Record], erased: Erased) -> Iterator[Erased]:
        yield erased
        for group in _groups(due):
            for call in group:  # the files first: whatever fails now, the rows still say which file has to go
                erased = replace(erased, files=erased.files + self._remove(call))
                yield erased
            self._commit([change for id in _ids(group) for change in (*self._given_up(id), Erase(id))])
            erased = replace(erased, calls=(*erased.calls, *_ids(group)))
            yield erased
            self._changed(_ids(group))

    def _erase_and_strike(
        self, calls: Sequence[Record], others: Sequence[Mention], spelling: Spelling
    ) -> Iterator[Erased]:
        erased = Erased()
        for erased in self._erase(*self._due(calls)):
            yield erased
        yield from self._strike(others, spelling, erased)

    def _given_up(self, call_id: str) -> list[Change]:
        """What nobody has cleared for days is over: nobody can be told more of what is erased."""
        over: Record = {"status": "closed", "closed_at": self._utc()}
        return [
            Update("incident", str(one["id"]), over) for one in self._reader.incidents(call_id=call_id, status="open")
        ]

    def _strike(self, mentions: Sequence[Mention], spelling: Spelling, erased: Erased) -> Iterator[Erased]:
        """Takes the number out of others' records, but not of those that must stay."""
        calls: list[Record] = [{"id": id} for id in dict.fromkeys(one.call_id for one in mentions if one.call_id)]
        left = self._due(calls)[1]
        due = [one for one in mentions if one.call_id not in {*left.held, *left.going_on}]
        held, going_on = (*erased.held, *left.held), (*erased.going_on, *left.going_on)
        erased = replace(erased, held=held, going_on=going_on)
        yield erased
        for events in _groups([one.id for one in due if one.table == EVENT]):
            self._commit([Blank(tuple(events))])
            erased = replace(erased, events=erased.events + len(events))
            yield erased
        for texts in _groups([one for one in due if one.table != EVENT]):
            self._commit([one.struck(spelling) for one in texts])
            erased = replace(erased, texts=erased.texts + len(texts))
            yield erased
            self._changed({one.call_id for one in texts if one.call_id})

    def _due(self, calls: Sequence[Record]) -> tuple[list[Record], Erased]:
        """Those that may go, and those that are left."""
        if not calls:
            return [], Erased()
        since = later(self._utc(), -GOES_ON.total_seconds())
        going_on = self._reader.going_on(since)
        held = {str(hold["id"]) for hold in self._reader.holds()}
        due = [call for call in calls if call["id"] not in held | going_on]
        ids = _ids(calls)
        left_held, left_going = tuple(id for id in ids if id in held), tuple(id for id in ids if id in going_on - held)
        return due, Erased(held=left_held, going_on=left_going)

    def _remove(self, call: Record) -> bool:
        """Deletes the call's recording; a file outside the folder is none of ours, whatever a row says."""
        if not call["recording"]:
            return False
        path = (self.recordings / str(call["recording"])).resolve()
        if not path.is_relative_to(self.recordings.resolve()):
            return False
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise NotPossible(f"the recording of call {call['id']} cannot be removed: {error}") from error
        return True

    def _recording_gone(self, id: str) -> tuple[Change, ...]:
        return Event(self._utc(), "call", id, id, "recording_erased"), Update(
            "call", id, {"recording": None, "recording_sha256": None}
        )

    def _note(self, erased: Erased, reason: str, by: str) -> None:
        """That it was done, by whom and why; not for whom. In the journal, should the database have failed."""
        left = {"held": list(erased.held), "going_on": list(erased.going_on)}
        done = {"calls": list(erased.calls), "recordings": erased.files}
        done |= {"events": erased.events, "texts": erased.texts}
        data = {"by": by, "reason": reason, **done, **left}
        self._store.write([Event(self._utc(), "system", "records", None, "erasure", data)])

    def _call_of(self, id: str) -> str:
        """The id of the call, be it an incident's that is given. Raises NotOnRecord."""
        self._commit([])  # a call may have been written a moment ago
        if self._reader.call(id) is not None:
            return id
        incident = self._reader.incident(id)
        if incident is None:
            raise NotOnRecord(f"no call {id} is on record")
        return str(incident["call_id"])

    def _commit(self, changes: Iterable[Change]) -> None:
        self._store.commit(changes).result(_COMMIT_S)


def _ids(calls: Iterable[Record]) -> tuple[str, ...]:
    return tuple(str(call["id"]) for call in calls)


def _groups(many: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(many), _GROUP):
        yield many[start : start + _GROUP]
