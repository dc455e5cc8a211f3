"""The targets of a name (RFC 3263 4): NAPTR and SRV records, or plain addresses; remembered as long as they hold.

Each name is asked for in a task of its own: a name server that hangs delays what goes to that name, nothing else. When
no answer comes, the last one that did is used, however old.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from itertools import groupby
from secrets import randbelow

import structlog
from structlog.typing import FilteringBoundLogger

from siaga_pbx.clock import Clock
from siaga_pbx.net.addresses import family_of
from siaga_pbx.net.dns import Answer, NameServer, Server
from siaga_pbx.settings import Listen
from siaga_pbx.sip.flow import DEFAULT_PORTS, Hop, Target, Transport

log: FilteringBoundLogger = structlog.get_logger()

LIMIT_S = 6.0
"""How long a name may be looked for, with all its questions."""
PATIENCE_S = 1.0
"""How long a newer answer is waited for when there is an old one."""
SHORTEST_S, LONGEST_S = 5.0, 3600.0
"""How long an answer is held, whatever its TTL; after no answer, the next is looked for no sooner than the shorter."""
MAX_NAMES = 256
MAX_TARGETS = 16
"""Targets of one name that are tried."""

_NAPTR: dict[str, Transport] = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
_SRV: dict[Transport, str] = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}
_PREFERRED: tuple[Transport, ...] = ("udp", "tcp", "tls")
"""Where the name does not say (no NAPTR)."""


@dataclass(frozen=True, slots=True)
class Service:
    """One server of a name: `order` by NAPTR, then `priority` and `weight` by SRV."""

    order: int
    transport: Transport
    host: str
    port: int
    priority: int = 0
    weight: int = 0
    addresses: tuple[str, ...] = ()


@dataclass(slots=True)
class _Known:
    services: tuple[Service, ...] = ()
    until: float = 0.0
    asking: "asyncio.Task[None] | None" = None


class Resolver:
    def __init__(self, clock: Clock, listens: Callable[[], Sequence[Listen]], server: Server | None = None) -> None:
        """`listens`: what we listen on; it says which transports we have, and which family we have rather."""
        self._clock = clock
        self._listens = listens
        self._server = NameServer(server)
        self._known: dict[Hop, _Known] = {}

    async def locate(self, hop: Hop) -> tuple[Target, ...]:
        """The targets of a name, the best first, chosen among equals by their weights anew each time. Never raises."""
        known = self._known.get(hop)
        if known is None:
            if len(self._known) >= MAX_NAMES:
                del self._known[next(iter(self._known))]
            known = self._known[hop] = _Known()
        if self._clock.now() >= known.until:
            if known.asking is None:
                known.asking = asyncio.get_running_loop().create_task(
                    self._ask(hop, known), name=f"look up {hop.host}", context=Context()
                )
            await asyncio.wait({known.asking}, timeout=PATIENCE_S if known.services else None)
        return tuple(self._targets(hop, known.services))

    async def close(self) -> None:
        tasks = [known.asking for known in self._known.values() if known.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, hop: Hop, known: _Known) -> None:
        ttl = SHORTEST_S
        try:
            async with asyncio.timeout(LIMIT_S):
                services, answer = await self._find(hop)
            if services:
                known.services = services
                ttl = min(max(answer.ttl, SHORTEST_S), LONGEST_S) if answer.sure else SHORTEST_S
            else:
                log.warning("net.name_not_found", host=hop.host, sure=answer.sure)
        except TimeoutError:
            log.warning("net.name_not_found", host=hop.host, sure=False)
        except Exception:
            log.exception("net.fault", where="resolver")
        finally:
            known.until = self._clock.now() + ttl
            known.asking = None

    async def _find(self, hop: Hop) -> tuple[tuple[Service, ...], Answer]:
        """The servers with their addresses, and how sure that is and for how long."""
        services, answers = await self._services(hop) if hop.port is None else ([], [])
        if not services:
            transport = self._plain(hop)
            services = [Service(0, transport, hop.host, hop.port or DEFAULT_PORTS[transport])]
        services = services[:MAX_TARGETS]
        places = await asyncio.gather(*(self._server.addresses(service.host) for service in services))
        found = tuple(
            replace(service, addresses=tuple(place.records))
            for service, place in zip(services, places, strict=True)
            if place.records
        )
        return found, _joined([*answers, *places])

    def _plain(self, hop: Hop) -> Transport:
        """The transport where no record names one (RFC 3263 4.1): UDP, if we have it."""
        able = self._able()
        if hop.secure:
            return "tls"
        return hop.transport or (able[0] if able else "udp")

    def _able(self) -> list[Transport]:
        return [transport for transport in _PREFERRED if any(own.transport == transport for own in self._listens())]

    async def _services(self, hop: Hop) -> tuple[list[Service], list[Answer]]:
        """By SRV records: of the transport that the URI has, else of those that NAPTR records name, else of all."""
        if hop.secure or hop.transport is not None:
            return await self._servers([(0, self._plain(hop), _SRV[self._plain(hop)] + hop.host)])
        able = self._able()
        guessed = [(index, transport, _SRV[transport] + hop.host) for index, transport in enumerate(able)]
        # All at once: what NAPTR records leave open is known by the time that there are none.
        naptr, by_guess = await asyncio.gather(self._server.ask(hop.host, "NAPTR"), self._servers(guessed))
        if named := list(_named(naptr, able)):
            services, answers = await self._servers(named)
            return services, [naptr, *answers]
        return by_guess[0], [naptr, *by_guess[1]]

    async def _servers(self, names: Sequence[tuple[int, Transport, str]]) -> tuple[list[Service], list[Answer]]:
        answers = await asyncio.gather(*(self._server.ask(name, "SRV") for _, _, name in names))
        services = [
            Service(order, transport, host, record.port, record.priority, record.weight)
            for (order, transport, _), answer in zip(names, answers, strict=True)
            for record in answer.records
            if (host := record.target.to_text(omit_final_dot=True)) != "."  # RFC 2782: decidedly not available
        ]
        services.sort(key=lambda service: (service.order, service.priority))
        return services, list(answers)

    def _targets(self, hop: Hop, services: Iterable[Service]) -> Iterator[Target]:
        count = 0
        for service in chosen(services):
            families = [family_of(own.host) for own in self._listens() if own.transport == service.transport]
            if not families and service.transport != "udp":
                families = [family_of(own.host) for own in self._listens()]
            for address in sorted(service.addresses, key=lambda each: _rank(each, families)):
                if family_of(address) in families and count < MAX_TARGETS:
                    count += 1
                    # The certificate must be for the name asked for, not for what the DNS made of it (RFC 5922 4).
                    name = hop.host if service.transport == "tls" else ""
                    yield Target(service.transport, address, service.port, name=name)


def _named(naptr: Answer, able: Sequence[Transport]) -> Iterator[tuple[int, Transport, str]]:
    """What the NAPTR records say that we can do, the best first: (order, transport, name of the SRV records)."""
    records = sorted(naptr.records, key=lambda record: (record.order, record.preference))
    for index, record in enumerate(records[:MAX_TARGETS]):
        transport = _NAPTR.get(record.service.decode("ascii", "replace").upper())
        if transport is not None and transport in able and record.flags.lower() == b"s":
            yield index, transport, record.replacement.to_text(omit_final_dot=True)


def chosen(services: Iterable[Service], below: Callable[[int], int] = randbelow) -> Iterator[Service]:
    """The order to try them in: within a priority by chance, in proportion to the weights (RFC 2782)."""
    for _, group in groupby(services, key=lambda service: (service.order, service.priority)):
        left = sorted(group, key=lambda service: service.weight)  # those of no weight first: they have a small chance
        while left:
            rest = below(sum(service.weight for service in left) + 1)
            for service in left:
                rest -= service.weight
                if rest <= 0:
                    break
            left.remove(service)
            yield service


def _rank(address: str, families: Sequence[int]) -> int:
    family = family_of(address)
    return families.index(family) if family in families else len(families)


def _joined(answers: Sequence[Answer]) -> Answer:
    """How long all of it holds, and whether it is sure."""
    return Answer(ttl=min(answer.ttl for answer in answers), sure=all(answer.sure for answer in answers))
