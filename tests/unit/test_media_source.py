"""Whose packets are taken, and where to send."""

from ipaddress import ip_network

import pytest

from siaga_pbx.media.protocol import Remote
from siaga_pbx.media.source import FALLBACK_S, SourceGate

TRUNK = Remote(host="192.0.2.10", port=4000, accept=(ip_network("192.0.2.0/24"),))
SEAT = Remote(host="198.51.100.7", port=4000, strict=True)
NAT = Remote(host="10.0.0.5", port=4000, accept=(ip_network("203.0.113.9/32"),), strict=True)
SIX = Remote(host="2001:DB8:0:0::1", port=4000)


@pytest.mark.parametrize(
    ("remote", "source", "after_s", "admitted"),
    [
        (TRUNK, ("192.0.2.10", 4000), 0.0, True),
        (TRUNK, ("192.0.2.10", 9999), 0.0, True),
        (TRUNK, ("192.0.2.11", 4000), 0.0, False),
        (TRUNK, ("192.0.2.11", 4000), FALLBACK_S - 0.1, False),
        (TRUNK, ("192.0.2.11", 4000), FALLBACK_S, True),
        (TRUNK, ("198.51.100.7", 4000), 60.0, False),
        (SEAT, ("198.51.100.7", 4000), 0.0, True),
        (SEAT, ("198.51.100.7", 4002), 60.0, False),
        (SEAT, ("198.51.100.8", 4000), 60.0, False),
        (NAT, ("203.0.113.9", 61000), 0.0, True),
        (NAT, ("10.0.0.5", 4000), 0.0, True),
        (NAT, ("203.0.113.8", 61000), 60.0, False),
        (SIX, ("2001:db8::1", 5), 0.0, True),
    ],
)
def test_who_is_admitted(remote: Remote, source: tuple[str, int], after_s: float, admitted: bool) -> None:
    assert SourceGate(remote, 100.0).admits(source, 100.0 + after_s) is admitted


@pytest.mark.parametrize(
    ("remote", "source", "target"),
    [
        (TRUNK, ("192.0.2.10", 9999), ("192.0.2.10", 4000)),  # asymmetric: the SDP's port stands
        (TRUNK, ("192.0.2.11", 9999), ("192.0.2.10", 4000)),  # another gateway of the carrier sends: listens elsewhere
        (NAT, ("203.0.113.9", 61000), ("203.0.113.9", 61000)),
        (SEAT, ("198.51.100.7", 4000), ("198.51.100.7", 4000)),
        (SIX, ("2001:db8::1", 5), ("2001:db8::1", 4000)),
    ],
)
def test_where_to_send_once_the_source_is_known(
    remote: Remote, source: tuple[str, int], target: tuple[str, int]
) -> None:
    assert SourceGate(remote, 0.0).target_for(source) == target


def test_a_trunk_behind_nat_is_answered_at_its_source() -> None:
    remote = Remote(host="10.1.1.1", port=4000, accept=(ip_network("192.0.2.0/24"),))
    assert SourceGate(remote, 0.0).target_for(("192.0.2.5", 7000)) == ("192.0.2.5", 7000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "media.example", ""])
def test_no_target_in_the_sdp(host: str) -> None:
    gate = SourceGate(Remote(host=host, port=4000, accept=(ip_network("192.0.2.0/24"),)), 0.0)
    assert gate.target is None
    assert gate.target_for(("192.0.2.5", 7000)) == ("192.0.2.5", 7000)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port_to_send_to(port: int) -> None:
    assert SourceGate(Remote(host="192.0.2.1", port=port), 0.0).target is None


def test_nothing_goes_to_who_holds_us() -> None:
    gate = SourceGate(Remote(host="10.0.0.5", port=4000, accept=NAT.accept, strict=True, sending=False), 0.0)
    assert gate.target is None
    assert gate.target_for(("203.0.113.9", 61000)) is None


def test_which_re_offers_keep_the_source() -> None:
    assert TRUNK.same_source(
        Remote(host="192.0.2.10", port=4000, accept=TRUNK.accept, sending=False, telephone_event=96)
    )
    assert not TRUNK.same_source(Remote(host="192.0.2.10", port=4002, accept=TRUNK.accept))
    assert not TRUNK.same_source(Remote(host="192.0.2.11", port=4000, accept=TRUNK.accept))
