"""The gate before the app: who may come in with what. Everything is closed unless it stands in the tables here.

- The Host header must name this server (a page elsewhere that has its name resolved to us, "DNS rebinding", does not).
- The shell of the console (a page without data) is open, so that a person can sign in there.
- Metrics, health and live status without callers are open to this machine; for anybody else, and for everything that
  changes something or shows a caller, the bearer token is needed (RFC 6750).
- A body is read up to a limit. Answers are never cached and tell browsers to keep strangers' content out.
"""

import hmac
from collections.abc import Iterable
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, ip_address

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siaga_pbx.web.problem import problem

MAX_BODY = 64 * 1024
"""Bytes; the largest request is a dispatch with its note (2,000 characters)."""

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

OPEN_TO_THIS_MACHINE = frozenset(
    {"/metrics", "/-/healthy", "/-/ready", "/api/v1/status", "/api/v1/seats", "/api/v1/openapi.json"}
)
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""A request with one of these came through a proxy, so it is not this machine's own."""


class Access(Enum):
    """What a request needs."""

    NOTHING = auto()
    THIS_MACHINE = auto()
    TOKEN = auto()


def access(method: str, path: str) -> Access:
    """What a request for this needs; everything that is not known needs the token."""
    if method not in ("GET", "HEAD"):
        return Access.TOKEN
    if path == "/" or path.startswith("/static/"):
        return Access.NOTHING
    return Access.THIS_MACHINE if path in OPEN_TO_THIS_MACHINE else Access.TOKEN


class Gate:
    """ASGI middleware. Leaves `signed_in` (bool) in the request's state for those that show more to who is."""

    def __init__(self, app: ASGIApp, *, token: str, host: str, names: Iterable[str] = ()) -> None:
        """`host`: the address listened on. `names`: further host names that the server is reached by."""
        self._app = app
        self._token = token.encode()
        address = _address(host)
        self._loopback = address is not None and address.is_loopback
        self._any_address = address is not None and address.is_unspecified
        self._names = frozenset({"localhost", host.lower(), *(name.lower() for name in names)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        signed_in = self._has_token(headers)
        scope.setdefault("state", {})["signed_in"] = signed_in is True
        refusal = self._refusal(scope, headers, signed_in)
        app = refusal or self._app
        await app(scope, _bounded(receive), _secured(send))

    def _refusal(self, scope: Scope, headers: Headers, signed_in: bool | None) -> JSONResponse | None:
        name = _host_name(headers.get("host", ""))
        if not self._is_ours(name):
            return problem(421, "the Host header names another server")
        need = access(scope["method"], scope["path"])
        if need is Access.NOTHING or signed_in:
            return _too_large(headers)
        if signed_in is False:
            return _unauthorised("the token is wrong", 'Bearer error="invalid_token"')
        if need is Access.THIS_MACHINE and self._is_this_machine(scope, headers, name):
            return None
        return _unauthorised("this needs the token: Authorization: Bearer TOKEN", "Bearer")

    def _has_token(self, headers: Headers) -> bool | None:
        """True or False for a token that is right or wrong, None for none."""
        given = headers.get("authorization")
        if given is None:
            return None
        scheme, _, token = given.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    def _is_ours(self, name: str) -> bool:
        # With any address listened on, each of the machine's may be named; a name that resolves to it may not.
        return name in self._names or _is_loopback(name) or (self._any_address and _address(name) is not None)

    def _is_this_machine(self, scope: Scope, headers: Headers, name: str) -> bool:
        client = scope.get("client")
        return (
            self._loopback
            and (name == "localhost" or _is_loopback(name))
            and client is not None
            and _is_loopback(client[0])
            and not any(header in headers for header in FORWARDED)
        )


def _bounded(receive: Receive) -> Receive:
    """The body up to the limit, however it is cut up and whatever its length claims to be."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise HTTPException(413, f"a body may have {MAX_BODY} bytes")
        return message

    return bounded


def _secured(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SECURITY_HEADERS)
        await send(message)

    return secured


def _too_large(headers: Headers) -> JSONResponse | None:
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length) <= MAX_BODY:
        return None
    return problem(413, f"a body may have {MAX_BODY} bytes")


def _unauthorised(detail: str, challenge: str) -> JSONResponse:
    return problem(401, detail, {"www-authenticate": challenge})


def _host_name(host: str) -> str:
    """The name of a Host header without its port: `[::1]:80` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback
