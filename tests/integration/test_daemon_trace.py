"""`siaga-pbx trace` of a call through the running daemon."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.demo.centre import TRUNK, Centre, DemoFailed
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, registered
from tests.interop.centres import ended, running

NUMBER = "+6281234567890"


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Centre, str]]:
    """A centre that has had a call, and the call's id."""
    centre = Centre(tmp_path_factory.mktemp("trace"), agencies={})
    with running(centre):
        with (
            registered(centre, "101") as seat,
            carrier(centre) as caller,
            Rtp(TRUNK, 60) as mouth,
            Rtp(SEAT, 61) as ear,
        ):
            dialog, _ = bridged(caller, seat, mouth, ear)
            dialog.bye()
        yield centre, ended(centre, dialog.call_id)["id"]


def trace(centre: Centre, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*centre.command, "trace", *arguments, "--config", str(centre.config)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_ladder_of_both_legs(call: tuple[Centre, str]) -> None:
    centre, call_id = call
    shown = trace(centre, call_id)
    assert shown.returncode == 0, shown.stderr
    head, *lines = shown.stdout.splitlines()
    peers = head.split()
    assert peers[0].startswith(TRUNK)
    assert peers[1] == "siaga-pbx"
    assert peers[2].startswith(SEAT)
    labels = [" ".join(line[14:].strip("│ ").strip("─<>").split("─")).strip(" │<>") for line in lines]
    assert labels[0] == "INVITE (SDP)"
    for expected in ("100 Trying INVITE", "200 OK (SDP) INVITE", "180 Ringing INVITE"):
        assert expected in labels
    assert labels.count("BYE") == 2
    assert labels.count("200 OK BYE") == 2
    assert labels.count("ACK") == 2


def test_numbers_are_masked_unless_asked_for(call: tuple[Centre, str]) -> None:
    centre, call_id = call
    shown, unmasked = trace(centre, call_id, "--full").stdout, trace(centre, call_id, "--full", "--unmasked").stdout
    assert "INVITE sip:" in shown
    user = next(line for line in unmasked.splitlines() if line.startswith("From: ")).split("sip:")[1].split("@")[0]
    assert len(user) > 8
    assert user in unmasked
    assert user not in shown


def test_a_pcap_that_only_its_owner_may_read(call: tuple[Centre, str], tmp_path: Path) -> None:
    centre, call_id = call
    file = tmp_path / "call.pcap"
    assert trace(centre, call_id, "--pcap", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    read = subprocess.run(
        ["tshark", "-r", str(file), "-Y", "sip.Method == BYE"], capture_output=True, text=True, check=True
    )
    assert len(read.stdout.splitlines()) == 2


def test_of_an_unknown_call_one_line(call: tuple[Centre, str]) -> None:
    centre, _ = call
    shown = trace(centre, "01a20c00-0000-7000-8000-000000000000")
    assert shown.returncode == 1
    assert shown.stderr.count("\n") == 1
    assert "no trace of call" in shown.stderr


def test_of_an_erased_call_nothing_is_left(call: tuple[Centre, str]) -> None:
    centre, call_id = call
    path = f"/api/v1/calls/{call_id}/trace"
    assert centre.get(path)["messages"]
    centre.post("/api/v1/erasures", {"call_id": call_id, "reason": "the caller asks for it"})
    with pytest.raises(DemoFailed, match="404"):
        centre.get(path)
