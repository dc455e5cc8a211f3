"""The broker for a trial and for tests: Debian's mosquitto as a child on loopback, with passwords and rights.

In service the broker is the city's own, set up like the example in `config/mosquitto/`.
"""

import asyncio
import base64
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from siaga_pbx.dispatch.topics import Topics

log = structlog.get_logger(__name__)

EMBEDDED = "embedded"
"""The value of [mqtt] broker that stands for this one."""

CENTRE_USER = "centre"

_START_S = 5.0
_STOP_S = 3.0
_ATTEMPTS = 3  # a port that is free may be taken by somebody else before mosquitto has it
_RESTART_S = 1.0
_PLACES = os.pathsep.join((os.defpath, "/usr/sbin", "/usr/local/sbin", "/sbin"))  # daemons are not on everyone's PATH


class BrokerError(OSError):
    """The broker cannot be run; the message is one line for a person."""


class BrokerMissing(BrokerError):
    """mosquitto is not installed."""


def access_rules(prefix: str, agencies: Iterable[str], centre_user: str = CENTRE_USER) -> str:
    """mosquitto's acl_file: the centre may do everything under the prefix; an agency's user, whose name is its id, what
    is its own. So none can read what another is sent, or answer for it.
    """
    everybody = Topics(prefix)
    lines = [f"user {centre_user}", f"topic readwrite {prefix}/#", ""]
    for agency in agencies:
        lines += [
            f"user {agency}",
            f"topic read {everybody.dispatch(agency)}",
            f"topic write {everybody.ack(agency)}",
            f"topic write {everybody.presence(agency)}",
            f"topic read {everybody.status}",
            f"topic read {everybody.chain}",
            "",
        ]
    return "\n".join(lines)


def password_line(user: str, password: str) -> str:
    """A line of mosquitto's password_file: `$7$`, PBKDF2 with SHA-512, as mosquitto_passwd writes it."""
    salt, iterations = secrets.token_bytes(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"{user}:$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


class Mosquitto:
    """One mosquitto on loopback that lives no longer than this process. `folder` (0700) holds all its files."""

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str],
        acl: str,
        *,
        port: int = 0,
        persistent: bool = True,
        extra: Iterable[str] = (),
    ) -> None:
        """`users`: passwords by name. `port` 0: a free one, then kept. `extra`: further lines of its configuration."""
        self.port = port
        self._folder, self._users, self._acl = folder, users, acl
        self._persistent, self._extra = persistent, tuple(extra)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Returns once it accepts connections. Raises BrokerMissing, BrokerError."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES)
        if program is None:
            raise BrokerMissing('broker = "embedded" needs mosquitto: install the Debian package mosquitto')
        fixed = self.port != 0
        for attempt in range(_ATTEMPTS):
            if not fixed:
                self.port = _free_port()
            try:
                self._write_files()
            except OSError as error:
                raise BrokerError(f"{self._folder}: {error.strerror}") from error
            if await self._launch(program):
                return
            log.warning("mosquitto did not start", attempt=attempt + 1, reason=self._last_words())
        raise BrokerError(f"mosquitto does not start: {self._last_words()}")

    async def stop(self) -> None:
        """Ends it, with its state saved if it is persistent."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            await self.kill()
        self._process = None

    async def kill(self) -> None:
        """Ends it as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def wait(self) -> None:
        """Returns when it is no longer running."""
        if self._process is not None:
            await self._process.wait()

    def _write_files(self) -> None:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = {
            "passwords": "".join(password_line(user, password) for user, password in self._users.items()),
            "acl": self._acl,
            "mosquitto.conf": self._configuration(),
        }
        for name, text in files.items():
            write_private(folder / name, text)

    def _configuration(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            # Started by root it would otherwise become another user, and read none of its files.
            f"user {pwd.getpwuid(os.getuid()).pw_name}",
            "allow_anonymous false",
            f"password_file {self._folder / 'passwords'}",
            f"acl_file {self._folder / 'acl'}",
            f"persistence {'true' if self._persistent else 'false'}",
            f"persistence_location {self._folder}/",
            "max_queued_messages 10000",
            "set_tcp_nodelay true",  # or a dispatch waits 40 ms for the acknowledgement of the packet before it
            "log_dest stderr",
            *(f"log_type {level}" for level in ("error", "warning", "notice", "information")),
            "connection_messages false",
            *self._extra,
        ]
        return "\n".join(lines) + "\n"

    async def _launch(self, program: str) -> bool:
        """Whether it runs and listens."""
        command = [program, "-c", str(self._folder / "mosquitto.conf")]
        if setpriv := shutil.which("setpriv", path=_PLACES):  # from util-linux: the kernel ends it when we are gone
            command = [setpriv, "--pdeathsig", "TERM", "--", *command]
        with (self._folder / "mosquitto.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = asyncio.get_running_loop().time() + _START_S
        while self.running and asyncio.get_running_loop().time() < deadline:
            # That something answers at the port would not tell that it is ours.
            if b" running" in (self._folder / "mosquitto.log").read_bytes():
                return True
            await asyncio.sleep(0.01)
        await self.kill()
        return False

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (self._folder / "mosquitto.log").read_text(errors="replace").splitlines()
            errors = [line for line in lines if "rror" in line] or lines
            if errors:
                return errors[0].split(": ", 1)[-1]
        return "no reason given"


@dataclass(frozen=True, slots=True)
class Access:
    """How to get into an embedded broker: for the processes of the same user on the same machine."""

    url: str
    users: Mapping[str, str]


def folder_of(config_path: Path) -> Path:
    """Where the embedded broker of a configuration has its files: beside it."""
    return config_path.with_suffix(".broker")


def read_access(config_path: Path) -> Access:
    """The access to the embedded broker of this configuration. Raises BrokerError when it never ran."""
    file = folder_of(config_path) / "access.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Access(str(content["url"]), {str(user): str(word) for user, word in content["users"].items()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise BrokerError(f"no embedded broker has run for {config_path} yet: start the daemon first") from None


class Embedded:
    """The broker of [mqtt] broker = "embedded": passwords are made once, the port is kept; restarted if it ends."""

    def __init__(self, config_path: Path, prefix: str, agencies: Iterable[str]) -> None:
        self._path = config_path
        names = tuple(agencies)
        known: Mapping[str, str] = {}
        self._last_port = 0
        with suppress(BrokerError):
            access = read_access(config_path)
            known, self._last_port = access.users, int(access.url.rpartition(":")[2])
        self.users = {name: known.get(name) or secrets.token_urlsafe(24) for name in (CENTRE_USER, *names)}
        self._rules = access_rules(prefix, names)
        self._broker = self._at(self._last_port)
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return self._broker.url

    async def start(self) -> None:
        """Returns once it accepts connections. Raises BrokerMissing, BrokerError."""
        try:
            await self._broker.start()
        except BrokerMissing:
            raise
        except BrokerError:
            if not self._last_port:
                raise
            self._broker = self._at(0)  # the port of the last time is somebody else's now
            await self._broker.start()
        write_private(folder_of(self._path) / "access.json", json.dumps({"url": self.url, "users": self.users}))
        self._watch = asyncio.create_task(self._keep(), name="embedded broker")

    async def stop(self) -> None:
        """Ends it; its sessions are kept for the next time."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self._broker.stop()

    def _at(self, port: int) -> Mosquitto:
        # A session belongs to its user: nobody takes another's over by its client id.
        extra = ("use_username_as_clientid true",)
        return Mosquitto(folder_of(self._path), self.users, self._rules, port=port, extra=extra)

    async def _keep(self) -> None:
        while True:
            await self._broker.wait()
            log.error("the embedded broker has ended; starting it again")
            await asyncio.sleep(_RESTART_S)
            with suppress(BrokerError):
                await self._broker.start()


def write_private(file: Path, text: str) -> None:
    """Replaces the file as one, readable by its owner alone."""
    fresh = file.with_name(f"{file.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # or the old one may be back after a power cut
    finally:
        os.close(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
