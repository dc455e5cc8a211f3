"""What a network says of an emergency call beside who calls from where: ids (NENA-STA-010), priority (RFC 4412)."""

import re
from dataclasses import dataclass

from siaga_pbx.sip.message import Request

MAX_ID = 200
"""Characters of an id that is kept: a string of up to 36 and a domain."""
PUBLIC = 1
"""Of the esnet namespace (RFC 7135): calls of the public. Responders among themselves are above it."""

_ID = re.compile(r"urn:(?:emergency|nena):uid:(callid|incidentid):[^\s<>\";,?]+", re.IGNORECASE)
_ESNET = re.compile(r"esnet\.([0-4])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EmergencyIds:
    """The names of the call and of its incident that all centres share, as URNs."""

    call: str
    incident: str

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What a message about the call carries."""
        return (
            ("Call-Info", f"<{self.call}>;purpose=emergency-CallId"),
            ("Call-Info", f"<{self.incident}>;purpose=emergency-IncidentId"),
        )


def emergency_ids(request: Request, name: str, domain: str) -> EmergencyIds:
    """Those that an INVITE brings in Call-Info; what it lacks is made of `name`, unique in `domain`. Never raises."""
    found: dict[str, str] = {}
    if "Call-Info" in request.headers:
        for value in request.headers.values("Call-Info"):
            match = _ID.search(value)
            if match is not None and len(match[0]) <= MAX_ID:
                found.setdefault(match[1].lower(), match[0])
    made = f"{name.replace('-', '')}:{domain}"
    return EmergencyIds(
        found.get("callid") or f"urn:emergency:uid:callid:{made}",
        found.get("incidentid") or f"urn:emergency:uid:incidentid:{made}",
    )


def priority_of(request: Request) -> int:
    """Who is served before the others: 0 for the public, also when a carrier says so (esnet.0 and esnet.1) and another
    says nothing; 1 to 3 for esnet.2 to esnet.4. Other namespaces are not ours to judge (RFC 4412 4.7.1).
    """
    if "Resource-Priority" not in request.headers:
        return 0
    levels = [
        int(match[1])
        for value in request.headers.values("Resource-Priority")
        if (match := _ESNET.fullmatch(value)) is not None
    ]
    return max(0, max(levels, default=0) - PUBLIC)
