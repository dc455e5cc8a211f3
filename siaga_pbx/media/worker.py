"""A media worker: the process that carries audio. One daemon at a time speaks to it over its UNIX socket.

It outlives its daemon: calls go on, and the next daemon finds them (`State`) and what happened to them meanwhile.
Without a daemon it closes legs whose far side has been silent for a minute, and ends itself a minute after its last
leg. A process that keeps it (`keeper`) puts another in its place when it dies.
"""

import asyncio
import fcntl
import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Self

import structlog
import uvloop

from siaga_pbx.config import Config
from siaga_pbx.logs import start_logging
from siaga_pbx.media.calls import Calls
from siaga_pbx.media.keeper import Keeper
from siaga_pbx.media.ports import PortPool
from siaga_pbx.media.prompts import PromptStore
from siaga_pbx.media.protocol import (
    VERSION,
    Account,
    BindFailed,
    Bound,
    CallEvent,
    Closed,
    Command,
    Event,
    Hello,
    Pong,
    State,
)
from siaga_pbx.media.recorder import Disk
from siaga_pbx.media.settings import MediaSettings, lock_path, port_pairs, socket_path
from siaga_pbx.media.wire import Lines, ProtocolError, commands, events
from siaga_pbx.notify import Notifier

LINGER_S = 60.0
"""How long a worker without a daemon keeps a leg whose far side is silent, and how long it stays after its last leg."""
KEPT = 1000
"""Events that happen while no daemon is there and are kept for the next: so many of calls and of legs' ends, and so
many of other things. Keys pressed must not cost a recording's digest."""
SLICE_S = 0.005
"""How long the daemon's commands are carried out in one go: it may have a thousand legs to make, and audio waits."""
MAX_UNREAD = 8 << 20
"""Bytes a daemon may leave unread before its connection counts as lost."""
DISK_S = 10.0
"""How long the recordings of a worker that is told to end may take to reach the disk."""

SWITCH_S = 0.0005
"""How long the recordings' thread may keep the interpreter from the relay (Python's default is ten times this)."""


class AlreadyRunning(Exception):
    """Another process is this worker."""


class Worker:
    """One worker's life: `run` until it is to end."""

    def __init__(self, settings: MediaSettings, index: int, prompts: PromptStore, linger_s: float = LINGER_S) -> None:
        self._settings = settings
        self._prompts = prompts
        self._index = index
        self._linger_s = linger_s
        self._log = structlog.get_logger("media").bind(worker=index)
        self._commands = commands()
        self._events = events()
        self._daemon: asyncio.StreamWriter | None = None
        self._kept_ends: deque[Event] = deque(maxlen=KEPT)
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._alone_since = self._idle_since = monotonic()
        self._end = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM, `Leave`, or nobody needs it. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        path = socket_path(self._settings, self._index)
        with _listening(path) as listener:
            ports = PortPool(port_pairs(self._settings, self._index), self._settings.address)
            for name, fault in self._prompts.faults.items():
                self._log.error("media.prompt_unusable", file=name, reason=fault)
            disk = Disk(partial(_hand_over, loop, self._report))
            self._calls = Calls(loop, ports, self._prompts, disk, self._tell)
            self._calls.pacer.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._end.set)
            server = await asyncio.start_unix_server(self._serve, sock=listener)
            self._log.info("media.started", pid=os.getpid())
            Notifier().ready()
            await self._until_the_end()
            server.close()
            self._calls.close_all()
            self._calls.pacer.stop()
            await asyncio.to_thread(disk.close, DISK_S)
            await asyncio.sleep(0)  # the last reports of the disk
            if self._daemon is not None:
                self._daemon.close()
            self._log.info("media.ended")

    async def _until_the_end(self) -> None:
        while not self._end.is_set():
            now = monotonic()
            if self._daemon is not None:
                self._alone_since = self._idle_since = now
            elif now - self._alone_since >= self._linger_s:
                self._calls.close_silent(now - self._linger_s)
            if len(self._calls) > 0:
                self._idle_since = now
            elif self._calls.leaving or now - self._idle_since >= self._linger_s:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, self._linger_s / 4)):
                    await self._end.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One daemon's connection. A second one is refused while the first is there."""
        if self._daemon is not None or not _one_of_us(writer):
            writer.close()
            return
        self._daemon = writer
        self._calls.leaving = False
        self._log.info("media.daemon_came", legs=len(self._calls))
        try:
            for event in (Hello(VERSION, self._index, os.getpid()), self._calls.state(), *self._kept, *self._kept_ends):
                self._tell(event)
            self._kept.clear()
            self._kept_ends.clear()
            await self._obey(reader)
        except (OSError, ProtocolError) as error:
            self._log.error("media.daemon_unreadable", reason=str(error))
        finally:
            self._daemon = None
            self._alone_since = self._idle_since = monotonic()
            self._log.info("media.daemon_left", legs=len(self._calls))
            writer.close()

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        lines = Lines()
        while data := await reader.read(1 << 16):
            until = monotonic() + SLICE_S
            for line in lines.feed(data):
                self._perform(self._commands.decode(line))
                if monotonic() > until:
                    await asyncio.sleep(0)
                    until = monotonic() + SLICE_S

    def _perform(self, command: Command) -> None:
        try:
            self._calls.perform(command)
        except Exception:  # noqa: BLE001  a fault of ours in one call must not end the others
            self._log.exception("media.fault", command=command.type)
        if self._calls.leaving and len(self._calls) == 0:
            self._end.set()

    def _report(self, event: Event) -> None:
        """What the disk's thread has to tell."""
        self._calls.tell(event)

    def _tell(self, event: Event) -> None:
        if self._daemon is not None and not self._daemon.is_closing():
            self._daemon.write(self._events.encode(event))
            if self._daemon.transport.get_write_buffer_size() > MAX_UNREAD:
                self._daemon.transport.abort()
        elif isinstance(event, Closed | CallEvent):
            self._kept_ends.append(event)
        elif not isinstance(event, Account | Bound | BindFailed | Pong | State):
            self._kept.append(event)


class _Claim:
    """The right to be this worker: a lock that the system lifts when keeper and worker have ended, however they did."""

    def __init__(self, path: Path, *, wait: bool) -> None:
        self._path = lock_path(path)
        self._how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        self._wait = wait
        self._descriptor = -1

    def __enter__(self) -> Self:
        while not self._taken():
            if not self._wait:
                raise AlreadyRunning(f"{self._path} is locked: this worker runs already")
        return self

    def let_go(self) -> None:
        """In a process forked from the one whose claim it is: its own part of it. The lock stays."""
        os.close(self._descriptor)

    def _taken(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(self._descriptor, self._how)
            if os.fstat(self._descriptor).st_ino == self._path.stat().st_ino:  # not taken away in between
                return True
        os.close(self._descriptor)
        return False

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """The socket, for this user only, in place of one that a dead worker left."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(mask)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _hand_over(loop: asyncio.AbstractEventLoop, tell: Callable[[Event], None], event: Event) -> None:
    """From another thread."""
    with suppress(RuntimeError):  # the loop is closed: it is all over
        loop.call_soon_threadsafe(tell, event)


def _one_of_us(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end is this user, or root (unix(7), SO_PEERCRED)."""
    credentials = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.getuid())


def run_worker(config: Config, index: int, *, wait: bool) -> int:
    """The process that keeps worker `index`; returns its exit code. See `run`."""
    return run(config.media, index, wait=wait)


def run(settings: MediaSettings, index: int, linger_s: float = LINGER_S, *, wait: bool = False) -> int:
    """As `run_worker`, from [media] alone. `wait`: if another process is this worker, be ready to take its place."""
    prompts = PromptStore(settings.prompts)
    gc.collect()
    gc.freeze()  # prompts and code live as long as the process: no collection needs to look at them
    if wait:
        Notifier().ready("waiting to take over from another")
    try:
        with _Claim(socket_path(settings, index), wait=wait) as claim:
            return _keep(claim, settings, index, prompts, linger_s)
    except (AlreadyRunning, OSError) as error:
        sys.stderr.write(f"siaga-pbx media: {error}\n")
        return 1


def _keep(claim: _Claim, settings: MediaSettings, index: int, prompts: PromptStore, linger_s: float) -> int:
    work = partial(_work, settings, index, prompts, linger_s)
    return Keeper(work, partial(_stand_by, claim, settings, index, prompts, linger_s)).run()


def _stand_by(others: _Claim, settings: MediaSettings, index: int, prompts: PromptStore, linger_s: float) -> int:
    """A keeper that waits until both keeper and worker are gone."""
    others.let_go()
    with _Claim(socket_path(settings, index), wait=True) as claim:
        return _keep(claim, settings, index, prompts, linger_s)


def _work(settings: MediaSettings, index: int, prompts: PromptStore, linger_s: float) -> int:
    """The worker's process; returns its exit code."""
    logs = start_logging()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two sockets a leg
    sys.setswitchinterval(SWITCH_S)
    try:
        uvloop.run(Worker(settings, index, prompts, linger_s).run())
    except OSError as error:
        sys.stderr.write(f"siaga-pbx media: {error}\n")
        return 1
    finally:
        logs.close()
    return 0
