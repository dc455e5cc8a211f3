"""The worker's one timer: every 20 ms all prompts and silences go out together, and what is due otherwise is done."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

from siaga_pbx.media.faults import Faults

TICK_S = 0.02
MAX_CATCH_UP = 10
"""Ticks made up for at once after a delay (200 ms, what far sides' buffers still take); more are left out."""
_EARLY_S = 0.001
"""The loop's timers have this resolution: one that fires early counts as on time."""


class Paced(Protocol):
    """A `Sender`."""

    @property
    def paced(self) -> bool: ...
    def tick(self, now: float) -> None: ...
    def stumble(self) -> None: ...


Item = TypeVar("Item")


class Rota(Generic[Item]):
    """Does something to each of many items once a period, spread evenly over the ticks."""

    def __init__(self, period_s: float, action: Callable[[Item, float], None]) -> None:
        self._period_s = period_s
        self._action = action
        self._items: deque[Item] = deque()
        self._due: deque[float] = deque()
        """When each is next; those of one tick share one number, as each leg is in two of these."""
        self._faults = Faults()

    def add(self, item: Item, now: float) -> None:
        """First a period from now, for as long as it is not removed."""
        self._items.append(item)
        self._due.append(now + self._period_s)

    def remove(self, item: Item) -> None:
        if item in self._items:
            place = self._items.index(item)
            del self._items[place], self._due[place]
        self._faults.forget(item)

    def run(self, now: float) -> None:
        """Do what is due."""
        again = now + self._period_s
        while self._due and self._due[0] <= now:
            item = self._items.popleft()
            self._items.append(item)
            self._due.popleft()
            self._due.append(again)
            try:
                self._action(item, now)
            except Exception:  # noqa: BLE001  a fault of ours in one must not cost those behind it
                self._faults.add(item)


class Pacer:
    """Drift-free: the n-th tick is n times 20 ms after the first, however late the ones before were."""

    def __init__(self, then: Callable[[float], None]) -> None:
        """`then` is called after each tick's packets."""
        self.worst_lag = 0.0
        """The worst delay of a tick, in seconds, since it was last set to 0."""
        self.faults = Faults()
        self._then = then
        self._senders: dict[Paced, None] = {}
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._next = monotonic() + TICK_S
        self._schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add(self, sender: Paced) -> None:
        """Tick it for as long as it is `paced`."""
        self._senders[sender] = None

    def remove(self, sender: Paced) -> None:
        self._senders.pop(sender, None)
        self.faults.forget(sender)

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._next - monotonic()), self._run)

    def _run(self) -> None:
        try:
            self._catch_up(monotonic())
        finally:
            self._schedule()  # whatever went wrong

    def _catch_up(self, now: float) -> None:
        self.worst_lag = max(self.worst_lag, now - self._next)
        for _ in range(MAX_CATCH_UP):
            if self._next > now + _EARLY_S:
                break
            self._next += TICK_S
            self._tick(now)
        else:
            self._leave_out(now)
        self._then(now)

    def _tick(self, now: float) -> None:
        for sender in tuple(self._senders):
            if sender.paced:
                try:
                    sender.tick(now)
                except Exception:  # noqa: BLE001  a fault of ours in one must not cost those behind it
                    self.faults.add(sender)
            else:
                del self._senders[sender]

    def _leave_out(self, now: float) -> None:
        while self._next <= now + _EARLY_S:
            self._next += TICK_S
        for sender in self._senders:
            sender.stumble()
