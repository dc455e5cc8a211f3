"""What has come from the broker and is not handled yet. Bounded, and nothing in it is lost."""

import asyncio
from collections.abc import Callable

import aiomqtt

LIMIT = 32 << 20
"""Bytes, of payload and of what a message costs besides: some 50,000 answers."""
_OVERHEAD = 500


class Inbox(asyncio.Queue[aiomqtt.Message]):
    """For aiomqtt's `queue_type`. Call `bind` before anything comes.

    Receive Maximum (MQTT 5, 3.1.2.11.3) should bound what is under way to us, but mosquitto 2.0.11 goes beyond it when
    we are slow; and what does not fit, aiomqtt drops and logs. So a full inbox ends the connection instead: whatever we
    have not acknowledged, the broker gives again, in its order.
    """

    def bind(self, on_full: Callable[[], None], limit: int = LIMIT) -> None:
        """`on_full` has to end the connection: from then on nothing is taken in."""
        self._on_full, self._limit = on_full, limit
        self._held = 0
        self._full = False

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Raises QueueFull."""
        size = _size(item)
        if self._full or self._held + size > self._limit:
            if not self._full:
                self._full = True
                self._on_full()
            raise asyncio.QueueFull
        self._held += size
        super().put_nowait(item)

    def get_nowait(self) -> aiomqtt.Message:
        """The next one; `get` comes by here too."""
        item = super().get_nowait()
        self._held -= _size(item)
        return item


def _size(message: aiomqtt.Message) -> int:
    payload = message.payload
    return _OVERHEAD + (len(payload) if isinstance(payload, bytes) else 0)
