"""The daemon's connection to one media worker: found or started, kept, watched, started again."""

import asyncio
import fcntl
import os
import signal
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from siaga_pbx.media.protocol import (
    VERSION,
    Command,
    Event,
    Hello,
    Leave,
    Ping,
    Pong,
    State,
)
from siaga_pbx.media.settings import lock_path
from siaga_pbx.media.spawn import Child
from siaga_pbx.media.wire import Lines, ProtocolError, commands, events

PING_S = 0.5
MAX_UNANSWERED = 4
"""Pings in a row with no word from the worker before its connection counts as lost. Counted, not timed: a daemon that
was itself held up for seconds must not find its workers dead."""
MAX_GREETING = 4
"""A worker that takes a connection and does not greet within so many pings' time hangs, and is killed."""
RETRY_S = 0.02
"""Between two attempts to connect: every tick without a worker is silence."""
RESPAWN_S = 1.0
"""Between two starts: a worker that cannot start must not eat the machine."""
PART_S = 0.5
"""How long a worker may take to read the last commands of a daemon that goes."""
MAX_UNSENT = 4 << 20
"""Bytes a worker may leave unread before its connection counts as lost."""


class LinkLost(Exception):
    """The worker is gone, does not answer, or belongs to another daemon."""


@dataclass(frozen=True, slots=True)
class LinkHandlers:
    """Called from the event loop: a worker is there with its state; it is gone and why; it says something."""

    up: Callable[["Link", State], None]
    down: Callable[["Link", str], None]
    event: Callable[["Link", Event], None]


class Link:
    """One worker. `up` tells whether commands reach it; `send` never blocks and never raises."""

    def __init__(
        self, index: int, path: Path, command: Sequence[str], handlers: LinkHandlers, ping_s: float = PING_S
    ) -> None:
        self.index = index
        self.up = False
        self.pid = 0
        self.pong = Pong(0, 0, {}, 0.0)
        self.refused: Counter[str] = Counter()
        """Packets dropped, by reason, by this worker and those before it."""
        self._counted: tuple[int, Counter[str]] = (0, Counter())
        self._path = path
        self._command = command
        self._handlers = handlers
        self._ping_s = ping_s
        self._reason = "it does not start"
        self._commands = commands()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []
        self._child: Child | None = None
        self._spawned_at = float("-inf")
        self._told_down = False

    def send(self, command: Command) -> None:
        """Commands to a worker that is not up are dropped: whoever sends them has learned of it by `down`."""
        if self._writer is None or not self.up:
            return
        if not self._unsent:  # one system call for all that this turn of the loop has to say
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(self._commands.encode(command))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent or self._writer is None or not self.up:
            return
        self._writer.write(b"".join(unsent))
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self._writer.transport.abort()

    async def run(self) -> None:
        """Keep the worker there until cancelled."""
        while True:
            try:
                await self._session()
            except (OSError, ProtocolError, LinkLost) as error:
                self._reason = str(error) or type(error).__name__
                self._lost(self._reason)
            await asyncio.sleep(RETRY_S)

    def report_absent(self) -> None:
        """Tell `down` if the worker is not there, with what is known of the reason."""
        if not self.up:
            self._report_down(self._reason)

    def _report_down(self, reason: str) -> None:
        """Once until the worker is up again."""
        if not self._told_down:
            self._told_down = True
            self._handlers.down(self, reason)

    async def leave(self, wait_s: float, *, keep: bool) -> None:
        """Let go of the worker; unless it is kept it ends once it has no leg. Waits that long for a child of ours to
        end. Stop `run` first."""
        if not keep:
            self.send(Leave())
        self._flush()
        self.up = False
        if self._writer is not None:
            await self._part(self._writer)
            self._writer = None
        for _ in range(round(wait_s / RETRY_S)):
            if self._child is None or not self._child.running():
                break
            await asyncio.sleep(RETRY_S)

    async def _part(self, writer: asyncio.StreamWriter) -> None:
        """Close once the worker has read all that was said: what it says meanwhile would break the connection."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PART_S):
                writer.write_eof()
                while await self._reader.read(1 << 16):
                    pass
        writer.close()

    def _lost(self, reason: str) -> None:
        self._unsent.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self.up:
            self.up = False
            self._report_down(reason)

    async def _session(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(os.fspath(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            self._spawn()
            return
        except OSError:
            connection.close()
            raise
        self.pid = _listener(connection)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        messages = _Messages(self._reader)
        state = await self._greeting(messages)
        self.up, self._told_down = True, False
        self._handlers.up(self, state)
        await self._converse(messages)

    def _spawn(self) -> None:
        now = asyncio.get_running_loop().time()
        running = self._child is not None and self._child.running()
        if not running and now >= self._spawned_at + RESPAWN_S and not _kept(self._path):
            self._spawned_at = now
            self._child = Child([*self._command, "--index", str(self.index)])

    async def _greeting(self, messages: "_Messages") -> State:
        """`Hello`, then `State`. A worker that hangs or speaks another version is ended; the next round starts one."""
        try:
            async with asyncio.timeout(MAX_GREETING * self._ping_s):
                hello = await messages.next()
                if not isinstance(hello, Hello) or hello.version != VERSION:
                    self._end_worker(signal.SIGTERM)
                    raise LinkLost(f"the worker speaks another version than {VERSION}")
                state = await messages.next()
        except TimeoutError:
            self._end_worker(signal.SIGKILL)
            raise LinkLost("the worker hangs") from None
        if not isinstance(state, State):
            raise ProtocolError("no State after Hello")
        return state

    async def _converse(self, messages: "_Messages") -> None:
        """Hand on what the worker says, with a ping each second, until it is lost."""
        loop = asyncio.get_running_loop()
        number = unanswered = 0
        next_ping = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(next_ping):
                    event = await messages.next()
                unanswered = 0
                if isinstance(event, Pong):
                    self._take_pong(event)
                self._handlers.event(self, event)
            except TimeoutError:
                if unanswered >= MAX_UNANSWERED:
                    raise LinkLost("the worker does not answer") from None
                number, unanswered = number + 1, unanswered + 1
                next_ping = loop.time() + self._ping_s
                self.send(Ping(number))

    def _take_pong(self, pong: Pong) -> None:
        self.pong = pong
        pid, counted = self._counted
        now = Counter(pong.refused)
        self.refused += now - counted if pid == self.pid else now  # another process counts from nothing
        self._counted = self.pid, now

    def _end_worker(self, signal_number: int) -> None:
        if self.pid > 1:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal_number)


class _Messages:
    """The worker's events, one at a time."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._lines = Lines()
        self._wire = events()
        self._ready: deque[bytes] = deque()

    async def next(self) -> Event:
        """Raises `LinkLost` at the end of the stream, `ProtocolError` for nonsense. Safe to cancel."""
        while not self._ready:
            data = await self._reader.read(1 << 16)
            if not data:
                raise LinkLost("the worker closed the connection")
            self._ready.extend(self._lines.feed(data))
        return self._wire.decode(self._ready.popleft())


def _kept(path: Path) -> bool:
    """Whether there is somebody who is this worker and only does not listen yet, or will start another at once."""
    try:
        with lock_path(path).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _listener(connection: socket.socket) -> int:
    """The process at the other end (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", credentials)
    return int(pid)
