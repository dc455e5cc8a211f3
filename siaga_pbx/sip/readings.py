"""The typed readings that requests and responses share: made of the header text when asked for, and kept."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from siaga_pbx.sip.errors import LocalError, RemoteError
from siaga_pbx.sip.fields import Headers
from siaga_pbx.sip.headers import CSeq, NameAddr, Via
from siaga_pbx.sip.params import split_commas

T = TypeVar("T")

DEFAULT_MAX_FORWARDS = 70
MAX_SECONDS = 2**32 - 1
"""Expires and its like go no further (RFC 3261 20.19)."""


class Readings:
    """What requests and responses have in common.

    Those of the five headers of the door never fail on a parsed message. On one of our own making a header that is not
    there raises LocalError.
    """

    __slots__ = ()
    headers: Headers
    body: bytes

    @property
    def via(self) -> Via:
        """The top Via."""
        return self.headers.typed("via", _top_via)

    @property
    def vias(self) -> list[Via]:
        """All of Via, the top one first; unreadable ones below it are left out."""
        return self.headers.typed("via*", _vias)

    @property
    def from_(self) -> NameAddr:
        return self.headers.typed("from", _from)

    @property
    def to(self) -> NameAddr:
        return self.headers.typed("to", _to)

    @property
    def call_id(self) -> str:
        return needed(self.headers, "call-id")

    @property
    def cseq(self) -> CSeq:
        return self.headers.typed("cseq", _cseq)

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact that can be read, None when there is none. Never raises: see `contacts`."""
        return self.headers.typed("contact", _contact)

    @property
    def contacts(self) -> list[NameAddr]:
        """Every Contact. Raises RemoteError (400) at an unreadable one: a registrar must not guess.

        The `*` of a REGISTER is no address: see `wildcard_contact`.
        """
        return self.headers.typed("contact*", _contacts)

    @property
    def wildcard_contact(self) -> bool:
        """Contact is `*`, alone: all bindings are meant (RFC 3261 10.2.2)."""
        return self.headers.values("contact") == ["*"]

    @property
    def routes(self) -> list[NameAddr]:
        """Route, the unreadable left out."""
        return self.headers.typed("route*", _routes)

    @property
    def record_routes(self) -> list[NameAddr]:
        """Record-Route, the unreadable left out."""
        return self.headers.typed("record-route*", _record_routes)

    @property
    def max_forwards(self) -> int:
        """70 when absent or unreadable."""
        hops = _number(self.headers.get("max-forwards"))
        return DEFAULT_MAX_FORWARDS if hops is None else hops

    @property
    def expires(self) -> int | None:
        """Seconds, at most 2**32-1; None when absent or unreadable (then the default holds, RFC 3261 10.3)."""
        return _number(self.headers.get("expires"))

    @property
    def content_type(self) -> str | None:
        """`type/subtype` in lower case, without parameters; None when absent."""
        text = self.headers.get("content-type")
        return text.partition(";")[0].strip().lower() if text else None


def needed(headers: Headers, name: str) -> str:
    value = headers.first().get(name)
    if value is None:
        raise LocalError(f"a message without {name}")
    return value


def _number(text: str | None) -> int | None:
    if not text:
        return None
    digits = text.partition(";")[0].strip()
    if not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits) if len(digits) <= 10 and int(digits) <= MAX_SECONDS else MAX_SECONDS


def _top_via(headers: Headers) -> Via:
    line = needed(headers, "via")
    return Via.parse(next(iter(split_commas(line)), line) if "," in line else line)


def _vias(headers: Headers) -> list[Via]:
    top = headers.typed("via", _top_via)
    return [top, *_readable(Via.parse, headers.values("via")[1:])]


def _from(headers: Headers) -> NameAddr:
    return NameAddr.salvage(needed(headers, "from"))


def _to(headers: Headers) -> NameAddr:
    return NameAddr.salvage(needed(headers, "to"))


def _cseq(headers: Headers) -> CSeq:
    return CSeq.parse(needed(headers, "cseq"))


def _contact(headers: Headers) -> NameAddr | None:
    return next(_readable(NameAddr.parse, headers.values("contact")), None)


def _contacts(headers: Headers) -> list[NameAddr]:
    values = headers.values("contact")
    return [] if values == ["*"] else [NameAddr.parse(value) for value in values]


def _routes(headers: Headers) -> list[NameAddr]:
    return list(_readable(NameAddr.parse, headers.values("route")))


def _record_routes(headers: Headers) -> list[NameAddr]:
    return list(_readable(NameAddr.parse, headers.values("record-route")))


def _readable(read: Callable[[str], T], values: list[str]) -> Iterator[T]:
    for value in values:
        try:
            yield read(value)
        except RemoteError:
            continue
