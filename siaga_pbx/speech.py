"""A voice that reads text: Debian's espeak-ng, if it is there. These block: call them from a thread."""

from __future__ import annotations

import io
import os
import subprocess
import wave
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 8000
_BAND_HZ = 3400  # what a telephone passes
_TAPS = 63
_PEAK = 0.7
_TIMEOUT_S = 10.0
_COMMAND = ("espeak-ng", "-v", "id", "-s", "140", "-p", "45", "--stdin", "--stdout")


class NoVoice(Exception):
    """The text cannot be read out; the message says why."""


def read_out(text: str, path: Path) -> None:
    """Writes the text as it is spoken in Indonesian to a WAV file for a prompt, 0600. Raises NoVoice, OSError."""
    samples = _telephone(*_speak(text))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file, wave.open(file) as out:
        out.setparams((1, 2, RATE, len(samples), "NONE", "not compressed"))
        out.writeframes(samples.tobytes())


def _speak(text: str) -> tuple[NDArray[np.float64], int]:
    """The voice's samples (full scale is 1) and their rate. The text goes by stdin: it is no argument, nor in `ps`."""
    import numpy as np  # once a voice is wanted: the daemon's start, with callers on the line, does without

    try:
        spoken = subprocess.run(  # noqa: S603  no shell
            _COMMAND, input=text.encode(), capture_output=True, check=True, timeout=_TIMEOUT_S
        )
        with wave.open(io.BytesIO(spoken.stdout)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float64) / 32768
            rate = file.getframerate()
    except FileNotFoundError:
        raise NoVoice("espeak-ng is not installed (the Debian package espeak-ng)") from None
    except (subprocess.SubprocessError, wave.Error, EOFError) as error:
        raise NoVoice(f"espeak-ng: {error}") from error
    if not samples.size:
        raise NoVoice("espeak-ng said nothing")
    return samples, rate


def _telephone(samples: NDArray[np.float64], rate: int) -> NDArray[np.int16]:
    """In the telephone's band, at its rate: a low-pass, then what lies between the samples."""
    import numpy as np

    taps = np.arange(_TAPS) - _TAPS // 2
    kernel = np.sinc(2 * _BAND_HZ / rate * taps) * np.hamming(_TAPS)
    band = np.convolve(samples, kernel / kernel.sum(), "same")
    at = np.arange(int(len(samples) * RATE / rate)) * rate / RATE
    resampled = np.interp(at, np.arange(len(band)), band)
    loudest = float(np.abs(resampled).max()) or 1.0
    return np.round(resampled * min(_PEAK / loudest, 4.0) * 32767).astype("<i2")
