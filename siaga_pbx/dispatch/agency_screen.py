"""The agency's end on a terminal: the keys that people answer with, and what is kept fresh before their eyes."""

import os
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo

from rich.console import Console, RenderableType
from rich.live import Live

from siaga_pbx.dispatch.agency_book import Entry, News, NotPossible
from siaga_pbx.dispatch.agency_sound import Ringer
from siaga_pbx.dispatch.agency_view import Picture, printable, render
from siaga_pbx.dispatch.ladder import Answer, State
from siaga_pbx.dispatch.station import Listener, Station

KEYS: dict[str, Answer] = {
    "a": State.ACCEPTED,
    "x": State.REJECTED,
    "e": State.EN_ROUTE,
    "o": State.ON_SCENE,
    "c": State.CLEARED,
}
_UP, _DOWN, _ENTER, _ESCAPE, _ERASE = "\x1b[A", "\x1b[B", ("\r", "\n"), "\x1b", ("\x7f", "\b")
_REFUSED = 50
"""Messages that were refused are remembered, the newest."""


class Screen(Listener):
    """The list of dispatches, what is open and new first, the chosen one in full, and what the keys do.

    `ringer` sounds until the people have keyed something; `now` is the wall clock, with its zone.
    """

    def __init__(
        self,
        station: Station,
        title: str,
        ringer: Ringer,
        console: Console | None = None,
        zone: tzinfo | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._station, self._title, self._ringer, self._zone, self._now = station, title, ringer, zone, now
        self._console = console or Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._chosen: str | None = None
        self._reason: str | None = None  # while a reason is typed
        self._leaving = False  # while it is asked whether to quit
        self._line = ""
        self._connection = "connecting"
        self._refused: deque[str] = deque(maxlen=_REFUSED)
        self.quitting = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The terminal is ours meanwhile, and keys come one by one."""
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        try:
            with self._live:
                self.refresh()
                yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def refresh(self) -> None:
        self._live.update(self.render(), refresh=True)

    def tick(self) -> None:
        """Call about once a second: ages go on, and what is not answered sounds again."""
        self._ringer.tick(time.monotonic())
        self.refresh()

    def hear(self, news: News, entry: Entry) -> None:
        """Sounds for what people have to see, and shows it."""
        if news is not News.REPETITION:
            self._ringer.hear(news, entry)
            self._ringer.tick(time.monotonic())
            # A key that is on its way must not answer for another dispatch than the one it was meant for.
            if self._reason is None and (self._entry is None or not self._waits(self._entry)):
                self._chosen = entry.message.dispatch_id
            self._line = f"{news.value}: {entry.message.category}"
        self.refresh()

    def refused(self, reason: str) -> None:
        self._ringer.refused(reason)
        self._refused.append(f"{self._now().astimezone(self._zone):%d %b %H:%M:%S}: {reason}")
        self.refresh()

    def kept(self, fault: str) -> None:
        if fault:
            self._ringer.refused(fault)
        self.refresh()

    def connection(self, connected: bool, reason: str) -> None:
        self._connection = "connected" if connected else reason or "left"
        self.refresh()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def read_keys(self) -> None:
        """Call when stdin is readable."""
        typed = os.read(sys.stdin.fileno(), 1024).decode(errors="ignore")
        if not typed:  # the terminal is gone
            self.quitting = True
        for key in (typed,) if typed in (_UP, _DOWN) else typed:
            self.press(key)
        if not self.quitting:
            self.refresh()

    def press(self, key: str) -> None:
        """One key."""
        if self._reason is not None:
            self._type_reason(key)
        elif self._leaving:
            self._leaving, self.quitting = False, key == "y"
            self._line = ""
        elif key == "q":
            self._leaving = True
        elif key == _ESCAPE:
            self._refused.clear()
        elif key in ("k", _UP):
            self._choose(-1)
        elif key in ("j", _DOWN):
            self._choose(1)
        else:
            self._answer(key)

    def _answer(self, key: str) -> None:
        entry = self._entry
        if entry is None:
            self._line = "no dispatch is chosen"
        elif key == "r":
            self._ringer.answered(entry.message.dispatch_id)
            self._station.restate(entry.message.dispatch_id)
            self._line = f"told the centre again: {entry.state}" if not self._station.fault else "not told: not kept"
        elif key == "x":
            self._reason = ""
        elif key in KEYS:
            self._enter(KEYS[key], None)

    def _type_reason(self, key: str) -> None:
        reason = self._reason or ""
        if key in _ENTER:
            if reason.strip():  # the centre asks somebody else by it: they should know why
                self._reason = None
                self._enter(State.REJECTED, reason.strip())
        elif key == _ESCAPE:
            self._reason = None
        elif key in _ERASE:
            self._reason = reason[:-1]
        elif key.isprintable():
            self._reason = (reason + key)[:500]

    def _enter(self, state: Answer, reason: str | None) -> None:
        if self._chosen is None:
            return
        self._ringer.answered(self._chosen)
        try:
            self._station.enter(self._chosen, state, reason)
            self._line = f"{state}"
        except NotPossible as error:
            self._line = f"not {state}: {error}"

    def _choose(self, step: int) -> None:
        ids = [entry.message.dispatch_id for entry in self._newest]
        if ids:
            at = ids.index(self._chosen) + step if self._chosen in ids else 0
            self._chosen = ids[min(max(at, 0), len(ids) - 1)]

    # --- what is seen -------------------------------------------------------------------------------------------------

    def _waits(self, entry: Entry) -> bool:
        """Whether people here have something to key for it."""
        unanswered = entry.state is State.RECEIVED and not entry.closed
        return unanswered or entry.message.dispatch_id in self._ringer.ringing

    @property
    def _newest(self) -> list[Entry]:
        newest = list(reversed(self._station.book.entries))
        return sorted(newest, key=lambda entry: (not self._waits(entry), entry.closed))

    @property
    def _entry(self) -> Entry | None:
        if self._chosen is None and (newest := self._newest):
            self._chosen = newest[0].message.dispatch_id
        return None if self._chosen is None else self._station.book.get(self._chosen)

    def render(self) -> RenderableType:
        """All of it."""
        line = printable(self._line)
        if self._reason is not None:
            line = f"reason (Enter sends, Esc leaves): {self._reason}_"
        elif self._leaving:
            line = "quit? The centre then sees this agency offline. y: quit; any other key: stay"
        picture = Picture(
            title=self._title,
            connected=self._station.connected,
            connection=self._connection,
            entries=self._newest,
            chosen=self._entry,
            ringing=self._ringer.ringing,
            line=line,
            refused=tuple(self._refused),
            fault=self._station.fault,
            now=self._now(),
            zone=self._zone,
        )
        return render(picture, self._console.width, self._console.height)
