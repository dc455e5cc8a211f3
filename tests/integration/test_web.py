"""The HTTP side and the commands for real: sockets, processes, a database."""

import asyncio
import io
import json
import os
import pty
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
import uvloop
from prometheus_client import CollectorRegistry

from siaga_pbx.cli import main
from siaga_pbx.records.changes import Event, Insert, Update
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.records.verify import verify
from siaga_pbx.web.app import create_app
from siaga_pbx.web.server import HttpServer
from siaga_pbx.web.token import load_or_create
from tests.web_centre import NUMBER, ACentre

T = TypeVar("T")

CONFIG = """
[centre]
id = "cirebon"
name = "Cirebon Siaga 112"
dialplan = "dialplan.toml"
[sip]
listen = ["udp://127.0.0.1:0"]
domain = "siaga.local"
[[trunk]]
id = "telkomsel"
addresses = ["127.0.0.2/32"]
[[seat]]
id = "101"
name = "Meja 1"
password = "rahasia"
[[agency]]
id = "damkar"
categories = ["fire"]
[records]
database = "sqlite:///siaga.db"
keep_calls_days = 1825
keep_recordings_days = 365
[mqtt]
broker = "mqtt://127.0.0.1:1"
[http]
listen = "127.0.0.1:{port}"
"""
DIALPLAN = """
[[route]]
match = ["112"]
action = "queue"
[[category]]
id = "fire"
name = "Kebakaran"
agencies = ["damkar"]
"""


@dataclass
class Site:
    """A centre's files, with calls on record."""

    folder: Path
    port: int
    calls: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "siaga.toml"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'siaga.db'}"

    async def command(self, *arguments: str, config: Path | None = None) -> "Ran":
        """Run siaga-pbx in this process, beside the loop."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = await asyncio.to_thread(main, [*arguments, "--config", str(config or self.config)])
        return Ran(code, out.getvalue(), err.getvalue())

    async def on_terminal(self, *arguments: str) -> "Ran":
        """Run siaga-pbx as a process of its own on a terminal; it finds its configuration itself."""
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "siaga_pbx", *arguments),
            stdout=slave,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SIAGA_CONFIG": str(self.config), "COLUMNS": "200", "TERM": "xterm"},
        )
        _, err = await asyncio.wait_for(process.communicate(), 30)
        os.close(slave)
        out = os.read(master, 1 << 20)
        os.close(master)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The command sets it for its process, which here is ours."""
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "siaga.toml").write_text(CONFIG.replace("{port}", str(port)))
    (tmp_path / "dialplan.toml").write_text(DIALPLAN)
    return Site(tmp_path, port)


@pytest.fixture
def recorded(site: Site) -> Site:
    """The same with three ended calls, one of them dispatched."""
    store = Store(site.database, node="pbx1")
    store.open()
    for minute in range(3):
        call = new_id()
        at = f"2026-03-24T07:{minute:02d}"
        row = {"id": call, "trunk": "telkomsel", "caller_number": NUMBER, "received_at": f"{at}:00.000Z"}
        row |= {"identity_class": "subscriber\x1b[2J"}  # as if a caller had got something past us
        ended = {"outcome": "answered", "connected_at": f"{at}:04.000Z", "ended_at": f"{at}:50.000Z"}
        received = Event(f"{at}:00.000Z", "call", call, call, "received")
        store.commit([Insert("call", row), received, Update("call", call, ended)]).result()
        site.calls.append(call)
    at = "2026-03-24T07:00:30.000Z"
    incident = {"id": new_id(), "call_id": site.calls[0], "category": "fire", "opened_at": at, "status": "open"}
    dispatch = {"id": new_id(), "incident_id": incident["id"], "agency": "damkar", "sequence": 1, "state": "accepted"}
    dispatch |= {"created_at": at, "message": {"category": "fire", "note": "Rumah terbakar"}, "attempts": 1}
    store.commit([Insert("incident", incident | {"protected": False}), Insert("dispatch", dispatch)]).result()
    store.close()
    return site


@asynccontextmanager
async def daemon(site: Site) -> AsyncIterator[ACentre]:
    """The HTTP side of a daemon, over the site's records."""
    centre = ACentre(known_calls=frozenset(site.calls))
    token = load_or_create(site.folder / "siaga.token")
    with Reader(site.database) as reader:
        app = create_app(
            centre,
            token,
            records=reader,
            outage=StoreUnavailable,
            registry=CollectorRegistry(),
            recordings=site.folder,
        )
        server = HttpServer(app, "127.0.0.1", site.port)
        await server.start()
        try:
            yield centre
        finally:
            await server.stop()


def running(check: Callable[[], Coroutine[None, None, T]]) -> T:
    return uvloop.run(check())


async def _nothing(scope: object, receive: object, send: object) -> None:
    """An app that is never asked."""


def test_the_server_leaves_signals_to_the_daemon() -> None:
    async def check() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        server = HttpServer(_nothing, "127.0.0.1", 0)
        await server.start()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        await server.stop()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    running(check)


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = HttpServer(_nothing, *taken.getsockname())
            with pytest.raises(OSError, match="in use"):
                await server.start()
            await server.stop()

    running(check)


def test_a_certificate_that_does_not_serve_is_an_error_at_once(tmp_path: Path) -> None:
    async def check() -> None:
        file = tmp_path / "broken.pem"
        file.write_text("no certificate")
        server = HttpServer(_nothing, "127.0.0.1", 0, certificate=file, key=file)
        with pytest.raises(OSError):
            await server.start()

    running(check)


def test_it_stops_beside_idle_connections_and_frees_its_port(recorded: Site) -> None:
    async def check() -> None:
        async with daemon(recorded):
            _, idle = await asyncio.open_connection("127.0.0.1", recorded.port)
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"http://127.0.0.1:{recorded.port}/-/healthy")).status_code == 200
                stopping = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - stopping < 3
        idle.close()
        async with daemon(recorded):
            pass  # the port can be bound again at once

    running(check)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00" + bytes(range(256)),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000,
    ],
)
def test_what_is_no_request_is_refused_and_harms_nothing(recorded: Site, sent: bytes) -> None:
    async def check() -> None:
        async with daemon(recorded):
            reader, writer = await asyncio.open_connection("127.0.0.1", recorded.port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.readline(), 5)
            assert answer.split()[1][:1] == b"4"
            writer.close()
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"http://127.0.0.1:{recorded.port}/-/healthy")).status_code == 200

    running(check)


def test_calls_and_dispatches_are_listed_with_every_column_whether_the_daemon_runs_or_not(recorded: Site) -> None:
    async def check() -> None:
        alone = await recorded.command("calls", "--json")
        async with daemon(recorded):
            beside = await recorded.command("calls", "--json")
            dispatches = await recorded.command("dispatches", "--json")
        assert alone == beside
        assert (alone.code, alone.err) == (0, "")
        assert [row["id"] for row in alone.rows] == recorded.calls
        assert alone.rows[0]["caller_number"] == NUMBER
        assert {"sip_call_id", "rtp_jitter_ms", "disposition"} <= alone.rows[0].keys()
        assert dispatches.rows[0]["message"] == {"category": "fire", "note": "Rumah terbakar"}

    running(check)


def test_the_range_of_a_listing(recorded: Site) -> None:
    async def check() -> None:
        async def ids(*options: str) -> list[object]:
            return [row["id"] for row in (await recorded.command("calls", "--json", *options)).rows]

        assert await ids("--limit", "2") == recorded.calls[1:]
        assert await ids("--since", "2026-03-24T07:01:00Z") == recorded.calls[1:]
        assert await ids("--since", "2026-03-24 14:01") == recorded.calls[1:]  # the centre's own time
        assert await ids("--since", "1s") == []
        refused = await recorded.command("calls", "--since", "yesterday")
        assert refused.code == 2
        assert refused.err.startswith("siaga-pbx: --since 'yesterday'")
        assert refused.err.count("\n") == 1

    running(check)


def test_tables_are_plain_in_a_pipe_and_drawn_on_a_terminal_and_nothing_steers_it(recorded: Site) -> None:
    async def check() -> None:
        piped = await recorded.command("calls")
        header, *lines = piped.out.splitlines()
        assert header.split("\t")[:3] == ["id", "received", "caller"]
        assert lines[0].split("\t")[:3] == [recorded.calls[0], "2026-03-24 14:00:00", NUMBER]
        assert lines[0].split("\t")[7:9] == ["4 s", "46 s"]
        drawn = await recorded.on_terminal("calls")
        assert recorded.calls[2] in drawn.out
        assert "─" in drawn.out
        for ran in (piped, drawn, await recorded.on_terminal("calls", "--json")):
            assert "\x1b[2J" not in ran.out

    running(check)


def test_status_and_seats_of_a_running_daemon(recorded: Site) -> None:
    async def check() -> None:
        async with daemon(recorded):
            status = await recorded.command("status", "--json", "--since", "2026-03-24T07:01:00Z")
            (row,) = status.rows
            assert row["state"] == "running"
            assert row["outcomes"] == {"answered": 2}
            assert NUMBER in status.out  # this user may read the token
            seats = (await recorded.command("seats", "--json")).rows
            assert [seat["state"] for seat in seats] == ["ready", "talking", "paused", "offline"]
            changed = await recorded.command("seats", "--json", "--since", "2026-11-24T07:59:00Z")
            assert [seat["id"] for seat in changed.rows] == ["101"]
            drawn = await recorded.on_terminal("status")
            for word in ("Cirebon Siaga 112", "telkomsel up", "indosat down", "xl not known", "trunk_down"):
                assert word in drawn.out
            (recorded.folder / "siaga.token").unlink()
            without = await recorded.command("status", "--json")
            assert without.code == 0
            assert NUMBER not in without.out

    running(check)


def test_status_and_seats_when_no_daemon_runs(recorded: Site) -> None:
    async def check() -> None:
        status = await recorded.command("status", "--json")
        assert (status.code, status.rows[0]["state"], status.rows[0]["outbox"]) == (0, "stopped", {"pending": 0})
        (seat,) = (await recorded.command("seats", "--json")).rows
        assert (seat["id"], seat["state"]) == ("101", "offline")
        assert "stopped" in (await recorded.command("status")).out

    running(check)


def test_a_dispatch_through_the_running_daemon(recorded: Site) -> None:
    async def check() -> None:
        async with daemon(recorded) as centre:
            sent = await recorded.command("dispatch", recorded.calls[0], "--category", "fire", "--note", "Kebakaran")
            assert (sent.code, sent.err) == (0, "")
            assert "i1" in sent.out
            (asked,) = centre.orders
            assert (asked.call_id, asked.category, asked.note) == (recorded.calls[0], "fire", "Kebakaran")
            for arguments, said in (
                (("019aaaaa", "--category", "fire"), "no call 019aaaaa is on record"),
                ((recorded.calls[0], "--category", "storm"), "no category storm"),
            ):
                refused = await recorded.command("dispatch", *arguments)
                assert refused.code == 1
                assert said in refused.err
                assert refused.err.count("\n") == 1
            (recorded.folder / "siaga.token").write_text("a token of another centre, long enough\n")
            refused = await recorded.command("dispatch", recorded.calls[0], "--category", "fire")
            assert (refused.code, refused.err) == (1, "siaga-pbx: the token is wrong\n")
            (recorded.folder / "siaga.token").unlink()
            refused = await recorded.command("dispatch", recorded.calls[0], "--category", "fire")
            assert refused.err == f"siaga-pbx: {recorded.folder}/siaga.token: No such file or directory\n"
            assert len(centre.orders) == 1

    running(check)


def test_a_dispatch_by_a_client_that_would_rather_speak_http_2(recorded: Site) -> None:
    """As Java's HttpClient asks by itself (RFC 7540 3.2); the body is the request's all the same, and comes later."""

    async def check() -> None:
        async with daemon(recorded) as centre:
            body, token = b'{"category": "fire"}', (recorded.folder / "siaga.token").read_text().strip()
            reader, writer = await asyncio.open_connection("127.0.0.1", recorded.port)
            writer.write(
                f"POST /api/v1/calls/{recorded.calls[0]}/dispatches HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n".encode()
            )
            await writer.drain()
            writer.write(body)
            assert (await asyncio.wait_for(reader.readline(), 30)).split()[1][:1] == b"2"
            assert [one.category for one in centre.orders] == ["fire"]
            writer.close()

    running(check)


def test_a_dispatch_while_no_daemon_runs_is_committed_for_its_start(recorded: Site) -> None:
    async def check() -> None:
        call = recorded.calls[1]
        order = ("--category", "fire", "--note", "Kebakaran", "--address", "Jl. 1")
        sent = await recorded.command("dispatch", call, *order)
        assert (sent.code, sent.err, sent.out.count("\n")) == (0, "", 1)
        assert "when the daemon starts" in sent.out
        with Reader(recorded.database) as reader:
            (incident,) = reader.incidents(call_id=call)
            (dispatch,) = reader.dispatches(call_id=call)
            (outbox,) = reader.outbox()
        assert (incident["category"], incident["note"], incident["address"]) == ("fire", "Kebakaran", "Jl. 1")
        assert (dispatch["agency"], dispatch["state"]) == ("damkar", "pending")
        assert outbox["dispatch_id"] == dispatch["id"]
        assert str(incident["id"]) in sent.out
        assert str(dispatch["id"]) in sent.out
        for arguments, said in (
            (("019aaaaa", "--category", "fire"), "019aaaaa"),
            ((call, "--category", "storm"), "storm"),
            ((call, "--category", "fire", "--note", "x" * 2001), "--note"),
        ):
            refused = await recorded.command("dispatch", *arguments)
            assert refused.code in (1, 2)
            assert said in refused.err
            assert refused.err.count("\n") == 1
        with Reader(recorded.database) as reader:
            assert len(reader.incidents()) == 2
            assert len(reader.outbox()) == 1
        assert verify(recorded.database) == []

    running(check)


def test_a_dispatch_while_a_daemon_is_starting_is_not_committed_behind_its_back(recorded: Site) -> None:
    async def check() -> None:
        store = Store(recorded.database)
        store.open()
        try:
            refused = await recorded.command("dispatch", recorded.calls[1], "--category", "fire")
        finally:
            store.close()
        assert refused.code == 1
        assert "try again" in refused.err

    running(check)


def test_a_dispatch_while_no_daemon_runs_leaves_the_calls_of_a_crash_to_the_daemon(recorded: Site) -> None:
    async def check() -> None:
        call = new_id()
        store = Store(recorded.database)
        store.open()
        store.commit([Insert("call", {"id": call, "received_at": "2026-03-24T08:00:00.000Z"})]).result()
        store.close()
        assert (await recorded.command("dispatch", call, "--category", "fire")).code == 0
        with Reader(recorded.database) as reader:
            row = reader.call(call)
        assert row is not None
        assert row["outcome"] is None

    running(check)


def test_another_program_at_our_address_is_an_error(recorded: Site) -> None:
    async def check() -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", recorded.port):
            ran = await recorded.command("status")
        assert ran.code == 1
        assert ran.err.startswith(f"siaga-pbx: the daemon at http://127.0.0.1:{recorded.port}")
        assert ran.err.count("\n") == 1

    running(check)


def test_verify_records(recorded: Site) -> None:
    async def check() -> None:
        good = await recorded.command("verify-records")
        assert (good.code, good.err) == (0, "")
        assert good.out.startswith("the chain holds: ")
        with sqlite3.connect(recorded.folder / "siaga.db") as database:
            database.execute("UPDATE call SET caller_number = '+62000' WHERE id = ?", (recorded.calls[1],))
        database.close()
        bad = await recorded.command("verify-records")
        assert bad.code == 1
        assert recorded.calls[1] in bad.out

    running(check)


def test_before_the_first_start_there_is_nothing_to_list(site: Site) -> None:
    async def check() -> None:
        for command in ("calls", "dispatches", "status", "seats", "verify-records"):
            ran = await site.command(command)
            assert ran.code == 1
            assert "no database" in ran.err
            assert ran.err.count("\n") == 1
        assert not (site.folder / "siaga.db").exists()

    running(check)


def test_check_config(site: Site) -> None:
    async def check() -> None:
        good = await site.command("check-config")
        assert (good.code, good.out) == (0, f"{site.config}: good: 1 trunks, 1 seats, 1 agencies\n")
        site.config.write_text(
            site.config.read_text().replace('id = "cirebon"', 'id = "Cirebon!"').replace("1825", "0")
        )
        bad = await site.command("check-config")
        assert (bad.code, bad.out) == (1, "")
        assert [line.split(": ")[1] for line in bad.err.splitlines()] == ["centre.id", "records.keep_calls_days"]
        other = await site.command("calls")
        assert (other.code, other.err.count("\n")) == (1, 1)
        assert "1 more: siaga-pbx check-config" in other.err
        gone = await site.command("check-config", config=site.folder / "none.toml")
        assert (gone.code, gone.err.count("\n")) == (1, 1)

    running(check)
