"""The registered contacts of all seats, each with its expiry (RFC 3261 10.3), and which source is whose."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from siaga_pbx.sip.binding import Binding
from siaga_pbx.sip.deadlines import Alarm, Deadlines
from siaga_pbx.sip.events import Gone
from siaga_pbx.sip.flow import Address, Flow, reliable
from siaga_pbx.sip.uri import Uri

MAX_CONTACTS = 4
"""Contacts of one seat: a phone that starts anew with another Contact leaves its old one behind until it expires."""


@dataclass(frozen=True, slots=True)
class _Entry:
    binding: Binding
    alarm: Alarm


class Bindings:
    """`on_gone` is told when a seat's last contact is gone."""

    __slots__ = ("_deadlines", "_hosts", "_on_gone", "_seats", "_sources")

    def __init__(self, deadlines: Deadlines, on_gone: Callable[[str, Gone], None]) -> None:
        self._deadlines = deadlines
        self._on_gone = on_gone
        self._seats: dict[str, list[_Entry]] = {}
        """The latest last: that is the one in use."""
        self._sources: dict[object, list[str]] = {}
        self._hosts: Counter[str] = Counter()

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

    def count_at(self, source: Address) -> int:
        """How many contacts were registered from exactly this UDP source."""
        return len(self._sources.get(("udp", source), ()))

    def count_behind(self, host: str) -> int:
        """How many were registered from an address, whatever port and transport."""
        return self._hosts[host]

    def knows(self, seat: str, flow: Flow, call_id: str) -> bool:
        """Whether a request comes from one of the seat's registered phones.

        From its exact source, or from its address with the Call-ID that it registered with: after a NAT gave it
        another port, or its connection broke, nobody else there knows that (RFC 3261 10.2: it stays the same).
        """
        source, host = _source(flow), flow.remote[0]
        return any(
            _source(entry.binding.source) == source
            or (entry.binding.source.remote[0] == host and entry.binding.call_id == call_id)
            for entry in self._seats.get(seat, ())
        )

    def put(self, binding: Binding) -> list[Binding]:
        """Adds a contact and returns those that it replaces: of the same phone, started anew or come by another way."""
        entries = self._seats.setdefault(binding.seat, [])
        replaced = [entry for entry in entries if _is_same_phone(entry.binding, binding)]
        for entry in replaced:
            self._drop(entry)
        if len(entries) >= MAX_CONTACTS:
            self._drop(entries[0])
        self._enter(binding, len(entries))
        return [entry.binding for entry in replaced]

    def connection_closed(self, flow: Flow) -> None:
        """What was registered over that connection stays, to be reached by a new one, but no later contact gives way to
        it: the phone may long have another connection when this one is found dead."""
        for seat in self.at(flow)[:]:
            for place, entry in enumerate(self._seats[seat][:]):
                if entry.binding.source == flow:
                    self._drop(entry)
                    self._enter(replace(entry.binding, source=replace(flow, connection=None)), place)

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

    def _enter(self, binding: Binding, place: int) -> None:
        alarm = Alarm(binding.expires_at, partial(self._expired, binding))
        self._deadlines.watch(alarm)
        self._seats[binding.seat].insert(place, _Entry(binding, alarm))
        self._sources.setdefault(_source(binding.source), []).append(binding.seat)
        self._hosts[binding.source.remote[0]] += 1

    def _drop(self, entry: _Entry) -> None:
        entry.alarm.at = None
        seat = entry.binding.seat
        self._seats[seat].remove(entry)
        source = _source(entry.binding.source)
        seats = self._sources[source]
        seats.remove(seat)
        if not seats:
            del self._sources[source]
        host = entry.binding.source.remote[0]
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]


def _is_same_phone(old: Binding, new: Binding) -> bool:
    if old.contact.equivalent(new.contact) or _source(old.source) == _source(new.source):
        return True
    # Its connection broke and it has another, with another port in its Contact.
    lost = reliable(old.source) and old.source.connection is None
    return lost and old.source.remote[0] == new.source.remote[0]


def _source(flow: Flow) -> object:
    """What makes a source exactly the same: the connection, or on UDP address and port."""
    return (flow.transport, flow.remote) if flow.connection is None else flow.connection
