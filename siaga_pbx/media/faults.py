"""Faults of ours in what is one leg's own: they cost that leg alone, and do not fill the log 50 times a second."""

from collections import Counter

import structlog

_log = structlog.get_logger("media")


class Faults:
    """Those of many things that are done in one go."""

    def __init__(self) -> None:
        self._times: Counter[object] = Counter()

    def add(self, of: object) -> None:
        """The exception that is handled now is this one's. Its first is logged."""
        self._times[of] += 1
        if self._times[of] == 1:
            _log.exception("media.fault", of=type(of).__name__)

    def forget(self, of: object) -> None:
        """It is over: how often it failed is logged."""
        if times := self._times.pop(of, 0):
            _log.error("media.faults", of=type(of).__name__, times=times)
