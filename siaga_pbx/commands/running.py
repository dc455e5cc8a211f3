"""The running daemon, asked through its API."""

import base64
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from siaga_pbx.commands.common import Row
from siaga_pbx.commands.failures import Failed
from siaga_pbx.config import Config
from siaga_pbx.web import token
from siaga_pbx.web.accesses import USER

TIMEOUT_S = 10.0


@contextmanager
def running_daemon(config: Config, patience_s: float = TIMEOUT_S) -> Iterator["Daemon | None"]:
    """The running daemon of this configuration; None when nothing listens at its address.

    What it is asked is waited for so many seconds; whether it is there, `TIMEOUT_S`.
    """
    headers, untold = {USER: user()}, ""
    try:
        headers["authorization"] = f"Bearer {token.read(config.token_file)}"
    except token.TokenError as error:
        untold = str(error)  # what shows no caller needs no token
    # trust_env: nothing of the environment, such as a proxy, gets between us and the daemon.
    with httpx.Client(base_url=_base_url(config), headers=headers, timeout=patience_s, trust_env=False) as client:
        yield Daemon(client, untold) if _answers(client) else None


class Daemon:
    """The API of the running daemon."""

    def __init__(self, client: httpx.Client, untold: str) -> None:
        """`untold`: why this user has no token, when that is so."""
        self._client = client
        self._untold = untold

    def get(self, path: str) -> Row:
        """What the daemon shows. Raises `Failed` with its reason."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Row) -> Row:
        """What the daemon answers once it has done it. Raises `Failed` with its reason."""
        return self._ask("POST", path, body)

    def put(self, path: str, body: Row) -> Row:
        """As `post`."""
        return self._ask("PUT", path, body)

    def delete(self, path: str) -> Row:
        """As `post`."""
        return self._ask("DELETE", path, None)

    @contextmanager
    def download(self, path: str) -> Iterator[tuple[Iterator[bytes], str]]:
        """A file, chunk by chunk, and the SHA-256 that the daemon says it has (RFC 9530). Raises `Failed`."""
        try:
            with self._client.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    self._check(answer, answer.json())
                digest = answer.headers.get("repr-digest", "").removeprefix("sha-256=:").removesuffix(":")
                yield answer.iter_bytes(), base64.b64decode(digest).hex()
        except (httpx.HTTPError, ValueError) as error:
            raise _no_answer(self._client, error) from error

    def _ask(self, method: str, path: str, body: Row | None) -> Row:
        try:
            answer = self._client.request(method, path, json=body)
            content = answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise _no_answer(self._client, error) from error
        return self._check(answer, content)

    def _check(self, answer: httpx.Response, content: object) -> Row:
        if not isinstance(content, dict):
            raise Failed(f"{self._client.base_url}: not the answer of a siaga-pbx daemon")
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._untold:
            raise Failed(self._untold)
        if not answer.is_success:
            raise Failed(str(content.get("detail", answer.reason_phrase)))
        return content


def user() -> str:
    """Who runs this command; with sudo, the person rather than root."""
    try:
        name = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return "".join(char for char in name if char.isascii() and char.isprintable())[:64]


def _answers(client: httpx.Client) -> bool:
    try:
        client.get("/-/healthy", timeout=TIMEOUT_S)
    except httpx.ConnectError:
        return False
    except httpx.HTTPError as error:
        raise _no_answer(client, error) from error
    return True


def _base_url(config: Config) -> str:
    host, port = config.http.listen.host, config.http.listen.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _no_answer(client: httpx.Client, error: Exception) -> Failed:
    return Failed(f"the daemon at {client.base_url}: {error or type(error).__name__}")
