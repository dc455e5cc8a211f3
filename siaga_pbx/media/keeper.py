"""Keeps a media worker there: a process that has everything loaded forks the worker, and another when that one dies.

A fresh Python takes half a second to be ready to serve, on a busy machine more, and every moment of it is silence in
the calls; a fork takes milliseconds. The keeper does nothing else, so there is nothing for it to die of.
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
"""The exit code of a worker with a fault of ours that nothing caught."""


class Keeper:
    """Runs `work` in child processes, one after the other, until one ends by itself."""

    def __init__(self, work: Callable[[], int]) -> None:
        """`work` returns the exit code. At the time of `run` this process must have one thread and no event loop."""
        self._work = work
        self._worker = 0
        self._ending = False

    def run(self) -> int:
        """Returns the exit code of a worker that has ended, and was not killed. SIGTERM and SIGINT are passed on."""
        for number in _ENDING:
            signal.signal(number, self._pass_on)
        code = 0
        while not self._ending:
            started = time.monotonic()
            self._start()
            _, status = os.waitpid(self._worker, 0)
            self._worker = 0
            code = os.waitstatus_to_exitcode(status)
            if code >= 0 and code != _CRASHED:
                break
            why = signal.Signals(-code).name if code < 0 else "a fault of its own"
            sys.stderr.write(f"siaga-pbx media: the worker died of {why}\n")
            time.sleep(max(0.0, started + RESPAWN_S - time.monotonic()))
        return max(0, code)

    def _start(self) -> None:
        # No signal between the fork and the moment when it is known whom to pass it on to.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        self._worker = os.fork()
        if self._worker == 0:
            self._be_worker()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def _be_worker(self) -> NoReturn:
        """In the child. It never returns into what the parent was doing."""
        code = _CRASHED
        try:
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            code = self._work()
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
