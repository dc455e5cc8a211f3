"""URIs as SIP uses them: sip and sips (RFC 3261 19.1), tel (RFC 3966), urn (RFC 5031), any other kept as it is."""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.params import Params, drop_params, format_params, get_param, parse_params, set_params, unescape

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+")
# The userinfo goes up to the first "@": neither side of it may hold another, but sloppy headers (`?Replaces=id@host`)
# do. No possessive group: CPython before 3.11.5 (Debian 12 has 3.11.2) fails on one that matches nothing.
_SIP = re.compile(
    r"""
    (?: ([^@:\s<>"]*+) (?: : ([^@\s<>"]*+) )? @       # user, password
      | (?! [^@\s<>"]*+ @ ) )
    ( \[ [^\]]*+ \] | [A-Za-z0-9._-]++ )                # host
    (?: : ([0-9]*+) )?                                 # port
    ( ; [^?\s<>]*+ )?                                  # parameters
    (?: \? ([^\s<>]*+) )?                              # headers
    """,
    re.VERBOSE,
)
_TEL = re.compile(r'([^;?\s<>"]++)(;[^\s<>]*+)?')
_OPAQUE = re.compile(r'[^\s<>"]++')
_VISUAL_SEPARATORS = str.maketrans("", "", "-.()")

# RFC 3261 19.1.4: these must be in both or in neither for two URIs to be the same.
_DECISIVE_PARAMS = ("user", "ttl", "method", "maddr", "transport")


class Uri(NamedTuple):
    """One URI. `str(uri)` writes it and `Uri.parse` reads it.

    `user`, `password` and the parameters are as written, escapes included (see `username`); `host` has no brackets,
    `port` is None when not written. A tel URI has its number in `user` and no host. Of schemes other than sip, sips
    and tel all that follows the scheme is in `opaque`. The scheme is lower-case.
    """

    scheme: str
    user: str | None = None
    host: str = ""
    port: int | None = None
    params: Params = ()
    headers: tuple[tuple[str, str], ...] = ()
    password: str | None = None
    opaque: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Uri":
        """Raises RemoteError with the reason `uri`."""
        if text.startswith("sip:"):
            return _parse_sip("sip", text[4:])
        scheme, colon, rest = text.partition(":")
        scheme = scheme.lower()
        if scheme in ("sip", "sips"):
            return _parse_sip(scheme, rest)
        if not colon or not _SCHEME.fullmatch(scheme):
            raise RemoteError("uri", f"no scheme in {text[:80]!r}")
        if scheme == "tel" and (match := _TEL.fullmatch(rest)):
            return cls("tel", match[1], params=parse_params(match[2] or ""))
        if not _OPAQUE.fullmatch(rest):
            raise RemoteError("uri", f"unreadable: {text[:80]!r}")
        return cls(scheme, opaque=rest)

    def __str__(self) -> str:
        if self.opaque is not None:
            return f"{self.scheme}:{self.opaque}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.user is None:
            text = f"{self.scheme}:{host}"
        elif self.scheme == "tel":
            text = f"tel:{self.user}"
        elif self.password is None:
            text = f"{self.scheme}:{self.user}@{host}"
        else:
            text = f"{self.scheme}:{self.user}:{self.password}@{host}"
        if self.port is not None:
            text = f"{text}:{self.port}"
        if self.params:
            text += format_params(self.params)
        if self.headers:
            text += "?" + "&".join([f"{name}={value}" for name, value in self.headers])
        return text

    @property
    def username(self) -> str | None:
        """The user with its escapes resolved: what a person or a table calls it."""
        return unescape(self.user) if self.user and "%" in self.user else self.user

    def param(self, name: str) -> str | None:
        """The parameter's value, escapes resolved; "" for one without a value, None when absent. `name`: lower-case."""
        value = get_param(self.params, name) if self.params else None
        return unescape(value) if value else value

    def with_params(self, *added: tuple[str, str | None]) -> "Uri":
        """The same URI with these parameters added or replaced."""
        return self._replace(params=set_params(self.params, added))

    def without_params(self, *names: str) -> "Uri":
        """The same URI without the parameters of these (lower-case) names."""
        return self._replace(params=drop_params(self.params, names))

    def equivalent(self, other: "Uri") -> bool:
        """Whether both name the same resource:

        RFC 3261 19.1.4 for sip and sips, RFC 3966 5 for tel, RFC 8141 3.1 for urn.
        """
        if self.scheme != other.scheme:
            return False
        if self.scheme == "urn":
            return (self.opaque or "").lower() == (other.opaque or "").lower()
        if self.scheme == "tel":
            return _number(self) == _number(other) and _named(self.params) == _named(other.params)
        if self.opaque is not None:
            return self.opaque == other.opaque
        return _sip_key(self) == _sip_key(other) and _params_agree(_named(self.params), _named(other.params))


def _parse_sip(scheme: str, rest: str) -> Uri:
    match = _SIP.fullmatch(rest)
    if match is None:
        raise RemoteError("uri", f"unreadable: {scheme}:{rest[:80]!r}")
    user, password, host, port, params, headers = match.groups()
    if host[0] == "[":
        host = parse_ipv6(host[1:-1])
    return Uri(
        scheme,
        user,
        host,
        parse_port(port) if port else None,
        parse_params(params) if params else (),
        _parse_headers(headers) if headers else (),
        password,
    )


def _parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split("&")]
    return tuple([(name, value) for name, _, value in pairs if name])


def parse_port(digits: str) -> int:
    """A port of digits only. Raises RemoteError with the reason `port`."""
    if len(digits) > 5 or (port := int(digits)) > 65535:
        raise RemoteError("port", digits[:20])
    return port


def parse_ipv6(text: str) -> str:
    """An IPv6 address without its brackets, as written. Raises RemoteError with the reason `host`.

    A third colon before an embedded IPv4 address is the fault of an old grammar and is repaired (RFC 5118 4.10).
    """
    address = text.replace(":::", "::")
    try:
        IPv6Address(address)
    except AddressValueError:
        raise RemoteError("host", f"no IPv6 address: {text[:60]!r}") from None
    return address


def _number(uri: Uri) -> str:
    return (uri.user or "").translate(_VISUAL_SEPARATORS).lower()


def _named(params: Params) -> dict[str, str]:
    return {unescape(name).lower(): unescape(value or "").lower() for name, value in params}


def _sip_key(uri: Uri) -> tuple[object, ...]:
    host: object = IPv6Address(uri.host) if ":" in uri.host else uri.host.lower()
    secret = [None if part is None else unquote_to_bytes(part) for part in (uri.user, uri.password)]
    return (*secret, host, uri.port, *sorted((unescape(name).lower(), unescape(value)) for name, value in uri.headers))


def _params_agree(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    if any(ours.get(name) != theirs.get(name) for name in _DECISIVE_PARAMS):
        return False
    return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())
