"""What callers, takers, the switch and the seats' lines work with, handed around as one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from siaga_pbx.alarms import Alarms
from siaga_pbx.call.queue import Queue
from siaga_pbx.calllog import CallLog
from siaga_pbx.legs import LegBook
from siaga_pbx.media.client import MediaClient
from siaga_pbx.metrics import Metrics
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.stack import Stack


class Cancellable(Protocol):
    """A timer that runs, such as asyncio's TimerHandle."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """`perform` sends the stack's outputs, `later` calls back after some seconds; `now` is monotonic seconds, `epoch`
    the wall clock's."""

    stack: Stack
    perform: Callable[[list[sip.Output]], None]
    queue: Queue
    media: MediaClient
    legs: LegBook
    log: CallLog
    alarms: Alarms
    metrics: Metrics
    now: Callable[[], float]
    epoch: Callable[[], float]
    later: Callable[[float, Callable[[], None]], Cancellable]
