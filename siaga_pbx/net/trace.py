"""The SIP of recent calls as it went over the wire, for whoever must find out what a carrier or a phone said.

In memory only, and bounded: the oldest call goes when there is too much. Only what belongs to an INVITE is kept: no
REGISTER or OPTIONS of a busy night pushes a call out. The keys of SRTP are masked.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from siaga_pbx.sip.flow import Address

MAX_BYTES = 32 * 2**20
"""All that is kept, headers and bodies: some 1,500 calls of two legs. A city's centre has them for days."""
MAX_STRAY_BYTES = 2**20
"""Of it, what belongs to no call (yet): INVITEs that were challenged, refused or not even readable. A flood of those
pushes no call out."""
MAX_MESSAGES = 400
"""Of one dialog. A peer that repeats itself for hours does not push out the others; the first ones are what tells."""
OVERHEAD = 300
"""What a kept message costs beyond its bytes, roughly."""

_KEY = re.compile(rb"inline:[^|;\s]+", re.IGNORECASE)
"""A key of SRTP in an SDP (RFC 4568): whoever reads it later can open what was recorded on the wire."""


class Traced(NamedTuple):
    """One message. `at` is seconds since the epoch; `sent` by us, else received."""

    at: float
    sent: bool
    transport: str
    local: Address
    remote: Address
    data: bytes


@dataclass(slots=True)
class _Dialog:
    call: str | None = None
    messages: list[Traced] = field(default_factory=list)
    size: int = 0


class Trace:
    """`note` each message; `join` says which call a dialog is of; `of` gives a call's messages in their order, until
    they are too old or `forget` is told of the call. From the loop's thread only."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._dialogs: OrderedDict[str, _Dialog] = OrderedDict()
        self._strays: OrderedDict[str, _Dialog] = OrderedDict()
        """Those that no call is known of."""
        self._calls: dict[str, list[str]] = {}
        self._size = self._stray_size = 0

    def note(self, message: Traced) -> None:
        """Keeps the message if it is of an INVITE's dialog. Never raises, whatever the bytes are."""
        call_id = _call_id(message.data)
        dialog = self._dialogs.get(call_id) or self._strays.get(call_id)
        if dialog is None:
            if not call_id or not message.data.startswith(b"INVITE "):
                return
            dialog = self._strays[call_id] = _Dialog()
        if len(dialog.messages) >= MAX_MESSAGES:
            return
        if b"a=crypto" in message.data.lower():
            message = message._replace(data=_KEY.sub(_masked, message.data))
        dialog.messages.append(message)
        size = len(message.data) + OVERHEAD
        dialog.size += size
        if dialog.call is None:
            self._stray_size += size
            while self._stray_size > min(MAX_STRAY_BYTES, self._max_bytes):
                self._stray_size -= self._strays.popitem(last=False)[1].size
        else:
            self._add(size)

    def join(self, call: str, sip_call_id: str) -> None:
        """This dialog is a leg of this call."""
        if sip_call_id in self._dialogs:
            return
        stray = self._strays.pop(sip_call_id, None)
        dialog = self._dialogs[sip_call_id] = stray or _Dialog()  # none: our own INVITE, about to be sent
        dialog.call = call
        self._calls.setdefault(call, []).append(sip_call_id)
        self._stray_size -= dialog.size
        self._add(dialog.size)

    def of(self, call: str) -> list[Traced]:
        """All messages of the call's legs by time; none when it is not known, or no more."""
        legs = (self._dialogs[sip_call_id].messages for sip_call_id in self._calls.get(call, ()))
        return sorted((message for leg in legs for message in leg), key=lambda message: message.at)

    def forget(self, call: str) -> None:
        """The call is erased from the record: nothing that was said in it is kept either."""
        for sip_call_id in self._calls.pop(call, ()):
            self._size -= self._dialogs.pop(sip_call_id).size

    def _add(self, size: int) -> None:
        self._size += size
        while self._size > self._max_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        sip_call_id, dialog = self._dialogs.popitem(last=False)
        self._size -= dialog.size
        assert dialog.call is not None, "a stray is in the other table"
        legs = self._calls[dialog.call]
        legs.remove(sip_call_id)
        if not legs:
            del self._calls[dialog.call]


def _masked(key: re.Match[bytes]) -> bytes:
    """As long as it was: the Content-Length stays right."""
    return key[0][:7] + b"*" * (len(key[0]) - 7)


def _call_id(data: bytes) -> str:
    """Its Call-ID, without parsing the message; empty when it has none that is readable."""
    for name in (b"\r\nCall-ID:", b"\r\ni:", b"\r\nCall-Id:", b"\r\ncall-id:", b"\r\nI:"):
        start = data.find(name)
        if start >= 0:
            start += len(name)
            end = data.find(b"\r\n", start)
            return data[start : end if end >= 0 else None].strip().decode("latin-1")
    return ""
