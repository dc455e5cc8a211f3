"""The recordings' file format: WAV, 16-bit samples at 8 kHz, two channels. What a crash leaves of one can be mended."""

import os
import struct
from pathlib import Path

from siaga_pbx.media.g711 import RATE

FRAME_SIZE = 4
"""Bytes of a sample of both sides."""
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
HEADER_SIZE = _HEADER.size
_MAX_DATA = 0xFFFFFFFF - HEADER_SIZE


def wav_header(size: int) -> bytes:
    """The header of a file with `size` bytes of samples."""
    size = min(size, _MAX_DATA)
    return _HEADER.pack(
        b"RIFF", size + HEADER_SIZE - 8, b"WAVE", b"fmt ", 16, 1, 2, RATE, RATE * FRAME_SIZE, FRAME_SIZE, 16,
        b"data", size,
    )  # fmt: skip


def mend(path: Path) -> float:
    """Makes the header say what is in the file, whatever of it a crash left; returns the seconds. Raises OSError.

    After a power cut the header may be older or newer than the samples, or not there at all.
    """
    with path.open("r+b") as file:
        samples = max(0, os.fstat(file.fileno()).st_size - HEADER_SIZE) // FRAME_SIZE
        header = wav_header(samples * FRAME_SIZE)
        if file.read(HEADER_SIZE) != header:
            file.seek(0)
            file.write(header)
        file.truncate(HEADER_SIZE + samples * FRAME_SIZE)
        file.flush()
        os.fsync(file.fileno())
    return samples / RATE
