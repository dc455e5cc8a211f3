"""What daemon and worker say: to the wire and back, in any chunks, and nothing else is understood."""

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.media import protocol as p
from siaga_pbx.media.wire import MAX_LINE, Lines, ProtocolError, commands, events

TO_WORKER, TO_DAEMON = commands(), events()
COMMANDS: list[p.Command] = [
    p.Bind("127.0.0.1", 64),
    p.Open("leg", "call", p.Side.CALLER, "::1", 30000, 0xFFFFFFFF),
    p.Connect("leg", p.Remote(host="192.0.2.1", port=4000), ("192.0.2.9", 5000)),
    p.Connect("leg", p.Remote(host="192.0.2.1", port=4000)),
    p.Connect(
        "leg",
        p.Remote(
            host="2001:db8::1",
            port=4000,
            codec=p.Codec.PCMU,
            payload_type=97,
            telephone_event=96,
            ptime_ms=30,
            max_ptime_ms=60,
            comfort_noise=True,
            rtcp=("192.0.2.7", 5005),
            accept=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
            strict=True,
            sending=False,
        ),
    ),
    p.Play("leg", ("greeting", "test"), ("waiting",), 1234567.890123456),
    p.Bridge("a", "b"),
    p.Confer("a"),
    p.Confer("a", p.Part.WHISPER, "b"),
    p.Unbridge("a"),
    p.RelayEvents("a", False),
    p.SendKeys("a", "112*#"),
    p.Echo("a"),
    p.Record("call", "/var/lib/calls/\u00e9.wav"),
    p.Record("call", "/var/lib/calls/b.wav", 1234567.890123456, again=True),
    p.StopRecord("call"),
    p.Close("leg"),
    p.List(),
    p.Ping(7),
    p.Leave(),
]
EVENTS: list[p.Event] = [
    p.Hello(p.VERSION, 0, 4711),
    p.State(
        (
            p.LegState(p.Open("a", "call", p.Side.CALLER, "127.0.0.1", 30000, 7), None, None, p.Bridge("a", "b")),
            p.LegState(
                p.Open("b", "call", p.Side.SEAT, "127.0.0.1", 30002, 8),
                p.Connect("b", p.Remote(host="192.0.2.1", port=4000), ("192.0.2.1", 4000)),
                p.RelayEvents("b", False),
                p.Echo("b"),
            ),
            p.LegState(
                p.Open("c", "call", p.Side.SEAT, "127.0.0.1", 30002, 8), None, None, p.Play("c", (), ("waiting",))
            ),
        ),
        (p.Record("call", "/calls/a.wav", 1.5),),
        (("127.0.0.1", 30002),),
    ),
    p.Bound("127.0.0.1", 30000),
    p.BindFailed("127.0.0.1", 3, "exhausted"),
    p.OpenFailed("leg", "Address already in use"),
    p.FirstPacket("leg", "192.0.2.1", 4000, False),
    p.Dtmf("leg", "*"),
    p.Played("leg"),
    p.PromptMissing("leg", "greetings", "there is no such file"),
    p.Silent("leg", 60.0),
    p.Closed("leg", p.LegStats(received=10, lost=1, jitter_ms=0.5, remote_lost=-2, remote_jitter_ms=1.25)),
    p.Recorded("call", "/calls/a.wav", 1.5, "ab" * 32, 0),
    p.RecordFailed("call", "/calls/a.wav", "No space left on device", False),
    p.RecordBegan("call", 1234567.890123456),
    p.RecordGap("call", 1.5, 0.25, "the media worker died"),
    p.Pong(7, 900, {"stranger": 3}, 1.5),
    p.Rolled("leg", 3),
    p.Account("leg", p.LegStats(received=7, remote_lost=2)),
    p.Refused("leg", p.Why.STRANGER, "192.0.2.66", 4000, 7),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.type)
def test_commands_there_and_back(command: p.Command) -> None:
    line = TO_WORKER.encode(command)
    assert line.count(b"\n") == 1
    assert TO_WORKER.decode(line) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_events_there_and_back(event: p.Event) -> None:
    assert TO_DAEMON.decode(TO_DAEMON.encode(event)) == event


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"nonsense", b'{"type":"fly"}', b'{"type":"close"}', b'{"type":"close","leg":3}', b'{"type":"pong"}',
     b'{"type":"connect","leg":"a","remote":{"host":"h","port":1,"codec":3}}', b"\xff\xfe", b"[" * 1000],
)  # fmt: skip
def test_what_is_no_command(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        TO_WORKER.decode(line)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_the_one_error(line: bytes) -> None:
    try:
        TO_WORKER.decode(line)
    except ProtocolError:
        return


@settings(deadline=None)
@given(st.data())
def test_lines_in_any_chunks(data: st.DataObject) -> None:
    stream = b"".join(map(TO_WORKER.encode, COMMANDS))
    lines, rest = Lines(), stream
    found: list[bytes] = []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += lines.feed(rest[:size])
        rest = rest[size:]
    assert [TO_WORKER.decode(line) for line in found] == COMMANDS


def test_a_line_without_an_end_is_cut_off() -> None:
    lines = Lines()
    lines.feed(b"x" * MAX_LINE)
    with pytest.raises(ProtocolError, match="more than"):
        lines.feed(b"x")
