"""What an agency's end knows: its dispatches, how far each has come, and the answers not sent yet. Does no I/O.

A dispatch is known by its id; `sequence` tells a new version from a repetition. Whatever comes, the answer is the
dispatch's present state, so a centre that missed an answer learns it from the next one.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel, ConfigDict

from siaga_pbx.dispatch.ladder import RANK, Answer, State
from siaga_pbx.dispatch.message import Ack, Dispatch, Kind

KEPT = 200
"""Dispatches kept whole; beyond, what is closed or expired goes, and nothing that somebody still has to see to. Of what
goes it is known what was answered, until it expires.
"""

UNSENT = 2000
"""Answers that wait for the broker. Beyond, the oldest are lost: a later one implies it, or a repetition asks again."""


class News(Enum):
    """What a message is to the people here."""

    NEW = "new"
    UPDATE = "update"
    CANCEL = "cancel"
    REMINDER = "reminder"
    """A repetition of what nobody here has answered yet: ring again."""
    REPETITION = "repetition"
    """A repetition of what is answered, or an older version: nothing to show."""


class NotPossible(Exception):
    """The dispatch cannot go into this state any more; the message says why."""


class Entry(BaseModel):
    """One dispatch at this agency. `history`: its states and when they were entered, by this end's clock. `was`: the
    message before the latest sequence, so that what has changed can be shown.
    """

    model_config = ConfigDict(frozen=True)

    message: Dispatch
    state: Answer
    reason: str | None = None
    history: tuple[tuple[State, str], ...] = ()
    was: Dispatch | None = None

    @property
    def cancelled(self) -> bool:
        return self.message.type is Kind.CANCEL

    @property
    def closed(self) -> bool:
        """Nothing is left to do here."""
        return self.cancelled or self.state in (State.REJECTED, State.CLEARED)


class Turned(BaseModel):
    """A dispatch whose page is turned: enough to know a repetition by, and to answer it, as long as one may come."""

    model_config = ConfigDict(frozen=True)

    dispatch_id: str
    sequence: int
    type: Kind
    state: Answer
    reason: str | None = None
    expires_at: str

    @classmethod
    def of(cls, entry: Entry) -> "Turned":
        message = entry.message
        return cls(
            dispatch_id=message.dispatch_id,
            sequence=message.sequence,
            type=message.type,
            state=entry.state,
            reason=entry.reason,
            expires_at=message.expires_at,
        )

    def entry(self, like: Dispatch) -> Entry:
        """As an entry again, by a message of the same dispatch."""
        message = like.model_copy(update={"sequence": self.sequence, "type": self.type})
        return Entry(message=message, state=self.state, reason=self.reason)


class Saved(BaseModel):
    """The book as its file holds it."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[Entry, ...] = ()
    turned: tuple[Turned, ...] = ()
    unsent: tuple[Ack, ...] = ()


@dataclass(frozen=True, slots=True)
class _Said:
    """An answer, whether people gave it or this machine did, and by which version of the book."""

    ack: Ack
    by_people: bool
    version: int


@dataclass(frozen=True, slots=True)
class Signature:
    """Who answers, and when (UTC text)."""

    by: str
    at: str


class Book:
    """Feed it what comes in; send what is `unsent`, in order, and `confirm` each once the broker has it.

    `version` rises with each change. Set `written` to the one that the file holds, and no answer goes out before that.
    """

    def __init__(self, saved: Saved | None = None) -> None:
        saved = saved or Saved()
        self._entries = {entry.message.dispatch_id: entry for entry in saved.entries}
        self._turned = {one.dispatch_id: one for one in saved.turned}
        self._unsent = deque((_Said(ack, by_people=True, version=0) for ack in saved.unsent), maxlen=UNSENT)
        self.version = 0
        self.written = math.inf

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that are remembered, oldest first."""
        return tuple(self._entries.values())

    @property
    def unsent(self) -> Ack | None:
        """The next answer to send; None when there is none, or the file does not hold it yet."""
        return self._unsent[0].ack if self._unsent and self._unsent[0].version <= self.written else None

    @property
    def pending(self) -> int:
        """Answers that the broker does not have yet."""
        return len(self._unsent)

    def get(self, dispatch_id: str) -> Entry | None:
        return self._entries.get(dispatch_id)

    def saved(self) -> Saved:
        """For the file."""
        return Saved(
            entries=self.entries, turned=tuple(self._turned.values()), unsent=tuple(one.ack for one in self._unsent)
        )

    def receive(self, message: Dispatch, signature: Signature) -> tuple[News, Entry]:
        """Takes a dispatch in, and answers it. Returns what it is to the people here, and how it stands."""
        known = self._entries.get(message.dispatch_id)
        if known is None and (turned := self._turned.get(message.dispatch_id)) is not None:
            known = turned.entry(message)
        if known is not None and message.sequence <= known.message.sequence:
            self._answer(known, signature)
            waits = known.state is State.RECEIVED and message.sequence == known.message.sequence
            return News.REMINDER if waits and not known.cancelled else News.REPETITION, known
        if known is None or (known.closed and message.type is Kind.ALERT):
            # An alert for what was closed here asks these people anew; an update would only tell them more.
            history = known.history if known else ()
            history = (*history, (State.RECEIVED, signature.at))
            entry = Entry(message=message, state=State.RECEIVED, history=history, was=known and known.message)
            news = News.CANCEL if message.type is Kind.CANCEL else News.NEW
        else:
            entry = known.model_copy(update={"message": message, "was": known.message})
            news = News.CANCEL if message.type is Kind.CANCEL else News.UPDATE
        self._keep(entry, signature.at)
        self._answer(entry, signature)
        return news, entry

    def enter(self, dispatch_id: str, state: Answer, signature: Signature, reason: str | None = None) -> Entry:
        """A person, or a machine for them, says how far it is. Raises NotPossible: states never go back."""
        entry = self._entries.get(dispatch_id)
        if entry is None:
            raise NotPossible("no such dispatch")
        if entry.cancelled:
            raise NotPossible("it is cancelled")
        takes_back = {entry.state, state} == {State.ACCEPTED, State.REJECTED}
        if RANK[state] <= RANK[entry.state] and not takes_back:
            raise NotPossible(f"it is {entry.state} already")
        changed = {"state": state, "reason": reason, "history": (*entry.history, (state, signature.at))}
        entry = entry.model_copy(update=changed)
        self._keep(entry, signature.at)
        self._say(Turned.of(entry), signature, by_people=True)
        return entry

    def not_kept(self) -> None:
        """The file cannot be written. Of what is not sent yet, this machine's own answers are not said, and what people
        have said goes out as not kept. `restate` when the file can be written again.
        """
        said = (one.ack.model_copy(update={"kept": False}) for one in self._unsent if one.by_people)
        self._unsent = deque((_Said(ack, by_people=True, version=0) for ack in said), maxlen=UNSENT)

    def restate(self, signature: Signature, dispatch_id: str | None = None) -> None:
        """Answers one dispatch, or all that are not history yet, once more: for who may have missed it."""
        told = (one.ack for one in self._unsent if one.ack.kept is not False)
        waiting = {(ack.dispatch_id, ack.sequence) for ack in told}
        for id, one in (self._turned | {id: Turned.of(entry) for id, entry in self._entries.items()}).items():
            wanted = one.expires_at > signature.at if dispatch_id is None else id == dispatch_id
            if wanted and (id, one.sequence) not in waiting:
                self._say(one, signature)

    def confirm(self, ack: Ack) -> None:
        """The broker has this answer."""
        if self._unsent and self._unsent[0].ack == ack:
            self._unsent.popleft()

    def _answer(self, entry: Entry, signature: Signature) -> None:
        self._say(Turned.of(entry), signature)

    def _say(self, how: Turned, signature: Signature, *, by_people: bool = False) -> None:
        ack = Ack(
            dispatch_id=how.dispatch_id,
            state=how.state,
            at=signature.at,
            by=signature.by,
            reason=how.reason if how.state is State.REJECTED else None,
            sequence=how.sequence,
        )
        self._unsent.append(_Said(ack, by_people, self.version))

    def _keep(self, entry: Entry, at: str) -> None:
        self.version += 1
        self._entries[entry.message.dispatch_id] = entry
        self._turned.pop(entry.message.dispatch_id, None)
        if len(self._entries) <= KEPT:
            return
        self._turned = {id: one for id, one in self._turned.items() if one.expires_at > at}
        over = [id for id, one in self._entries.items() if one.closed or one.message.expires_at <= at]
        for id in over[: len(self._entries) - KEPT]:
            self._turned[id] = Turned.of(self._entries.pop(id))
