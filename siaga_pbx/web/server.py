"""uvicorn's server inside the daemon's own loop: it takes no signals, and a port that is taken is an error at once."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 128
MAX_CONNECTIONS = 128
"""At once; more get 503. A console, a Prometheus and a few scripts need a dozen."""

STOP_S = 3
"""Seconds that open requests have to finish when the server stops."""


class HttpServer:
    """Serves one app at one address: `start()`, then `stop()`."""

    address: tuple[str, int]
    """Where it listens; with port 0 the port is known after start()."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        """With `certificate` and `key` (PEM) it speaks HTTPS."""
        self._config = uvicorn.Config(
            app,
            loop="none",
            ws="none",
            lifespan="off",
            http="h11",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=STOP_S,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        self.address = (host, port)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be bound, or a PEM file does not serve."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        try:
            listener = socket.create_server(self.address, family=family, backlog=BACKLOG)
        except OSError as error:
            raise OSError(
                error.errno, f"http {self.address[0]}:{self.address[1]}: {error.strerror or error}"
            ) from error
        server = _Server(self._config)
        task = asyncio.create_task(server.serve([listener]), name="http")
        serving = asyncio.create_task(server.serving.wait())
        await asyncio.wait((task, serving), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            serving.cancel()
            listener.close()
            await task  # raises what it failed with
        self.address = listener.getsockname()[:2]
        self._server, self._task = server, task

    async def stop(self) -> None:
        """Let open requests finish for a moment and close. Harmless when it does not run."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class _Server(uvicorn.Server):
    """Signals belong to the daemon, which drains calls first; and an event tells when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()
