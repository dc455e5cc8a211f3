"""The sound at an agency: a real player where there is one, and a player that fails."""

import asyncio
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from siaga_pbx.dispatch.agency_sound import ALARM, BELL, OFF, Sound, write_alarm
from tests.dispatch_centre import until


class Terminal:
    def __init__(self) -> None:
        self.bells = 0

    def bell(self) -> None:
        self.bells += 1


def player(folder: Path, script: str) -> None:
    """A program in the place of aplay: the tests have no sound card."""
    file = folder / "aplay"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(bounded())


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the players are looked for, first; /bin has the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    return folder


def test_the_alarm_is_a_wav_that_is_heard(tmp_path: Path) -> None:
    write_alarm(tmp_path / "alarm.wav")
    with wave.open(str(tmp_path / "alarm.wav")) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        samples = memoryview(sound.readframes(sound.getnframes())).cast("h")
    assert len(samples) == 16_000
    assert 15_000 < max(samples) < 20_000
    assert samples[0] == 0


def test_the_wav_is_played_once_at_a_time_and_the_bell_rings_too(tmp_path: Path, path: Path) -> None:
    player(path, f'echo "$1" >> {tmp_path}/played; while [ ! -e {tmp_path}/enough ]; do sleep 0.01; done')

    async def scenario() -> None:
        terminal = Terminal()
        sound = Sound(ALARM, tmp_path, terminal.bell)
        sound.sound()
        await until((tmp_path / "played").exists)
        sound.sound()
        assert terminal.bells == 2
        (tmp_path / "enough").touch()
        await until(lambda: sound._playing is not None and sound._playing.done())
        sound.sound()
        await until(lambda: sound._playing is not None and sound._playing.done())
        assert (tmp_path / "played").read_text().split() == [str(tmp_path / "siaga-alarm.wav")] * 2
        await sound.close()

    run(scenario)


def test_a_player_that_fails_or_hangs_harms_nothing(tmp_path: Path, path: Path) -> None:
    player(path, "exit 3")

    async def scenario() -> None:
        terminal = Terminal()
        sound = Sound(ALARM, tmp_path, terminal.bell)
        sound.sound()
        await until(lambda: sound._playing is not None and sound._playing.done())
        player(path, f"touch {tmp_path}/hangs; sleep 1000")
        sound.sound()
        await until((tmp_path / "hangs").exists)
        await sound.close()
        assert terminal.bells == 2

    run(scenario)


def test_what_is_set_is_what_sounds(tmp_path: Path, path: Path) -> None:
    player(path, f'echo "$1" >> {tmp_path}/played')

    async def scenario() -> None:
        terminal = Terminal()
        for setting in (OFF, BELL):
            Sound(setting, tmp_path, terminal.bell).sound()
        assert terminal.bells == 1
        assert not (tmp_path / "played").exists()
        with pytest.raises(FileNotFoundError):
            Sound(str(tmp_path / "none.wav"), tmp_path, terminal.bell)
        own = tmp_path / "own.wav"
        write_alarm(own)
        sound = Sound(str(own), tmp_path, terminal.bell)
        sound.sound()
        await until(lambda: sound._playing is not None and sound._playing.done())
        assert (tmp_path / "played").read_text().split() == [str(own)]

    run(scenario)


def test_without_a_player_the_bell_rings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def scenario() -> None:
        terminal = Terminal()
        sound = Sound(ALARM, tmp_path, terminal.bell)
        sound.sound()
        assert terminal.bells == 1
        await sound.close()

    run(scenario)
    assert list(tmp_path.iterdir()) == []
