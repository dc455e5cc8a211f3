"""The registrar (RFC 3261 10) and the door of the seats: REGISTER answered, and calls of registered phones admitted."""

from collections.abc import Iterable

from siaga_pbx.sip.access import Seat
from siaga_pbx.sip.binding import Binding, StoredBinding
from siaga_pbx.sip.bindings import Bindings
from siaga_pbx.sip.core import Core, Extra
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Counted, Gone, Registered, Send, Unregistered
from siaga_pbx.sip.flow import DEFAULT_PORTS, Address, Flow, reliable
from siaga_pbx.sip.gate import Gate, Verdict
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import StackSettings
from siaga_pbx.sip.uri import Uri
from siaga_pbx.sip.ways import is_direct, way_back, way_to

SHORTEST_S = 60
LONGEST_UDP_S = 120
"""A phone that is gone must be noticed."""
LONGEST_NAT_S = 60
"""A NAT that was restarted, or forgot a silent phone, leads to it again from its next REGISTER on."""
LONGEST_TCP_S = 300
"""A connection that breaks is noticed at once."""


class Registrar:
    __slots__ = ("_bindings", "_core", "_gate")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._gate = Gate(core)
        self._bindings = Bindings(core.deadlines, self._gone)

    def _gone(self, seat: str, cause: Gone) -> None:
        self._core.out.append(Unregistered(seat, cause))

    # Who is where

    def seats_at(self, flow: Flow) -> list[str]:
        return self._bindings.at(flow)

    def count_at(self, source: Address) -> int:
        return self._bindings.count_at(source)

    def count_behind(self, host: str) -> int:
        return self._bindings.count_behind(host)

    def in_use(self, seat: str) -> Binding | None:
        return self._bindings.in_use(seat)

    def all_in_use(self) -> list[Binding]:
        return [binding for seat in self._bindings.seats() if (binding := self._bindings.in_use(seat)) is not None]

    def configure(self, settings: StackSettings) -> None:
        self._gate.configure(settings)
        for seat in set(self._bindings.seats()) - {seat.id for seat in settings.seats}:
            self._bindings.remove(seat, None, Gone.UNCONFIGURED)

    # A call of a seat's own

    def admit(self, request: Request, flow: Flow, now: float) -> str | None:
        """The seat that an INVITE from a live registration's source is of; None if it was challenged (407) instead."""
        core = self._core
        seats = self._bindings.at(flow)
        said = request.from_.uri.username
        seat = said if said in seats else seats[-1]
        verdict = self._gate.judge(request, seat, flow.remote[0], True, now)
        if verdict is Verdict.PASSED:
            return seat
        stale = verdict is Verdict.STALE
        core.reply(
            request, flow, 407, now, self._gate.challenge(seat, flow.remote[0], stale, "Proxy-Authenticate", now)
        )
        return None

    # REGISTER

    def receive(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        user = self._user_of(request.to.uri)
        host = flow.remote[0]
        trusted = self._bindings.knows(user, flow, request.call_id)
        match self._gate.judge(request, user, host, trusted, now):
            case Verdict.PASSED:
                self._register(user, request, flow, now)
            case Verdict.SILENCE:
                core.out.append(Counted("dropped", "silenced"))
            case verdict:
                headers = self._gate.challenge(user, host, verdict is Verdict.STALE, "WWW-Authenticate", now)
                self._challenge(request, flow, headers, now)

    def _user_of(self, uri: Uri) -> str:
        """The seat's id, or for an address that cannot be a seat's something that no seat is called."""
        name = uri.username or ""
        return name if self._gate.is_ours(uri.host) else f"{name}@{uri.host}"

    def _challenge(self, request: Request, flow: Flow, headers: Extra, now: float) -> None:
        """Who only asks is answered without a transaction: strangers must not be able to fill our tables.

        Who was wrong gets one, so that the same request sent again does not count again.
        """
        core = self._core
        if core.table.crowded or not ("Authorization" in request.headers or "Proxy-Authorization" in request.headers):
            core.out.append(Send(way_back(request, flow), bytes(core.response(request, 401, headers=headers))))
        else:
            core.reply(request, flow, 401, now, headers)

    def _register(self, seat: str, request: Request, flow: Flow, now: float) -> None:
        """What an authenticated phone asks for (RFC 3261 10.3).

        Its CSeq is not compared with the last: the nonce says already that the request is neither old nor sent again,
        and a phone that starts anew (pyVoIP) counts from one under the Call-ID that it had before.
        """
        core = self._core
        if not self._is_sound(request, flow):
            core.reply(request, flow, 400, now)
            return
        if request.wildcard_contact:
            self._bindings.remove(seat, None, Gone.REMOVED)
        for contact in request.contacts:
            self._bind(seat, contact, request, flow, now)
        core.reply(request, flow, 200, now, self._listing(seat, now))

    def _is_sound(self, request: Request, flow: Flow) -> bool:
        """Whether every Contact can be read and called; all or none is done (RFC 3261 10.3)."""
        if request.wildcard_contact:
            return request.expires == 0
        ours = self._core.settings.contact_for(flow)
        try:
            uris = [contact.uri for contact in request.contacts]
        except RemoteError:
            return False
        return all(uri.scheme in ("sip", "sips") and uri.host and _names(uri) != ours for uri in uris)

    def _bind(self, seat: str, contact: NameAddr, request: Request, flow: Flow, now: float) -> None:
        wanted = _seconds(contact.param("expires"))
        if wanted is None:
            wanted = request.expires
        if wanted == 0:
            self._bindings.remove(seat, contact.uri, Gone.REMOVED)
            return
        direct = is_direct(request, flow)
        longest = LONGEST_TCP_S if reliable(flow) else LONGEST_UDP_S if direct else LONGEST_NAT_S
        # A wish under a minute is granted a minute: a 423 would only cost the phone another round.
        granted = longest if wanted is None else max(SHORTEST_S, min(wanted, longest))
        binding = Binding(
            seat,
            contact.uri,
            flow,
            direct,
            now + granted,
            request.call_id,
            request.cseq.number,
            tuple(request.headers.values("Path")),
            request.headers.get("User-Agent"),
        )
        fresh = self._bindings.in_use(seat) is None
        replaced = self._bindings.put(binding)
        self._core.move(Seat(seat), [way for old in replaced for way in (old.source, way_to(old))], binding)
        self._core.out.append(Registered(seat, binding, fresh))

    def connection_closed(self, flow: Flow, now: float) -> None:
        """Its phone may long have registered by another one."""
        seats = self._bindings.at(flow)[:]
        self._bindings.connection_closed(flow)
        self._core.connection_closed(flow, now)
        for seat in seats:
            if (binding := self._bindings.in_use(seat)) is not None:
                self._core.move(Seat(seat), [], binding)

    def _listing(self, seat: str, now: float) -> Extra:
        """All contacts the seat has, each with the seconds it has left."""
        bindings = self._bindings.of(seat)
        return tuple(("Contact", f"<{each.contact}>;expires={round(each.expires_at - now)}") for each in bindings)

    # Over a restart

    def snapshot(self, now: float) -> list[StoredBinding]:
        return [
            StoredBinding(
                each.seat,
                str(each.contact),
                each.source.transport,
                each.source.local,
                each.source.remote,
                each.via_is_source,
                each.expires_at - now,
                each.call_id,
                each.cseq,
                each.path,
                each.user_agent,
            )
            for seat in self._bindings.seats()
            for each in self._bindings.of(seat)
        ]

    def restore(self, stored: Iterable[StoredBinding], now: float) -> None:
        """Connections of another life are gone: what came over one is reached by a new one. Of a seat that has
        registered meanwhile more is known than is stored."""
        known = {seat.id for seat in self._core.settings.seats}.difference(self._bindings.seats())
        for each in stored:
            try:
                contact = Uri.parse(each.contact)
            except RemoteError:
                continue
            if each.seat in known and each.expires_in > 0:
                source = Flow(each.transport, each.local, each.remote)
                binding = Binding(
                    each.seat,
                    contact,
                    source,
                    each.via_is_source,
                    now + each.expires_in,
                    each.call_id,
                    each.cseq,
                    each.path,
                    each.user_agent,
                )
                fresh = self._bindings.in_use(each.seat) is None
                self._bindings.put(binding)
                self._core.out.append(Registered(each.seat, binding, fresh))


def _names(uri: Uri) -> tuple[str, int]:
    return uri.host, uri.port or DEFAULT_PORTS["udp"]


def _seconds(text: str | None) -> int | None:
    """None for what is absent or unreadable: then the default holds."""
    return min(int(text), 2**32 - 1) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
