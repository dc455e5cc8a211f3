"""An agency's end, without a face: takes dispatches in, keeps them in a file, answers them, tells that it is there."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import structlog
from pydantic import ValidationError

from siaga_pbx.config import AgencyEnd
from siaga_pbx.dispatch.agency_book import Book, Entry, News, Saved, Signature
from siaga_pbx.dispatch.broker import EMBEDDED, read_access, write_private
from siaga_pbx.dispatch.ladder import Answer
from siaga_pbx.dispatch.message import Dispatch, PayloadError, Presence
from siaga_pbx.dispatch.mqtt import NO_MATCHING_SUBSCRIBERS, Bus, BusSettings, NotPublished, Outgoing
from siaga_pbx.dispatch.topics import Topics
from siaga_pbx.records.times import utc_now

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_SAVE_AGAIN_S = 2.0
_SHOWN_S = 3.0
"""A disk that hangs does not keep a dispatch from the people for longer, nor the program from its end; one that is
shown and then forgotten is new to them again."""


def state_file_of(centre: str, agency: str) -> Path:
    """Where an agency's end keeps its book: the unit's StateDirectory, else the user's own state folder."""
    if unit := os.environ.get("STATE_DIRECTORY"):
        folder = Path(unit.split(":")[0])
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "siaga-pbx"
    return folder / f"agency-{centre}-{agency}.json"


class Listener:
    """Who wants to know what comes in; each method may be left as it is."""

    def hear(self, news: News, entry: Entry) -> None:
        """A dispatch came, and this is how it stands now."""

    def refused(self, reason: str) -> None:
        """Something came that is no dispatch for this agency, or could not be kept."""

    def connection(self, connected: bool, reason: str) -> None:
        """The broker came or went."""

    def kept(self, fault: str) -> None:
        """The file cannot be written, by this `fault`, or ("") it can be again, and holds all."""


class Station:
    """One agency's end. `by` signs its answers. The state file is 0600: it holds what callers said.

    What comes is shown and answered once the file holds it. `fault`: why the file cannot be written. Until it
    can be, what people say is told as not kept, and this machine says nothing of its own: the centre goes on sending.
    """

    def __init__(
        self,
        end: AgencyEnd,
        agency: str,
        state_file: Path,
        by: str,
        utc: Callable[[], str] = utc_now,
    ) -> None:
        self.agency, self.centre = agency, end.centre_id
        self._end, self._file, self._by, self._utc = end, state_file, by, utc
        self.listeners: list[Listener] = []
        self._topics = Topics(end.mqtt.prefix)
        self._bus = Bus(self._bus_settings, self._presence, self._on_message, self._on_bus)
        self._wake = asyncio.Event()
        self.fault = ""
        self._sender: asyncio.Task[None] | None = None
        self._saver: asyncio.Task[None] | None = None
        self._changed, self._tried = asyncio.Event(), asyncio.Condition()
        self._closing = False
        self._lock: BinaryIO | None = None
        self.book = Book()

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._file.parent

    def open(self) -> None:
        """Reads the state file. Raises OSError when it cannot be read, or another program has it open."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Two ends of one agency would take the broker's session from each other, and the file too, for ever.
        self._lock = self._file.with_name(f"{self._file.name}.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OSError(f"{self._file}: another siaga-pbx agency {self.agency} runs with it") from None
        self.book = Book(_read(self._file))
        self.book.written = self.book.version

    def start(self) -> None:
        """Keeps a connection. Opens the state file if that was not done; raises OSError as `open` does."""
        if self._lock is None:
            self.open()
        self._saver = asyncio.create_task(self._save(), name="book")
        self._bus.start()
        self._sender = asyncio.create_task(self._send(), name="answers")

    async def close(self) -> None:
        """Says that nobody is here any more. What is not sent is sent at the next start."""
        await self._bus.close()
        if self._sender is not None and self._saver is not None:
            self._sender.cancel()
            self._closing = True
            self._changed.set()
            _, slow = await asyncio.wait({self._sender, self._saver}, timeout=_SHOWN_S)
            for task in slow:
                log.error("left before all was kept", file=str(self._file))
                task.cancel()
                await asyncio.wait({task})
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def enter(self, dispatch_id: str, state: Answer, reason: str | None = None) -> Entry:
        """The people here say how far they are. Raises NotPossible."""
        entry = self.book.enter(dispatch_id, state, self._signature(), reason)
        self._changed.set()
        return entry

    def restate(self, dispatch_id: str) -> None:
        """Tells the centre once more how far this one is, if it is kept."""
        if not self.fault:
            self.book.restate(self._signature(), dispatch_id)
            self._wake.set()

    # --- the bus ------------------------------------------------------------------------------------------------------

    def _bus_settings(self) -> BusSettings:
        mqtt, topics = self._end.mqtt, self._topics
        if mqtt.broker == EMBEDDED:
            access = read_access(self._end.path)
            login = {"username": self.agency, "password": access.users.get(self.agency)}
            mqtt = mqtt.model_copy(update={"broker": access.url, **login})
        client_id = f"siaga-{mqtt.prefix.replace('/', '.')}-agency-{self.agency}"
        return BusSettings.of(mqtt, client_id, topics.presence(self.agency), topics.dispatch(self.agency))

    def _presence(self, online: bool) -> bytes:
        state = Presence(schema=1, agency=self.agency, state="online" if online else "offline", at=self._utc())
        return state.encode()

    def _on_bus(self, connected: bool, reason: str) -> None:
        if connected:
            if not self.fault:
                self.book.restate(self._signature())
            self._wake.set()
        for listener in self.listeners:
            listener.connection(connected, reason)

    async def _on_message(self, topic: str, payload: bytes) -> None:
        """Takes a dispatch in. It is in the file before the broker is told that it arrived.

        Unless the file is at fault: then the centre sends it again, and to hold this message back at the broker would
        only keep the next ones from the people.
        """
        try:
            message = Dispatch.parse(payload)
        except PayloadError as error:
            self._refuse(str(error))
            return
        if (message.agency, message.centre) != (self.agency, self.centre):
            self._refuse(f"for agency {message.agency} of centre {message.centre}")
            return
        before = self.book.version
        news, entry = self.book.receive(message, self._signature())
        changed = self.book.version != before
        if changed or self.fault:
            self._changed.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHOWN_S):
                await self._is_kept()
        for listener in self.listeners:
            listener.hear(news, entry)
        if changed:
            await self._is_kept()
        self._wake.set()

    async def _is_kept(self) -> None:
        """Returns once all that is known now is in the file, or that has failed."""
        version = self.book.version
        async with self._tried:
            await self._tried.wait_for(lambda: self.fault or self.book.written >= version)

    def _refuse(self, reason: str) -> None:
        log.warning("message refused", reason=reason)
        for listener in self.listeners:
            listener.refused(reason)

    async def _send(self) -> None:
        """Sends the answers, in order, each until the broker has it."""
        while True:
            await self._wake.wait()
            ack = self.book.unsent
            if ack is None or not self._bus.connected:
                self._wake.clear()
                continue
            try:
                code = await self._bus.publish(Outgoing(self._topics.ack(self.agency), ack.encode()))
                if code == NO_MATCHING_SUBSCRIBERS:
                    raise NotPublished("the centre is not there, and the broker has no session of it")
            except NotPublished as error:
                log.warning("answer not sent", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                self.book.confirm(ack)

    # --- the book -----------------------------------------------------------------------------------------------------

    def _signature(self) -> Signature:
        return Signature(self._by, self._utc())

    async def _save(self) -> None:
        """Writes the file, again and again; what changes meanwhile goes together into the next one.

        What fails is told and no more: a full disk must not keep a dispatch from the people, nor one that hangs.
        """
        while not self._closing or (not self.fault and self.book.written < self.book.version):
            await self._changed.wait()
            self._changed.clear()
            version, writing = self.book.version, self._write(self.book.saved().model_dump_json())
            try:
                while not (await asyncio.wait({writing}, timeout=_SHOWN_S))[0]:
                    await self._told_fault("the disk does not answer")
                writing.result()
            except OSError as error:
                asyncio.get_running_loop().call_later(_SAVE_AGAIN_S, self._changed.set)
                await self._told_fault(error.strerror or str(error))
                continue
            finally:
                writing.cancel()  # at the end of the program its thread has nobody to tell
            self.book.written = version
            if self.fault and version >= self.book.version:
                self.book.restate(self._signature())
                self._found("")
            await self._tell()

    def _write(self, text: str) -> asyncio.Future[None]:
        """In a thread of its own, which nobody waits for at the end of the program."""
        written: Future[None] = Future()
        written.set_running_or_notify_cancel()

        def write() -> None:
            try:
                write_private(self._file, text)
            except Exception as error:  # noqa: BLE001  it is raised where it is waited for
                written.set_exception(error)
            else:
                written.set_result(None)

        Thread(target=write, name="book", daemon=True).start()
        return asyncio.wrap_future(written)

    async def _told_fault(self, why: str) -> None:
        self.book.not_kept()
        self._found(f"{self._file} cannot be written: {why}")
        await self._tell()

    async def _tell(self) -> None:
        """Who waits for the file, or has answers to send, sees how it is now."""
        self._wake.set()
        async with self._tried:
            self._tried.notify_all()

    def _found(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            log.error("dispatches are not kept", reason=fault) if fault else log.info("dispatches are kept again")
            for listener in self.listeners:
                listener.kept(fault)


def _read(file: Path) -> Saved:
    try:
        return Saved.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Saved()
    except ValidationError:  # cut off, or of another version: kept for a person to see, and begun anew
        file.replace(file.with_name(f"{file.name}.unreadable"))
        return Saved()
