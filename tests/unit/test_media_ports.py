"""Port pairs: bound together, marked, held back after use. On real sockets."""

import socket

import pytest

from siaga_pbx.media.ports import NoPort, PortPool
from tests.media_kit import free_ports

HOST = "127.0.0.1"


def pool(pairs: int) -> PortPool:
    first, last = free_ports(pairs)
    return PortPool(range(first, last, 2), [HOST], hold_s=5.0)


def test_a_pair_is_bound_on_both_ports_and_marked() -> None:
    ports = pool(4)
    pair = ports.take(HOST, 0.0)
    assert pair.port % 2 == 0
    assert (pair.rtp.getsockname(), pair.rtcp.getsockname()) == ((HOST, pair.port), (HOST, pair.port + 1))
    assert pair.rtp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> 2 == 46  # EF
    assert ports.free(0.0) == 3
    pair.close()


def test_a_used_pair_rests() -> None:
    ports = pool(1)
    pair = ports.take(HOST, 0.0)
    with pytest.raises(NoPort, match="exhausted"):
        ports.take(HOST, 0.1)
    ports.give_back(pair, 1.0)
    with pytest.raises(NoPort, match="exhausted"):
        ports.take(HOST, 5.9)
    again = ports.take(HOST, 6.0)
    assert again.port == pair.port
    again.close()


def test_a_port_of_somebody_else_is_passed_over() -> None:
    first, last = free_ports(2)
    ports = PortPool(range(first, last, 2), [HOST], hold_s=5.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind((HOST, first + 1))  # only its RTCP port
        pair = ports.take(HOST, 0.0)
        assert pair.port == first + 2
        with pytest.raises(NoPort, match="exhausted"):
            ports.take(HOST, 0.0)
    later = ports.take(HOST, 6.0)  # it is free again, and was not forgotten
    assert later.port == first
    pair.close()
    later.close()


def test_both_families_have_the_same_port() -> None:
    """And what comes by IPv4 comes to that socket alone."""
    first, last = free_ports(1)
    ports = PortPool(range(first, last, 2), ["0.0.0.0", "::"], hold_s=5.0)
    four, six = ports.take("0.0.0.0", 0.0), ports.take("::", 0.0)
    assert four.port == six.port
    four.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.sendto(b"by IPv4", (HOST, six.port))  # loopback: it is there when this returns
        with pytest.raises(BlockingIOError):
            six.rtp.recvfrom(100)
    six.close()


def test_the_order_is_not_to_be_guessed() -> None:
    first = 30000
    orders = set()
    for _ in range(3):
        ports = PortPool(range(first, first + 200, 2), [HOST])
        orders.add(tuple(ports._free[HOST]))
    assert len(orders) == 3


def test_an_address_that_is_not_ours() -> None:
    ports = PortPool([30000], ["192.0.2.1"])
    with pytest.raises(NoPort, match="assign"):
        ports.take("192.0.2.1", 0.0)
    with pytest.raises(NoPort, match="no address of ours"):
        ports.take("192.0.2.2", 0.0)
