"""Questions to the name server, and the machine's own hosts file. Nothing here raises but for our own mistakes."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import dns.asyncresolver
import dns.exception
import dns.resolver

from siaga_pbx.net.addresses import is_numeric

HOSTS = Path("/etc/hosts")
QUESTION_S = 1.0
"""How long one name server is waited for before the next, or the same again, is asked."""
LIMIT_S = 4.0
"""How long one question may take in all."""

Server: TypeAlias = tuple[str, int]


@dataclass(slots=True)
class Answer:
    """What a question brought: its records, and for how many seconds they hold.

    `sure`: the name server said so; else there may be more.
    """

    records: list[Any] = field(default_factory=list)
    ttl: float = float("inf")
    sure: bool = True


class NameServer:
    """The one given, else those of the system, as they are at each question: networks change under a running daemon."""

    def __init__(self, server: Server | None = None) -> None:
        self._server = server

    async def ask(self, name: str, kind: str) -> Answer:
        """The records of a kind that a name has."""
        try:
            answer = await self._resolver().resolve(name, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return Answer()
        except (dns.exception.DNSException, OSError, ValueError):
            return Answer(sure=False)
        return Answer(list(answer.rrset or ()), float(answer.rrset.ttl) if answer.rrset else float("inf"))

    async def addresses(self, host: str) -> Answer:
        """The addresses of a host as text: its own if it is one, what the hosts file says, A and AAAA records."""
        if is_numeric(host):
            return Answer([host])
        if listed := _hosts(host):
            return Answer(listed)
        answers = await asyncio.gather(self.ask(host, "A"), self.ask(host, "AAAA"))
        return Answer(
            [record.address for answer in answers for record in answer.records],
            min(answer.ttl for answer in answers),
            all(answer.sure for answer in answers),
        )

    def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=self._server is None)
        if self._server is not None:
            host, resolver.port = self._server
            resolver.nameservers = [host]
        resolver.timeout, resolver.lifetime = QUESTION_S, LIMIT_S
        return resolver


def _hosts(name: str) -> list[str]:
    """What the hosts file says of a name."""
    found = []
    with suppress(OSError, UnicodeDecodeError):
        for line in HOSTS.read_text().splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            if name.lower() in map(str.lower, names) and is_numeric(address):
                found.append(address)
    return found
