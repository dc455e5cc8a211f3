"""Several sockets behind one reader of the loop."""

import asyncio
import socket
from collections.abc import Callable

from siaga_pbx.media.faults import Faults
from siaga_pbx.media.sockets import Sockets


def bound() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    one.setblocking(False)
    return one


def test_each_is_read_by_its_own_until_it_is_removed() -> None:
    async def run() -> None:
        sockets: Sockets[Callable[[], None]] = Sockets(asyncio.get_running_loop(), lambda take: take(), Faults())
        read: list[tuple[int, bytes]] = []
        news = asyncio.Event()

        def reader(number: int, of: socket.socket) -> Callable[[], None]:
            def take() -> None:
                read.append((number, of.recv(100)))
                news.set()

            return take

        with bound() as first, bound() as second, bound() as far:
            for number, one in enumerate((first, second)):
                sockets.add(one.fileno(), reader(number, one))
            for text in (b"a", b"b"):  # two wait in one socket: it is readable until both are read
                far.sendto(text, second.getsockname())
            far.sendto(b"c", first.getsockname())
            async with asyncio.timeout(10):
                while len(read) < 3:
                    news.clear()
                    await news.wait()
            assert sorted(read) == [(0, b"c"), (1, b"a"), (1, b"b")]
            sockets.remove(second.fileno())
            far.sendto(b"d", second.getsockname())
            far.sendto(b"e", first.getsockname())
            async with asyncio.timeout(10):
                while len(read) < 4:
                    news.clear()
                    await news.wait()
            assert read[3] == (0, b"e")
            sockets.remove(first.fileno())

    asyncio.run(run())


def test_one_that_ends_another_in_the_same_round() -> None:
    async def run() -> None:
        sockets: Sockets[Callable[[], None]] = Sockets(asyncio.get_running_loop(), lambda take: take(), Faults())
        called: list[int] = []
        done = asyncio.Event()
        with bound() as first, bound() as second, bound() as far:
            places = {first.fileno(): second.fileno(), second.fileno(): first.fileno()}

            def reader(own: int) -> Callable[[], None]:
                def take() -> None:
                    called.append(own)
                    sockets.remove(own)
                    sockets.remove(places[own])
                    done.set()

                return take

            for one in (first, second):
                far.sendto(b"x", one.getsockname())
                sockets.add(one.fileno(), reader(one.fileno()))
            async with asyncio.timeout(10):
                await done.wait()
            await asyncio.sleep(0)
            assert len(called) == 1

    asyncio.run(run())
