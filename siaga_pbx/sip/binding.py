"""A seat's registered contact and the way to it (RFC 3261 10; the NAT rules are DESIGN 3, "Seats")."""

from dataclasses import dataclass

from siaga_pbx.sip.flow import Address, Flow, Transport
from siaga_pbx.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class Binding:
    """One contact of one seat. `expires_at` is monotonic seconds; `source` is where the REGISTER came from."""

    seat: str
    contact: Uri
    source: Flow
    via_is_source: bool
    expires_at: float
    call_id: str
    cseq: int
    path: tuple[str, ...] = ()
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class StoredBinding:
    """A binding as it is kept over a restart: plain values, and the seconds it had left when it was taken."""

    seat: str
    contact: str
    transport: Transport
    local: Address
    remote: Address
    via_is_source: bool
    expires_in: float
    call_id: str
    cseq: int
    path: tuple[str, ...] = ()
    user_agent: str | None = None
