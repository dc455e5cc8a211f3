"""The SIP of a call, message by message, for a carrier's engineer. It shows a caller, so it needs the token."""

import base64
import re
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from siaga_pbx.logs import mask_text
from siaga_pbx.sip.flow import Address
from siaga_pbx.web.centre import Cause, Refused
from siaga_pbx.web.live import UNKNOWN, Id

_PROOF = re.compile(r'(?<=response=")[0-9A-Fa-f]+(?=")')
"""What a digest proves a password with: whoever has it can try passwords against it at leisure."""


class TracedMessage(BaseModel):
    """One message on the wire; `at` is seconds since the epoch, `data` its bytes in base64."""

    at: float
    sent: bool = Field(description="by us, else received")
    transport: str
    local: Address
    remote: Address
    data: str


class CallTrace(BaseModel):
    call_id: str
    messages: tuple[TracedMessage, ...]


Message = tuple[float, bool, str, Address, Address, bytes]
"""Time, whether we sent it, transport, our address, theirs, the bytes: `net.trace.Traced`."""


def traces(of: Callable[[str], Sequence[Message]]) -> APIRouter:
    """The route of `GET /api/v1/calls/{id}/trace`; `of` gives a call's messages in their order."""
    router = APIRouter(prefix="/api/v1", tags=["live"])

    @router.get("/calls/{call_id}/trace", summary="The SIP of a recent call, of all its legs", responses=UNKNOWN)
    async def get_trace(
        call_id: Id,
        unmasked: Annotated[bool, Query(description="with telephone numbers as they are, and digests' proofs")] = False,
    ) -> CallTrace:
        """Kept in memory only: of calls since the start of the daemon, the newest of them when there are many."""
        messages = of(call_id)
        if not messages:
            raise Refused(
                Cause.UNKNOWN, f"no trace of call {call_id} is kept: it is unknown, too old, or of before a restart"
            )
        return CallTrace(call_id=call_id, messages=tuple(_shown(message, unmasked) for message in messages))

    return router


def _shown(message: Message, unmasked: bool) -> TracedMessage:
    at, sent, transport, local, remote, data = message
    data = data if unmasked else masked(data)
    return TracedMessage(
        at=at, sent=sent, transport=transport, local=local, remote=remote, data=base64.b64encode(data).decode()
    )


def masked(data: bytes) -> bytes:
    """The message without telephone numbers and proofs of passwords, each byte else in its place."""
    # latin-1: every byte is a character, and comes back as it was.
    return _PROOF.sub(lambda match: "*" * len(match[0]), mask_text(data.decode("latin-1"))).encode("latin-1")
