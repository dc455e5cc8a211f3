"""Who was dispatched learns where the caller is by now, also when the database is away at the time."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from siaga_pbx.dispatch.order import OrderRefused
from siaga_pbx.records.errors import RecordsError, StoreUnavailable

log = structlog.get_logger(__name__)

RETRY_S = 2.0
"""Between two tries while the database cannot be read or written."""
GIVE_UP_S = 3600.0
"""Who has not been told of a place by then has long arrived, or been told by telephone."""
MAX_CALLS = 1000
"""That wait to be told of; the oldest news goes first."""


class Relocations:
    """`tell` of each call whose record knows better where its caller is. `relocate` tells those who go there what the
    record knows at that time: so the newest news of a call is all that waits."""

    def __init__(self, relocate: Callable[[str], Awaitable[None]], retry_s: float = RETRY_S) -> None:
        self._relocate, self._retry_s = relocate, retry_s
        self._waiting: dict[str, float] = {}
        """When there was news of each call, in the loop's seconds."""
        self._task: asyncio.Task[None] | None = None

    def tell(self, call: str) -> None:
        """Never blocks, never raises; from the running loop."""
        loop = asyncio.get_running_loop()
        self._waiting.pop(call, None)
        self._waiting[call] = loop.time()
        if len(self._waiting) > MAX_CALLS:
            self._give_up(next(iter(self._waiting)), "too many wait for the database")
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._tell_all(), name="relocations")

    async def _tell_all(self) -> None:
        while self._waiting:
            call, since = next(iter(self._waiting.items()))
            del self._waiting[call]
            try:
                await self._relocate(call)
            except StoreUnavailable as error:
                self._waiting.setdefault(call, since)  # news meanwhile is newer
                if asyncio.get_running_loop().time() > since + GIVE_UP_S:
                    self._give_up(call, str(error))
                await asyncio.sleep(self._retry_s)
            except (OrderRefused, RecordsError) as error:
                _log(call, str(error))
            except Exception:
                log.exception("a fault of ours: who was dispatched is not told", call_id=call)

    def _give_up(self, call: str, why: str) -> None:
        del self._waiting[call]
        _log(call, why)


def _log(call: str, why: str) -> None:
    log.warning("who was dispatched is not told that the caller is elsewhere", call_id=call, why=why)
