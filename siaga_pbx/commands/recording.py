"""`recording`: the audio of a call, on stdout or in a file. Whoever listens is on record."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from siaga_pbx.commands.common import load_config
from siaga_pbx.commands.failures import Failed, Misused
from siaga_pbx.commands.onrecord import note_access, records
from siaga_pbx.commands.running import running_daemon
from siaga_pbx.config import Config
from siaga_pbx.records import recordings
from siaga_pbx.records.errors import NotOnRecord, NotPossible
from siaga_pbx.records.reader import Reader

_CHUNK = 1 << 20


def recording(file: Path | None, call_id: str, to: Path | None) -> int:
    """Writes the call's WAV file. Raises `Failed` when there is none, and when it is not what was recorded."""
    if to is None and sys.stdout.isatty():
        raise Misused("a recording is nothing for a terminal: add > call.wav, or --output FILE")
    config = load_config(file)
    with running_daemon(config) as daemon:
        if daemon is not None:
            with daemon.download(f"/api/v1/calls/{call_id}/recording") as (chunks, digest):
                heard = _write(chunks, to)
        else:
            with records(config) as reader:
                kept = _kept(config, reader, call_id)
                note_access(config, reader, "recording", [call_id])
                heard, digest = _write(_chunks(kept.path), to), kept.sha256
    if heard != digest:
        raise Failed(f"the recording of call {call_id} is not what was recorded: its SHA-256 is {heard}, not {digest}")
    return 0


def _kept(config: Config, reader: Reader, call_id: str) -> recordings.Recording:
    call = reader.call(call_id)
    if call is None:
        raise Failed(f"no call {call_id} is on record")
    try:
        return recordings.find(call, lambda: reader.events(call_id=call_id), config.records.recordings)
    except (NotOnRecord, NotPossible) as error:
        raise Failed(str(error)) from error


def _write(chunks: Iterator[bytes], to: Path | None) -> str:
    """Writes them; their SHA-256."""
    digest = hashlib.sha256()
    with _target(to) as target:
        for chunk in chunks:
            target.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _target(to: Path | None) -> Iterator[BinaryIO]:
    """Stdout, or a new file that only its owner reads; one that is there is left alone."""
    if to is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            yield target
    except FileExistsError:
        raise Failed(f"{to} is there already") from None
    except OSError as error:
        raise Failed(f"{to}: {error.strerror or error}") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
