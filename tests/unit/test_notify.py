"""notify: what the service manager hears."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def notifier(manager: socket.socket, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(manager.getsockname()), **more})


def test_states_arrive_as_systemd_reads_them(manager: socket.socket) -> None:
    ours = notifier(manager)
    ours.ready("12 seats\nand more")
    assert manager.recv(4096) == b"READY=1\nSTATUS=12 seats and more"
    ours.ready()
    assert manager.recv(4096) == b"READY=1"
    ours.status("3 calls")
    assert manager.recv(4096) == b"STATUS=3 calls"
    ours.reloading()
    state, _, stamp = manager.recv(4096).partition(b"\nMONOTONIC_USEC=")
    assert state == b"RELOADING=1"
    assert stamp.isdigit()
    ours.extend(2.5)
    assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=2500000"
    ours.stopping("draining")
    assert manager.recv(4096) == b"STOPPING=1\nSTATUS=draining"


def test_an_abstract_socket_is_one() -> None:
    name = f"siaga-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "x" * 500}])
def test_a_manager_that_does_not_listen_is_no_error(environment: dict[str, str]) -> None:
    ours = Notifier(environment)
    ours.ready()
    ours.stopping()
    assert ours.watchdog_s is None


def test_a_manager_that_reads_nothing_does_not_block(manager: socket.socket) -> None:
    ours = notifier(manager)
    for _ in range(10_000):
        ours.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whose_watchdog_it_is(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_s == seconds


def test_the_watchdog_is_fed_while_all_is_well(manager: socket.socket) -> None:
    async def work() -> None:
        well = [True, False, True]
        asked = asyncio.Event()

        def healthy() -> bool:
            if not well:
                asked.set()
                return False
            return well.pop(0)

        ours = notifier(manager, WATCHDOG_USEC="30000")
        feeding = asyncio.create_task(ours.keep_alive(healthy))
        await asyncio.wait_for(asked.wait(), 5)
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding

    asyncio.run(work())
    manager.setblocking(False)
    assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_without_a_watchdog_nothing_is_fed() -> None:
    asyncio.run(asyncio.wait_for(Notifier({}).keep_alive(lambda: True), 5))
