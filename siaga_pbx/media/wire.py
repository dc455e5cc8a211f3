"""Messages of `protocol.py` to bytes and back: one JSON object a line. Pure; every read is bounded."""

from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from siaga_pbx.media.protocol import Command, Event

MAX_LINE = 1 << 23
"""Bytes in one message. The longest is `State`: some 200 bytes a leg, at most 32,000 port pairs. A peer that sends more
is no worker of ours."""


class ProtocolError(Exception):
    """The other end sent what is no message of this version; the connection is of no more use."""


Message = TypeVar("Message")


class Wire(Generic[Message]):
    """One direction's messages to bytes and back. `Lines` cuts a stream into what `decode` takes."""

    def __init__(self, adapter: TypeAdapter[Message]) -> None:
        self._adapter = adapter

    def encode(self, message: Message) -> bytes:
        return self._adapter.dump_json(message) + b"\n"

    def decode(self, line: bytes) -> Message:
        """Raises `ProtocolError` for anything that is no message of this direction."""
        try:
            return self._adapter.validate_json(line)
        except ValidationError as error:
            raise ProtocolError(f"not a message: {line[:80]!r}") from error


def commands() -> Wire[Command]:
    """The daemon's direction."""
    return Wire(TypeAdapter(Annotated[Command, Field(discriminator="type")]))


def events() -> Wire[Event]:
    """The worker's direction."""
    return Wire(TypeAdapter(Annotated[Event, Field(discriminator="type")]))


class Lines:
    """Cuts a byte stream into lines, whatever the chunks. Raises `ProtocolError` past `MAX_LINE` without an end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Sequence[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ProtocolError(f"a line of more than {MAX_LINE} bytes")
        return lines
