"""Framing: RFC 3261 18.3, RFC 5626 4.4.1. Every sample is fed whole, byte by byte, and in any pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.framing import Frame, KeepAlive, StreamFramer
from siaga_pbx.sip.message import MAX_BODY, MAX_HEAD, Request, Response
from tests.unit.sip_samples import INVITE, minimal

OPTIONS = minimal("OPTIONS sip:a SIP/2.0", "l: 0")
BAD = minimal("OPTIONS sip: SIP/2.0", "l: 3", body=b"abc")


def fed(data: bytes, size: int | None = None) -> list[Frame]:
    framer = StreamFramer()
    step = size or max(1, len(data))
    return [frame for start in range(0, len(data), step) for frame in framer.feed(data[start : start + step])]


def told(frame: Frame) -> tuple[object, ...]:
    """What makes two frames the same to whoever gets them."""
    match frame:
        case RemoteError():
            return frame.reason, frame.status, frame.fatal, frame.request is not None
        case KeepAlive():
            return ("keep-alive",)
        case _:
            return (bytes(frame),)


def fatal(data: bytes) -> RemoteError:
    *_, last = fed(data)
    assert isinstance(last, RemoteError)
    assert last.fatal
    return last


@pytest.mark.parametrize("size", [None, 1, 2, 3, 100])
def test_messages_come_out_in_order_however_they_are_cut(size: int | None) -> None:
    frames = fed(INVITE + OPTIONS + b"\r\n\r\n" + minimal("SIP/2.0 200 OK", "l: 0") + INVITE, size)
    assert [type(frame) for frame in frames] == [Request, Request, KeepAlive, Response, Request]
    assert frames[0] == frames[4]
    assert isinstance(frames[0], Request)
    assert bytes(frames[0]) == INVITE


@pytest.mark.parametrize("size", [None, 1])
def test_after_an_error_that_is_not_fatal_the_next_message_is_read(size: int | None) -> None:
    error, options = fed(BAD + OPTIONS, size)
    assert isinstance(error, RemoteError)
    assert (error.reason, error.fatal) == ("uri", False)
    assert error.request is not None
    assert isinstance(options, Request)


def test_half_a_message_is_waited_for() -> None:
    framer = StreamFramer()
    assert not framer.midway
    assert framer.feed(INVITE[:-1]) == []
    assert framer.midway
    assert len(framer.feed(INVITE[-1:])) == 1
    assert not framer.midway
    assert framer.feed(INVITE[:20]) == []
    assert framer.midway


@pytest.mark.parametrize("size", [None, 1])
def test_keep_alives(size: int | None) -> None:
    assert fed(b"\r\n\r\n", size) == [KeepAlive()]
    assert fed(b"\r\n\r\n" * 3, size) == [KeepAlive()] * 3
    assert fed(b"\r\n", size) == []
    assert [type(frame) for frame in fed(b"\r\n" + OPTIONS + b"\r\n" + OPTIONS, size)] == [Request, Request]
    assert [type(frame) for frame in fed(b"\n\r\r\n\n" + OPTIONS, size)] == [Request]


def test_a_ping_that_is_cut_in_two_is_one() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n") == []
    assert not framer.midway
    assert framer.feed(b"\r\n") == [KeepAlive()]


def test_without_length_and_type_there_is_no_body() -> None:
    assert [type(frame) for frame in fed(minimal() + OPTIONS)] == [Request, Request]


@pytest.mark.parametrize(
    "lines",
    [["c: application/sdp"], ["l: -999"], ["l: x"], ["l: 3", "l: 5"], [f"l: {'9' * 5000}"], ["l: 99999999999"]],
)
def test_without_a_length_that_can_be_believed_the_stream_is_lost_but_the_request_is_answered(lines: list[str]) -> None:
    error = fatal(minimal("INVITE sip:a SIP/2.0", *lines, body=b"abcde"))
    assert (error.reason, error.status) == ("content-length", 400)
    assert error.request is not None
    assert error.request.method == "INVITE"


def test_an_ack_and_a_response_are_not_answered() -> None:
    assert fatal(minimal("ACK sip:a SIP/2.0", "l: x")).request is None
    assert fatal(minimal("SIP/2.0 200 OK", "l: x")).request is None


def test_what_is_no_sip_ends_the_stream() -> None:
    error = fatal(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" + OPTIONS)
    assert (error.reason, error.request) == ("start-line", None)


def test_after_a_fatal_error_nothing_is_read() -> None:
    framer = StreamFramer()
    frames = framer.feed(b"GET / HTTP/1.1\r\n\r\n" + OPTIONS)
    assert len(frames) == 1
    assert framer.feed(OPTIONS) == []
    assert not framer.midway


class TestLimits:
    def test_a_body_that_is_announced_too_long(self) -> None:
        error = fatal(minimal("INVITE sip:a SIP/2.0", f"l: {MAX_BODY + 1}"))
        assert (error.reason, error.status) == ("body-too-large", 513)
        assert error.request is not None
        assert [
            type(frame) for frame in fed(minimal("INFO sip:a SIP/2.0", f"l: {MAX_BODY}", body=b"x" * MAX_BODY))
        ] == [Request]

    def test_a_head_that_never_ends(self) -> None:
        framer = StreamFramer()
        assert framer.feed(b"x" * MAX_HEAD) == []
        (error,) = framer.feed(b"x")
        assert isinstance(error, RemoteError)
        assert (error.reason, error.status, error.fatal) == ("head-too-large", 513, True)

    def test_a_head_that_ends_beyond_the_limit(self) -> None:
        assert fatal(minimal("OPTIONS sip:a SIP/2.0", "X: " + "x" * MAX_HEAD)).reason == "head-too-large"


SAMPLES = st.sampled_from(
    [INVITE, OPTIONS, BAD, b"\r\n\r\n", b"\r\n", b"\n", minimal("SIP/2.0 200 OK", "l: 2", body=b"\r\n")]
)
NOISE = st.one_of(SAMPLES, SAMPLES, SAMPLES, st.binary(max_size=20), st.sampled_from([b"GET /\r\n\r\n", INVITE[:300]]))


@settings(max_examples=200)
@given(st.lists(NOISE, max_size=6).map(b"".join), st.lists(st.integers(1, 700), max_size=12))
def test_any_chunking_gives_the_same(data: bytes, cuts: list[int]) -> None:
    framer = StreamFramer()
    frames: list[Frame] = []
    start = 0
    for length in [*cuts, len(data)]:
        frames += framer.feed(data[start : start + length])
        start += length
    assert [told(frame) for frame in frames] == [told(frame) for frame in fed(data)]
    assert [told(frame) for frame in fed(data, 1)] == [told(frame) for frame in fed(data)]


@given(st.lists(SAMPLES, max_size=6))
def test_nothing_is_lost_and_nothing_is_made_up(samples: list[bytes]) -> None:
    frames = fed(b"".join(samples))
    messages = [frame for frame in frames if isinstance(frame, (Request, Response))]
    whole = [sample for sample in samples if sample.strip(b"\r\n") and sample is not BAD]
    assert b"".join(map(bytes, messages)) == b"".join(whole)
    assert sum(isinstance(frame, RemoteError) for frame in frames) == sum(sample is BAD for sample in samples)
