"""Keeps a media worker there: a process that has everything loaded forks the worker, and another when that one dies.

A fresh Python takes half a second to be ready to serve, on a busy machine more, and every moment of it is silence in
the calls; a fork takes milliseconds. The keeper does nothing else, so there is nothing for it to die of. Should it be
killed all the same, and the worker with it, another stands by that it has forked beforehand: that one waits for the
lock that the two hold, and costs little, as it shares their memory.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

RESPAWN_S = 1.0
"""Between two starts of a worker: one that dies at once must not eat the machine."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
_CRASHED = 70
"""The exit code of a process with a fault of ours that nothing caught."""


class Keeper:
    """Runs `work` in child processes, one after the other, until one ends by itself; and `stand_by` beside it."""

    def __init__(self, work: Callable[[], int], stand_by: Callable[[], int]) -> None:
        """Both return the exit code. At the time of `run` this process must have one thread and no event loop."""
        self._work = work
        self._stand_by = stand_by
        self._worker = self._standby = 0
        self._ending = False

    def run(self) -> int:
        """Returns the exit code of a worker that has ended, and was not killed. SIGTERM and SIGINT are passed on."""
        for number in _ENDING:
            signal.signal(number, self._pass_on)
        self._standby = self._fork(self._stand_by)
        try:
            return self._keep()
        finally:
            if self._standby:
                os.kill(self._standby, signal.SIGKILL)
                os.waitpid(self._standby, 0)

    def _keep(self) -> int:
        code = 0
        while not self._ending:
            started = time.monotonic()
            self._worker = self._fork(self._work, passing_on=True)
            code = self._end_of_worker()
            self._worker = 0
            if code >= 0 and code != _CRASHED:
                break
            why = signal.Signals(-code).name if code < 0 else "a fault of its own"
            sys.stderr.write(f"siaga-pbx media: the worker died of {why}\n")
            time.sleep(max(0.0, started + RESPAWN_S - time.monotonic()))
        return max(0, code)

    def _end_of_worker(self) -> int:
        """The worker's exit code, once it has one. A standby that ends meanwhile is replaced, if it lived a while."""
        forked_at = time.monotonic()
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._worker:
                return os.waitstatus_to_exitcode(status)
            if pid == self._standby:
                lived, forked_at = time.monotonic() - forked_at, time.monotonic()
                self._standby = self._fork(self._stand_by) if lived >= RESPAWN_S and not self._ending else 0

    def _fork(self, task: Callable[[], int], *, passing_on: bool = False) -> int:
        # No signal between the fork and the moment when it is known whom to pass it on to.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        child = os.fork()
        if child == 0:
            self._be(task)
        if passing_on:
            self._worker = child
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        return child

    def _be(self, task: Callable[[], int]) -> NoReturn:
        """In the child. It never returns into what the parent was doing."""
        code = _CRASHED
        try:
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            code = task()
        except Exception:  # noqa: BLE001  nobody is above this to show it
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._ending = True
        if self._worker:
            with suppress(ProcessLookupError):
                os.kill(self._worker, number)
