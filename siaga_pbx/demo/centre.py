"""A whole centre on loopback in a folder of its own: its configuration, its processes, its API."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx

DAEMON = "127.0.0.1"
TRUNK = "127.0.0.2"
"""The carrier's address: whoever calls from there is on the trunk."""
SEATS = {"101": "Meja 1", "102": "Meja 2"}
AGENCIES = {"damkar": "Dinas Pemadam Kebakaran", "psc119": "Public Safety Center 119"}
QUEUE = "ring_s = 12\nrest_s = 5\nwrap_up_s = 1"
_START_S = 60.0

_CONFIG = """\
[centre]
id = "demo"
name = "Siaga 112 (demo)"
dialplan = "dialplan.toml"

[sip]
listen = [{listen}]
domain = "siaga.local"
{sip_lines}

[[trunk]]
id = "carrier"
addresses = ["{trunk}"]
marks = [{{ header = "P-Charge-Info", contains = "nocredit", class = "no_credit" }}]
{trunk_lines}

[media]
ports = [{rtp}, {rtp_last}]
{media_lines}

[queue]
{queue}
{seats}
[records]
database = "{database}"
recordings = "recordings"
keep_calls_days = 1
keep_recordings_days = 1

[mqtt]
broker = "embedded"
prefix = "siaga/demo"
{agencies}
[http]
listen = "{daemon}:{http}"
"""
_DIALPLAN = """\
[[route]]
match = ["112", "+62112", "urn:service:sos", "urn:service:sos.*"]
action = "queue"

[[route]]
match = ["urn:service:test.sos"]
action = "test-call"

[[category]]
id = "fire"
name = "Kebakaran"
agencies = ["damkar"]

[[category]]
id = "health"
name = "Kesehatan"
agencies = ["psc119"]

[[feature]]
dial = "*1"
action = "dispatch"
category = "fire"
"""


class DemoFailed(Exception):
    """The demo cannot go on; the message says why, in a line."""


def free_port(host: str = DAEMON) -> int:
    """A port that nobody has now, neither over UDP nor over TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp, suppress(OSError):
            udp.bind((host, 0))
            port = int(udp.getsockname()[1])
            tcp.bind((host, port))
            return port


@dataclass(slots=True)
class Centre:
    """`start`, then ask `get` and `post`; `stop` ends every process, the last started first.

    `queue` is the lines of its [queue]; `sip`, `trunk`, `media` and `dialplan` are more lines of its [sip], [[trunk]],
    [media] and dialplan; `listen` is more of [sip] listen; `database` is [records] database; `ports` is how many ports
    from `rtp` on (0: some free ones) its media worker may use.
    """

    folder: Path
    seats: Mapping[str, str] = field(default_factory=lambda: SEATS)
    agencies: Mapping[str, str] = field(default_factory=lambda: AGENCIES)
    queue: str = QUEUE
    listen: tuple[str, ...] = ()
    sip: str = ""
    trunk: str = ""
    media: str = ""
    dialplan: str = ""
    database: str = "sqlite:///siaga.db"
    ports: int = 400
    sip_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    rtp: int = 0
    daemon: subprocess.Popen[bytes] | None = None
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _logs: dict[int, Path] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "siaga.toml"

    @property
    def url(self) -> str:
        return f"http://{DAEMON}:{self.http_port}"

    def start(self) -> None:
        """The daemon with its broker and worker, then the agencies' ends. Raises DemoFailed with the last log lines."""
        self.configure()
        self.start_daemon()
        for agency in self.agencies:
            # Not where a terminal of this user keeps its own: another demo's dispatches are none of this one's.
            state = self.folder / f"{agency}.state"
            self._spawn(agency, "agency", agency, "--auto", "--config", str(self.config), "--state", str(state))
        self._wait("the agencies", lambda: self._online() >= set(self.agencies))

    def _online(self) -> set[str]:
        return {one["id"] for one in self.get("/api/v1/status")["agencies"] if one["online"]}

    def start_daemon(self) -> None:
        """The daemon alone, as configured; again after it ended or was killed."""
        self._processes = [process for process in self._processes if process.poll() is None]
        self.daemon = self._spawn("daemon", "run", "--config", str(self.config))
        self._wait("the daemon", self._ready)

    def wait_for_seats(self) -> None:
        """Returns when every seat is registered; DemoFailed if they are not in time."""
        self._wait("the seats", lambda: all(seat["state"] != "offline" for seat in self.get("/api/v1/status")["seats"]))

    def stop(self) -> None:
        """SIGTERM to each process, a second one to a daemon that drains; SIGKILL to what is still there after 10 s."""
        for process in reversed(self._processes):
            if not (_ends(process, 2.0) or _ends(process, 10.0)):
                process.kill()
                process.wait()
        self._processes.clear()

    def get(self, path: str) -> Any:
        """An answer of the API, as a person with the token gets it."""
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, object]) -> Any:
        return self._request("POST", path, body)

    @property
    def command(self) -> list[str]:
        """`siaga-pbx`, of this very Python."""
        return [sys.executable, "-m", "siaga_pbx"]

    def password(self, seat: str) -> str:
        return f"demo-{seat}"

    def _request(self, method: str, path: str, body: dict[str, object] | None) -> Any:
        token = (self.folder / "siaga.token").read_text().strip()
        try:
            answer = httpx.request(
                method, self.url + path, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=5
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: {error}") from error
        return answer.json()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _wait(self, what: str, there: Callable[[], bool]) -> None:
        deadline = monotonic() + _START_S
        while not there():
            for process in self._processes:
                if process.poll() is not None:
                    raise DemoFailed(f"{self._logs[process.pid].stem} ended:\n{_tail(self._logs[process.pid])}")
            if monotonic() > deadline:
                raise DemoFailed(f"{what} did not start within {_START_S:.0f} s; see {self.folder}")
            sleep(0.1)

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}.log"
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        with log.open("ab") as sink:
            process = subprocess.Popen(  # noqa: S603 - ourselves
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=environment,
            )
        self._processes.append(process)
        self._logs[process.pid] = log
        return process

    def configure(self) -> None:
        """Write the configuration files."""
        # Below the ports that the system hands out by itself, and below those of the demo's phones.
        self.rtp = self.rtp or 10000 + 400 * (os.getpid() % 25)
        own = tuple(f"{transport}://{DAEMON}:{self.sip_port}" for transport in ("udp", "tcp"))
        (self.folder / "dialplan.toml").write_text(_DIALPLAN + self.dialplan)
        self.config.write_text(
            _CONFIG.format(
                daemon=DAEMON,
                trunk=TRUNK,
                listen=", ".join(f'"{each}"' for each in (*own, *self.listen)),
                sip_lines=self.sip,
                http=self.http_port,
                rtp=self.rtp,
                rtp_last=self.rtp + self.ports - 1,
                media_lines=self.media,
                seats="".join(_seat(seat, name, self.password(seat)) for seat, name in self.seats.items()),
                agencies="".join(_agency(agency, name) for agency, name in AGENCIES.items()),
                queue=self.queue,
                trunk_lines=self.trunk,
                database=self.database,
            )
        )


def _ends(process: subprocess.Popen[bytes], within_s: float) -> bool:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _seat(seat: str, name: str, password: str) -> str:
    return f'\n[[seat]]\nid = "{seat}"\nname = "{name}"\npassword = "{password}"\n'


def _agency(agency: str, name: str) -> str:
    return f'\n[[agency]]\nid = "{agency}"\nname = "{name}"\n'


def _tail(log: Path, lines: int = 5) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
