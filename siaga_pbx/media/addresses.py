"""Which of our addresses a far side is to send to."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address


def route_to(peer: str) -> str | None:
    """The address this machine would send from to reach an IP address; None without a route. Sends nothing."""
    with suppress(OSError, ValueError):
        family = socket.AF_INET6 if ip_address(peer).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))
            return str(probe.getsockname()[0])
    return None


def bound_for(addresses: Sequence[str], peer: str | None) -> str:
    """The bound address a far side is to have: the one its route leaves by, else one of its family, else the first."""
    if len(addresses) == 1 or peer is None:
        return addresses[0]
    routed = route_to(peer)
    if routed is not None and routed in addresses:
        return routed
    try:
        version = ip_address(peer).version
    except ValueError:
        return addresses[0]
    return next((address for address in addresses if ip_address(address).version == version), addresses[0])


def told_to(bound: str, peer: str | None) -> str:
    """What the SDP names for a bound address: itself, or for a wildcard (0.0.0.0) what the route to the peer has."""
    if not ip_address(bound).is_unspecified:
        return bound
    return (route_to(peer) if peer is not None else None) or bound
