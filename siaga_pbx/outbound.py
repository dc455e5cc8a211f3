"""Calls that go out by a trunk: the overflow target, the call back to a caller."""

from ipaddress import ip_address

from siaga_pbx.config import Config, Trunk
from siaga_pbx.sip.flow import DEFAULT_PORTS, Hop, Target, Transport
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.options import Account, Invite
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.uri import Uri

_TRANSPORTS: dict[str, Transport] = {"udp": "udp", "tcp": "tcp", "tls": "tls"}
# RFC 7090: the network lets the call back through to a phone that has no credit. RFC 4412 and 7135: its priority.
CALLBACK_HEADERS = (("Priority", "psap-callback"), ("Resource-Priority", "esnet.0"))


SESSION_S = 1800
"""The session interval that calls out ask for (RFC 4028 4.2 recommends it)."""


def outbound_trunk(config: Config, preferred: str | None = None) -> Trunk | None:
    """The trunk to call out by: the preferred one if it can, else the first that can."""
    able = [trunk for trunk in config.trunks if trunk.outbound]
    return next((trunk for trunk in able if trunk.id == preferred), able[0] if able else None)


def hop_address(trunk: Trunk) -> str | None:
    """The address that calls out by this trunk go to; None when it is a name, which is not known yet."""
    host = Uri.parse(trunk.outbound).host if trunk.outbound is not None else ""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def dial(trunk: Trunk, number: str, domain: str, offer: Sdp, headers: tuple[tuple[str, str], ...]) -> Invite:
    """An INVITE to `number` (E.164, tel: or sip:) by way of the trunk. Raises RemoteError for what is no URI."""
    assert trunk.outbound is not None, "chosen by outbound_trunk"
    hop = Uri.parse(trunk.outbound)
    called = Uri.parse(number) if ":" in number else Uri("tel", number)
    if called.scheme == "tel":
        called = Uri("sip", called.user or called.opaque, hop.host, hop.port, (("user", "phone"),))
    own = NameAddr("", Uri("sip", trunk.from_number or "112", domain))
    return Invite(target_of(hop), called, NameAddr("", called), own, offer, headers, account_of(trunk), SESSION_S)


def account_of(trunk: Trunk) -> Account | None:
    """What the trunk's challenges are answered with."""
    return Account(trunk.username, trunk.password) if trunk.username and trunk.password else None


def target_of(uri: Uri) -> Target | Hop:
    """Where a request for a sip: or sips: URI goes (RFC 3263 4.1); a name is resolved by the shell.

    An address is reached by UDP if its URI names no transport, however large the request is: whether it takes TCP,
    nothing tells.
    """
    secure = uri.scheme == "sips"
    named = (uri.param("transport") or "").lower()
    transport: Transport | None = "tls" if secure else _TRANSPORTS.get(named)
    try:
        host = str(ip_address(uri.host))
    except ValueError:
        return Hop(uri.host, uri.port, transport, secure)
    transport = transport or "udp"
    return Target(transport, host, uri.port or DEFAULT_PORTS[transport])
