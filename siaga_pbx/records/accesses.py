"""Who has read what of a caller: an event of kind `read` in the chain for each access (UU PDP 27/2022).

A listing is one event, and whoever reads the same again and again (a console asks every few seconds) is noted once in a
quarter of an hour: the log costs little, whatever is read.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock

from siaga_pbx.records.changes import Change, Event
from siaga_pbx.records.closing import READ
from siaga_pbx.records.times import utc_now

WINDOW_S = 900.0
"""How long a noted access stands for the same one again."""

_LIMIT = 10_000  # accesses remembered; past it some are noted more often than they need be
_LONGEST = 200  # of each text


@dataclass(frozen=True, slots=True)
class Access:
    """`by`: a user of the machine, or whoever had the token; `what`: a command, or a path of the API."""

    by: str
    what: str
    call_id: str | None = None
    query: str = ""

    def event(self, at: str) -> Event:
        """The event that notes it."""
        data = {"by": self.by[:_LONGEST], "what": self.what[:_LONGEST]}
        if self.query:
            data["query"] = self.query[:_LONGEST]
        subject, id = ("system", "records") if self.call_id is None else ("call", self.call_id)
        return Event(at, subject, id, self.call_id, READ, data)


class AccessLog:
    """Notes accesses through `write`, such as a store's, which neither blocks nor raises. Any thread may use it."""

    def __init__(
        self,
        write: Callable[[Iterable[Change]], None],
        now: Callable[[], float] = time.monotonic,
        utc: Callable[[], str] = utc_now,
    ) -> None:
        self._write, self._now, self._utc = write, now, utc
        self._noted: dict[Access, float] = {}
        self._lock = Lock()

    def note(self, access: Access) -> None:
        """Call it before what is read is handed over."""
        now = self._now()
        with self._lock:
            noted = self._noted.get(access)
            if noted is not None and now - noted < WINDOW_S:
                return
            if len(self._noted) >= _LIMIT:
                self._noted = {one: at for one, at in self._noted.items() if now - at < WINDOW_S}
            if len(self._noted) >= _LIMIT:
                self._noted.clear()
            self._noted[access] = now
        self._write([access.event(self._utc())])
