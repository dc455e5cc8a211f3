"""The API's bearer token: one secret of this machine, kept 0600 beside the database.

The daemon makes it at its first start; the commands on the same machine read it. Deleting the file and restarting the
daemon makes a new one.
"""

import os
import secrets
from pathlib import Path

TOKEN_BYTES = 32
"""256 random bits: guessing needs no rate limit."""

_MIN_LENGTH = 22
"""128 bits in base64; a shorter one in the file was put there by hand and is not accepted."""


class TokenError(Exception):
    """The token file cannot serve; the message says why and what to do."""


def read(path: Path) -> str:
    """The token in the file. Raises `TokenError` when it is missing, not readable, open to others, or too short."""
    try:
        with path.open(encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise TokenError(f"{path} can be read by others: chmod 600 it, or delete it and restart the daemon")
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise TokenError(f"{path}: {reason}") from error
    if len(token) < _MIN_LENGTH:
        raise TokenError(f"{path} holds no usable token: delete it and restart the daemon")
    return token


def load_or_create(path: Path) -> str:
    """The token in the file, made at the first start. Raises `TokenError` when the file cannot serve."""
    if not path.exists():
        _create(path)
    return read(path)


def _create(path: Path) -> None:
    """Write it under another name and link it into place, so that nobody ever reads half a token."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first: its token counts
        finally:
            draft.unlink()
    except OSError as error:
        raise TokenError(f"{path}: {error.strerror}") from error
