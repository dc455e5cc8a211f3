"""A call's SIP messages as a ladder: a column a peer, the centre between the first and the rest."""

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo

from siaga_pbx.net.trace import Traced
from siaga_pbx.sip.flow import Address

WIDTH = 34
"""Of a column, in characters: an address with its port, and an arrow with `SIP/2.0 481 Call/Transaction ...`."""
_TIME = 14
CENTRE = "siaga-pbx"


def ladder(messages: Sequence[Traced], zone: tzinfo) -> Iterator[str]:
    """Lines of text: who is in which column, then an arrow a message, with its time in the zone."""
    peers = list(dict.fromkeys(message.remote for message in messages))
    columns: list[Address | None] = [*peers[:1], None, *peers[1:]]
    yield " " * _TIME + "".join(_name(peer).center(WIDTH) for peer in columns).rstrip()
    for message in messages:
        time = datetime.fromtimestamp(message.at, zone).strftime("%H:%M:%S.%f")[:-3]
        yield (time.ljust(_TIME) + _arrow(message, columns)).rstrip()


def arrow_text(message: Traced, zone: tzinfo) -> str:
    """One message in a line: when, from where, to where, over what."""
    time = datetime.fromtimestamp(message.at, zone).isoformat(timespec="milliseconds")
    ends = (_name(message.local), _name(message.remote))
    source, target = ends if message.sent else ends[::-1]
    return f"--- {time} {source} > {target} {message.transport} {len(message.data)} bytes"


def _name(peer: Address | None) -> str:
    if peer is None:
        return CENTRE
    host, port = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _arrow(message: Traced, columns: Sequence[Address | None]) -> str:
    """`│ ──INVITE──> │`: from column to column, the other columns' lines going on."""
    centre, peer = columns.index(None), columns.index(message.remote)
    left, right = sorted((centre, peer))
    points_right = (centre < peer) == message.sent
    line = ["│" if at % WIDTH == WIDTH // 2 else " " for at in range(WIDTH * len(columns))]
    start, end = left * WIDTH + WIDTH // 2 + 1, right * WIDTH + WIDTH // 2
    room = end - start
    text = label(message.data)[: room - 4]
    shaft = f" {text} ".center(room, "─")
    line[start:end] = f"{shaft[:-1]}>" if points_right else f"<{shaft[1:]}"
    return "".join(line)


def label(data: bytes) -> str:
    """What a ladder calls a message: `INVITE (SDP)`, `200 OK (SDP) INVITE`, `BYE`."""
    head, _, _ = data.partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "replace").split("\r\n")
    cseq = next((line.split()[-1] for line in lines if line.lower().startswith("cseq")), "")
    sdp = " (SDP)" if any("application/sdp" in line.lower() for line in lines) else ""
    first, _, rest = lines[0].partition(" ")
    return f"{rest}{sdp} {cseq}" if first == "SIP/2.0" else f"{first}{sdp}"
