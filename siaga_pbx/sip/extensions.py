"""The methods and extensions that we know, and those that a message asks for (RFC 3261 8.2.2.3, 20.5, 20.32, 20.37)."""

from siaga_pbx.sip.access import Seat, Source, Trunk
from siaga_pbx.sip.message import Message, Request

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REGISTER"
SUPPORTED = "100rel, timer, precondition, replaces, resource-priority"
"""RFC 3262, 4028, 3312, 3891, 4412."""
WANTED_OF_TRUNKS = "100rel, timer, replaces, resource-priority"
"""Of our INVITE: no preconditions, for there is nothing that we would have to reserve."""
WANTED_OF_SEATS = "timer, replaces"
"""A phone's 180 needs no PRACK: it costs the call a transaction and tells nothing that the 200 does not."""

CAPABILITIES = (("Allow", ALLOW), ("Supported", SUPPORTED))
ABILITIES = (*CAPABILITIES, ("Accept", "application/sdp"))
"""What an OPTIONS is answered with (RFC 3261 11.2)."""

_KNOWN = frozenset(SUPPORTED.split(", "))


def required(request: Request) -> list[str]:
    """The extensions that a request requires."""
    return request.headers.values("Require") if "Require" in request.headers else []


def unknown(request: Request) -> list[str]:
    """Those of them that we do not have."""
    return [tag for tag in required(request) if tag.lower() not in _KNOWN]


def unsupported(request: Request, source: Source) -> str:
    """The extensions that a request requires and that it cannot have: it is to be answered 420.

    An INVITE of a trunk is served without what it requires: 420 would lose a caller (see the ADR).
    """
    if request.method == "INVITE" and isinstance(source, Trunk):
        return ""
    return ", ".join(unknown(request))


def supports(message: Message, tag: str) -> bool:
    """Whether the sender knows an extension, because it says so or even requires it."""
    headers = message.headers
    return any(
        tag == listed.lower() for name in ("Supported", "Require") if name in headers for listed in headers.values(name)
    )


def takes(message: Message, method: str) -> bool:
    """Whether the sender allows a method. One that does not say allows none but the basic ones (RFC 3261 20.5)."""
    return method in (listed.upper() for listed in message.headers.values("Allow"))


def wanted(peer: Source | None) -> str:
    """What our INVITE supports."""
    return WANTED_OF_SEATS if isinstance(peer, Seat) else WANTED_OF_TRUNKS
