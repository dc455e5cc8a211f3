"""Starting media workers that outlive the daemon."""

import os
from collections.abc import Sequence

# What systemd gave the daemon alone: a worker must not report readiness or feed the watchdog in its name.
_DAEMONS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Child:
    """A worker process started here. It is in a session of its own and is not ended with the daemon."""

    def __init__(self, command: Sequence[str]) -> None:
        """Raises `OSError` when the program cannot be started."""
        environment = {name: value for name, value in os.environ.items() if name not in _DAEMONS_OWN}
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads have nothing to do, and it forks
        # Not subprocess.Popen: that object complains when it is dropped while its process still runs, as ours shall.
        self.pid = os.posix_spawnp(
            command[0],
            list(command),
            environment,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
        )
        self._running = True

    def running(self) -> bool:
        """Whether it runs; takes the exit status off the system's hands when it has ended."""
        if self._running:
            try:
                self._running = os.waitpid(self.pid, os.WNOHANG) == (0, 0)
            except ChildProcessError:  # somebody else of this process has waited for it
                self._running = False
        return self._running
