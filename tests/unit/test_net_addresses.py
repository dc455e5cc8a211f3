"""net/addresses: what a peer is told, and which hosts are us."""

import socket
from ipaddress import ip_network

import pytest

from siaga_pbx.clock import Clock
from siaga_pbx.net import addresses
from siaga_pbx.net.addresses import Addresses, Advertised, interface_addresses, is_numeric, route_to
from siaga_pbx.settings import Listen
from siaga_pbx.sip.flow import Flow, Target, Way

TRUNK = Advertised((ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")), "203.0.113.77")
FIXED = (Listen("udp", "198.51.100.5", 5060), Listen("tcp", "198.51.100.5", 5062), Listen("udp", "198.51.100.6", 5070))
HERE, THEIRS = Listen("udp", "127.0.0.1", 5066), Listen("udp", "127.0.0.1", 5067)
ANOTHER = Advertised((ip_network("100.64.0.0/24"),), None, THEIRS)
ANY = (Listen("udp", "0.0.0.0", 5060), Listen("tcp", "0.0.0.0", 5060), Listen("udp", "::", 5080))


def told(bound: tuple[Listen, ...], way: Way, advertise: str | None = None, *trunks: Advertised) -> tuple[str, int]:
    ours = Addresses(Clock(), advertise, trunks)
    ours.bound = bound
    return ours.contact_for(way)


@pytest.mark.parametrize(
    ("bound", "way", "advertise", "expected"),
    [
        # a trunk's advertise comes first, for what it sends to and what is sent to it
        (FIXED, Flow("udp", ("198.51.100.5", 5060), ("192.0.2.9", 5060)), "203.0.113.1", ("203.0.113.77", 5060)),
        (FIXED, Target("udp", "192.0.2.9", 5060), "203.0.113.1", ("203.0.113.77", 5060)),
        (ANY, Target("udp", "2001:db8::9", 5060), None, ("203.0.113.77", 5080)),
        # then the general one, with the port of the socket that the peer uses
        (FIXED, Flow("udp", ("198.51.100.6", 5070), ("10.0.0.9", 5060)), "203.0.113.1", ("203.0.113.1", 5070)),
        # then what is bound
        (FIXED, Flow("udp", ("198.51.100.6", 5070), ("10.0.0.9", 5060)), None, ("198.51.100.6", 5070)),
        (FIXED, Target("udp", "10.0.0.9", 5060), None, ("198.51.100.5", 5060)),
        (FIXED, Target("udp", "sbc.example", 5060), None, ("198.51.100.5", 5060)),
        # of several, the one that the route leaves by; one that is another trunk's own only if there is no other
        ((Listen("udp", "198.51.100.5", 5060), HERE), Target("udp", "127.0.0.9", 5060), None, ("127.0.0.1", 5066)),
        ((Listen("udp", "198.51.100.5", 5060), THEIRS), Target("udp", "127.0.0.9", 5060), None, ("198.51.100.5", 5060)),
        ((HERE, Listen("udp", "198.51.100.5", 5060)), Target("udp", "192.0.2.200", 5060), None, ("203.0.113.77", 5060)),
        ((THEIRS,), Target("udp", "127.0.0.9", 5060), None, ("127.0.0.1", 5067)),
        # a connection that we dialled: not its own port, but the one listened on
        (FIXED, Flow("tcp", ("198.51.100.5", 49152), ("10.0.0.9", 5060), 3), None, ("198.51.100.5", 5062)),
        # bound to a wildcard: what the connection has, else the route
        (ANY, Flow("tcp", ("127.0.0.5", 5060), ("127.0.0.1", 40000), 3), None, ("127.0.0.5", 5060)),
        (ANY, Flow("udp", ("0.0.0.0", 5060), ("127.0.0.1", 5060)), None, ("127.0.0.1", 5060)),
        (ANY, Flow("udp", ("::", 5080), ("::1", 5060)), None, ("::1", 5080)),
        # nothing is listened on there: the way itself, the usual port
        (FIXED, Target("tls", "127.0.0.1", 5061), None, ("127.0.0.1", 5061)),
        ((), Target("udp", "no.such.host.invalid", 5060), None, ("127.0.0.1", 5060)),
    ],
)
def test_what_a_peer_is_told(
    bound: tuple[Listen, ...], way: Way, advertise: str | None, expected: tuple[str, int]
) -> None:
    assert told(bound, way, advertise, TRUNK, ANOTHER) == expected


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (Flow("tls", ("198.51.100.5", 5071), ("10.9.9.9", 40000), 3, frozenset({"sbc.example"})), "203.0.113.88"),
        (Flow("tls", ("198.51.100.5", 5071), ("10.9.9.9", 40000), 3, frozenset({"other.example"})), "198.51.100.5"),
        (Flow("tls", ("198.51.100.5", 5071), ("192.0.2.9", 40000), 3, frozenset({"sbc.example"})), "203.0.113.88"),
        (Target("tls", "10.9.9.9", 5061, name="SBC.example"), "203.0.113.88"),
        (Target("tls", "10.9.9.9", 5061), "198.51.100.5"),
    ],
)
def test_who_proves_a_trunk_s_name_is_told_what_the_trunk_is_told(way: Way, expected: str) -> None:
    own = Listen("tls", "198.51.100.5", 5071)
    roaming = Advertised((), "203.0.113.88", own, ("sbc.example",))
    assert told((*FIXED, own), way, None, TRUNK, roaming) == (expected, 5071)


def test_a_reload_is_obeyed() -> None:
    ours = Addresses(Clock())
    ours.bound = FIXED
    way = Target("udp", "192.0.2.9", 5060)
    assert ours.contact_for(way)[0] == "198.51.100.5"
    ours.configure("203.0.113.1", [TRUNK])
    assert ours.contact_for(way)[0] == "203.0.113.77"
    ours.configure("203.0.113.1", [])
    assert ours.contact_for(way)[0] == "203.0.113.1"


def test_routes_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 100.0, []

    class Still(Clock):
        def now(self) -> float:
            return now

    def look(peer: str) -> str:
        asked.append(peer)
        return "127.0.0.1"

    monkeypatch.setattr(addresses, "route_to", look)
    ours = Addresses(Still())
    for _ in range(3):
        assert ours.route_to("192.0.2.1") == "127.0.0.1"
    assert asked == ["192.0.2.1"]
    now += addresses.REMEMBERED_S
    ours.route_to("192.0.2.1")
    assert len(asked) == 2
    for number in range(10_000):  # strangers do not fill memory
        ours.route_to(f"10.0.{number // 256}.{number % 256}")
    assert len(ours._routes) <= 4096


def test_a_route_is_found_without_a_packet() -> None:
    assert route_to("127.0.0.1") == "127.0.0.1"
    assert route_to("::1") == "::1"
    assert route_to("a name") == "127.0.0.1"  # and is not looked up


def test_every_host_that_is_us() -> None:
    ours = Addresses(Clock(), "203.0.113.1", [TRUNK])
    ours.bound = FIXED
    assert ours.own_hosts() == {"198.51.100.5", "198.51.100.6", "203.0.113.1", "203.0.113.77"}
    ours.bound = ANY
    assert {"127.0.0.1", "203.0.113.1", "203.0.113.77"} <= ours.own_hosts()
    assert not {"0.0.0.0", "::"} & ours.own_hosts()


def test_the_interfaces_have_the_address_that_packets_leave_by() -> None:
    found = interface_addresses()
    assert all(is_numeric(address) for address in found)
    assert {"127.0.0.1"} <= found
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect(("127.0.0.1", 9))
        assert outward.getsockname()[0] in found


@pytest.mark.parametrize(
    ("host", "numeric"),
    [("192.0.2.1", True), ("::1", True), ("2001:db8::1", True), ("1", False), ("a.example", False), ("", False)],
)
def test_an_address_is_no_name(host: str, numeric: bool) -> None:
    assert is_numeric(host) is numeric
    assert not is_numeric(f"{host}\0")
