"""Values on their way into the database: what a column or a line of the journal can hold, whatever the wire brought."""

import json
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeAlias

Plain: TypeAlias = bool | int | float | str | None

_MAX_DEPTH = 16  # of nested data: nothing recorded is deeper, and what is cannot exhaust the stack
_INT64 = 1 << 63

_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def plain(value: object) -> Plain:
    """The value as a column can hold it: scalars as they are, mappings and sequences as JSON, anything else as text."""
    if type(value) is str:  # nearly always
        return _storable(value)
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value)
        case str():
            return _storable(value)
        case int():
            return int(value) if -_INT64 <= value < _INT64 else str(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping() | list() | tuple() | set() | frozenset():
            return to_json(value)
        case _:
            return _storable(str(value))


def to_json(value: object) -> str:
    """The value as JSON in ASCII; never fails: what JSON lacks becomes text, numbers that are none become null."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):
        return _encode(_tame(value, _MAX_DEPTH))


def _tame(value: object, depth: int) -> object:
    if depth == 0:
        return "..."
    match value:
        case Mapping():
            return {str(plain(key)): _tame(item, depth - 1) for key, item in value.items()}
        case str() | bytes() | Enum():
            return plain(value)
        case Iterable():
            return [_tame(item, depth - 1) for item in value]
        case _:
            return plain(value)


def _storable(text: str) -> str:
    """Text without what UTF-8 in a database cannot hold: half surrogate pairs (undecodable bytes of a header), NUL."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
