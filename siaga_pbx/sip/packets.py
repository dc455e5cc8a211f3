"""What the lines of an SDP audio section say of its packets: how long they are to be, and where their RTCP goes."""

from collections.abc import Iterable
from ipaddress import ip_address

DEFAULT_PTIME_MS = 20
SHORTEST_MS, LONGEST_MS = 10, 200
"""What a receiver has to take if nothing is said (RFC 3551 4.2), and the shortest that is sent to anybody."""
COMFORT_NOISE = 13
"""The static payload number (RFC 3389 4)."""
MUX = "rtcp-mux"


def ptime(lines: Iterable[tuple[str, str]]) -> int:
    """The length of a packet that the peer likes to get, in milliseconds (RFC 8866 6.4)."""
    wanted = _number(lines, "ptime", 4) or DEFAULT_PTIME_MS
    return max(SHORTEST_MS, min(wanted, _number(lines, "maxptime", 4) or LONGEST_MS, LONGEST_MS))


def max_ptime(lines: Iterable[tuple[str, str]]) -> int:
    """The longest packet that is sent to the peer: its maxptime. Of one that names none but likes a length, that one:
    there are devices that play nothing else."""
    longest = _number(lines, "maxptime", 4) or (ptime(lines) if _number(lines, "ptime", 4) else LONGEST_MS)
    return max(SHORTEST_MS, min(longest, LONGEST_MS))


def muxes(lines: Iterable[tuple[str, str]]) -> bool:
    """Whether the peer takes RTCP where it takes RTP (RFC 5761 5.1.1)."""
    return ("a", MUX) in lines


def rtcp(lines: Iterable[tuple[str, str]], host: str) -> tuple[str, int] | None:
    """Where the peer takes RTCP if it says so (RFC 3605), on `host` if it names no other; None unless that is an IP
    address: a name would have the media worker wait for its look-up."""
    value = next((value for letter, value in lines if letter == "a" and value.startswith("rtcp:")), "")
    port, *address = value[5:].split()[:4] or [""]
    if not _is_number(port, 5) or not 0 < int(port) < 65536:
        return None
    where = address[2] if len(address) == 3 else host
    try:
        ip_address(where)
    except ValueError:
        return None
    return where, int(port)


def _number(lines: Iterable[tuple[str, str]], name: str, digits: int) -> int | None:
    prefix = name + ":"
    found = next(
        (value[len(prefix) :].strip() for letter, value in lines if letter == "a" and value.startswith(prefix)), ""
    )
    return int(found) if _is_number(found, digits) else None


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits
