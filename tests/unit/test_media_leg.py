"""A leg's watch over its far side, in virtual time."""

import base64
import os
import socket
import struct
from dataclasses import replace
from ipaddress import ip_network

import pytest

from siaga_pbx.media.leg import SILENT_S, Leg
from siaga_pbx.media.ports import PortPair, PortPool
from siaga_pbx.media.protocol import Connect, Dtmf, LegEvent, Remote, Side, Silent, Srtp, SrtpSuite, Unheard
from siaga_pbx.media.sender import Sender
from tests.media_kit import free_ports


@pytest.fixture
def pair() -> PortPair:
    first, last = free_ports(4)
    return PortPool(range(first, last, 2), ["127.0.0.1"]).take("127.0.0.1", 0.0)


def watched(pair: PortPair, events: list[LegEvent]) -> Leg:
    return Leg(
        "leg", "call", Side.CALLER, pair, Sender(pair.rtp.sendto, os.urandom, lambda _: None, 0), events.append, 0.0
    )


def silences(events: list[LegEvent]) -> list[LegEvent]:
    return [event for event in events if isinstance(event, Silent)]


def test_a_silent_far_side_is_told_of_every_minute(pair: PortPair) -> None:
    events: list[LegEvent] = []
    leg = watched(pair, events)
    leg.watch(1000.0)
    assert events == []  # not connected: nothing is expected
    leg.connect(Connect("leg", Remote(host="127.0.0.1", port=4000)), 2000.0)
    for second in range(150):
        leg.watch(2000.0 + second)
    assert silences(events) == [Silent("leg", SILENT_S), Silent("leg", 2 * SILENT_S)]
    leg.receiver.take(1, 160, 7, 2150.0, True)
    for second in range(150, 215):
        leg.watch(2000.0 + second)
    assert silences(events)[2:] == [Silent("leg", SILENT_S)]
    pair.close()


def test_a_re_offer_does_not_start_the_minute_anew(pair: PortPair) -> None:
    events: list[LegEvent] = []
    leg = watched(pair, events)
    leg.connect(Connect("leg", Remote(host="127.0.0.1", port=4000)), 0.0)
    leg.connect(Connect("leg", Remote(host="127.0.0.1", port=4000, sending=False)), 30.0)
    leg.watch(60.0)
    assert silences(events) == [Silent("leg", 60.0)]
    leg.connect(Connect("leg", Remote(host="127.0.0.1", port=4002)), 70.0)  # this one moves the far side, and does
    leg.watch(120.0)
    assert len(silences(events)) == 1
    pair.close()


def test_a_trunk_behind_nat_is_sent_to_again_when_it_goes_on_as_before(pair: PortPair) -> None:
    """Its re-INVITE names another private address: nobody can tell at once that this is not where it is now."""
    leg, source = watched(pair, []), ("192.0.2.5", 7000)
    hidden = Remote(host="10.1.1.1", port=4000, accept=(ip_network("192.0.2.0/24"),))
    leg.connect(Connect("leg", hidden, source), 10.0)
    assert leg.sender.target == source
    leg.connect(Connect("leg", replace(hidden, port=4002)), 20.0)
    for second in range(20, 25):
        leg.receiver.take(second, 160 * second, 7, float(second), True)
        leg.watch(float(second))
        assert leg.sender.target == (("10.1.1.1", 4002) if second < 22 else source)
    pair.close()


def test_who_announced_silence_is_not_missed(pair: PortPair) -> None:
    """RFC 3389: comfort noise, then nothing for as long as it likes; a dead one is missed after audio."""
    events: list[LegEvent] = []
    leg = watched(pair, events)
    leg.connect(Connect("leg", Remote(host="127.0.0.1", port=4000)), 10.0)
    leg.receiver.take(1, 160, 7, 11.0, True)
    leg.receiver.take(2, 320, 7, 12.0, True)
    leg.receiver.silenced_at = 12.0
    for second in range(12, 30):
        leg.watch(float(second))
    assert events == []
    leg.receiver.take(3, 480, 7, 30.0, True)
    leg.watch(32.0)
    assert events == [Unheard("leg", 2.0, one_way=False)]
    pair.close()


def test_no_index_of_a_stream_comes_twice_under_one_key(pair: PortPair) -> None:
    """RFC 3711 9.1: keys that are taken away and given again, or used with another suite, are for another SSRC then."""
    keys = Srtp(SrtpSuite.SHA1_80, *(base64.b64encode(os.urandom(30)).decode() for _ in range(2)))
    with socket.socket(type=socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(10)
        host, port = phone.getsockname()
        remote = Remote(host=host, port=port, rtcp_mux=True, strict=True)
        leg = watched(pair, [])
        used: list[tuple[int, int]] = []
        other = replace(keys, suite=SrtpSuite.SHA1_32)
        for number, given in enumerate((keys, keys, None, keys, other, other), 1):
            leg.connect(Connect("leg", replace(remote, srtp=given)), 0.0)
            leg.sender.hush()
            leg.sender.tick(number * 1.0)
            phone.recv(2048)
            leg.send_report(number * 1.0, 0.0)
            report = phone.recv(2048)
            if given is not None:  # the SSRC, and the index with its E flag: before the tag, which is 80 bits in either
                used.append((int.from_bytes(report[4:8], "big"), int.from_bytes(report[-14:-10], "big")))
        assert len(set(used)) == len(used)
        assert used[0][0] == used[1][0], "the same keys at a re-INVITE change nothing"
        assert used[3][0] == used[4][0]
    pair.close()


def test_the_keys_of_a_new_stream_are_read_anew(pair: PortPair) -> None:
    """Its timestamps have nothing to do with those before: here they would be of an earlier press."""
    events: list[LegEvent] = []
    leg = watched(pair, events)
    with socket.socket(type=socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        leg.connect(Connect("leg", Remote(host="127.0.0.1", port=phone.getsockname()[1], telephone_event=101)), 0.0)
        for key, (timestamp, ssrc) in enumerate([(5000, 7), (4000, 7), (4000, 8)], 1):
            head = struct.pack("!BBHII", 0x80, 0x80 | 101, key, timestamp, ssrc)
            phone.sendto(head + struct.pack("!BBH", key, 10, 160), ("127.0.0.1", pair.port))
            leg.receive()
    assert [event.digit for event in events if isinstance(event, Dtmf)] == ["1", "3"]
    pair.close()
