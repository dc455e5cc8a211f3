"""What must hold of any bytes at all: shared by the fuzzer and by the replay of what it found worth keeping."""

from contextlib import suppress
from types import SimpleNamespace

from siaga_pbx.call.identity import identify
from siaga_pbx.call.location import locate
from siaga_pbx.sip.body import parts
from siaga_pbx.sip.digest import Challenge, Credentials
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.framing import Frame, StreamFramer
from siaga_pbx.sip.message import Message, Request, Response, parse
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer, make_offer, read_answer

LOCAL = LocalAudio("192.0.2.10", 30000, 7, 1)
TRUNK = SimpleNamespace(number_from=("p-asserted-identity", "from", "diversion"), marks=())


def check(data: bytes) -> None:
    """Raises if the bytes break what is promised: a message or the one error, and nothing else from any reader."""
    _as_datagram(data)
    _as_stream(data)
    _as_description(data)
    _as_authorisation(data)


def _as_datagram(data: bytes) -> None:
    try:
        message = parse(data)
    except RemoteError:
        return
    written = bytes(message)
    again = parse(written)
    assert bytes(again) == written, "serialised, it is another message"
    assert again.body == message.body
    _read_all(message)


def _read_all(message: Message) -> None:
    assert message.vias[0] == message.via
    str(message.from_), str(message.to), str(message.contact), message.cseq, message.call_id
    str((message.routes, message.record_routes, message.expires, message.max_forwards, message.content_type))
    with suppress(RemoteError):  # a registrar asks, and may refuse
        str(message.contacts)
    for part in parts(message):
        _as_description(part.body)
    if isinstance(message, Request):
        str(message.uri)
        locate(message)
        identify(message, TRUNK, "ID")


def _as_stream(data: bytes) -> None:
    """Cut anywhere, a stream gives the same messages as in one piece."""
    whole = StreamFramer().feed(data)
    framer, pieces = StreamFramer(), []
    size = 1 + (data[0] if data else 0) % 97
    for start in range(0, len(data), size):
        pieces += framer.feed(data[start : start + size])
        if any(isinstance(one, RemoteError) and one.fatal for one in pieces):
            break
    assert [_shape(one) for one in pieces] == [_shape(one) for one in whole]


def _shape(frame: Frame) -> object:
    match frame:
        case RemoteError():
            return frame.reason
        case Request() | Response():
            return bytes(frame)
    return frame


def _as_description(data: bytes) -> None:
    with suppress(RemoteError):
        sdp = Sdp.parse(data)
        str(sdp)
        make_answer(sdp, LOCAL)
    with suppress(RemoteError):
        read_answer(make_offer(LOCAL), Sdp.parse(data))


def _as_authorisation(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for kind in (Challenge, Credentials):
        with suppress(RemoteError):
            str(kind.parse(text))
