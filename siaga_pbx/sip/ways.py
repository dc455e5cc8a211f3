"""Where packets go: responses (RFC 3261 18.2.2, RFC 3581), seats and dialogs behind NAT (DESIGN 3, "Seats")."""

from siaga_pbx.sip.access import Access, Peer, Seat
from siaga_pbx.sip.binding import Binding
from siaga_pbx.sip.flow import DEFAULT_PORTS, Flow, Target, Way, host_of, reliable, toward
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.uri import Uri


def way_back(request: Request, flow: Flow) -> Way:
    """Where the responses to a request go; its top Via has been stamped.

    Down the connection; on UDP to the source if the peer asked for that (rport) or sits behind a NAT, else to the port
    that its Via names. We never send to a host that the packet did not come from: `maddr` and a foreign sent-by are not
    followed.
    """
    via = request.via
    if reliable(flow) or via.host != flow.remote[0] or via.param("rport") is not None:
        return flow
    return toward(flow, via.host, via.port or DEFAULT_PORTS["udp"])


def is_direct(request: Request, flow: Flow) -> bool:
    """Whether the sent-by of the top Via is the packet's source: then no NAT is between us."""
    via = request.via
    return (via.host, via.port or DEFAULT_PORTS[flow.transport]) == flow.remote


def way_to(binding: Binding) -> Way:
    """The way to a registered contact.

    TCP and TLS: down the connection of the REGISTER, else a new one. UDP: to the Contact if no NAT is in between, else
    to the source. Never to another host than the REGISTER's: a Contact diverts nobody's calls.
    """
    return _near(binding.contact, binding.source, binding.via_is_source)


def way_in_dialog(hop: Uri, home: Way, peer: Peer | None, direct: bool, access: Access) -> Way:
    """The way of a request in a dialog, whose next hop by route set and remote target is `hop`.

    `home` is where the dialog's INVITE came from or went to. A seat is reached by the rules of its registration. A
    trunk is reached at the hop it names if that is an address of its own; else, and for a name, which only it can
    resolve, at home.
    """
    if isinstance(home, Flow) and (reliable(home) or isinstance(peer, Seat)):
        return _near(hop, home, direct)
    if reliable(home) or not hop.host or (hop.param("transport") or "udp").lower() != "udp":
        return home
    if hop.host == host_of(home) or (peer is not None and access.trunk_of(hop.host) == peer):
        return toward(home, hop.host, hop.port or DEFAULT_PORTS["udp"])
    return home


def _near(contact: Uri, source: Flow, direct: bool) -> Way:
    """At the contact's port or the source's, but always at the source's host."""
    host, port = source.remote
    if contact.host == host and (direct or reliable(source)):
        port = contact.port or DEFAULT_PORTS[source.transport]
    if reliable(source):
        return Target(source.transport, host, port, source if source.connection is not None else None)
    return toward(source, host, port)
