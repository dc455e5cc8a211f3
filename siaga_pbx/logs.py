"""Logs: structlog to stderr, through a bounded queue and its own thread, with callers' numbers masked.

    logs = start_logging()                                           # once, in the process's entry point
    logs.on_dropped = metrics.log_lines_dropped.inc
    with call_logged(call_id):                                       # every line within carries call_id
        log.info("queue.offered", seat="101")
    logs.close()

A pipe that nobody reads blocks the thread, never a call: lines beyond the queue are dropped and counted.
"""

import contextlib
import json
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Callable, MutableMapping
from queue import Empty, SimpleQueue
from typing import TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from siaga_pbx.records.times import utc_now

CAPACITY = 10_000
"""Lines that wait for stderr: some seconds of a very bad day, about 3 MB."""

_BATCH = 100
"""Lines written at once."""
_LINGER_S = 0.05
"""How long a line may wait for company. A thread that wakes for each takes the interpreter from the loop each time."""

CallLogged: TypeAlias = contextlib.AbstractContextManager[None]


def call_logged(call_id: str) -> CallLogged:
    """Within it every line logged by this task or callback carries `call_id`, whichever module logs it."""
    return structlog.contextvars.bound_contextvars(call_id=call_id)


# Masking

_ALL_BUT_THREE = re.compile(r"\d(?=(?:\D*\d){3})")


def mask_number(number: str) -> str:
    """A caller's number for a log: all digits but the last three as stars. Up to three are a service's number."""
    return _ALL_BUT_THREE.sub("*", number)


_NUMBER = re.compile(
    r"""
      (?: (?<=sip:) | (?<=sips:) | (?<=%2[Bb]) ) \+? \d (?: [-\ ()]? \d ){3,}   # a URI's user part, however short
    | (?<=tel:) \+? \d (?: [-.()]? \d ){3,}                                   # with RFC 3966's separators
    | (?<![\w.\-%]) \+ \d (?: [-.\ ()]? \d ){6,} (?![\w\-])
    | (?<![\w.\-%]) (?! \d{4}-\d\d-\d\d )                                    # alone: no part of an id, an address
      \d (?: [-\ ()]? \d ){6,} (?![\w\-])
    """,
    re.VERBOSE,
)
_MAYBE_NUMBER = re.compile(r"\d[-. ()]?\d[-. ()]?\d[-. ()]?\d")
"""What every number has, and most text has not: looked for first, because it is ten times as fast."""

_NUMBER_KEYS = frozenset({"number", "caller", "caller_number", "callback", "asserted"})
"""Keys whose value is a caller's number whatever it looks like."""

_PLAIN_KEYS = frozenset({"timestamp", "level", "event"})
_MAX_DEPTH = 4


def mask_text(text: str) -> str:
    """Masks whatever looks like a telephone number in a text (a header, a URI, a traceback)."""
    if _MAYBE_NUMBER.search(text) is None:
        return text
    return _NUMBER.sub(lambda match: mask_number(match[0]), text)


def mask_numbers(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The structlog processor: no line leaves with a caller's number in it. Keys that end in `_id` hold no numbers."""
    for key, value in event.items():
        if key in _NUMBER_KEYS:
            event[key] = mask_number(str(value)) if value is not None else None
        elif key not in _PLAIN_KEYS and not key.endswith("_id"):
            event[key] = _masked(value, 0)
    event["event"] = mask_text(str(event.get("event", "")))
    return event


def _masked(value: object, depth: int) -> object:
    if isinstance(value, str):
        return mask_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < _MAX_DEPTH:
        if isinstance(value, MutableMapping):
            return {key: _masked(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_masked(inner, depth + 1) for inner in value]
    return mask_text(str(value))


# The thread


class LogWriter:
    """Writes lines to a file descriptor from its own thread. `write` never blocks and never raises.

    The descriptor is written directly, because a thread that is blocked in sys.stderr holds its lock for ever.
    """

    def __init__(self, fd: int, *, capacity: int = CAPACITY, on_dropped: Callable[[int], None] | None = None) -> None:
        self._fd = fd
        self._capacity = capacity
        self.on_dropped = on_dropped
        """Called with the number of lines lost, from whichever thread logs."""
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._counting = threading.RLock()  # re-entrant: a finaliser may log in the middle of anything
        self._untold = 0
        self._closed = False
        self._closing = threading.Event()
        self.dropped = 0
        """Lines lost since the start."""
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        if self._closed or self._queue.qsize() >= self._capacity:
            self._drop(1)
        else:
            self._queue.put(line)

    # structlog asks its logger for the method of the level
    msg = debug = info = warning = error = critical = exception = log = write

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, for `timeout_s` at most; what is logged later is dropped."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._closing.set()
            self._thread.join(timeout_s)

    def _drop(self, lines: int) -> None:
        with self._counting:
            self.dropped += lines
            self._untold += lines
        if self.on_dropped is not None:
            self.on_dropped(lines)

    def _run(self) -> None:
        while True:
            lines, over = self._take()
            with self._counting:
                untold, self._untold = self._untold, 0
            if untold:
                lines.append(_own_line("logs.dropped", "warning", lines=untold))
            if not self._put("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")):
                self._drop(len(lines))
            if over:
                return

    def _take(self) -> tuple[list[str], bool]:
        """Waits for a line and a little for others, then takes what is there."""
        lines: list[str] = []
        line = self._queue.get()
        if self._queue.qsize() < _BATCH:
            self._closing.wait(_LINGER_S)
        with contextlib.suppress(Empty):
            while line is not None:
                lines.append(line)
                if len(lines) == _BATCH:
                    return lines, False
                line = self._queue.get_nowait()
            return lines, True
        return lines, False

    def _put(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another program made the terminal or pipe non-blocking
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True


def _own_line(event: str, level: str, **values: object) -> str:
    return json.dumps({"event": event, "level": level, "timestamp": utc_now(), **values})


class _Handler(logging.Handler):
    """Brings the standard library's log records (uvicorn, aiomqtt, asyncio) the same way."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception:  # noqa: BLE001 - a record that cannot be formatted must not harm who logged it
            self._writer.write(_own_line("logs.unreadable", "error", logger=record.name))


def start_logging(
    fd: int = 2,
    *,
    level: int = logging.INFO,
    terminal: bool | None = None,
    capacity: int = CAPACITY,
    on_dropped: Callable[[int], None] | None = None,
) -> LogWriter:
    """Sets structlog and logging up for this process; close what it returns at the end.

    `terminal`: coloured lines for people instead of JSON (default: when `fd` is one). `on_dropped(lines)` is called
    from whichever thread logs.
    """
    writer = LogWriter(fd, capacity=capacity, on_dropped=on_dropped)
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _stamp,
        structlog.processors.format_exc_info,  # text without the values of variables, which may be secrets
        mask_numbers,
    ]
    render = _renderer(os.isatty(fd) if terminal is None else terminal)
    structlog.configure(
        processors=[*first, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries talk at INFO about every request and statement; what they warn of is wanted.
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    return writer


def _stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = utc_now()
    return event


def _renderer(terminal: bool) -> Processor:
    if terminal:
        return structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback, colors=sys.platform != "win32"
        )
    encode = json.JSONEncoder(default=str, ensure_ascii=False).encode
    return lambda _logger, _method, event: encode(event)
