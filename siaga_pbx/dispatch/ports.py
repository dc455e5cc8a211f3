"""What the dispatcher is given to work with."""

from typing import Protocol


class Clock(Protocol):
    """The daemon's clock: `siaga_pbx.clock.Clock` is one."""

    def now(self) -> float:
        """Monotonic seconds."""

    def utc(self) -> str:
        """The wall clock as the records hold it."""
