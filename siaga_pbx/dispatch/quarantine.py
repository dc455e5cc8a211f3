"""What came over the broker and could not be used: kept to be shown, and on record, in bounds."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from siaga_pbx.records.changes import Event

log = structlog.get_logger(__name__)

KEPT = 100
SHOWN_BYTES = 1000
_RECORDED_A_MINUTE = 30
"""A broken or hostile end must not fill the records; what is beyond is counted."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One payload. `number`: there have been so many. `payload` is its beginning, as text."""

    number: int
    at: str
    topic: str
    reason: str
    payload: str


class Quarantine:
    """The newest `KEPT` payloads. `write` records an event."""

    def __init__(self, write: Callable[[Event], None]) -> None:
        self._write = write
        self._kept: deque[Quarantined] = deque(maxlen=KEPT)
        self._minute = ""
        self._recorded = 0
        self.count = 0
        """How many there have been."""

    @property
    def kept(self) -> Sequence[Quarantined]:
        """The newest, oldest first."""
        return tuple(self._kept)

    def add(self, at: str, topic: str, payload: bytes, reason: str) -> None:
        """Keeps it. `at` is UTC text."""
        self.count += 1
        one = Quarantined(self.count, at, topic, reason, payload[:SHOWN_BYTES].decode("utf-8", "replace"))
        self._kept.append(one)
        minute = at[:16]
        if minute != self._minute:
            self._minute, self._recorded = minute, 0
        self._recorded += 1
        if self._recorded <= _RECORDED_A_MINUTE:
            log.warning("payload quarantined", topic=topic, reason=reason)
            data = {"topic": topic, "reason": reason, "payload": one.payload}
            self._write(Event(at, "system", "mqtt", None, "quarantined", data))
