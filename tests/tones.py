"""Tones, and which of them are in what was heard: for tests of who hears whom."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from siaga_pbx.media.g711 import RATE

APART_DB = 40.0
"""What is not to be heard is at least so much below what is."""
ALIKE_DB = 1.0
_BESIDE_HZ = 30.0
"""Of a tone's own: what the window and a frame mended now and then spread it over."""


def tone(pitch: float, samples: int, level: float, start: int = 0) -> NDArray[np.int16]:
    """A sine, `start` samples after its begin."""
    at = np.arange(start, start + samples)
    sine: NDArray[np.float64] = np.round(level * np.sin(2 * np.pi * pitch / RATE * at))
    return sine.astype(np.int16)


def spectrum(heard: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies, and the amplitude of the sine that each would be."""
    window, points = np.hanning(len(heard)), 8 * len(heard)  # so many that no tone falls between two
    frequencies: NDArray[np.float64] = np.linspace(0.0, RATE / 2, points // 2 + 1, dtype=np.float64)
    amplitudes: NDArray[np.float64] = np.array(np.abs(np.fft.rfft(heard * window, points)), dtype=np.float64)
    return frequencies, amplitudes * (2 / float(window.sum()))


def faults(heard: NDArray[np.int16], pitches: Collection[float], level: float) -> list[str]:
    """What is wrong with it, if it is to be these tones of this level and nothing else."""
    frequencies, amplitudes = spectrum(heard)
    found = []
    rest = np.ones(len(frequencies), dtype=np.bool_)
    for pitch in pitches:
        near = np.abs(frequencies - pitch) < _BESIDE_HZ
        rest &= ~near
        loudness = 20 * np.log10(amplitudes[near].max() / level + 1e-9)
        if abs(loudness) > ALIKE_DB:
            found.append(f"{pitch} Hz at {loudness:.1f} dB")
    loudest = int(np.argmax(np.where(rest, amplitudes, 0.0)))
    above = 20 * np.log10(amplitudes[loudest] / level + 1e-9)
    if above > -APART_DB:
        found.append(f"{frequencies[loudest]:.0f} Hz at {above:.1f} dB, which is nobody's")
    return found
