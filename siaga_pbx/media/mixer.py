"""Mixing: of several far sides' 20 ms, to each the sum of those it is to hear. Pure."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from siaga_pbx.media.g711 import FRAME, Samples, encode
from siaga_pbx.media.protocol import Codec, Part

Hears: TypeAlias = NDArray[np.int32]
"""N x N, of 0 and 1: whether the one of the row hears the one of the column."""

_ALL = np.arange(-32768, 32768).astype(np.int16)
_CODES = {law: np.frombuffer(encode(np.roll(_ALL, -32768), law), dtype=np.uint8) for law in Codec}
"""The code of every sample, by the sample's 16 bits as an unsigned number."""


def who_hears(parts: Sequence[tuple[str, Part, str | None]]) -> Hears:
    """The matrix of a conference by its legs: name, part, and whom it whispers to. Nobody hears itself."""
    return np.array(
        [
            [
                hearer != said_by and (part is Part.TALK or (part is Part.WHISPER and to == hearer))
                for said_by, part, to in parts
            ]
            for hearer, _, _ in parts
        ],
        dtype=np.int32,
    ).reshape(len(parts), len(parts))


def mix(hears: Hears, frames: Sequence[Samples | None]) -> NDArray[np.int16]:
    """N x `FRAME` samples, one row for each who hears, of N frames (None: silence). What is too loud is clipped."""
    said = np.zeros((len(frames), FRAME), dtype=np.int32)
    for row, frame in zip(said, frames, strict=True):
        if frame is not None:
            row[:] = frame
    mixed: NDArray[np.int16] = np.clip(hears @ said, -32768, 32767).astype(np.int16)
    return mixed


def encoded(samples: NDArray[np.int16], law: Codec) -> bytes:
    """As `g711.encode`, by one look into a table: there are N of them every 20 ms."""
    return _CODES[law][samples.view(np.uint16)].tobytes()
