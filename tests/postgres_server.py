"""A PostgreSQL server of the tests' own: Debian's, on a UNIX socket, in a folder and as a user of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic, sleep
from urllib.parse import quote

import psycopg

USER, PASSWORD = "siaga", "p@ss/w:rd%20"
"""The daemon's role, no superuser; the password has what must be escaped in a URL."""

_WITHIN_S = 30.0
_SETTINGS = {"listen_addresses": "", "shared_buffers": "16MB", "max_connections": "60", "log_min_messages": "warning"}


class PostgresServer:
    """`start`; `create` databases; `kill`, `start` again; `close`."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="siaga-pg-"))  # short: the path of a UNIX socket has 107 bytes at most
        self._user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        self.own(self.folder)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            *("initdb", "-D", str(self._data), "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}"),
            # A language's own order of letters, which many servers have: none of our queries may lean on another.
            *("-E", "UTF8", "--locale-provider=icu", "--icu-locale=id-ID", "--no-sync", "--no-instructions"),
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Returns once it takes connections; after a kill that is when it has recovered."""
        deadline = monotonic() + _WITHIN_S
        while True:
            if self._process is None or self._process.poll() is not None:
                # Until the children of a server that was killed are gone, the next one does not start.
                options = (f"-c{name}={value}" for name, value in _SETTINGS.items())
                self._process = self._spawn("postgres", "-D", str(self._data), "-k", str(self.folder), *options)
            try:
                with self.connect("postgres", "postgres"):
                    return
            except psycopg.OperationalError:
                assert monotonic() < deadline, (self.folder / "log").read_text()
                sleep(0.05)

    def stop(self) -> None:
        """In order, its sessions cut."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL; its sessions' processes see that and leave."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def connect(self, database: str, user: str = USER) -> Iterator[psycopg.Connection]:
        """A session; each statement is a transaction."""
        with closing(
            psycopg.connect(
                host=str(self.folder),
                dbname=database,
                user=user,
                password=PASSWORD,
                autocommit=True,
                connect_timeout=10,
            )
        ) as connection:
            yield connection

    def create(self, template: str = "template1", options: str = "") -> str:
        """The name of a new database that belongs to the daemon's role."""
        name = f"siaga_{next(self._names)}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {USER} {options}")
        return name

    def drop(self, database: str) -> None:
        self.administer(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def own(self, folder: Path) -> None:
        """The server may write there."""
        if self._user is not None:
            shutil.chown(folder, self._user, self._user)

    def administer(self, *statements: str) -> None:
        """As the superuser."""
        with self.connect("postgres", "postgres") as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (USER,)).fetchone() is None:
                connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'".encode())
            for statement in statements:
                connection.execute(statement.encode())

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@/{database}?host={self.folder}"

    def cut(self, database: str) -> None:
        """Ends every session of the database."""
        self.administer(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_WITHIN_S)
            self._process = None

    def _run(self, *command: str) -> None:
        process = self._spawn(*command)
        assert process.wait(_WITHIN_S) == 0, (self.folder / "log").read_text()

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(binary(program)), *arguments],
                cwd=self.folder,
                user=self._user,
                group=self._user,
                stdout=log,
                stderr=log,
            )


def binary(program: str) -> Path:
    """Debian keeps them by version, and out of the PATH."""
    found: Sequence[Path] = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return found[-1]
