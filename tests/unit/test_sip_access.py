"""Who may do what, by source alone (DESIGN 3.1)."""

from ipaddress import ip_network

import pytest

from siaga_pbx.sip.access import Access, Own, Seat, Source, Stranger, Trunk, is_test_call
from siaga_pbx.sip.events import Confirmed, Counted, Ended, IncomingCall, Info, Offered
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.options import TrunkOptions
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OTHER_TRUNK, OUR_SDP, SEAT, STRANGER, THEIR_SDP, TRUNK, US, Bench, Peer, register

ACCESS = Access(
    (
        TrunkOptions("wide", (ip_network("198.51.100.0/24"), ip_network("2001:db8::/32"))),
        TrunkOptions("narrow", (ip_network("198.51.100.64/26"),)),
        TrunkOptions("one", (ip_network("198.51.100.65/32"), ip_network("192.0.2.200/32"))),
    ),
    frozenset({"192.0.2.10"}),
)
PROBE = Flow("udp", US, ("192.0.2.10", 51234))


@pytest.mark.parametrize(
    ("host", "seat", "source"),
    [
        ("198.51.100.1", None, Trunk("wide")),
        ("198.51.100.70", None, Trunk("narrow")),
        ("198.51.100.65", None, Trunk("one")),
        ("192.0.2.200", None, Trunk("one")),
        ("2001:db8::7", None, Trunk("wide")),
        ("198.51.100.1", "101", Trunk("wide")),
        ("203.0.113.1", "101", Seat("101")),
        ("192.0.2.10", "101", Seat("101")),
        ("192.0.2.10", None, Own()),
        ("203.0.113.1", None, Stranger()),
        ("2001:db9::7", None, Stranger()),
    ],
)
def test_the_most_specific_trunk_then_a_seat_then_ourselves(host: str, seat: str | None, source: Source) -> None:
    for port in (5060, 40000):
        assert ACCESS.source_of(Flow("udp", US, (host, port)), seat) == source


def test_addresses_that_are_remembered_are_bounded() -> None:
    access = Access((TrunkOptions("all", (ip_network("10.0.0.0/8"),)),), frozenset())
    for number in range(10_000):
        assert access.trunk_of(f"10.0.{number // 256}.{number % 256}") == Trunk("all")
    assert len(access._remembered) <= 4096


def test_an_address_that_is_none_is_no_trunk() -> None:
    assert ACCESS.trunk_of("sbc.carrier.example") is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("urn:service:test.sos", True),
        ("URN:Service:TEST.SOS", True),
        ("urn:service:test.sos.fire", True),
        ("urn:service:sos", False),
        ("urn:service:test.sosx", False),
        ("sip:112@192.0.2.10", False),
    ],
)
def test_the_test_service(uri: str, expected: bool) -> None:
    assert is_test_call(Uri.parse(uri)) is expected


METHODS = ["INVITE", "OPTIONS", "BYE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER", "UPDATE", "INFO", "FOO"]


@pytest.mark.parametrize("method", [*METHODS, "ACK", "CANCEL", "PRACK"])
def test_a_stranger_gets_no_answer(method: str) -> None:
    bench = Bench()
    peer = Peer(bench, STRANGER)
    peer.send(peer.request(method, sdp=THEIR_SDP))
    peer.our_tag = "guessed"
    peer.send(peer.request(method, sdp=THEIR_SDP))
    assert bench.take() == []
    assert bench.events == []
    assert bench.is_empty()
    assert len(bench.counted) == (0 if method == "ACK" else 2)


def test_a_trunk_may_call_and_ask() -> None:
    bench = Bench()
    for flow, trunk in ((TRUNK, "telkomsel"), (OTHER_TRUNK, "indosat")):
        peer = Peer(bench, flow, call_id=trunk)
        peer.send(peer.request("INVITE", "urn:service:sos", sdp=THEIR_SDP))
        bench.response(100)
        assert bench.event(IncomingCall).peer == Trunk(trunk)
        peer.send(peer.request("OPTIONS"))
        assert "INVITE" in (bench.response(200).headers.get("Allow") or "")


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER", "FOO"])
def test_a_method_that_we_have_not_gets_405(method: str) -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request(method))
    assert "INVITE" in (bench.response(405).headers.get("Allow") or "")


@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO", "OPTIONS"])
def test_a_dialog_that_we_do_not_know_gets_481(method: str) -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK, our_tag="long-gone")
    peer.send(peer.request(method))
    bench.response(481)
    assert bench.events == []


def test_what_is_required_is_refused_but_in_a_trunks_invite() -> None:
    bench = Bench()
    peer = Peer(bench, TRUNK)
    peer.send(peer.request("OPTIONS", headers=(("Require", "gruu, outbound"),)))
    assert bench.response(420).headers.get("Unsupported") == "gruu, outbound"


def test_our_own_addresses_may_make_the_test_call_and_nothing_else() -> None:
    bench = Bench()
    probe = Peer(bench, PROBE)
    probe.send(probe.request("INVITE", sdp=THEIR_SDP))
    probe.send(probe.request("OPTIONS"))
    assert bench.take() == []
    assert bench.counted == [Counted("dropped", "stranger")] * 2
    probe.send(probe.request("INVITE", "urn:service:test.sos", sdp=THEIR_SDP))
    bench.response(100)
    call = bench.event(IncomingCall)
    assert call.peer == Own()
    bench.do(bench.stack.answer(call.leg, OUR_SDP, bench.now))
    probe.our_tag = bench.response(200).to.tag or ""
    probe.ack()
    bench.event(Confirmed)
    bench.do(bench.stack.hang_up(call.leg, bench.now))
    probe.answer(bench.request("BYE"), 200)


# In a dialog


def talking(bench: Bench, flow: Flow = TRUNK) -> tuple[Peer, str]:
    peer = Peer(bench, flow)
    peer.send(peer.request("INVITE", sdp=THEIR_SDP))
    leg = bench.events.pop()
    assert isinstance(leg, IncomingCall)
    bench.take()
    bench.do(bench.stack.answer(leg.leg, OUR_SDP, bench.now))
    peer.our_tag = bench.response(200).to.tag or ""
    return peer, leg.leg


@pytest.mark.parametrize("flow", [STRANGER, OTHER_TRUNK])
def test_ack_and_bye_may_come_from_anywhere(flow: Flow) -> None:
    bench = Bench()
    peer, _ = talking(bench)
    bench.receive(peer.request("ACK"), flow)
    bench.event(Confirmed)
    bench.receive(peer.request("PRACK"), flow)
    bench.response(200)
    bench.receive(peer.request("BYE"), flow)
    bench.response(200)
    bench.event(Ended)


@pytest.mark.parametrize("flow", [STRANGER, OTHER_TRUNK])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "OPTIONS", "REFER"])
def test_what_changes_a_leg_comes_from_its_own_trunk_only(method: str, flow: Flow) -> None:
    bench = Bench()
    peer, _ = talking(bench)
    peer.ack()
    bench.event(Confirmed)
    bench.receive(peer.request(method, sdp=THEIR_SDP), flow)
    assert bench.take() == []
    assert bench.events == []
    assert bench.counted[-1] == Counted("dropped", "foreign_source")
    # The next one of the right source is not out of order for it.
    other_address = Flow("udp", US, ("198.51.100.77", 7777))
    bench.receive(peer.request("UPDATE", sdp=THEIR_SDP), other_address)
    bench.event(Offered)


def test_a_seats_leg_is_its_sources() -> None:
    bench = Bench()
    register(bench)
    bench.events.clear()
    from tests.flows.test_seat_call import talking as seat_talking

    phone = Peer(bench, SEAT)
    seat_talking(bench, phone)
    elsewhere = phone.request("INFO", headers=(("Content-Type", "application/dtmf-relay"),))
    bench.receive(elsewhere, STRANGER)
    assert bench.take() == []
    phone.send(elsewhere)
    bench.response(200)
    assert bench.event(Info).content_type == "application/dtmf-relay"


@pytest.mark.parametrize("part", ["call_id", "tag", "our_tag"])
def test_call_id_and_both_tags_must_agree(part: str) -> None:
    bench = Bench()
    peer, _ = talking(bench)
    peer.ack()
    bench.event(Confirmed)
    setattr(peer, part, getattr(peer, part) + "x")
    bench.receive(peer.request("BYE"), STRANGER)
    assert bench.take() == []
    peer.send(peer.request("BYE"))
    bench.response(481)
    assert bench.events == []
