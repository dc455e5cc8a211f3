"""What is held about a number, in files for whoever has a right to them: a ZIP file, or a folder.

`calls.jsonl`, `events.jsonl`, `incidents.jsonl`, `dispatches.jsonl` and `callbacks.jsonl` have a row a line, their keys
being the columns; `recordings/` the audio. `mentions.jsonl` has the texts with the number, however it is written, in
others' records, and no more of those: they are about other people. `manifest.json` names every other file with its size
and SHA-256, and the head of the chain, so that what was handed over can be told from what was not.
"""

import json
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from siaga_pbx.records.errors import NotPossible
from siaga_pbx.records.mentions import mentions_of
from siaga_pbx.records.numbers import Spelling
from siaga_pbx.records.reader import Reader, Record

_CHUNK = 1 << 20
_TABLES = ("calls", "events", "incidents", "dispatches", "callbacks")


@dataclass(frozen=True, slots=True)
class Held:
    """What is held about a number: its calls, and the texts of others' records that have it."""

    calls: Sequence[Record]
    mentions: Sequence[Record]

    @classmethod
    def of(cls, reader: Reader, number: str) -> "Held":
        """By a number in E.164."""
        calls, spelling = reader.calls_from(number), Spelling(number)
        theirs = {call["id"] for call in calls}
        others = (one for one in mentions_of(reader, spelling) if one.call_id not in theirs)
        return cls(calls, [row for one in others for row in one.rows(spelling)])

    @property
    def concerned(self) -> list[str]:
        """The ids of all calls of whose records something is in it."""
        return list(dict.fromkeys(str(id) for id in (*_of(self.calls, "id"), *_of(self.mentions, "call_id")) if id))


class _Target(ABC):
    """Where the files go, and what went there."""

    def __init__(self) -> None:
        self.files: list[Record] = []

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """A new file."""
        digest, size = sha256(), 0
        with self._open(name) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self.files.append({"name": name, "bytes": size, "sha256": digest.hexdigest()})

    @abstractmethod
    def _open(self, name: str) -> BinaryIO: ...


class _Zip(_Target):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__()
        self._archive = archive

    def _open(self, name: str) -> BinaryIO:
        return self._archive.open(name, "w", force_zip64=True)  # type: ignore[return-value]  # a binary file it is


class _Folder(_Target):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _open(self, name: str) -> BinaryIO:
        path = self._folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _of(rows: Iterable[Record], column: str) -> Iterator[object]:
    return (row[column] for row in rows)


def export(reader: Reader, held: Held, recordings: Path, to: Path, about: Mapping[str, object]) -> int:
    """Writes it, readable by its owner alone; returns how many files. A name that ends in `.zip` is made a ZIP file.

    `about` goes into the manifest. Raises NotPossible when it cannot be written, or something is there already.
    """
    try:
        with _target(to) as target:
            calls = held.calls
            rows = {name: [row for call in calls for row in _rows(reader, name, call)] for name in _TABLES}
            rows["mentions"] = list(held.mentions)
            for name, many in rows.items():
                target.add(f"{name}.jsonl", (json.dumps(row).encode() + b"\n" for row in many))
            for call in calls:
                if (path := recording_of(call, recordings)) is not None:
                    target.add(f"recordings/{call['id']}.wav", _chunks(path))
            counts = {name: len(many) for name, many in rows.items()}
            manifest = {**about, "counts": counts, "head": str(reader.head()), "files": list(target.files)}
            target.add("manifest.json", [json.dumps(manifest, indent=2).encode() + b"\n"])
            return len(target.files)
    except OSError as error:
        raise NotPossible(f"{to}: {error.strerror or error}") from error


def recording_of(call: Record, recordings: Path) -> Path | None:
    """The call's audio file, if it is there; a row that names one elsewhere has none."""
    name = call["recording"]
    path = (recordings / str(name)).resolve() if name else None
    return path if path is not None and path.is_relative_to(recordings.resolve()) and path.is_file() else None


def _rows(reader: Reader, name: str, call: Record) -> list[Record]:
    id = str(call["id"])
    match name:
        case "calls":
            return [call]
        case "events":
            return reader.events(call_id=id)
        case "incidents":
            return reader.incidents(call_id=id)
        case "dispatches":
            return reader.dispatches(call_id=id)
        case _:
            return reader.callback(id)


@contextmanager
def _target(to: Path) -> Iterator[_Target]:
    """The target; what is half-written is removed again."""
    if to.exists():
        raise NotPossible(f"{to} is there already")
    if to.suffix.lower() != ".zip":
        to.mkdir(mode=0o700)
        yield _Folder(to)
        return
    part = to.with_name(f"{to.name}.part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w+b") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            yield _Zip(archive)
        os.link(part, to)  # unlike a rename it replaces nothing that came in the meantime
    finally:
        part.unlink(missing_ok=True)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
