"""The daemon: starts the parts, reloads, drains, stops. `run` is the command `siaga-pbx run`."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from siaga_pbx import config as configuration
from siaga_pbx.build import Parts, assemble, stack_settings
from siaga_pbx.config import Config, ConfigErrors
from siaga_pbx.dispatch.broker import BrokerError
from siaga_pbx.logs import LogWriter, start_logging
from siaga_pbx.media.wav import mend
from siaga_pbx.notify import Notifier
from siaga_pbx.records.accesses import Access
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.recordings import complete_left
from siaga_pbx.records.retention import Keep, purge
from siaga_pbx.records.times import utc_text
from siaga_pbx.view import View
from siaga_pbx.web import token
from siaga_pbx.web.centre import Cause, CentreState, Refused

if TYPE_CHECKING:
    from siaga_pbx.web.server import HttpServer

log = structlog.get_logger(__name__)

DRAIN_LIMIT_S = 300.0
"""How long a drain waits for calls to end; the unit's TimeoutStopSec lies above it."""
OPEN_S = 5.0
"""How long a start waits for the record: seats may be unknown then until they register again; callers are served."""
FLUSH_S = 2.0
"""How long the record's last events are waited for before its head is told for the last time."""
LINGER_S = 0.5
"""How long the last BYEs may be answered before the sockets close."""
SWITCH_S = 0.0005
"""How long the records' thread may keep the interpreter from the loop; Python's own 5 ms show in the ringing time."""
GC_THRESHOLD = 20_000
"""Objects between two collections of the youngest: some tens of calls, whose messages are free of circles anyway."""
SHIFT_S = 12 * 3600.0
"""A seat that paused within this time is paused still after a restart; earlier, its person has gone home."""
AUDIT_S = 5.0
CLOCK_CHECK_S = 60.0
RECORDS_CHECK_S = 1.0
WITNESS_S = 60.0
FIRST_WITNESS_S = 5.0
"""How often the head of the record's chain is told to the log and the broker."""
RETENTION_S = 24 * 3600.0
FIRST_RETENTION_S = 600.0
"""From the start: by then the calls of before are settled, and whoever restarts often keeps the days, too."""

RECORDINGS_S = 2.0
"""After the start: workers that outlived the last daemon have told by then which recordings they go on with."""
_BOUND_AT_START = ("media", "records", "http")
"""Sections that a reload leaves as they were: what they name is bound, opened or spawned at the start."""
_SIP_AT_START = ("listen", "certificate", "key", "ca", "origins", "resolver", "keep_alive_s")
"""The same of [sip]. The files may hold something new: a renewed certificate is taken."""


class Daemon:
    """One centre. `start`, then `drain` and `stop`; `reload` in between."""

    def __init__(self, config: Config, notifier: Notifier | None = None) -> None:
        self.state = CentreState.STARTING
        self._notifier = notifier or Notifier({})
        self._tasks: list[asyncio.Task[None]] = []
        worker = [sys.executable, "-m", "siaga_pbx", "media", "--config", str(config.path)]
        self.parts: Parts = assemble(config, worker)
        self.view = View(self.parts, state=lambda: self.state, sip_bound=lambda: self._sip_bound, reload=self.reload)
        self._sip_bound = False
        self._http: HttpServer | None = None

    @property
    def http_address(self) -> tuple[str, int]:
        """Where the API listens, once started."""
        assert self._http is not None, "start() comes first"
        return self._http.address

    async def start(self) -> None:
        """Raises OSError when an address cannot be bound, and BrokerError; nothing else stops it.

        SIP comes first: while a large database is checked or a worker starts, a caller hears ringing, not a dead line.
        With it, before the first packet, come the calls that an earlier daemon had when it was killed.
        """
        parts, config = self.parts, self.parts.config
        await parts.endpoint.start()
        parts.addresses.bound = parts.endpoint.bound
        parts.endpoint.perform(parts.stack.configure(stack_settings(config, parts.addresses), parts.clock.now()))
        self._sip_bound = True
        opening = asyncio.create_task(asyncio.to_thread(parts.store.open, parts.takeover.resume(), OPEN_S))
        await parts.media.start()
        parts.takeover.claim()
        parts.media.release_unclaimed()
        await opening
        await self._restore_seats()
        parts.switch.carry_out(parts.queue.start(parts.clock.now()))
        await parts.dispatcher.start()
        await self._start_http(config)
        self._every(AUDIT_S, parts.hub.audit)
        self._every(AUDIT_S, parts.takeover.look_over)
        self._every(RECORDS_CHECK_S, parts.slowness.check)
        self._every(config.sip.keep_alive_s, parts.hub.check_peers)
        self._every(CLOCK_CHECK_S, self._check_clock)
        self._spawn(parts.metrics.measure_loop_lag(parts.clock.now))
        self._spawn(self._complete_recordings())
        self._spawn(self._purge())
        self._spawn(self._witness())
        self._spawn(self._notifier.keep_alive(lambda: True))
        parts.metrics.config_last_reload_successful.set(1)
        # What the start made stays for good: the collector need not look at it again, 50 ms each time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 10, 50)
        self.state = CentreState.RUNNING
        parts.tools.log.system("started", {"pid": os.getpid()})
        self._notifier.ready(f"{config.centre.name}: {len(config.trunks)} trunks, {len(config.seats)} seats")
        log.info("started", centre=config.centre.id, sip=[str(one) for one in parts.endpoint.bound])

    async def _restore_seats(self) -> None:
        """Registrations and pauses as they were. Without the record phones register again within two minutes."""
        parts, hub = self.parts, self.parts.hub
        try:
            since = utc_text(parts.tools.epoch() - SHIFT_S)
            hub.restore_pauses(await asyncio.to_thread(partial(parts.reader.seats, since=since)))
            # Last: who is registered is offered whoever waits, if he is not paused.
            hub.restore_bindings(await asyncio.to_thread(parts.reader.bindings, parts.clock.utc()))
        except Exception:
            log.exception("registrations and pauses of before the start cannot be read")

    async def reload(self) -> tuple[str, ...]:
        """Read the files again and take over what can be; all that can fail comes first (then Refused, and no change).

        Returns the sections that changed but need a restart.
        """
        old = self.parts.config
        self._notifier.reloading()
        try:
            new = await asyncio.to_thread(configuration.load, old.path)
            self.parts.endpoint.reload_certificate()
        except ConfigErrors as errors:
            raise self._not_reloaded(str(errors)) from errors
        except OSError as error:
            raise self._not_reloaded(f"the certificate or its key: {error}") from error
        restart = _needs_restart(old, new)
        new = new.model_copy(
            update={name: getattr(old, name) for name in _BOUND_AT_START}
            | {
                "centre": new.centre.model_copy(update={"id": old.centre.id}),
                "sip": new.sip.model_copy(update={name: getattr(old.sip, name) for name in _SIP_AT_START}),
            }
        )
        self.parts.configure(new)
        self.parts.store.doubt()
        try:
            await self.parts.dispatcher.configure(new)
        except BrokerError as error:
            self.parts.alarms.set("broker", True, f"the embedded broker: {error}")
            log.error("the embedded broker does not run", why=str(error))
            restart += ("mqtt",)
        self.parts.metrics.config_last_reload_successful.set(1)
        self.parts.alarms.set("reload_failed", False)
        self.parts.tools.log.system("reloaded", {"restart": list(restart)})
        self._notifier.ready("reloaded")
        log.info("reloaded", needs_restart=list(restart))
        return restart

    def _not_reloaded(self, why: str) -> Refused:
        self.parts.metrics.config_last_reload_successful.set(0)
        self.parts.alarms.set("reload_failed", True, "the configuration has errors; the old one stays in force")
        self._notifier.ready("reload failed: the old configuration stays in force")
        log.error("reload failed", errors=why.splitlines())
        return Refused(Cause.INVALID, why)

    async def drain(self) -> None:
        """Wait until no call is left, at most DRAIN_LIMIT_S. New 112 calls are taken meanwhile (docs/adr/0004)."""
        if self.state is CentreState.DRAINING:
            return
        self.state = CentreState.DRAINING
        self._notifier.stopping("draining")
        deadline = self.parts.clock.now() + DRAIN_LIMIT_S
        self.parts.tools.log.system("draining", {"calls": len(self.parts.switch.callers)})
        while self.parts.tools.legs and (left := deadline - self.parts.clock.now()) > 0:
            log.info("draining", calls=len(self.parts.switch.callers), left_s=round(left))
            with suppress(TimeoutError):
                await asyncio.wait_for(self.parts.tools.legs.none_left(), min(5.0, left))

    async def stop(self, *, failed: bool = False) -> None:
        """End what is left, in the reverse order of the start. A part that fails does not keep the others.

        After a start that failed the calls stay as they are, for the next one.
        """
        parts = self.parts
        if not failed:
            await self._end_calls()
        parts.takeover.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        parts.tools.log.system("stopped", {"pid": os.getpid()})
        if self._http is not None:
            await self._guarded(self._http.stop)
        await asyncio.to_thread(parts.store.flush, FLUSH_S)
        await self._guarded(self._tell_head)
        await self._guarded(parts.dispatcher.close)
        await self._guarded(parts.endpoint.close)
        await self._guarded(partial(parts.media.stop, keep_workers=failed))
        await asyncio.to_thread(parts.store.close)
        parts.reader.close()
        head = parts.store.head
        log.info("stopped", seq=head.seq, hash=head.hash)

    async def _end_calls(self) -> None:
        parts = self.parts
        had_calls = len(parts.tools.legs) > 0
        parts.switch.hang_up_all()
        if had_calls:
            await asyncio.sleep(LINGER_S)
        parts.takeover.flush()

    async def _start_http(self, config: Config) -> None:
        # What takes the longest to import comes last, in a thread: nobody on the line has to wait for it.
        await asyncio.to_thread(import_module, "siaga_pbx.web.app")
        from siaga_pbx.web.app import create_app
        from siaga_pbx.web.server import HttpServer

        parts, listen = self.parts, config.http.listen
        app = create_app(
            self.view,
            token.load_or_create(config.token_file),
            records=parts.reader,
            registry=parts.metrics.registry,
            outage=RecordsError,
            recordings=config.records.recordings,
            quarantined=lambda: parts.dispatcher.quarantined,
            traced=parts.trace.of,
            keeper=parts.custody,
            note=lambda by, what, call_id, query: parts.accesses.note(Access(by, what, call_id, query)),
            host=listen.host,
        )
        self._http = HttpServer(app, listen.host, listen.port)
        await self._http.start()

    def _check_clock(self) -> None:
        good = self.parts.clock.synchronised()
        self.parts.metrics.clock_synchronised.set(good)
        self.parts.alarms.set("clock_not_synchronised", not good, "no time service keeps the clock true; see chrony")

    async def _purge(self) -> None:
        """Retention, once a day."""
        parts = self.parts
        records = parts.config.records
        keep = Keep(records.keep_calls_days, records.keep_recordings_days)
        await asyncio.sleep(FIRST_RETENTION_S)
        while True:
            try:
                purged = await asyncio.to_thread(purge, parts.store, parts.reader, parts.custody, keep, time.time())
                log.info("retention", calls=purged.calls, files=purged.files, kept=purged.kept)
            except (RecordsError, TimeoutError, OSError) as error:
                log.warning("retention failed, tried again later", why=str(error))
            await asyncio.sleep(RETENTION_S)

    async def _complete_recordings(self) -> None:
        """What a crash left of recordings is made whole, once the workers have told of theirs."""
        parts = self.parts
        await asyncio.sleep(RECORDINGS_S)
        folder = parts.config.records.recordings

        def running(call: str) -> bool:
            return parts.media.recording_of(call) is not None

        with suppress(RecordsError):
            done = await asyncio.to_thread(complete_left, parts.store, parts.reader, folder, running, mend)
            log.info("recordings completed", recordings=done)

    async def _witness(self) -> None:
        """Others learn how far the record's chain is: one that is made anew later shows (`verify-records --head`)."""
        await asyncio.sleep(FIRST_WITNESS_S)
        while True:
            await self._guarded(self._tell_head)
            await asyncio.sleep(WITNESS_S)

    async def _tell_head(self) -> None:
        head = self.parts.store.head
        if not head.seq:  # the database could not be read yet: what was told last still holds
            return
        published = await self.parts.dispatcher.witness(head)
        log.info("chain head", seq=head.seq, hash=head.hash, published=published)

    def _every(self, seconds: float, act: Callable[[], None]) -> None:
        self._spawn(self._repeat(seconds, act))

    async def _repeat(self, seconds: float, act: Callable[[], None]) -> None:
        while True:
            try:
                act()
            except Exception:
                self.parts.metrics.internal_errors.labels(act.__name__).inc()
                log.exception("a periodic task failed", task=act.__name__)
            await asyncio.sleep(seconds)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _guarded(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Exception:
            log.exception("a part failed")


def _needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    changed = [name for name in _BOUND_AT_START if getattr(old, name) != getattr(new, name)]
    if old.centre.id != new.centre.id:
        changed.append("centre.id")
    changed += [f"sip.{name}" for name in _SIP_AT_START if getattr(old.sip, name) != getattr(new.sip, name)]
    if {trunk.listen for trunk in old.trunks} != {trunk.listen for trunk in new.trunks}:
        changed.append("trunk.listen")
    return tuple(changed)


async def serve(config: Config, logs: LogWriter) -> int:
    """Run the daemon until SIGTERM or SIGINT (drains; the second one forces). SIGHUP reloads."""
    daemon = Daemon(config, Notifier())
    logs.on_dropped = daemon.parts.metrics.log_lines_dropped.inc
    loop = asyncio.get_running_loop()
    ends, forced = asyncio.Event(), asyncio.Event()

    def end() -> None:
        (forced if ends.is_set() else ends).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with suppress(Refused):  # it is logged and an alarm
            await daemon.reload()

    def on_hup() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hup)
    try:
        await daemon.start()
    except (OSError, BrokerError) as error:
        await daemon.stop(failed=True)
        sys.stderr.write(f"siaga-pbx: {error}\n")
        return 1
    await ends.wait()
    draining, forcing = loop.create_task(daemon.drain()), loop.create_task(forced.wait())
    await asyncio.wait((draining, forcing), return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    forcing.cancel()
    await daemon.stop()
    return 0


def run(path: Path) -> int:
    """`siaga-pbx run`: 0 after a clean stop, 1 when the configuration or the start failed."""
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    try:
        config = configuration.load(path)
    except ConfigErrors as errors:
        sys.stderr.write(f"{errors}\n")
        return 1
    logs = start_logging()
    try:
        return uvloop.run(serve(config, logs))
    finally:
        logs.close()
