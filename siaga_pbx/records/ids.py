"""Identifiers: UUIDv7 (RFC 9562 5.7), which sort by the time they were made."""

import uuid_utils

ID_LENGTH = 36


def new_id() -> str:
    """A new identifier as text; later ones of one process sort after earlier ones."""
    return str(uuid_utils.uuid7())


def first_id(epoch_ms: int) -> str:
    """The text that no identifier made at or after `epoch_ms` sorts before: a bound for range queries by time."""
    stamp = f"{max(0, epoch_ms):012x}"
    return f"{stamp[:8]}-{stamp[8:]}"
