"""What the people at an agency see: from a picture of how things stand to text on a terminal of any size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from siaga_pbx.dispatch.agency_book import Entry, News
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import Dispatch, Purpose
from siaga_pbx.records.times import parse_utc

HELP = (
    ("a", "accept"),
    ("x", "reject"),
    ("e", "en route"),
    ("o", "on scene"),
    ("c", "clear"),
    ("r", "received"),
    ("jk", "↑↓"),
    ("q", "quit"),
)
_STATES = {
    State.RECEIVED: "bold white on red",
    State.ACCEPTED: "bold yellow",
    State.EN_ROUTE: "bold cyan",
    State.ON_SCENE: "bold green",
}
_BANNERS = {
    News.NEW: ("NEW", "bold white on red"),
    News.REMINDER: ("NOT ANSWERED", "bold white on red"),
    News.UPDATE: ("UPDATE", "bold black on yellow"),
    News.CANCEL: ("CANCELLED", "bold white on magenta"),
}
_LABELS = {State.EN_ROUTE: "en route", State.ON_SCENE: "on scene"}
_LIST_HEAD = 2  # titles and a rule
_DETAILS = 11  # lines of the details with their frame, at least; the list has the rest
_NAMES = 16  # columns beside the words of the details


@dataclass(frozen=True, slots=True)
class Picture:
    """How things stand. `entries`: in the order of the list. `now` has a zone; times are shown in `zone`."""

    title: str
    connected: bool
    connection: str
    entries: Sequence[Entry]
    chosen: Entry | None
    ringing: Mapping[str, News]
    line: str
    """The last thing that happened, or what is asked."""
    refused: Sequence[str]
    fault: str
    """Why what is seen here is not kept, if it is not."""
    now: datetime
    zone: tzinfo | None


def render(picture: Picture, width: int, height: int) -> RenderableType:
    """All of it, in so many columns and lines."""
    banner = _banners(picture, width)
    foot = _foot(picture)
    room = height - 1 - len(banner) - len(foot)
    rows = max(1, min(len(picture.entries) or 1, room - _LIST_HEAD - _DETAILS))
    room -= rows + _LIST_HEAD
    parts: list[RenderableType] = [_head(picture, width), *banner, _list(picture, rows)]
    if picture.chosen is not None and room > 2:
        details, lines = _details(picture, picture.chosen, width)
        details.height = min(lines, room)
        parts.append(details)
        room -= details.height
    return Group(*parts, *[Text() for _ in range(room)], *foot)


def _foot(picture: Picture) -> list[RenderableType]:
    """What is at fault, what was refused, the last thing that happened, the keys."""
    lines: list[RenderableType] = []
    if picture.fault:
        what = f"NOT KEPT: a restart of this program would forget it. {picture.fault}"
        lines.append(_one_line(what, "bold white on red"))
    if picture.refused:
        count = f"{len(picture.refused)} messages, the last" if len(picture.refused) > 1 else "a message"
        lines.append(_one_line(f"refused {count} {picture.refused[-1]} (Esc: seen)", "bold red"))
    return [*lines, _one_line(picture.line, "bold"), _keys()]


def printable(text: str) -> str:
    """In one line, without what would drive the terminal: the words come from callers and other machines."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def where(entry: Entry) -> str:
    """The place in words, or as coordinates."""
    location = entry.message.location
    if location is None:
        return "not known"
    return location.address or _coordinates(entry.message) or "not known"


def in_a_line(news: News, entry: Entry) -> str:
    """A dispatch for a log or a pipe."""
    message = entry.message
    people = "" if message.people is None else f" ({message.people} people)"
    head = f"{news.value} {message.dispatch_id}:{message.sequence} {message.category} {entry.state}"
    return printable(f"{head} at {where(entry)}{people}: {message.note}")


def changes(entry: Entry) -> list[str]:
    """What the latest sequence says that the one before it did not."""
    if entry.was is None:
        return []
    old, new = _facts(entry.was), _facts(entry.message)
    return [f"{name}: {old[name] or 'nothing'} → {new[name] or 'nothing'}" for name in new if new[name] != old[name]]


def _facts(message: Dispatch) -> dict[str, str]:
    return {
        "where": (message.location.address if message.location else "") or "",
        "place": _coordinates(message),
        "note": message.note,
        "people": "" if message.people is None else str(message.people),
        "caller": _caller(message),
        "priority": str(message.priority),
    }


def _caller(message: Dispatch) -> str:
    callback = message.callback
    if message.protected:
        return "protected: tell nobody"
    if callback is None or callback.number is None:
        return "no number"
    return f"{callback.number}{'' if callback.callable else ' (cannot be called back)'}"


def _coordinates(message: Dispatch) -> str:
    location = message.location
    if location is None or location.lat is None or location.lon is None:
        return ""
    radius = f" within {location.radius_m:.0f} m" if location.radius_m else ""
    return f"{location.lat:.5f}, {location.lon:.5f}{radius}"


def _what(message: Dispatch) -> str:
    return message.category if message.status is Purpose.ACTUAL else f"{message.category} ({message.status})"


def _head(picture: Picture, width: int) -> Text:
    clock = f"{picture.now.astimezone(picture.zone):%H:%M:%S} "
    style = "bold white on blue" if picture.connected else "bold white on red"
    state = "●" if picture.connected else "○ NO CONNECTION:"
    head = _one_line(f"{picture.title} · {state} {picture.connection}", style)
    head.truncate(width - len(clock) - 1, overflow="ellipsis")
    head.append(" " * (width - head.cell_len - len(clock)) + clock)
    return head


def _banners(picture: Picture, width: int) -> list[RenderableType]:
    """What nobody has answered, the newest first: three at most, or it is a list."""
    lines: list[RenderableType] = []
    known = {entry.message.dispatch_id: entry for entry in picture.entries}
    for id, news in reversed([*picture.ringing.items()]):
        entry = known.get(id)
        if entry is None or len(lines) >= 3:
            continue
        word, style = _BANNERS[news]
        facts = "; ".join(changes(entry)) if news is News.UPDATE else entry.message.note
        line = _one_line(" · ".join((f"▶ {word}", _what(entry.message).upper(), where(entry), facts)), style)
        line.truncate(width, overflow="ellipsis", pad=True)
        lines.append(line)
    return lines


def _list(picture: Picture, rows: int) -> Table:
    table = Table(expand=True, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for name in ("  came", "age", "what", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("where", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("people", justify="right")
    if not picture.entries:
        table.add_row("", "", "", "", "no dispatches", "", style="dim")
    for entry in _window(picture, rows):
        message, came = entry.message, _came(entry)
        table.add_row(
            f"{'▶' if entry is picture.chosen else ' '} {came.astimezone(picture.zone):%d %b %H:%M:%S}",
            _age((picture.now - came).total_seconds()),
            Text(printable(_what(message))),
            Text(_state(entry), style="dim" if entry.closed else _STATES.get(entry.state, "")),
            Text(printable(where(entry))),
            "" if message.people is None else str(message.people),
            style="on grey23" if entry is picture.chosen else "dim" if entry.closed else "",
        )
    return table


def _window(picture: Picture, rows: int) -> Sequence[Entry]:
    """As many as there is room for, the chosen one among them."""
    at = next((n for n, entry in enumerate(picture.entries) if entry is picture.chosen), 0)
    first = max(0, min(at - rows // 2, len(picture.entries) - rows))
    return picture.entries[first : first + rows]


def _details(picture: Picture, entry: Entry, width: int) -> tuple[Panel, int]:
    """The panel, and how many lines it takes to hold all of it."""
    message = entry.message
    rows = {
        "note": message.note or "none",
        "where": where(entry),
        "place": _coordinates(message),
        "changed": "; ".join(changes(entry)),
        "caller": _caller(message),
        "seat": message.seat or "",
        "accept by": _deadline(entry, picture),
        "history": _history(entry, picture.zone),
        "dispatch": f"{message.dispatch_id} : {message.sequence} ({message.type})",
    }
    if message.status is not Purpose.ACTUAL:
        rows = {"status": _PURPOSES[message.status]} | rows
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(printable(value), style="bold" if name in ("note", "where", "status") else ""))
    lines = 2 + sum(1 + len(value) // max(1, width - _NAMES) for value in rows.values() if value)
    return Panel(table, box=box.ROUNDED, border_style="dim"), lines


_PURPOSES = {
    Purpose.EXERCISE: "EXERCISE: a drill with people",
    Purpose.TEST: "TEST of the equipment: answer, do not go",
}


def _deadline(entry: Entry, picture: Picture) -> str:
    """Only while somebody is to accept it."""
    if entry.closed or entry.state is not State.RECEIVED:
        return ""
    due = parse_utc(entry.message.accept_by)
    left = (due - picture.now).total_seconds()
    said = f"{_age(left)} left" if left >= 0 else f"late by {_age(-left)}"
    return f"{due.astimezone(picture.zone):%H:%M:%S}, {said}"


def _history(entry: Entry, zone: tzinfo | None) -> str:
    steps = [f"{_LABELS.get(state, state)} {parse_utc(at).astimezone(zone):%H:%M:%S}" for state, at in entry.history]
    return " · ".join(steps) + (f" · reason: {entry.reason}" if entry.reason else "")


def _state(entry: Entry) -> str:
    return "CANCELLED" if entry.cancelled else _LABELS.get(entry.state, str(entry.state))


def _came(entry: Entry) -> datetime:
    """When it came, by this machine's clock: the last time that people here were asked."""
    came = [at for state, at in entry.history if state is State.RECEIVED]
    return parse_utc(came[-1] if came else entry.message.sent_at)


def _age(seconds: float) -> str:
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d"
    return f"{hours}:{minute:02d} h" if hours else f"{minute}:{second:02d}"


def _keys() -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, (key, meaning) in enumerate(HELP):
        line.append(" " if number == 0 else "  ")
        line.append(key, "bold reverse")
        line.append(f" {meaning}")
    return line


def _one_line(text: str, style: str = "") -> Text:
    return Text(f" {printable(text)}", style=style, no_wrap=True, overflow="ellipsis")
