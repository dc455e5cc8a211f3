"""Whether what was said at one end was heard at the other: the best normalised correlation over all delays."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEAST_S = 1.0
"""Less common audio than this proves nothing."""


def likeness(said: NDArray[np.int16], heard: NDArray[np.int16], rate: int = 8000, least_s: float = LEAST_S) -> float:
    """How much of a piece of `said`, `least_s` long, is in `heard`: 1.0 is the same wave, 0.0 something else.

    `heard` may begin earlier or later; the best piece counts.
    """
    need = int(least_s * rate)
    if len(said) < need or len(heard) < need:
        return 0.0
    whole = heard.astype(np.float64)
    best = 0.0
    for start in range(0, len(said) - need + 1, need // 2):
        piece = said[start : start + need].astype(np.float64)
        energy = float(piece @ piece)
        if energy < need:  # silence is like everything
            continue
        best = max(best, _best_match(piece, energy, whole))
    return best


def _best_match(piece: NDArray[np.float64], energy: float, whole: NDArray[np.float64]) -> float:
    size = 1 << int(np.ceil(np.log2(len(whole) + len(piece))))
    spectrum = np.fft.rfft(whole, size) * np.conj(np.fft.rfft(piece, size))
    products = np.fft.irfft(spectrum, size)[: len(whole) - len(piece) + 1]
    sums = np.concatenate(([0.0], np.cumsum(whole * whole)))
    energies = sums[len(piece) :] - sums[: -len(piece)]
    scores = products / np.sqrt(np.maximum(energies, 1.0) * energy)
    return float(scores.max())


def recording(path: Path) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """The two sides of a recording: the caller's, and what the caller heard."""
    with wave.open(str(path), "rb") as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
    return frames[:, 0].copy(), frames[:, 1].copy()
