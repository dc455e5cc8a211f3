"""The sound at an agency: for what needs a person, again and again, until somebody has keyed an answer to it."""

import asyncio
import math
import shutil
import struct
import wave
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import structlog

from siaga_pbx.dispatch.agency_book import Entry, News
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.station import Listener

log = structlog.get_logger(__name__)

OFF, BELL, ALARM = "off", "bell", "alarm"
"""The settings of --sound, beside the path of a WAV file: `alarm` is a WAV of our own."""

EVERY_S = 3.0
"""How often it sounds."""

_PLAYERS = ("paplay", "pw-play", "aplay")
_RATE, _TONES_HZ, _TONE_S = 16_000, (960, 770, 960, 770), 0.25
_PLAYED_S = 20.0  # a player that hangs is ended

Bell: TypeAlias = Callable[[], None]


class Sound:
    """Sounds once at a time: by a player where there is one, else by the terminal's bell."""

    def __init__(self, setting: str, folder: Path, bell: Bell) -> None:
        """`folder`: where the alarm's own WAV is kept. Raises OSError: a WAV file of the setting is not there."""
        self._bell: Bell = (lambda: None) if setting == OFF else bell
        self._command: tuple[str, ...] | None = None
        self._playing: asyncio.Task[None] | None = None
        player = next((found for name in _PLAYERS if (found := shutil.which(name))), None)
        if setting in (OFF, BELL):
            return
        file = folder / "siaga-alarm.wav" if setting == ALARM else Path(setting)
        if setting == ALARM and player is not None and not file.exists():
            write_alarm(file)
        elif setting != ALARM:
            file.open("rb").close()
        self._command = None if player is None else (player, str(file))

    def sound(self) -> None:
        """Once. The bell too: a terminal may show it, and a sound card be muted."""
        self._bell()
        if self._command is not None and (self._playing is None or self._playing.done()):
            self._playing = asyncio.create_task(self._play(self._command), name="sound")

    async def close(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait({self._playing})

    async def _play(self, command: tuple[str, ...]) -> None:
        nothing = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=nothing)
        except OSError as error:
            log.warning("no sound", player=command[0], reason=error.strerror)
            return
        try:
            async with asyncio.timeout(_PLAYED_S):
                if code := await process.wait():
                    log.warning("no sound", player=command[0], code=code)
        except TimeoutError:
            log.warning("no sound", player=command[0], reason="it does not end")
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Ringer(Listener):
    """What nobody has answered yet. Tell it of each answer, and let it `tick` about once a second."""

    def __init__(self, sound: Callable[[], None]) -> None:
        self._sound = sound
        self._ringing: dict[str, News] = {}
        self._next = 0.0

    @property
    def ringing(self) -> dict[str, News]:
        """By dispatch id, what each rings for; the newest last."""
        return dict(self._ringing)

    def hear(self, news: News, entry: Entry) -> None:
        if news is not News.REPETITION:
            self._ringing.pop(entry.message.dispatch_id, None)
            self._ringing[entry.message.dispatch_id] = news
            self._next = 0.0

    def take_up(self, entry: Entry) -> None:
        """After a restart: what was left without an answer rings again."""
        if entry.state is State.RECEIVED and not entry.closed:
            self.hear(News.REMINDER, entry)

    def refused(self, reason: str) -> None:
        self._sound()

    def answered(self, dispatch_id: str) -> None:
        """Somebody here has keyed something for it."""
        self._ringing.pop(dispatch_id, None)

    def tick(self, now: float) -> None:
        """`now`: monotonic seconds."""
        if self._ringing and now >= self._next:
            self._next = now + EVERY_S
            self._sound()


def write_alarm(file: Path) -> None:
    """A second of two tones, at half of full volume."""
    samples: list[int] = []
    for tone in _TONES_HZ:
        length = int(_RATE * _TONE_S)
        samples += [round(16_000 * math.sin(2 * math.pi * tone * n / _RATE) * _fade(n, length)) for n in range(length)]
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def _fade(n: int, length: int) -> float:
    """A tone that begins and ends abruptly clicks."""
    return min(1.0, n / 80, (length - n) / 80)
