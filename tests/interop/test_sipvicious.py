"""sipvicious, the scanner that everybody meets, against the running daemon: it learns nothing that helps it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from siaga_pbx.demo.centre import DAEMON, Centre, free_port
from tests.interop.calls import registered
from tests.interop.centres import log_of, metric, running, until
from tests.interop.uac import Ua

SCANNER = "127.0.0.66"
SEATS = {"101": "Meja 1", "102": "Meja 2", "103": "Meja 3"}
NO_SEATS = ("100", "104")
METHODS = ("OPTIONS", "INVITE", "REGISTER")

pytestmark = pytest.mark.skipif(shutil.which("svmap") is None, reason="needs Debian's sipvicious")


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("scanned"), seats=SEATS, agencies={})) as made:
        yield made


def run(home: Path, *command: str) -> str:
    """What the scanner says. Its home keeps its sessions, and none is to outlive the test."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    asked = [*command, "-v", "-P", str(free_port()), DAEMON]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize("method", METHODS)
def test_svmap_learns_no_version(centre: Centre, tmp_path: Path, method: str) -> None:
    said = run(tmp_path, "svmap", "-b", SCANNER, "-p", str(centre.sip_port), "-m", method)
    assert "siaga-pbx" not in said
    assert version("siaga-pbx") not in said
    if method != "REGISTER":  # a phone that registers has to be answered
        assert f"{DAEMON}:{centre.sip_port}" not in re.sub(r"(?m)^(INFO|WARNING|DEBUG).*$", "", said), said


@pytest.mark.parametrize("method", METHODS)
def test_svwar_cannot_tell_a_seat_from_none(centre: Centre, tmp_path: Path, method: str) -> None:
    with registered(centre, "101"):
        said = run(tmp_path, "svwar", "-p", str(centre.sip_port), "-e", "100-104", "--force", "-m", method)
    found = {seat for seat in (*SEATS, *NO_SEATS) if re.search(rf"(?m)^\|\s*{seat}\s*\|", said)}
    assert found in (set(), {*SEATS, *NO_SEATS}), said


def crack(centre: Centre, home: Path, seat: str, wrong: int) -> str:
    """What svcrack says of a seat whose right password is the one after so many wrong ones.

    It takes no address to send from: it sends from DAEMON.
    """
    words = home / "words"
    words.write_text("".join(f"guess{number}\n" for number in range(wrong)) + f"{centre.password(seat)}\nlast\n")
    return run(home, "svcrack", "-p", str(centre.sip_port), "-u", seat, "-d", str(words), "--maximumtime", "3")


def test_svcrack_works_where_it_guesses_at_once(centre: Centre, tmp_path: Path) -> None:
    """Or the next test would prove nothing."""
    assert centre.password("102") in crack(centre, tmp_path, "102", wrong=1)


def test_svcrack_finds_no_password_and_phones_at_the_same_address_go_on(centre: Centre, tmp_path: Path) -> None:
    silenced = 'siaga_sip_dropped_total{reason="silenced"}'
    before, password = metric(centre, silenced), centre.password("101")
    with Ua((DAEMON, centre.sip_port), DAEMON, "101") as phone:
        assert phone.register("101", password).status == 200
        assert password not in crack(centre, tmp_path, "101", wrong=20)
        assert metric(centre, silenced) > before
        assert phone.register("101", password).status == 200, "the seat that was guessed at"
    with Ua((DAEMON, centre.sip_port), DAEMON, "103") as other:
        # The scanner has used up what an unknown port there may send for some seconds: a phone asks again.
        challenge = until(lambda: other.try_register("103", within=1.0), "the challenge")
        answer = until(lambda: other.try_register("103", challenge, centre.password("103"), within=1.0), "the answer")
        assert answer is not None
        assert answer.status == 200, "another seat there"


def test_what_a_scan_leaves_in_the_log(centre: Centre) -> None:
    assert "Traceback" not in log_of(centre)
