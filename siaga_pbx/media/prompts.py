"""Prompts: WAV files, 8 kHz mono 16-bit, as 20 ms frames in both laws, ready to send."""

import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.resources import as_file, files
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from siaga_pbx.media.g711 import FRAME, RATE, Samples, encode
from siaga_pbx.media.protocol import Codec

Frames: TypeAlias = tuple[bytes, ...]

MAX_SECONDS = 600
"""A prompt is read whole and kept in both laws, 20 kB a second; more than ten minutes is a mistake."""
_BLOCK = 50 * FRAME
"""Samples of a file for the moment that are read at a time: a second, which costs the relay no time to speak of."""


class NotAPrompt(Exception):
    """A file that cannot be played; the message says why."""


class PromptStore:
    """All prompts, by name (the file's without `.wav`). Those of `folder` come before the shipped ones.

    A name that is an absolute path is a file made for the moment: it is read while it is played, and not kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.faults: dict[str, str] = {}
        """Files that are no prompts, with the reason."""
        self._prompts: dict[str, dict[Codec, Frames]] = {}
        with as_file(files("siaga_pbx") / "prompts" / "id") as shipped:
            self._load(shipped)
        if folder is not None:
            self._load(folder)

    def __contains__(self, name: str) -> bool:
        return name in self._prompts or (name.startswith("/") and self._is_readable(Path(name)))

    def frames(
        self, once: Sequence[str], loop: Sequence[str], law: Codec, on_played: Callable[[], None]
    ) -> Iterator[bytes]:
        """The frames of `once`, then (after `on_played`) those of `loop` for ever. Unknown names are left out."""
        first = [self._prompts[name][law] if name in self._prompts else _streamed(name, law) for name in once]
        again = [self._prompts[name][law] for name in loop if name in self._prompts]
        return _run(first, again, on_played)

    def _is_readable(self, path: Path) -> bool:
        try:
            with wave.open(str(path), "rb") as file:
                _check(path, file)
        except (NotAPrompt, OSError, wave.Error, EOFError) as error:
            self.faults[f"{path}.wav"] = str(error)
            return False
        return True

    def _load(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.wav")):
            try:
                self._prompts[path.stem] = read_prompt(path)
            except (NotAPrompt, OSError) as error:
                self.faults[path.name] = str(error)


def _run(first: Sequence[Iterable[bytes]], again: list[Frames], on_played: Callable[[], None]) -> Iterator[bytes]:
    yield from chain.from_iterable(first)
    on_played()
    while again:
        yield from chain.from_iterable(again)


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
    """Linear samples, filled up with silence to whole frames."""
    samples = np.frombuffer(data, dtype="<i2").astype(np.int16)
    return np.pad(samples, (0, -len(samples) % FRAME))


def _cut(codes: bytes) -> Frames:
    return tuple(codes[start : start + FRAME] for start in range(0, len(codes), FRAME))
