"""Brings recordings to the disk while they run: a power cut would take what the system keeps, half a minute."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

SYNC_S = 0.25
"""Between two syncs. With what a recording keeps in memory (`recorder.FLUSH_S`) a power cut costs at most a second."""

_libc = ctypes.CDLL(None, use_errno=True)


class Syncer:
    """A thread that syncs the recordings' file system (syncfs(2)): one sync for all files, whatever their number."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        """`complain` is called from the thread with the system's reason when what was written cannot be kept."""
        self._complain = complain
        self._folder: Path | None = None
        self._end = Event()
        self._thread = Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def wrote(self, folder: Path) -> None:
        """Something in this folder is to be kept."""
        self._folder = folder

    def close(self) -> None:
        """No sync is begun any more."""
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(SYNC_S):
            folder, self._folder = self._folder, None
            if folder is not None:
                try:
                    _sync(folder)
                except OSError as error:
                    self._complain(error.strerror or str(error))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
