"""Where the commands read from.

What is on record is read from the database, in the command's own process: years of calls never pass through the daemon
that carries them. What is live is asked of the running daemon; when none runs, the database tells what was left.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from siaga_pbx.commands.common import Row
from siaga_pbx.commands.failures import Failed
from siaga_pbx.config import Config
from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.times import utc_now
from siaga_pbx.web import token

TIMEOUT_S = 10.0


@contextmanager
def records(config: Config) -> Iterator[Reader]:
    """The records, for reading. Raises `Failed` when there are none or they cannot be read."""
    file = sqlite_file(config.records.database)
    if file is not None and not file.exists():
        raise Failed(f"no database {file}: the daemon makes it at its first start")
    try:
        with Reader(config.records.database) as reader:
            yield reader
    except RecordsError as error:
        raise Failed(f"{file or 'the database'}: {error}") from error


def live_status(config: Config) -> Row:
    """The centre now, in the form of GET /api/v1/status, by the daemon or by what it left."""
    daemon = find_daemon(config)
    return daemon.get("/api/v1/status") if daemon is not None else _stopped(config)


def find_daemon(config: Config) -> "Daemon | None":
    """The running daemon of this configuration; None when nothing listens at its address."""
    headers = {}
    with suppress(token.TokenError):  # what shows no caller needs none, and else the daemon's refusal says it
        headers["authorization"] = f"Bearer {token.read(config.token_file)}"
    # trust_env: nothing of the environment, such as a proxy, gets between us and the daemon.
    client = httpx.Client(base_url=_base_url(config), headers=headers, timeout=TIMEOUT_S, trust_env=False)
    try:
        client.get("/-/healthy")
    except httpx.ConnectError:
        return None
    except httpx.HTTPError as error:
        raise _no_answer(client, error) from error
    return Daemon(client)


class Daemon:
    """The API of the running daemon."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str) -> Row:
        """What the daemon shows. Raises `Failed` with its reason."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Row) -> Row:
        """What the daemon answers once it has done it. Raises `Failed` with its reason."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Row | None) -> Row:
        try:
            answer = self._client.request(method, path, json=body)
            content = answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise _no_answer(self._client, error) from error
        if not isinstance(content, dict):
            raise Failed(f"{self._client.base_url}: not the answer of a siaga-pbx daemon")
        if not answer.is_success:
            raise Failed(str(content.get("detail", answer.reason_phrase)))
        return content


def _stopped(config: Config) -> Row:
    with records(config) as reader:
        open_calls = reader.calls(ended=False)
        pending = len(reader.outbox())
    gone = {"state": "offline", "reason": "no daemon runs", "since": None, "call_id": None}
    seats = [{"id": one.id, "name": one.name or one.id, "skills": sorted(one.skills)} | gone for one in config.seats]
    return {
        "centre": config.centre.id,
        "name": config.centre.name,
        "state": "stopped",
        "at": utc_now(),
        "started_at": None,
        "seats": seats,
        "calls": [call | {"state": "left open"} for call in open_calls],
        "outbox": {"pending": pending},
        "journal_pending": 0,
        "alarms": [],
    }


def _base_url(config: Config) -> str:
    host, port = config.http.listen.host, config.http.listen.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _no_answer(client: httpx.Client, error: Exception) -> Failed:
    return Failed(f"the daemon at {client.base_url}: {error or type(error).__name__}")
