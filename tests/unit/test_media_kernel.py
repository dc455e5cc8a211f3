"""The kernel's socket filter, on real sockets: who gets through, and what is counted."""

import socket
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from siaga_pbx.media import kernel


def heard(bound: socket.socket) -> list[bytes]:
    """What has come: over loopback it is there when `sendto` has returned."""
    got = []
    while True:
        try:
            got.append(bound.recv(100))
        except BlockingIOError:
            return got


def open_socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.setblocking(False)
    return made


@pytest.mark.parametrize(
    ("network", "host", "other"),
    [
        (ip_network("127.0.0.1"), "127.0.0.1", "127.0.0.2"),
        (ip_network("127.0.4.0/22"), "127.0.7.9", "127.0.8.1"),
        (ip_network("::1"), "::1", None),
    ],
)
def test_only_these_get_through(network: IPv4Network | IPv6Network, host: str, other: str | None) -> None:
    inside = open_socket("::1" if ":" in host else "127.0.0.1")
    friend, namesake = open_socket(host), open_socket(host)
    strangers = [open_socket(other)] if other is not None else []
    far = ip_network("2001:db8::/32"), ip_network("198.51.100.0/24")
    port = friend.getsockname()[1]
    try:
        assert kernel.admit_only(inside, [(far[0] if ":" in host else far[1], None), (network, port)])
        for number in range(3):
            for sender in (friend, namesake, *strangers):
                sender.sendto(b"%d from %d" % (number, sender.getsockname()[1]), inside.getsockname()[:2])
        assert heard(inside) == [b"%d from %d" % (number, port) for number in range(3)]
        assert kernel.dropped(inside) == 3 * (1 + len(strangers))
        assert kernel.admit_only(inside, [(network, None)]), "in place of the one before"
        for sender in (friend, namesake, *strangers):
            sender.sendto(b"again", inside.getsockname()[:2])
        assert heard(inside) == [b"again"] * 2
        kernel.admit_all(inside)
        for sender in (friend, namesake, *strangers):
            sender.sendto(b"all", inside.getsockname()[:2])
        assert heard(inside) == [b"all"] * (2 + len(strangers))
    finally:
        for made in (inside, friend, namesake, *strangers):
            made.close()


def test_no_filter_for_a_long_list() -> None:
    with open_socket("127.0.0.1") as inside:
        assert not kernel.admit_only(inside, [(ip_network("192.0.2.0/24"), None)] * (kernel.MAX_PLACES + 1))
