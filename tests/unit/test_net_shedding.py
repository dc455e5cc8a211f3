"""net/shedding and net/peers: what is taken of whom, before anything is parsed."""

from ipaddress import ip_network

import pytest
from prometheus_client import CollectorRegistry

from siaga_pbx.metrics import Metrics
from siaga_pbx.net.peers import Networks, Peers
from siaga_pbx.net.shedding import Measure, Shedding, UdpLimits
from siaga_pbx.settings import Listen, Trunk
from siaga_pbx.sip.flow import Address, Flow
from tests.net_peers import Acquaintances

GENERAL = Listen("udp", "192.0.2.10", 5060)
OWN = Listen("udp", "192.0.2.10", 5070)
TRUNK = ("198.51.100.1", 5060)
SEAT = ("203.0.113.5", 5062)
NEIGHBOUR = ("203.0.113.5", 7000)
STRANGER = ("203.0.113.99", 5060)
LIMITS = UdpLimits(Measure(1, 3), Measure(1, 4), Measure(1, 5), Measure(1, 8), 6)


class Gate:
    def __init__(self) -> None:
        self.now = 100.0
        self.registry = CollectorRegistry()
        known = Acquaintances(lambda who: who == TRUNK[0], {SEAT: 1}, own="192.0.2.10")
        self.shedding = Shedding(known, lambda: self.now, Metrics(self.registry), LIMITS)
        self.admits = self.shedding.gate(GENERAL)

    def taken(self, source: Address, start: bytes, count: int = 20) -> int:
        return sum(self.admits(source, start) for _ in range(count))

    def dropped(self, reason: str) -> float:
        return self.registry.get_sample_value("siaga_sip_dropped_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("start", [b"INVI", b"ACK ", b"BYE ", b"CANC", b"PRAC", b"UPDA", b"INFO", b"SIP/"])
def test_nothing_of_a_trunks_calls_is_ever_shed(start: bytes) -> None:
    gate = Gate()
    gate.taken(TRUNK, b"OPTI")
    assert gate.taken(TRUNK, start, 1000) == 1000


@pytest.mark.parametrize("start", [b"OPTI", b"REGI", b"SUBS", b"\0\1\2\3", b""])
def test_what_is_no_call_of_a_trunk_has_a_measure(start: bytes) -> None:
    gate = Gate()
    assert gate.taken(TRUNK, start) == 3
    assert gate.dropped("trunk_limit") == 17
    gate.now += 2
    assert gate.taken(TRUNK, start) == 2


def test_a_nat_full_of_noise_leaves_its_phones_alone() -> None:
    gate = Gate()
    assert gate.taken(NEIGHBOUR, b"REGI") == 5
    assert gate.dropped("source_limit") == 15
    assert gate.taken(SEAT, b"REGI") == 4
    assert gate.dropped("seat_limit") == 16
    assert gate.taken(STRANGER, b"REGI") == 5


def test_one_stranger_takes_nothing_from_the_others_and_all_together_have_a_measure() -> None:
    gate = Gate()
    assert gate.taken(STRANGER, b"REGI", 1000) == 5
    assert gate.taken(("203.0.113.98", 1), b"REGI", 1000) == 3
    assert (gate.dropped("source_limit"), gate.dropped("strangers_limit")) == (995, 997)
    assert gate.taken(SEAT, b"SIP/") == 4, "who is known is not among them"
    assert gate.taken(NEIGHBOUR, b"REGI") == 5


def test_what_no_stranger_may_ask_costs_the_others_nothing() -> None:
    gate = Gate()
    assert gate.taken(STRANGER, b"\xff\xfe\0\0", 1000) == 0
    assert gate.dropped("stranger") == 1000
    assert gate.taken(STRANGER, b"REGI") == 5


def test_a_thousand_sources_leave_the_table_small() -> None:
    gate = Gate()
    for number in range(5000):
        gate.admits((f"10.{number % 250}.{number // 250}.1", 5060), b"REGI")
        gate.now += 0.001
    assert len(gate.shedding._source) <= LIMITS.sources


def test_a_connections_stranger_has_the_same_measure_and_a_trunk_and_a_seat_none() -> None:
    gate = Gate()

    def heard(remote: Address) -> int:
        return sum(gate.shedding.hears(Flow("tcp", GENERAL[1:], remote, 1)) for _ in range(20))

    assert [heard(one) for one in (STRANGER, TRUNK, SEAT)] == [5, 20, 20]


class Stack:
    """No seats, nothing of our own."""

    def seats_at(self, source: Address) -> int:
        return 0

    def seats_on(self, flow: Flow) -> int:
        return 0

    def seats_behind(self, host: str) -> int:
        return 0

    def is_own(self, host: str) -> bool:
        return False


def trunk(name: str, network: str, **more: object) -> Trunk:
    return Trunk.model_validate({"id": name, "addresses": [network], **more})


def test_a_trunks_own_socket_is_for_that_trunk_alone() -> None:
    peers = Peers(Stack(), (GENERAL,), (trunk("a", "198.51.100.0/25", listen=OWN), trunk("b", "198.51.100.128/25")))
    hosts = ("198.51.100.1", "198.51.100.129", "203.0.113.5")
    assert [peers.is_trunk(host) for host in hosts] == [True, True, False]
    assert [peers.may_use(OWN, host) for host in hosts] == [True, False, False]
    assert [peers.may_use(GENERAL, host) for host in hosts] == [True, True, True]
    assert [peers.listen_for("udp", host) for host in hosts] == [OWN, None, None]
    assert peers.listen_for("tcp", hosts[0]) is None
    peers.configure((trunk("b", "198.51.100.128/25"),))
    assert peers.may_use(OWN, hosts[2]), "its trunk is gone: open for the calls that are left"
    assert not peers.is_trunk(hosts[0])


def test_where_a_certificate_tells_who_it_is_the_socket_waits_for_it() -> None:
    own = Listen("tls", "192.0.2.10", 5071)
    roaming = Trunk.model_validate({"id": "a", "certificate_names": ["sbc.example"], "listen": own})
    other = Trunk.model_validate({"id": "b", "certificate_names": ["other.example"]})
    peers = Peers(Stack(), (GENERAL,), (roaming, other))
    assert peers.may_use(own, STRANGER[0])
    shown = ({"sbc.example"}, {"other.example"}, set[str]())
    assert [peers.may_stay(own, STRANGER[0], frozenset(names)) for names in shown] == [True, False, False]
    assert [peers.may_stay(GENERAL, STRANGER[0], frozenset(names)) for names in shown] == [True, True, True]
    assert peers.listen_for("tls", STRANGER[0], "SBC.example") == own
    assert peers.listen_for("tls", STRANGER[0], "other.example") is None
    assert peers.listen_for("tls", STRANGER[0]) is None


def test_networks() -> None:
    networks = Networks([ip_network("192.0.2.0/28"), ip_network("198.51.100.7"), ip_network("2001:db8::/32")])
    inside = ("192.0.2.0", "192.0.2.15", "198.51.100.7", "2001:db8::1", "2001:db8:ffff::")
    outside = ("192.0.2.16", "198.51.100.8", "2001:db9::1", "", "name.example", "1.2.3", "::ffff:192.0.2.1", "\0")
    assert [host for host in (*inside, *outside) if host in networks] == list(inside)
    assert "192.0.2.1" not in Networks([])
    assert "203.0.113.1" in Networks([ip_network("0.0.0.0/0")])
