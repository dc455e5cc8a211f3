"""The hash chain of the events, and the digest of a row. Pure; whoever checks the records elsewhere needs this only.

- `digest` of an event: SHA-256 over the UTF-8 bytes of its `salt` (32 hex digits, as stored) followed by its `data`
  (the JSON text, as stored). The salt keeps short data from being guessed from the digest after it was erased.
- `hash` of an event: SHA-256 over the JSON array
  `[previous hash, seq, id, at, subject, subject_id, call_id, kind, digest]`: no spaces, all but ASCII escaped
  (`\\uXXXX`), a missing call_id as `null`. An array of JSON values reads back in one way only, so no two events share
  an encoding. The hash before the first event is 64 zeros; seq counts from 1.
- digest of a row: SHA-256 over the JSON array `[table, {column: value, ...}]`, columns in alphabetical order, those
  that are null left out: a later version may add columns, and the digests of old rows still hold.

Digests and hashes are lower-case hex.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Self

GENESIS = "0" * 64

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode


@dataclass(frozen=True, slots=True)
class Head:
    """The last event of the chain at some time: whoever knows it knows whether all up to it is as it was then."""

    seq: int = 0
    hash: str = GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `SEQ:HASH`. Raises ValueError."""
        found = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no head of a chain, SEQ:HASH")
        return cls(int(found[1]), found[2])


def event_digest(salt: str, data: str) -> str:
    """The digest of an event's content; both as stored."""
    return sha256((salt + data).encode()).hexdigest()


def event_hash(
    previous: str,
    seq: int,
    id: str,
    at: str,
    subject: str,
    subject_id: str,
    call_id: str | None,
    kind: str,
    digest: str,
) -> str:
    """The hash that ties an event to the one before it."""
    call = "null" if call_id is None else quoted(call_id)
    texts = f"{quoted(id)},{quoted(at)},{quoted(subject)},{quoted(subject_id)},{call},{quoted(kind)},{quoted(digest)}"
    return sha256(f"[{quoted(previous)},{seq},{texts}]".encode("ascii")).hexdigest()


def row_digest(table: str, row: Mapping[str, object]) -> str:
    """The digest of a row's content, as the database returns it."""
    present = {column: value for column, value in row.items() if value is not None}
    return sha256(_encode([table, present]).encode()).hexdigest()
