"""What the service manager is told (sd_notify(3)): ready, reloading, stopping, and that the loop is alive."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping


class Notifier:
    """Sends states to the socket of $NOTIFY_SOCKET; without one, does nothing. Never blocks, never raises."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog(environment)
        """The unit's WatchdogSec in seconds, or None when no watchdog waits for this process."""

    def ready(self, status: str = "") -> None:
        """Started, or done with a reload. `status` is a line for `systemctl status`."""
        self._send("READY=1", status and f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; call ready when it is done, however it went."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """No way back from here: draining."""
        self._send("STOPPING=1", status and f"STATUS={status}")

    def extend(self, seconds: float) -> None:
        """A slow start or stop (a migration, a long drain) needs this much more, counted from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1")

    async def keep_alive(self, healthy: Callable[[], bool]) -> None:
        """Feeds the watchdog from the event loop until cancelled, as long as `healthy` says yes.

        A loop that is stuck feeds nothing: the manager kills and restarts the daemon, and the workers keep the audio.
        """
        if self.watchdog_s is None:
            return
        while True:
            if healthy():
                self.alive()
            await asyncio.sleep(self.watchdog_s / 3)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL of an abstract socket.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        message = "\n".join(line.replace("\n", " ") for line in lines if line)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to_manager:
                to_manager.sendto(message.encode(errors="replace"), address)
        except OSError:
            return  # a manager that does not listen is not worth a call


def _watchdog(environment: Mapping[str, str]) -> float | None:
    try:
        if int(environment.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None  # meant for the process that started us
        microseconds = int(environment["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if microseconds > 0 else None
