"""SIPp as a carrier and as registered seats: real SIP from a program that is not ours."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

SCENARIOS = Path(__file__).parent


def command(scenario: str, server: tuple[str, int], local: tuple[str, int], folder: Path, *more: str) -> list[str]:
    """The command line of one scenario against `server` from `local`; its own logs go to `folder`."""
    return [
        "sipp",
        *(f"{server[0]}:{server[1]}",),
        *("-sf", str(SCENARIOS / f"{scenario}.xml")),
        *("-i", local[0], "-p", str(local[1]), "-nostdin", "-trace_err"),
        *("-error_file", str(folder / f"{scenario}.errors")),
        *more,
    ]


def register(server: tuple[str, int], seats: Mapping[str, str], port: int, own: int, folder: Path) -> None:
    """Register every seat (id: password) from 127.0.0.1:`own`, to be called at `port`."""
    rows = (f"{seat};[authentication username={seat} password={password}];{port}" for seat, password in seats.items())
    table = folder / "seats.csv"
    table.write_text("SEQUENTIAL\n" + "\n".join(rows) + "\n")
    more = ("-inf", str(table), "-m", str(len(seats)), "-r", "50", "-timeout", "20", "-timeout_error")
    done = subprocess.run(
        command("register", server, ("127.0.0.1", own), folder, *more), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
