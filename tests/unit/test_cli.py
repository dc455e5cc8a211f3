"""The surface of the command line (DESIGN.md 5): which commands there are, how they refuse, how quickly they start."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from siaga_pbx.cli import main

COMMANDS = (
    "run",
    "media",
    "check-config",
    "default-config",
    "demo",
    "probe",
    "status",
    "seats",
    "calls",
    "dispatches",
    "dispatch",
    "agency",
    "mqtt-acl",
    "trace",
    "verify-records",
    "recording",
    "backup",
    "copy-records",
    "report",
    "hold",
    "erase",
    "export",
    "accesses",
)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The command sets it for its process, which here is ours."""
    old = os.umask(0o022)
    yield
    os.umask(old)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_a_config(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: siaga-pbx {command}")
    assert ("--config" in text) == (command not in ("default-config", "demo"))


@pytest.mark.parametrize("command", ["calls", "seats", "dispatches", "status"])
def test_the_listings_take_the_options_of_the_contract(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    text = capsys.readouterr().out
    for option in ("--json", "--since", "--limit"):
        assert option in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["calls", "--nope"],
        ["calls", "--limit", "0"],
        ["calls", "--limit", "many"],
        ["calls", "extra"],
        ["dispatch"],
        ["dispatch", "019a"],
        ["dispatch", "019a", "--category"],
        ["agency"],
        ["demo", "--calls", "0"],
        ["media", "--index", "-1"],
    ],
)
def test_misuse_is_one_line_on_stderr_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("siaga-pbx: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "media", "check-config", "probe", "calls", "status", "verify-records"])
def test_without_a_configuration_nothing_goes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIAGA_CONFIG", str(tmp_path / "none.toml"))
    assert main([command]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"siaga-pbx: no configuration file {tmp_path}/none.toml")
    assert said.err.count("\n") == 1


def test_the_commented_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["default-config"]) == 0
    assert capsys.readouterr().out == files("siaga_pbx").joinpath("siaga.default.toml").read_text()


def test_what_is_written_is_for_its_owner_alone() -> None:
    main(["--version"])
    assert os.umask(0o022) == 0o077


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    line = f"{sys.executable} -m siaga_pbx default-config | head -n 1"
    process = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20)
    assert process.stdout.startswith("# siaga-pbx")
    assert process.stderr == ""


def test_help_loads_none_of_the_heavy_libraries() -> None:
    """What keeps `--help` under 150 ms; the time itself depends on the machine."""
    code = "import siaga_pbx.cli, sys; siaga_pbx.cli.main(['--help']); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    loaded = set(ran.stdout.split())
    assert not loaded & {"pydantic", "rich", "httpx", "fastapi", "sqlalchemy", "asyncio", "numpy", "phonenumbers"}
