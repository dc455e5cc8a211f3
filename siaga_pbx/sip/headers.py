"""The header values that the stack reads: addresses, Via, CSeq. `parse` and `str` are inverse.

They are named tuples, as Uri is: a frozen dataclass takes five times as long to make, and these are most of what
reading a message makes (docs/benchmarks.md).
"""

import re
from typing import NamedTuple

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.params import (
    Params,
    drop_params,
    format_params,
    get_param,
    parse_params,
    quote,
    set_params,
    split_commas,
    unquote,
)
from siaga_pbx.sip.uri import Uri, parse_ipv6, parse_port

MAX_CSEQ = 2**32 - 1
"""RFC 3261 8.1.1.5 says under 2**31; a peer that begins in the upper half of 32 bits is served all the same."""

_NAME_ADDR = re.compile(
    r"""\s*+ (?: ("(?:[^"\\]++|\\.)*+") \s*+ | ([^<"]*+) ) < \s*+ ([^<>]*+) > \s*+ (.*+)""", re.VERBOSE | re.DOTALL
)
# Quotes that do not balance, words beside the quoted string: the brackets are believed (RFC 4475 3.1.2.6).
_BRACKETED = re.compile(r"([^<]*+)<([^<>]*+)>(.*+)", re.DOTALL)
_VIA = re.compile(
    r"""
    \s*+ [^\s/]++ \s*+ / \s*+ [^\s/]++ \s*+ / \s*+   # SIP/2.0/: what version it is, the start line says
    ([^\s/;,]++) \s++                                # transport
    ( \[ [^\]]*+ \] | [^\s:;,\[\]]++ ) \s*+          # host
    (?: : \s*+ ([0-9]*+) \s*+ )?                    # port
    ( ; .*+ )?
    """,
    re.VERBOSE | re.DOTALL,
)
_CSEQ = re.compile(r"\s*+([0-9]{1,20}+)\s++(\S++)\s*+")
_TAG_IN_WRECK = re.compile(r';\s*+tag\s*+=\s*+([^\s;,"<>]++)', re.IGNORECASE)


class NameAddr(NamedTuple):
    """An address with its display name and header parameters: From, To, Contact, Route and their like (RFC 3261 20.10).

    `display` is unquoted, "" when there is none.
    """

    display: str
    uri: Uri
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> "NameAddr":
        """Raises RemoteError with the reason `address`, or one of Uri's."""
        if "<" not in text:
            return _parse_addr_spec(text)
        if match := _NAME_ADDR.fullmatch(text):
            quoted, words, uri, params = match.groups()
            display = unquote(quoted) if quoted else words.strip()
        elif match := _BRACKETED.match(text):
            display, uri, params = match[1].strip().strip('"'), match[2], match[3]
        else:
            raise RemoteError("address", f"unreadable: {text[:80]!r}")
        return cls(display, Uri.parse(uri.strip()), parse_params(params))

    @classmethod
    def salvage(cls, text: str) -> "NameAddr":
        """The same for an address that must be used however bad it is: what cannot be read becomes an opaque URI.

        Never raises. The tag is found if there is one, so that a dialog can be had with a peer whose From is a wreck.
        """
        try:
            return cls.parse(text)
        except RemoteError:
            pass
        tag = _TAG_IN_WRECK.search(text)
        params: Params = (("tag", tag[1]),) if tag else ()
        try:  # `user@host` without its scheme is the commonest wreck
            return cls("", Uri.parse("sip:" + text.partition(";")[0].strip(" <>")), params)
        except RemoteError:
            return cls("", Uri("unreadable", opaque=re.sub(r'[\s<>"]', "", text) or "address"), params)

    def __str__(self) -> str:
        display = quote(self.display) + " " if self.display else ""
        return f"{display}<{self.uri}>{format_params(self.params)}"

    @property
    def tag(self) -> str | None:
        """The tag of a From or To; None when absent or empty."""
        return get_param(self.params, "tag") or None

    def param(self, name: str) -> str | None:
        """The header parameter's value, "" for one without a value, None when absent. `name` is lower-case."""
        return get_param(self.params, name)

    def with_params(self, *added: tuple[str, str | None]) -> "NameAddr":
        """The same address with these header parameters added or replaced."""
        return self._replace(params=set_params(self.params, added))

    def with_tag(self, tag: str) -> "NameAddr":
        """The same address with this tag."""
        return self.with_params(("tag", tag))

    def without_params(self, *names: str) -> "NameAddr":
        """The same address without the header parameters of these (lower-case) names."""
        return self._replace(params=drop_params(self.params, names))


def _parse_addr_spec(text: str) -> NameAddr:
    """An address without brackets: its parameters are the header's, and `?` may not be in it (RFC 3261 20)."""
    uri, _, params = text.partition(";")
    if "?" in uri:
        raise RemoteError("address", f"headers outside <>: {text[:80]!r}")
    return NameAddr("", Uri.parse(uri.strip()), parse_params(params))


def parse_name_addr_list(text: str) -> list[NameAddr]:
    """A comma-separated list of addresses. Raises RemoteError at the first that is unreadable."""
    return [NameAddr.parse(part) for part in split_commas(text)]


class Via(NamedTuple):
    """One hop of a message (RFC 3261 20.42). `transport` is as written; `host` has no brackets."""

    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> "Via":
        """Raises RemoteError with the reason `via`, or `port` or `host`."""
        match = _VIA.fullmatch(text)
        if match is None:
            raise RemoteError("via", f"unreadable: {text[:80]!r}")
        transport, host, port, params = match.groups()
        if host[0] == "[":
            host = parse_ipv6(host[1:-1])
        return cls(transport, host, parse_port(port) if port else None, parse_params(params) if params else ())

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {host}{port}{format_params(self.params)}"

    @property
    def branch(self) -> str | None:
        """The branch; None when absent or empty.

        One without the magic cookie names no transaction (RFC 3261 8.1.1.7).
        """
        return get_param(self.params, "branch") or None

    @property
    def received(self) -> str | None:
        """The address the packet really came from, without brackets (RFC 5118 4.5 has both forms)."""
        value = get_param(self.params, "received")
        return value.strip("[]") or None if value else None

    @property
    def rport(self) -> int | None:
        """The port the packet really came from. `param("rport")` is "" when the peer only asks for it (RFC 3581)."""
        value = get_param(self.params, "rport")
        return int(value) if value and value.isascii() and value.isdigit() and len(value) <= 5 else None

    def param(self, name: str) -> str | None:
        """The parameter's value, "" for one without a value, None when absent. `name` is lower-case."""
        return get_param(self.params, name)

    def with_params(self, *added: tuple[str, str | None]) -> "Via":
        """The same Via with these parameters added or replaced."""
        return self._replace(params=set_params(self.params, added))


class CSeq(NamedTuple):
    """The number of a request in its dialog, and its method (RFC 3261 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> "CSeq":
        """Raises RemoteError with the reason `cseq`."""
        match = _CSEQ.fullmatch(text)
        if match is None or (number := int(match[1])) > MAX_CSEQ:
            raise RemoteError("cseq", f"unreadable: {text[:80]!r}")
        return cls(number, match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"
