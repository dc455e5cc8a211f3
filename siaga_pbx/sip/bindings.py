"""The registered contacts of all seats, each with its expiry (RFC 3261 10.3), and which source is whose."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from siaga_pbx.sip.binding import Binding
from siaga_pbx.sip.deadlines import Alarm, Deadlines
from siaga_pbx.sip.events import Gone
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.uri import Uri

MAX_CONTACTS = 4
"""Contacts of one seat: a phone that starts anew with another Contact leaves its old one behind until it expires."""


@dataclass(frozen=True, slots=True)
class _Entry:
    binding: Binding
    alarm: Alarm


class Bindings:
    """`on_gone` is told when a seat's last contact is gone."""

    __slots__ = ("_deadlines", "_on_gone", "_seats", "_sources")

    def __init__(self, deadlines: Deadlines, on_gone: Callable[[str, Gone], None]) -> None:
        self._deadlines = deadlines
        self._on_gone = on_gone
        self._seats: dict[str, list[_Entry]] = {}
        """The latest last: that is the one in use."""
        self._sources: dict[object, list[str]] = {}

    def of(self, seat: str) -> list[Binding]:
        """The seat's contacts, the one in use last."""
        return [entry.binding for entry in self._seats.get(seat, ())]

    def in_use(self, seat: str) -> Binding | None:
        """The contact that was registered last."""
        entries = self._seats.get(seat)
        return entries[-1].binding if entries else None

    def seats(self) -> list[str]:
        return list(self._seats)

    def at(self, flow: Flow) -> list[str]:
        """The seats with a contact that was registered from exactly this source."""
        return self._sources.get(_source(flow), [])

    def put(self, binding: Binding) -> bool:
        """Adds or replaces a contact; True if the seat had none.

        It replaces the same contact and whatever was registered from the same source: a phone that started anew.
        """
        entries = self._seats.get(binding.seat, [])
        fresh = not entries
        source = _source(binding.source)
        for entry in entries[:]:
            same = entry.binding.contact.equivalent(binding.contact)
            if same or _source(entry.binding.source) == source:
                self._drop(entry)
        if len(entries) >= MAX_CONTACTS:
            self._drop(entries[0])
        alarm = Alarm(binding.expires_at, partial(self._expired, binding))
        self._deadlines.watch(alarm)
        self._seats.setdefault(binding.seat, entries).append(_Entry(binding, alarm))
        self._sources.setdefault(source, []).append(binding.seat)
        return fresh

    def remove(self, seat: str, contact: Uri | None, cause: Gone) -> None:
        """Removes one contact of a seat, or all for None."""
        for entry in self._seats.get(seat, [])[:]:
            if contact is None or entry.binding.contact.equivalent(contact):
                self._drop(entry)
                self._tell_if_gone(seat, cause)

    def _expired(self, binding: Binding, now: float) -> None:
        for entry in self._seats.get(binding.seat, [])[:]:
            if entry.binding is binding:
                self._drop(entry)
                self._tell_if_gone(binding.seat, Gone.EXPIRED)

    def _tell_if_gone(self, seat: str, cause: Gone) -> None:
        if not self._seats.get(seat):
            self._seats.pop(seat, None)
            self._on_gone(seat, cause)

    def _drop(self, entry: _Entry) -> None:
        entry.alarm.at = None
        seat = entry.binding.seat
        self._seats[seat].remove(entry)
        source = _source(entry.binding.source)
        seats = self._sources[source]
        seats.remove(seat)
        if not seats:
            del self._sources[source]


def _source(flow: Flow) -> object:
    """What makes a source exactly the same: the connection, or on UDP address and port."""
    return (flow.transport, flow.remote) if flow.connection is None else flow.connection
