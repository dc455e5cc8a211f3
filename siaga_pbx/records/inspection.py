"""Whether an SQLite file may be written: its quick_check, in a thread of its own; that of a large one takes minutes."""

import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

from siaga_pbx.records.database import FileIdentity, is_harmless
from siaga_pbx.records.errors import StoreUnavailable

_BUSY_S = 5.0
_EVERY_S = 3600.0
_RARELY = 200  # times as long as it took, before the next one: what is read is also the disk's and the caches' time


class Soundness:
    """What is known of the file. One that nothing speaks against is written while it is checked: calls go on.

    After something that may have damaged it, it is not written before a check has found it whole. A database that is no
    file of ours (None) is its server's to check.
    """

    def __init__(self, file: Path | None) -> None:
        self.known = False
        """Whether it was found whole, and nothing went wrong since that could damage it."""
        self._file = file
        self._suspect = False
        self._next_at = 0.0
        self._inspection: Inspection | None = None

    @property
    def settled(self) -> bool:
        """Whether no check is due or goes on. One is at the start, after a fault, on request, and every hour or so."""
        return self._inspection is None and self.known and (self._file is None or time.monotonic() < self._next_at)

    def doubt(self) -> None:
        """A check is due. From any thread."""
        self._next_at = 0.0

    def note(self, error: Exception) -> None:
        """An outage."""
        if not is_harmless(error):
            self.known, self._suspect = False, True

    def confirm(self, identity: FileIdentity | None, within_s: float) -> None:
        """Has the file of this identity checked, unless it is known; StoreUnavailable if it is not to be written."""
        if self.settled or self._file is None:
            self.known = True
            return
        if self._inspection is None or self._inspection.is_stale(identity):
            self.close()
            self._inspection = Inspection(self._file, identity)
        if not self._inspection.wait(within_s):
            if self._suspect:
                raise StoreUnavailable("the database is being checked: something went wrong that may have damaged it")
            return
        if self._inspection.fault:
            raise StoreUnavailable(f"the database {self._inspection.fault}")
        self._next_at = time.monotonic() + max(_EVERY_S, _RARELY * self._inspection.took_s)
        self.close()
        self.known, self._suspect = True, False

    def close(self) -> None:
        """Ends a check that goes on."""
        if self._inspection is not None:
            self._inspection.close()
            self._inspection = None


class Inspection:
    """A quick_check of the file as it is now; begins at once. Raises StoreUnavailable when it cannot be opened."""

    def __init__(self, file: Path, identity: FileIdentity | None) -> None:
        self.fault, self.took_s = "", 0.0
        """What is to be said of the file, if it is not whole, and how long that took; once it is over."""
        self._identity = identity
        self._over, self._began = threading.Event(), time.monotonic()
        uri = f"{file.absolute().as_uri()}?mode=ro"
        try:
            self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error
        self._thread = threading.Thread(target=self._run, name="records check", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it is over, at the latest after so many seconds."""
        return self._over.wait(seconds)

    def is_stale(self, identity: FileIdentity | None) -> bool:
        """Whether the file is another one now, or may have been mended since: checks take half of the time at most."""
        mended = bool(self.fault) and time.monotonic() > self._began + 2 * self.took_s
        return identity != self._identity or mended

    def close(self) -> None:
        """Ends it, whatever it was about to find."""
        with suppress(sqlite3.Error):
            self._connection.interrupt()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        try:
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            self.fault = "" if found == "ok" else f"is damaged: {found}"
        except sqlite3.Error as error:
            busy = str(getattr(error, "sqlite_errorname", "")).startswith(
                ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT")
            )
            self.fault = f"{'cannot be checked' if busy else 'is damaged'}: {error}"
        finally:
            self.took_s = time.monotonic() - self._began
            self._over.set()
