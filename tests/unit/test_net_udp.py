"""net/udp: datagrams, marks, and the network's word that nobody is there."""

import asyncio
import errno
import socket
import struct
from pathlib import Path

import pytest

from siaga_pbx.net import udp
from siaga_pbx.net.udp import CS3, UdpSocket
from siaga_pbx.sip.flow import Address, Flow, Target, Way
from tests.net_peers import LOOPS, Run, UdpPeer, request

pytestmark = pytest.mark.parametrize("run", LOOPS)


class Heard:
    """What the socket told."""

    def __init__(self) -> None:
        self.datagrams: list[tuple[bytes, Address]] = []
        self.gone: list[Way] = []
        self._changed = asyncio.Event()

    def datagram(self, _socket: UdpSocket, data: bytes, source: Address) -> None:
        self.datagrams.append((data, source))
        self._changed.set()

    def unreachable(self, way: Way) -> None:
        self.gone.append(way)
        self._changed.set()

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


def opened(heard: Heard, host: str = "127.0.0.1") -> UdpSocket:
    made = UdpSocket(host, 0, heard.datagram, heard.unreachable)
    made.start()
    return made


def nobody(host: str = "127.0.0.1") -> Address:
    """A port that nothing listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((host, 0))
        address: Address = taken.getsockname()[:2]
        return address


def way(ours: UdpSocket, peer: Address) -> Flow:
    return Flow("udp", ours.local, peer)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_go_both_ways_whole(run: Run, host: str) -> None:
    async def work() -> None:
        heard = Heard()
        ours = opened(heard, host)
        async with UdpPeer(host) as peer:
            largest = bytes(65_507 if host == "127.0.0.1" else 65_487)
            for data in (b"", b"\0", b"\xff\xfe", request(), largest):
                peer.send(data, ours.local)
                await heard.changed()
                assert heard.datagrams[-1] == (data, peer.address)
                assert ours.send(data, peer.address, way(ours, peer.address))
                assert await peer.receive() == (data, ours.local)
        ours.close()

    run(work())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_where_nobody_listens_is_told_at_once(run: Run, host: str) -> None:
    async def work() -> None:
        heard = Heard()
        ours = opened(heard, host)
        target = Target("udp", *nobody(host))
        ours.send(request("INVITE"), (target.host, target.port), target)
        await heard.changed()
        assert heard.gone == [target]
        ours.close()

    run(work())


def test_a_dead_peer_takes_no_packet_from_a_live_one(run: Run) -> None:
    async def work() -> None:
        heard = Heard()
        ours = opened(heard)
        dead = nobody()
        async with UdpPeer() as alive:
            for number in range(50):
                assert ours.send(request(branch=f"z9hG4bK{number}"), dead, way(ours, dead))
                assert ours.send(b"%d" % number, alive.address, way(ours, alive.address))
            assert [(await alive.receive())[0] for _ in range(50)] == [b"%d" % number for number in range(50)]
            alive.send(b"and in", ours.local)
            while not heard.datagrams:
                await heard.changed()
        assert set(heard.gone) == {way(ours, dead)}
        ours.close()

    run(work())


def test_errors_leave_the_loop_idle(run: Run) -> None:
    """An error that is not taken from the queue would wake the loop for ever."""

    async def work() -> None:
        heard = Heard()
        ours = opened(heard)
        dead = nobody()
        ours.send(request(), dead, way(ours, dead))
        # The error is pending on the socket now; this send meets it first.
        ours.send(request(branch="z9hG4bK2"), dead, way(ours, dead))
        await heard.changed()
        wakes = 0
        read = ours._read

        def counted() -> None:
            nonlocal wakes
            wakes += 1
            read()

        loop = asyncio.get_running_loop()
        loop.add_reader(ours._epoll.fileno(), counted)
        async with UdpPeer() as peer:
            for _ in range(20):
                peer.send(b"still here", ours.local)
                await heard.changed()
        assert wakes <= 25
        ours.close()

    run(work())


def test_a_forged_error_is_not_believed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        heard = Heard()
        ours = opened(heard)
        peer = ("192.0.2.7", 5060)
        sent = request("INVITE", branch="z9hG4bKunguessable", host="h" * 200)
        target = Target("udp", *peer)
        ours._sent[peer] = sent, target
        assert ours._way_of(sent[: udp.MIN_QUOTED], peer) == target
        assert ours._way_of(sent, peer) == target
        assert ours._way_of(sent[:8], peer) is None
        assert ours._way_of(b"", peer) is None
        assert ours._way_of(sent.replace(b"unguessable", b"guessed----"), peer) is None
        assert ours._way_of(sent, ("192.0.2.8", 5060)) is None
        ours.close()

    run(work())


@pytest.mark.parametrize(
    ("number", "origin", "gone"),
    [
        (errno.ECONNREFUSED, 2, True),
        (errno.EHOSTUNREACH, 3, True),
        (errno.EMSGSIZE, 2, False),
        (errno.ECONNREFUSED, 1, False),
    ],
)
def test_which_errors_say_that_a_peer_is_gone(run: Run, number: int, origin: int, gone: bool) -> None:
    data = struct.pack("=IBBBBII", number, origin, 3, 3, 0, 0, 0) + bytes(16)
    assert udp._says_gone([(socket.IPPROTO_IP, 11, data)]) is gone


def test_what_cannot_be_sent_at_all_is_said(run: Run) -> None:
    async def work() -> None:
        heard = Heard()
        ours = opened(heard)
        peer = nobody()
        assert not ours.send(bytes(70_000), peer, way(ours, peer))
        assert not ours.send(b"x", ("::1", 5060), way(ours, ("::1", 5060)))
        ours.close()

    run(work())


def test_signalling_is_marked(run: Run) -> None:
    async def work() -> None:
        ours = opened(Heard())
        assert ours._socket.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == CS3 == 0x60
        ours.close()
        ours.close()
        six = opened(Heard(), "::1")
        assert six._socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == CS3
        six.close()

    run(work())


def test_an_address_that_is_taken_is_an_error(run: Run) -> None:
    async def work() -> None:
        heard = Heard()
        ours = opened(heard)
        with pytest.raises(OSError, match="in use"):
            UdpSocket(*ours.local, heard.datagram, heard.unreachable)
        ours.close()

    run(work())


def test_what_is_not_admitted_is_not_read_and_the_rest_comes(run: Run) -> None:
    async def work() -> None:
        heard, starts = Heard(), []

        def admits(_source: Address, start: bytes) -> bool:
            starts.append(start)
            return start != b"shed"

        ours = UdpSocket("127.0.0.1", 0, heard.datagram, heard.unreachable, admits)
        ours.start()
        async with UdpPeer() as peer:
            for data in (b"shed this", b"x", b"", b"taken", b"shed"):
                peer.send(data, ours.local)
            while len(starts) < 5:
                peer.send(b"y", ours.local)
                await heard.changed()
        assert [data for data, _ in heard.datagrams][:3] == [b"x", b"", b"taken"]
        assert starts[:5] == [b"shed", b"x", b"", b"take", b"shed"]
        ours.close()

    run(work())


def test_datagrams_that_found_no_room_are_counted_once(run: Run) -> None:
    async def work() -> None:
        ours = opened(Heard())
        ours._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with UdpPeer() as peer:
            assert ours.overruns() == 0
            for _ in range(100):
                peer.send(bytes(1000), ours.local)
            assert 0 < ours.overruns() < 100
            assert ours.overruns() == 0
        ours.close()

    run(work())


def test_without_the_right_to_force_it_the_buffer_is_what_the_system_allows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())

    async def work() -> None:
        monkeypatch.setattr(udp, "_SO_RCVBUFFORCE", 9999)  # no such option: refused as without CAP_NET_ADMIN
        ours = opened(Heard())
        assert ours.room == min(allowed, udp.RECEIVE_BUFFER)
        ours.close()

    run(work())
