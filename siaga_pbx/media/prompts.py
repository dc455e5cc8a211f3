"""Prompts: WAV files, 8 kHz mono 16-bit, as 20 ms frames in both laws, ready to send."""

import wave
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import as_file, files
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from siaga_pbx.media.g711 import FRAME, RATE, encode
from siaga_pbx.media.protocol import Codec

Frames: TypeAlias = tuple[bytes, ...]

MAX_SECONDS = 600
"""A prompt is read whole and kept in both laws, 20 kB a second; more than ten minutes is a mistake."""


class NotAPrompt(Exception):
    """A file that cannot be played; the message says why."""


class PromptStore:
    """All prompts, by name (the file's without `.wav`). Those of `folder` come before the shipped ones."""

    def __init__(self, folder: Path | None = None) -> None:
        self.faults: dict[str, str] = {}
        """Files that are no prompts, with the reason."""
        self._prompts: dict[str, dict[Codec, Frames]] = {}
        with as_file(files("siaga_pbx") / "prompts" / "id") as shipped:
            self._load(shipped)
        if folder is not None:
            self._load(folder)

    def __contains__(self, name: str) -> bool:
        return name in self._prompts

    def frames(
        self, once: Sequence[str], loop: Sequence[str], law: Codec, on_played: Callable[[], None]
    ) -> Iterator[bytes]:
        """The frames of `once`, then (after `on_played`) those of `loop` for ever. Unknown names are left out."""
        first = [self._prompts[name][law] for name in once if name in self._prompts]
        again = [self._prompts[name][law] for name in loop if name in self._prompts]
        return _run(first, again, on_played)

    def _load(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.wav")):
            try:
                self._prompts[path.stem] = read_prompt(path)
            except (NotAPrompt, OSError) as error:
                self.faults[path.name] = str(error)


def _run(first: list[Frames], again: list[Frames], on_played: Callable[[], None]) -> Iterator[bytes]:
    yield from chain.from_iterable(first)
    on_played()
    while again:
        yield from chain.from_iterable(again)


def read_prompt(path: Path) -> dict[Codec, Frames]:
    """A file's frames in both laws, one or more, the last filled up with silence. Raises `NotAPrompt`, `OSError`."""
    try:
        with wave.open(str(path), "rb") as file:
            rate, channels, size = file.getframerate(), file.getnchannels(), file.getsampwidth()
            if (rate, channels, size) != (RATE, 1, 2):
                raise NotAPrompt(f"{path.name}: {rate} Hz, {channels} channels, {8 * size} bits; not 8000, 1, 16")
            if not 0 < file.getnframes() <= MAX_SECONDS * RATE:
                raise NotAPrompt(f"{path.name}: {file.getnframes() / RATE:.1f} s; not 0 to {MAX_SECONDS}")
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)
    except (wave.Error, EOFError) as error:
        raise NotAPrompt(f"{path.name}: {error}") from error
    samples = np.pad(samples, (0, -len(samples) % FRAME))
    return {law: _cut(encode(samples, law)) for law in Codec}


def _cut(codes: bytes) -> Frames:
    return tuple(codes[start : start + FRAME] for start in range(0, len(codes), FRAME))
