"""What a reload takes over, what it says needs a restart, and what it refuses; what the next start takes back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from siaga_pbx.app import Daemon
from siaga_pbx.call import events as told
from siaga_pbx.config import load
from siaga_pbx.web.centre import Refused

SIAGA = """
[centre]
id = "cirebon"
dialplan = "dialplan.toml"
[sip]
listen = ["udp://127.0.0.1:0"]
domain = "siaga.local"
[[trunk]]
id = "telkomsel"
addresses = ["192.0.2.0/24"]
[media]
ports = [42000, 42399]
[[seat]]
id = "101"
password = "rahasia"
[records]
database = "sqlite:///siaga.db"
keep_calls_days = 1
keep_recordings_days = 1
[mqtt]
broker = "mqtt://127.0.0.1:9"
[http]
listen = "127.0.0.1:0"
"""
DIALPLAN = '[[route]]\nmatch = ["112"]\naction = "queue"\n'


def in_daemon(folder: Path, work: Callable[[Daemon], Awaitable[None]]) -> None:
    """Starts a daemon of the folder's files, works with it, stops it."""

    async def main() -> None:
        daemon = Daemon(load(folder / "siaga.toml"))
        try:
            await daemon.start()
            await work(daemon)
        finally:
            await daemon.stop()

    asyncio.run(main())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "siaga.toml").write_text(SIAGA)
    (tmp_path / "dialplan.toml").write_text(DIALPLAN)
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "siaga.toml").read_text()
    assert text.count(old) == 1
    (folder / "siaga.toml").write_text(text.replace(old, new))


def test_a_reload_takes_over_what_it_can_and_names_the_rest(folder: Path) -> None:
    async def work(daemon: Daemon) -> None:
        assert await daemon.reload() == ()
        edit(folder, 'addresses = ["192.0.2.0/24"]', 'addresses = ["192.0.2.0/24"]\nlisten = "udp://127.0.0.1:5070"')
        edit(folder, 'password = "rahasia"', 'password = "rahasia"\n[[seat]]\nid = "102"\npassword = "baru"')
        assert await daemon.reload() == ("trunk.listen",)
        assert [seat.seat for seat in daemon.parts.queue.view().seats] == ["101", "102"]
        edit(folder, '"udp://127.0.0.1:0"', '"udp://127.0.0.1:0", "tcp://127.0.0.1:0"')
        edit(folder, "42399", "42299")
        assert set(await daemon.reload()) >= {"media", "sip.listen"}
        assert daemon.parts.config.media.ports == (42000, 42399)

    in_daemon(folder, work)


def test_a_broken_file_changes_nothing_and_alarms_until_it_is_mended(folder: Path) -> None:
    async def work(daemon: Daemon) -> None:
        before = daemon.parts.config
        edit(folder, 'id = "101"', 'id = "Meja 1"')
        with pytest.raises(Refused):
            await daemon.reload()
        assert daemon.parts.config is before
        assert "reload_failed" in daemon.parts.alarms.active
        edit(folder, 'id = "Meja 1"', 'id = "101"')
        await daemon.reload()
        assert "reload_failed" not in daemon.parts.alarms.active

    in_daemon(folder, work)


def test_a_seat_that_paused_is_paused_after_a_restart(folder: Path) -> None:
    async def pause(daemon: Daemon) -> None:
        daemon.parts.switch.tell(told.SeatPaused("101", "istirahat"))

    async def look(daemon: Daemon) -> None:
        daemon.parts.switch.tell(told.SeatRegistered("101"))
        seat = daemon.parts.queue.view().seats[0]
        assert (seat.state.value, seat.reason) == ("paused", "istirahat")

    in_daemon(folder, pause)
    in_daemon(folder, look)
