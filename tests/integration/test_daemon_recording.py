"""A call's recording from the greeting to the court: kept, handed out to who may have it, whole after any crash."""

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

from siaga_pbx.config import load
from siaga_pbx.demo.centre import TRUNK, Centre
from siaga_pbx.media.g711 import Samples
from tests.integration.test_daemon_restart import worker_of
from tests.integration.test_media import read_stereo
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, registered
from tests.interop.centres import alarms, ended, metric, row, running, siaga, until
from tests.interop.uac import Ua

QUEUE = "ring_s = 30\nrest_s = 1\nwrap_up_s = 0"
SECOND = 8000


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("recording"), agencies={}, queue=QUEUE)) as made:
        yield made


@contextmanager
def two_phones(centre: Centre, voice: int) -> Iterator[tuple[Ua, Ua, Rtp, Rtp]]:
    """A caller and a seat, and the audio of both."""
    with (
        registered(centre, "101") as seat,
        carrier(centre) as caller,
        Rtp(TRUNK, voice) as mouth,
        Rtp(SEAT, voice + 1) as ear,
    ):
        yield caller, seat, mouth, ear


def said_in(track: Samples, rtp: Rtp, seconds: float = 1.0) -> int | None:
    """Where a stretch of the phone's voice lies in the track, sample by sample; the first that does."""
    whole = track.tobytes()
    for start in range(160, len(rtp.said) - SECOND, 800):
        at = whole.find(rtp.said[start : start + round(seconds * SECOND)].tobytes())
        if at >= 0:
            return at // 2
    return None


def complete(centre: Centre, sip_call_id: str) -> dict[str, Any]:
    """The call's row once its recording is complete."""
    ended(centre, sip_call_id)
    until(lambda: row(centre, sip_call_id)["recording_sha256"], "the recording")
    return row(centre, sip_call_id)


def events_of(centre: Centre, call: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    events = centre.get(f"/api/v1/calls/{call['id']}")["events"]
    return [event["data"] for event in events if event["kind"] == kind]


def test_it_is_kept_handed_out_and_checked(centre: Centre, tmp_path: Path) -> None:
    with two_phones(centre, 30) as (caller, seat, mouth, ear):
        call, _ = bridged(caller, seat, mouth, ear)
        until(lambda: len(ear.heard()) > 2 * SECOND and len(mouth.heard()) > 4 * SECOND, "two seconds of talk")
        refused = siaga(centre, "recording", row(centre, call.call_id)["id"])
        call.bye()
        seat.wait(lambda message: message.method == "BYE")
        found = complete(centre, call.call_id)
        path = centre.folder / "recordings" / found["recording"]
        left, right = read_stereo(path)
        assert said_in(left, mouth) is not None, "the caller is on the left"
        assert said_in(right, ear) is not None, "the seat on the right"
        assert np.abs(right[: SECOND // 2].astype(int)).max() > 1000, "after the greeting, which it begins with"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is still running: its recording is complete when it is over" in refused.stderr
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (recorded,) = events_of(centre, found, "recorded")
    assert recorded["sha256"] == found["recording_sha256"] == sha256(path.read_bytes()).hexdigest()
    assert recorded["lost_ms"] == 0
    # And how good it was, in the record and in the list of calls.
    caller_leg = next(one for one in events_of(centre, found, "quality") if one["leg"] == "caller")
    assert caller_leg["lost"] == 0
    assert 1 <= caller_leg["mos"] == found["rtp_mos"] < 4.5  # late packets of a busy machine are late
    assert f"\t{found['rtp_mos']}\t" in siaga(centre, "calls").stdout

    copy = tmp_path / "call.wav"
    assert siaga(centre, "recording", found["id"], "--output", str(copy)).returncode == 0
    assert copy.read_bytes() == path.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    again = siaga(centre, "recording", found["id"], "--output", str(copy))
    assert (again.returncode, again.stderr) == (1, f"siaga-pbx: {copy} is there already\n")
    unknown = siaga(centre, "recording", "0190-no-such-call")
    assert (unknown.returncode, unknown.stderr) == (1, "siaga-pbx: no call 0190-no-such-call is on record\n")
    reads = [
        json.loads(line) for line in siaga(centre, "accesses", "--call", found["id"], "--json").stdout.splitlines()
    ]
    assert "/api/v1/calls/{call_id}/recording" in {read["data"]["what"] for read in reads}

    assert siaga(centre, "verify-records", "--recordings").returncode == 0
    with path.open("r+b") as file:
        file.seek(20_000)
        file.write(b"\x01\x02")
    changed = siaga(centre, "recording", found["id"], "--output", str(tmp_path / "changed.wav"))
    assert changed.returncode == 1
    assert f"the recording of call {found['id']} is not what was recorded" in changed.stderr
    faults = siaga(centre, "verify-records", "--recordings")
    assert (faults.returncode, faults.stdout) == (
        1,
        f"recording of call {found['id']}: changed since it was complete\n",
    )
    path.unlink()
    gone = siaga(centre, "recording", found["id"])
    assert "is kept elsewhere, or lost" in gone.stderr


@pytest.mark.quiet
def test_a_caller_who_is_not_heard_is_counted_and_noted(centre: Centre) -> None:
    """Nothing comes from the caller, who hears the seat: one way, within three seconds."""
    before = metric(centre, "siaga_rtp_one_way_calls_total")
    with two_phones(centre, 32) as (caller, seat, mouth, ear):
        call = caller.invite(mouth.sdp)
        assert call.final().status == 200
        offered = seat.offered()
        offered.ring()
        ear.start(offered.offer)
        offered.answer(ear.sdp)
        until(lambda: metric(centre, "siaga_rtp_one_way_calls_total") == before + 1, "the count", within=10)
        assert [one["unheard"] for one in centre.get("/api/v1/status")["calls"]] == [["caller"]]
        call.bye()
        found = complete(centre, call.call_id)
    missing = events_of(centre, found, "audio_missing")
    assert [one["one_way"] for one in missing if one["leg"] == "caller"][-1] is True
    assert found["rtp_mos"] is None


@pytest.mark.quiet
def test_one_file_through_the_death_of_worker_and_daemon(tmp_path: Path) -> None:
    with running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre:
        with two_phones(centre, 34) as (caller, seat, mouth, ear):
            call, _ = bridged(caller, seat, mouth, ear)
            until(lambda: len(ear.heard()) > 2 * SECOND, "two seconds of talk")
            os.kill(worker_of(centre), signal.SIGKILL)
            _heard_on(ear, 2)
            assert centre.daemon is not None
            centre.daemon.kill()
            centre.daemon.wait()
            _heard_on(ear, 1)
            centre.start_daemon()
            _heard_on(ear, 1)
            call.bye()
            found = complete(centre, call.call_id)
        (recorded,) = events_of(centre, found, "recorded")
        (gap,) = events_of(centre, found, "recording_gap")
        assert gap["reason"] == "the media worker died"
        assert gap["seconds"] < 2
        assert abs(recorded["lost_ms"] - gap["seconds"] * 1000) <= 1, "each is rounded to a millisecond"
        path = centre.folder / "recordings" / found["recording"]
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        left, _ = read_stereo(path)
        before, after = (round(one * SECOND) for one in (gap["start_s"], gap["start_s"] + gap["seconds"]))
        early, late = said_in(left[:before], mouth), said_in(left[after:], mouth, 2.0)
        assert early is not None
        assert late is not None
        assert siaga(centre, "verify-records", "--recordings").returncode == 0


@pytest.mark.quiet
def test_what_a_power_cut_leaves_is_made_whole_at_the_next_start(tmp_path: Path) -> None:
    """Daemon, worker and its keeper are killed at once; of the file the header is lost as well."""
    with running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre:
        with two_phones(centre, 36) as (caller, seat, mouth, ear):
            call, _ = bridged(caller, seat, mouth, ear)
            until(lambda: len(ear.heard()) > 3 * SECOND, "three seconds of talk")
            _cut_the_power(centre)
            heard = len(mouth.heard())
        path = centre.folder / "recordings" / next((centre.folder / "recordings").glob("*/*/*/*.wav"))
        with path.open("r+b") as file:
            file.write(bytes(44))
        load(centre.config).live_file.unlink()  # else the next daemon goes on with the call, as it may
        centre.start_daemon()
        found = complete(centre, call.call_id)
        assert found["outcome"] == "interrupted"
        (recorded,) = events_of(centre, found, "recorded")
        assert recorded["after_crash"] is True
        assert recorded["seconds"] >= heard / SECOND - 1
        left, right = read_stereo(path)
        assert said_in(left, mouth) is not None
        assert said_in(right, ear) is not None
        assert siaga(centre, "recording", found["id"], "--output", str(tmp_path / "call.wav")).returncode == 0
        assert siaga(centre, "verify-records", "--recordings").returncode == 0


def _heard_on(ear: Rtp, seconds: float) -> None:
    """So much more audio comes."""
    before = len(ear.heard())
    until(lambda: len(ear.heard()) > before + seconds * SECOND, "more audio")


def _cut_the_power(centre: Centre) -> None:
    worker = worker_of(centre)
    keeper = int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
    assert centre.daemon is not None
    for process in (centre.daemon.pid, keeper, worker):
        os.kill(process, signal.SIGKILL)
    centre.daemon.wait()
    sleep(0.2)


@pytest.mark.quiet
def test_a_folder_that_cannot_be_made_until_it_can(tmp_path: Path) -> None:
    """The call is answered and noted as not recorded; once it can be, the rest of it is, with the gap's times."""
    with (
        running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre,
        carrier(centre) as caller,
        Rtp(TRUNK, 38) as far,
    ):
        in_the_way = centre.folder / "recordings"
        in_the_way.write_text("")
        call = caller.invite(far.sdp)
        answer = call.final()
        assert answer.status == 200
        far.start(answer.body)
        until(lambda: "recording_failed" in alarms(centre), "the alarm")
        _heard_on(far, 2)  # what waits in memory is over by then
        in_the_way.unlink()
        _heard_on(far, 2)
        call.bye()
        found = complete(centre, call.call_id)
        (failed,) = events_of(centre, found, "record_failed")
        (gap,) = events_of(centre, found, "recording_gap")
        assert failed["final"] is False
        assert (gap["start_s"], gap["reason"]) == (0, failed["reason"])
        left, _ = read_stereo(in_the_way / found["recording"])
        assert not left[: round((gap["seconds"] - 0.001) * SECOND)].any(), "which is rounded to a millisecond"
        assert said_in(left, far) is not None
