"""Who comes in, what is told of who does not, and how often; on sockets of both families."""

import socket
from collections.abc import Iterator

import pytest

from siaga_pbx.media.door import MAX_TOLD, TELL_S, Door
from siaga_pbx.media.ports import PortPair
from siaga_pbx.media.protocol import Refused, Remote, Why

RTCP = b"\x80\xc9\0\1\0\0\0\7"


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[PortPair]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
    for bound in sockets:
        bound.bind((request.param, 0))
        bound.setblocking(False)
    made = PortPair(request.param, sockets[0].getsockname()[1], *sockets)
    yield made
    made.close()


def source(pair: PortPair, port: int) -> tuple[str, int]:
    """As the socket gives it."""
    return (pair.address, port, 0, 0) if ":" in pair.address else (pair.address, port)  # type: ignore[return-value]


def test_what_is_refused_is_told_now_and_then(pair: PortPair) -> None:
    told: list[Refused] = []
    door = Door("leg", pair, told.append)
    far, stranger = source(pair, 4000), source(pair, 6666)
    assert not door.admits(far, 0.0, 0.0)
    assert (dict(door.counts), told) == ({Why.EARLY: 1}, [])
    door.connect(Remote(host=pair.address, port=4000, strict=True), 0.0)
    assert door.admits(far, 0.0, 1.0)
    assert door.take(far)
    for second in range(1, 3601):
        assert not door.admits(stranger, 0.0, float(second))
    assert len(told) == MAX_TOLD
    assert told[:2] == [
        Refused("leg", Why.STRANGER, pair.address, 6666, 1),
        Refused("leg", Why.STRANGER, pair.address, 6666, 1 + round(TELL_S)),
    ]
    assert door.counts == {Why.EARLY: 1, Why.STRANGER: 3600}
    assert door.refused == 3601


def test_the_kernel_counts_what_it_turns_away(pair: PortPair) -> None:
    """From the first on; until a re-INVITE, after which the next first is looked at again."""
    told: list[Refused] = []
    door = Door("leg", pair, told.append)
    with (
        socket.socket(pair.rtp.family, socket.SOCK_DGRAM) as far,
        socket.socket(pair.rtp.family, socket.SOCK_DGRAM) as no,
    ):
        for one in (far, no):
            one.bind((pair.address, 0))
        door.connect(Remote(host=pair.address, port=far.getsockname()[1], strict=True), 0.0)
        door.take(far.getsockname())
        for _ in range(5):
            no.sendto(b"x" * 20, pair.rtp.getsockname())
            far.sendto(b"y" * 20, pair.rtp.getsockname())
            for packet, came_from in received(pair.rtp):
                assert (packet[:1] == b"y") is (came_from == door.lock.source)
                if came_from != door.lock.source:
                    assert not door.admits(came_from, 0.0, 1.0)
        assert door.counts == {Why.STRANGER: 1}
        door.watch(2.0)
        assert door.counts == {Why.STRANGER: 5}
        door.watch(70.0)
        assert len(told) == 1, "nothing new"
        no.sendto(b"x" * 20, pair.rtp.getsockname())
        door.watch(71.0)
        assert told[-1] == Refused("leg", Why.STRANGER, pair.address, no.getsockname()[1], 6)
        door.connect(Remote(host=pair.address, port=no.getsockname()[1], strict=True), 80.0)
        no.sendto(b"z" * 20, pair.rtp.getsockname())
        ((_, came_from),) = received(pair.rtp)
        assert door.admits(came_from, 0.0, 80.1)


def test_rtcp_has_its_own_account(pair: PortPair) -> None:
    told: list[Refused] = []
    door = Door("leg", pair, told.append)
    assert not door.admits_report(source(pair, 4001), RTCP, 0.0)
    door.connect(Remote(host=pair.address, port=4000), 0.0)
    door.take(source(pair, 4000))
    assert door.admits_report(source(pair, 4001), RTCP, 1.0)
    assert not door.admits_report(source(pair, 4003), RTCP, 1.0)
    assert door.admits_report(source(pair, 4001), None, 1.0), "its own, but with the wrong key: counted"
    assert not door.admits_report(source(pair, 4003), None, 1.0)
    assert door.counts == {Why.EARLY: 1, Why.REPORT: 2, Why.UNPROTECTED: 1}


def received(bound: socket.socket) -> list[tuple[bytes, tuple[str, int]]]:
    got = []
    while True:
        try:
            got.append(bound.recvfrom(100))
        except BlockingIOError:
            return got
