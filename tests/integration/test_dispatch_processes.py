"""The processes: mosquitto as our child, the example configuration, and the agency's end as a program."""

import asyncio
import os
import pty
import shutil
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from siaga_pbx.commands.broker import mqtt_acl
from siaga_pbx.dispatch import broker as broker_module
from siaga_pbx.dispatch.broker import (
    BrokerError,
    BrokerMissing,
    Mosquitto,
    folder_of,
    read_access,
)
from siaga_pbx.dispatch.order import Order
from tests.authority import Authority, Pair
from tests.dispatch_centre import agency_at, centre_at, mosquitto, until, write_config

ROOT = Path(__file__).parents[2]


def run(scenario: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
    """Runs it in bounded time; what it starts is stopped."""

    async def bounded() -> None:
        async with asyncio.timeout(40), AsyncExitStack() as stack:
            await scenario(stack)

    asyncio.run(bounded())


# --- the embedded broker ----------------------------------------------------------------------------------------------


def test_the_embedded_broker_serves_both_ends_and_nobody_else(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        config = write_config(tmp_path, "embedded")
        centre = await stack.enter_async_context(centre_at(config))
        station = await stack.enter_async_context(agency_at(config))
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: station.book.get(id) and centre.dispatcher.pending == 0)
        folder = folder_of(config)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        secrets = [folder / name for name in ("access.json", "passwords", "mosquitto.conf", "acl")]
        assert [stat.S_IMODE(file.stat().st_mode) for file in secrets] == [0o600] * 4
        assert read_access(config).url.startswith("mqtt://127.0.0.1:")

    run(scenario)


def test_the_embedded_broker_keeps_its_port_and_passwords_and_comes_back(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        config = write_config(tmp_path, "embedded")
        async with centre_at(config):
            before = read_access(config)
        station = await stack.enter_async_context(agency_at(config))
        async with centre_at(config) as centre:
            assert read_access(config) == before
            await until(lambda: station.connected and centre.dispatcher.agencies["damkar"])
            embedded = centre.dispatcher._embedded
            assert embedded is not None
            await embedded._broker.kill()
            await until(lambda: not station.connected)
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: station.book.get(id))

    run(scenario)


def test_a_port_that_is_taken_meanwhile_is_changed(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        config = write_config(tmp_path, "embedded")
        async with centre_at(config):
            before = read_access(config)
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", int(before.url.rpartition(":")[2]))
        stack.callback(server.close)
        centre = await stack.enter_async_context(centre_at(config))
        assert read_access(config).url != before.url
        await until(lambda: centre.dispatcher.connected)

    run(scenario)


def test_without_mosquitto_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr(broker_module, "_PLACES", "/nowhere")
        with pytest.raises(BrokerMissing, match="install the Debian package mosquitto"):
            await stack.enter_async_context(centre_at(write_config(tmp_path, "embedded")))

    run(scenario)


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        with pytest.raises(BrokerError, match=r"mosquitto does not start: .*nonsense"):
            await mosquitto(tmp_path, extra=("nonsense true",)).start()
        (tmp_path / "file").touch()
        with pytest.raises(BrokerError, match="Not a directory"):
            await Mosquitto(tmp_path / "file" / "broker", {}, "").start()

    run(scenario)


def test_an_agency_whose_centre_never_ran_an_embedded_broker_is_told(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="start the daemon first"):
        read_access(write_config(tmp_path, "embedded"))


_PARENT = """
import asyncio, sys
from pathlib import Path
from siaga_pbx.dispatch.broker import Embedded

async def main() -> None:
    embedded = Embedded(Path(sys.argv[1]), "siaga/test", ["damkar"])
    await embedded.start()
    print(embedded.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_embedded_broker_dies_with_the_daemon(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        config = write_config(tmp_path, "embedded")
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PARENT, str(config)), stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert parent.stdout is not None
        port = int((await parent.stdout.readline()).decode().rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        parent.kill()
        await parent.wait()

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await until(lambda: not listens())

    run(scenario)


# --- the example for a real one ---------------------------------------------------------------------------------------


def test_the_example_rules_are_those_that_mqtt_acl_makes_of_the_example_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config" / "siaga.toml"
    shutil.copytree(ROOT / "dialplans", tmp_path / "dialplans")
    (config.parent / "secrets").mkdir(parents=True)
    for secret in ("mqtt-centre", "seat-101", "seat-102", "seat-103"):
        (config.parent / "secrets" / secret).write_text("for the test")
    shutil.copy(ROOT / "config" / "siaga.toml", config)
    assert mqtt_acl(config) == 0
    assert capsys.readouterr().out == (ROOT / "config" / "mosquitto" / "acl").read_text()


def test_the_example_configuration_serves_both_ends_over_tls(tmp_path: Path) -> None:
    """Its own lines, with the places of files and the ports replaced, and with client certificates."""

    async def scenario(stack: AsyncExitStack) -> None:
        signed = Authority(tmp_path)
        authority, server = signed.certificate, signed.pair("broker", "localhost")
        centre_pair, agency_pair = signed.pair("centre"), signed.pair("damkar")
        plain = mosquitto(tmp_path)
        await plain.start()
        await plain.stop()
        tls_port = broker_module._free_port()
        example = (ROOT / "config" / "mosquitto" / "mosquitto.conf").read_text()
        for line in ("password_file /etc/mosquitto/siaga.passwords", "acl_file /etc/mosquitto/siaga.acl"):
            assert line in example
        example = "\n".join(
            line.lstrip("#") if line.startswith(("#cafile", "#require_certificate")) else line
            for line in example.splitlines()
            if not line.startswith(("password_file", "acl_file", "allow_anonymous", "max_queued", "listener 1883"))
        )
        example = example.replace("listener 8883", f"listener {tls_port} 127.0.0.1")
        example = example.replace("/etc/mosquitto/certs/siaga.crt", str(server[0]))
        example = example.replace("/etc/mosquitto/certs/siaga.key", str(server[1]))
        example = example.replace("/etc/mosquitto/certs/agencies-ca.crt", str(authority))
        broker = mosquitto(tmp_path, extra=tuple(example.splitlines()))
        await broker.start()
        stack.push_async_callback(broker.stop)
        url = f"mqtts://localhost:{tls_port}"
        centre = await stack.enter_async_context(centre_at(with_tls(tmp_path, url, "centre", authority, centre_pair)))
        station = await stack.enter_async_context(agency_at(with_tls(tmp_path, url, "damkar", authority, agency_pair)))
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: station.book.get(id) and centre.dispatcher.pending == 0)

    run(scenario)


def with_tls(folder: Path, url: str, user: str, authority: Path, pair: Pair | None) -> Path:
    file = write_config(folder, url, user=user)
    lines = [f'ca = "{authority}"']
    if pair is not None:
        lines += [f'certificate = "{pair[0]}"', f'key = "{pair[1]}"']
    file.write_text(file.read_text().replace("[mqtt]", "\n".join(["[mqtt]", *lines])))
    return file


# --- the agency's program ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`siaga-pbx agency` as a child."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "siaga_pbx", "agency", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def test_the_program_answers_by_itself_from_received_to_cleared(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        config, state = write_config(tmp_path, broker.url, user="damkar"), tmp_path / "state" / "book.json"
        arguments = (
            "damkar",
            "--config",
            str(config),
            "--state",
            str(state),
            "--auto",
            "--pace",
            "0",
            "--by",
            "Regu 7",
        )
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Rumah terbakar"))).dispatch_ids
        async with program(*arguments) as process:
            assert process.stdout is not None
            assert (await process.stdout.readline()).decode().strip() == "connected"
            assert (
                f"new {id}:1 fire received at not known: Rumah terbakar" in (await process.stdout.readline()).decode()
            )
            await until(lambda: ("damkar", "cleared") in centre.told.states)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        await until(lambda: centre.dispatcher.agencies["damkar"] is False)
        assert centre.dispatch(id)["state"] == "cleared"
        (cleared,) = centre.reader.events(subject_id=id, kind="cleared")
        assert "'by': 'Regu 7'" in str(cleared["data"])
        assert stat.S_IMODE(state.stat().st_mode) == 0o600

    run(scenario)


def test_a_program_that_is_killed_knows_its_dispatches_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        config = write_config(tmp_path, broker.url, user="damkar")
        arguments = ("damkar", "--config", str(config), "--state", str(tmp_path / "book.json"))
        async with program(*arguments):
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: ("damkar", "received") in centre.told.states)
        await until(lambda: centre.dispatcher.agencies["damkar"] is False)  # its will
        async with program(*arguments, "--auto", "--pace", "0"):
            await until(lambda: ("damkar", "cleared") in centre.told.states)
        assert centre.kinds(id).count("received") == 1

    run(scenario)


def test_an_unknown_agency_and_a_state_file_that_cannot_be_are_one_line_each(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        config = write_config(tmp_path, "mqtt://127.0.0.1:1")
        async with program("pln", "--config", str(config)) as process:
            _, errors = await process.communicate()
        assert (process.returncode, errors.decode().count("\n")) == (2, 1)
        assert "no agency 'pln'" in errors.decode()
        async with program("damkar", "--config", str(config), "--state", str(config / "x")) as process:
            _, errors = await process.communicate()
        assert (process.returncode, errors.decode().count("\n")) == (1, 1)

    run(scenario)


def test_on_a_terminal_keys_answer(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        config = write_config(tmp_path, broker.url, user="damkar")
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "siaga_pbx", "agency", "damkar", "--config", str(config)),
            *("--state", str(tmp_path / "book.json")),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        )
        os.close(theirs)
        screen = bytearray()
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                screen.extend(os.read(ours, 65_536))
            except OSError:  # the program has left the terminal
                loop.remove_reader(ours)

        loop.add_reader(ours, read)
        stack.callback(loop.remove_reader, ours)
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Rumah terbakar"))).dispatch_ids
        await until(lambda: b"Rumah terbakar" in screen)
        os.write(ours, b"a")
        await until(lambda: ("damkar", "accepted") in centre.told.states)
        os.write(ours, b"o")
        await until(lambda: ("damkar", "on_scene") in centre.told.states)
        os.write(ours, b"qy")
        assert await process.wait() == 0
        assert b"\a" in screen
        assert centre.dispatch(id)["accepted_at"] is not None

    run(scenario)


def test_two_ends_never_share_a_state_file(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        config, state = write_config(tmp_path, "mqtt://127.0.0.1:1", user="damkar"), tmp_path / "book.json"
        arguments = ("damkar", "--config", str(config), "--state", str(state))
        first = await stack.enter_async_context(program(*arguments))
        assert first.stdout is not None
        assert (await first.stdout.readline()).startswith(b"disconnected nothing listens at 127.0.0.1:1")
        async with program(*arguments) as second:
            _, errors = await second.communicate()
        assert second.returncode == 1
        assert b"another siaga-pbx agency damkar runs with it" in errors
        first.kill()
        await first.wait()
        third = await stack.enter_async_context(program(*arguments))  # nothing of a dead one stands in its way
        assert third.stdout is not None
        assert (await third.stdout.readline()).startswith(b"disconnected")

    run(scenario)
