"""What the people at an agency see on a terminal, and the keys they answer with."""

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from siaga_pbx.dispatch.agency_book import Entry, News, NotPossible
from siaga_pbx.dispatch.ladder import Answer, State
from siaga_pbx.dispatch.message import Purpose
from siaga_pbx.dispatch.station import Listener, Station
from siaga_pbx.records.times import parse_utc

KEYS: dict[str, Answer] = {
    "a": State.ACCEPTED,
    "x": State.REJECTED,
    "e": State.EN_ROUTE,
    "o": State.ON_SCENE,
    "c": State.CLEARED,
}
_HELP = (
    "[b]a[/] accept  [b]x[/] reject  [b]e[/] en route  [b]o[/] on scene  [b]c[/] cleared  "
    "[b]r[/] tell again  [b]j k[/] choose  [b]q[/] quit"
)
_STYLES = {
    State.RECEIVED: "bold white on red",
    State.ACCEPTED: "bold yellow",
    State.EN_ROUTE: "bold cyan",
    State.ON_SCENE: "bold green",
}
_SHOWN = 15
_UP, _DOWN, _ENTER, _ESCAPE, _ERASE = "\x1b[A", "\x1b[B", ("\r", "\n"), "\x1b", ("\x7f", "\b")


class Screen(Listener):
    """The list of dispatches, what is open and new first, the chosen one in full, and what the keys do."""

    def __init__(
        self, station: Station, title: str, console: Console | None = None, zone: tzinfo | None = None
    ) -> None:
        self._station, self._title, self._zone = station, title, zone
        self._console = console or Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._chosen: str | None = None
        self._reason: str | None = None  # while a reason is typed
        self._line = ""
        self._connection = "connecting"
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

    def hear(self, news: News, entry: Entry) -> None:
        """Rings for what people have to see, and shows it."""
        if news is not News.REPETITION:
            self._console.bell()
            # A key that is on its way must not answer for another dispatch than the one it was meant for.
            if self._reason is None and (self._entry is None or self._entry.state is not State.RECEIVED):
                self._chosen = entry.message.dispatch_id
            self._line = f"{news.value}: {entry.message.category}"
        self.refresh()

    def refused(self, reason: str) -> None:
        self._console.bell()
        self._line = f"refused: {reason}"
        self.refresh()

    def connection(self, connected: bool, reason: str) -> None:
        self._connection = "connected" if connected else f"no connection: {reason or 'left'}"
        self.refresh()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def read_keys(self) -> None:
        """Call when stdin is readable."""
        typed = os.read(sys.stdin.fileno(), 1024).decode(errors="ignore")
        for key in (typed,) if typed in (_UP, _DOWN) else typed:
            self.press(key)
        self.refresh()

    def press(self, key: str) -> None:
        """One key."""
        if self._reason is not None:
            self._type_reason(key)
        elif key == "q":
            self.quitting = True
        elif key in ("k", _UP):
            self._choose(-1)
        elif key in ("j", _DOWN):
            self._choose(1)
        elif (entry := self._entry) is None:
            self._line = "no dispatch is chosen"
        elif key == "r":
            self._station.restate(entry.message.dispatch_id)
            self._line = f"told the centre again: {entry.state}"
        elif key == "x":
            self._reason = ""
        elif key in KEYS:
            self._enter(KEYS[key], None)

    def _type_reason(self, key: str) -> None:
        reason = self._reason or ""
        if key in _ENTER:
            self._reason = None
            self._enter(State.REJECTED, reason.strip() or None)
        elif key == _ESCAPE:
            self._reason = None
        elif key in _ERASE:
            self._reason = reason[:-1]
        elif key.isprintable():
            self._reason = (reason + key)[:500]

    def _enter(self, state: Answer, reason: str | None) -> None:
        if self._chosen is None:
            return
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

    @property
    def _newest(self) -> list[Entry]:
        newest = list(reversed(self._station.book.entries))
        return sorted(newest, key=lambda entry: entry.closed)[:_SHOWN]

    @property
    def _entry(self) -> Entry | None:
        if self._chosen is None and (newest := self._newest):
            self._chosen = newest[0].message.dispatch_id
        return None if self._chosen is None else self._station.book.get(self._chosen)

    def render(self) -> RenderableType:
        """All of it."""
        entry = self._entry
        below = Text(printable(self._line))
        if self._reason is not None:
            below = Text(f"reason (Enter sends, Esc leaves): {self._reason}_")
        parts: list[RenderableType] = [self._table()]
        if entry is not None:
            parts.append(_details(entry))
        parts += [below, Text.from_markup(_HELP)]
        style = "green" if self._station.connected else "red"
        return Panel(Group(*parts), title=f"{escape(self._title)}  [{style}]{escape(printable(self._connection))}[/]")

    def _table(self) -> Table:
        table = Table("", "time", "what", "state", "where", "people", expand=True, box=None)
        for entry in self._newest:
            message = entry.message
            chosen = message.dispatch_id == self._chosen
            what = message.category if message.status is Purpose.ACTUAL else f"{message.category} ({message.status})"
            state = "cancelled" if entry.cancelled else str(entry.state)
            table.add_row(
                ">" if chosen else "",
                parse_utc(message.sent_at).astimezone(self._zone).strftime("%d %b %H:%M:%S"),
                Text(printable(what)),
                Text(state, style="" if entry.closed else _STYLES.get(entry.state, "")),
                Text(printable(where(entry))),
                "" if message.people is None else str(message.people),
            )
        return table


def printable(text: str) -> str:
    """In one line, without what would drive the terminal: the words come from callers and other machines."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def where(entry: Entry) -> str:
    """The place in words, or as coordinates."""
    location = entry.message.location
    if location is None:
        return "not known"
    if location.address:
        return location.address
    return f"{location.lat:.5f}, {location.lon:.5f} (within {location.radius_m or 0:.0f} m)"


def in_a_line(news: News, entry: Entry) -> str:
    """A dispatch for a log or a pipe."""
    message = entry.message
    people = "" if message.people is None else f" ({message.people} people)"
    head = f"{news.value} {message.dispatch_id}:{message.sequence} {message.category} {entry.state}"
    return printable(f"{head} at {where(entry)}{people}: {message.note}")


def _details(entry: Entry) -> Panel:
    message, callback = entry.message, entry.message.callback
    rows = {
        "note": message.note,
        "where": where(entry),
        "caller": "protected" if message.protected else (callback.number if callback else None) or "no number",
        "seat": message.seat or "",
        "sequence": f"{message.sequence} ({message.type})",
        "accept by": message.accept_by,
        "dispatch": message.dispatch_id,
    }
    table = Table(show_header=False, box=None, expand=True)
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(printable(value)))
    return Panel(table)
