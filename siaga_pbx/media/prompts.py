"""Prompts: WAV files, 8 kHz mono 16-bit, as 20 ms frames in both laws, ready to send."""

import re
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import chain, cycle
from pathlib import Path
from typing import TypeAlias

import numpy as np

from siaga_pbx.media.g711 import FRAME, RATE, Samples, encode
from siaga_pbx.media.protocol import Codec

Frames: TypeAlias = tuple[bytes, ...]
OWN = "id"
"""The language of the prompts that have none in their names, and stand in for those that another does not have."""
_NUMBER = re.compile(r"number-([0-9]{1,3})")

MAX_SECONDS = 600
"""A prompt is read whole and kept in both laws, 20 kB a second; more than ten minutes is a mistake."""
_BLOCK = 50 * FRAME
"""Samples of a file for the moment that are read at a time: a second, which costs the relay no time to speak of."""


class NotAPrompt(Exception):
    """A file that cannot be played; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played: once, then (after `on_played`) again and again. All in one law."""

    first: Sequence[Iterable[bytes]]
    again: Sequence[Frames]
    on_played: Callable[[], None]


class Playing(Iterator[bytes]):
    """The frames of a plan, and of one that follows it."""

    def __init__(self, plan: Plan, law: Codec) -> None:
        self.law = law
        self._plan = plan
        self._over = False
        self._frames = self._run()

    def __next__(self) -> bytes:
        return next(self._frames)

    def then(self, plan: Plan) -> bool:
        """Play this (in the same law) when all of `first` or one of `again` is through; False if nothing is played any
        more."""
        self._plan = plan
        return not self._over

    def _run(self) -> Iterator[bytes]:
        plan = None
        while plan is not self._plan:
            plan = self._plan
            yield from chain.from_iterable(plan.first)
            plan.on_played()
            for prompt in cycle(plan.again):
                if plan is not self._plan:
                    break
                yield from prompt
        self._over = True


class PromptStore:
    """All prompts, by name (the file's without `.wav`). Those of `folder` come before the shipped ones.

    Those of another language are in a folder named after it, and asked for as `jv/greeting`; what it does not have is
    played in `OWN`. A number is joined from parts: `number-23` is `number-20` and `number-3`, if there is no such file.
    A name that is an absolute path is a file made for the moment: it is read while it is played, and not kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.faults: dict[str, str] = {}
        """Files that are no prompts, with the reason."""
        self._prompts: dict[str, dict[Codec, Frames]] = {}
        with as_file(files("siaga_pbx") / "prompts") as shipped:
            self._load_languages(shipped)
        if folder is not None:
            self._load(folder)
            self._load_languages(folder)

    def __contains__(self, name: str) -> bool:
        return self._is_readable(Path(name)) if name.startswith("/") else bool(self._parts(name))

    def frames(
        self, once: Sequence[str], loop: Sequence[str], law: Codec, on_played: Callable[[], None]
    ) -> Iterator[bytes]:
        """The frames of `once`, then (after `on_played`) those of `loop` for ever. Unknown names are left out."""
        return Playing(self.plan(once, loop, law, on_played), law)

    def plan(self, once: Sequence[str], loop: Sequence[str], law: Codec, on_played: Callable[[], None]) -> Plan:
        """The same, to be played by and by."""
        first = chain.from_iterable(
            (_streamed(name, law),) if name.startswith("/") else self._of(name, law) for name in once
        )
        return Plan(tuple(first), [frames for name in loop for frames in self._of(name, law)], on_played)

    def _of(self, name: str, law: Codec) -> list[Frames]:
        return [self._prompts[part][law] for part in self._parts(name)]

    def _parts(self, name: str) -> list[str]:
        """The prompts that a name means; none if there are none."""
        language, _, bare = name.rpartition("/")
        for prefix in (f"{language}/", "") if language else ("",):
            if prefix + bare in self._prompts:
                return [prefix + bare]
            if (number := _NUMBER.fullmatch(bare)) is not None:
                parts = [f"{prefix}number-{part}" for part in _decimals(int(number[1]))]
                if all(part in self._prompts for part in parts):
                    return parts
        return []

    def _is_readable(self, path: Path) -> bool:
        try:
            with wave.open(str(path), "rb") as file:
                _check(path, file)
        except (NotAPrompt, OSError, wave.Error, EOFError) as error:
            self.faults[f"{path}.wav"] = str(error)
            return False
        return True

    def _load_languages(self, folder: Path) -> None:
        for language in sorted(path for path in folder.glob("*") if path.is_dir()):
            self._load(language, "" if language.name == OWN else f"{language.name}/")

    def _load(self, folder: Path, prefix: str = "") -> None:
        for path in sorted(folder.glob("*.wav")):
            try:
                self._prompts[prefix + path.stem] = read_prompt(path)
            except (NotAPrompt, OSError) as error:
                self.faults[prefix + path.name] = str(error)


def _decimals(number: int) -> list[int]:
    """How a number is said: hundreds, then tens and ones, together up to twenty."""
    hundreds, rest = number // 100 * 100, number % 100
    small = [rest] if rest <= 20 else [rest // 10 * 10, rest % 10]
    return [part for part in (hundreds, *small) if part]


def read_prompt(path: Path) -> dict[Codec, Frames]:
    """A file's frames in both laws, one or more, the last filled up with silence. Raises `NotAPrompt`, `OSError`."""
    try:
        with wave.open(str(path), "rb") as file:
            _check(path, file)
            samples = _samples(file.readframes(file.getnframes()))
    except (wave.Error, EOFError) as error:
        raise NotAPrompt(f"{path.name}: {error}") from error
    return {law: _cut(encode(samples, law)) for law in Codec}


def _streamed(name: str, law: Codec) -> Iterator[bytes]:
    """The frames of a file, read as they are asked for; none when it is no prompt, or no longer there."""
    with suppress(OSError, wave.Error, EOFError), wave.open(name, "rb") as file:
        while data := file.readframes(_BLOCK):
            yield from _cut(encode(_samples(data), law))


def _check(path: Path, file: wave.Wave_read) -> None:
    rate, channels, size = file.getframerate(), file.getnchannels(), file.getsampwidth()
    if (rate, channels, size) != (RATE, 1, 2):
        raise NotAPrompt(f"{path.name}: {rate} Hz, {channels} channels, {8 * size} bits; not 8000, 1, 16")
    if not 0 < file.getnframes() <= MAX_SECONDS * RATE:
        raise NotAPrompt(f"{path.name}: {file.getnframes() / RATE:.1f} s; not 0 to {MAX_SECONDS}")


def _samples(data: bytes) -> Samples:
    """Linear samples, filled up with silence to whole frames. A file that was cut off may end with half a sample."""
    samples = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.int16)
    return np.pad(samples, (0, -len(samples) % FRAME))


def _cut(codes: bytes) -> Frames:
    return tuple(codes[start : start + FRAME] for start in range(0, len(codes), FRAME))
