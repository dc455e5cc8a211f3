"""Dialogs (RFC 3261 12): who the two sides are, the way to the other, and the order of requests."""

from dataclasses import dataclass

from siaga_pbx.sip.flow import Way
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Headers, Request, Response
from siaga_pbx.sip.uri import Uri


@dataclass(slots=True, eq=False)
class Dialog:
    """One dialog. `local` and `remote` are the From and To of our requests, tags included; `way` is where packets go.

    `contact` is the address that we told this peer: a remote target that names it is ourselves and is ignored.
    """

    call_id: str
    local_tag: str
    local: str
    remote: str
    target: Uri
    way: Way
    contact: tuple[str, int]
    remote_tag: str = ""
    routes: tuple[NameAddr, ...] = ()
    local_cseq: int = 0
    remote_cseq: int | None = None

    def next_request(self, method: str) -> Request:
        """The next request in the dialog, with all but Via, Contact and a body (RFC 3261 12.2.1.1)."""
        self.local_cseq += 1
        return self.request(method, self.local_cseq)

    def request(self, method: str, cseq: int) -> Request:
        """The same with a CSeq of the past: an ACK, or the BYE of another fork."""
        headers = Headers()
        headers.add("Max-Forwards", "70")
        headers.add("From", self.local)
        headers.add("To", self.remote)
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{cseq} {method}")
        uri, routes = self.target, [str(route) for route in self.routes]
        if routes and not _is_loose(self.routes[0]):
            # A strict router wants itself in the Request-URI, and the remote target last in the route.
            uri = self.routes[0].uri
            routes = [*routes[1:], f"<{self.target}>"]
        for route in routes:
            headers.add("Route", route)
        return Request(method, uri, headers, b"")

    def next_hop(self) -> Uri:
        """The URI that the packet goes by, whatever the Request-URI says."""
        return self.routes[0].uri if self.routes else self.target

    def in_order(self, cseq: int) -> bool:
        """Takes note of a request's CSeq; False if it is behind one that was seen (RFC 3261 12.2.2)."""
        if self.remote_cseq is not None and cseq < self.remote_cseq:
            return False
        self.remote_cseq = cseq
        return True

    def retarget(self, contact: NameAddr | None) -> None:
        """A target refresh (RFC 3261 12.2.1.2). Without a usable Contact, or with our own in it, it stays."""
        if contact is not None and contact.uri.scheme in ("sip", "sips") and not self.is_ourselves(contact.uri):
            self.target = contact.uri

    def is_ourselves(self, uri: Uri) -> bool:
        return (uri.host, uri.port or 5060) == self.contact

    def is_same(self, other: "Dialog") -> bool:
        return (self.call_id, self.local_tag, self.remote_tag) == (other.call_id, other.local_tag, other.remote_tag)

    def start_anew(self, remote: str, target: Uri, way: Way) -> None:
        """What provisional responses made of it is forgotten: the INVITE is sent once more."""
        self.remote, self.remote_tag, self.target, self.routes, self.way = remote, "", target, (), way

    def early(self, response: Response) -> None:
        """A provisional response with a To tag: an early dialog (RFC 3261 12.1.2); the latest fork is kept."""
        tag = response.to.tag
        if tag:
            self.remote_tag = tag
            self.remote = response.headers.get("To") or self.remote

    def establish(self, response: Response) -> None:
        """A 2xx to our INVITE makes it a dialog: tag, route set in reverse, remote target (RFC 3261 12.1.2)."""
        self.remote_tag = response.to.tag or ""
        self.remote = response.headers.get("To") or self.remote
        self.routes = tuple(reversed(response.record_routes))
        self.retarget(response.contact)


def accept_dialog(request: Request, local_tag: str, way: Way, contact: tuple[str, int]) -> Dialog:
    """The dialog of an INVITE that came in (RFC 3261 12.1.1). Without a Contact, the From is the remote target."""
    dialog = Dialog(
        call_id=request.call_id,
        local_tag=local_tag,
        local=f"{request.headers.get('To')};tag={local_tag}",
        remote=request.headers.get("From") or "",
        target=request.from_.uri,
        way=way,
        contact=contact,
        remote_tag=request.from_.tag or "",
        routes=tuple(request.record_routes),
        remote_cseq=request.cseq.number,
    )
    dialog.retarget(request.contact)
    return dialog


def _is_loose(route: NameAddr) -> bool:
    return route.uri.param("lr") is not None
