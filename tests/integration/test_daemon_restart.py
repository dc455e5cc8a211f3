"""What a crash of the media worker costs, and what a full port range does."""

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from siaga_pbx.demo.centre import TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, hear_each_other, registered, take
from tests.interop.centres import alarms, ended, log_of, row, running, until
from tests.interop.uac import Ua

QUEUE = "ring_s = 30\nrest_s = 1\nwrap_up_s = 0"


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("restart"), agencies={}, queue=QUEUE)) as made:
        yield made


@pytest.fixture
def seat(centre: Centre) -> Iterator[Ua]:
    with registered(centre, "101") as ua:
        yield ua


def test_media_worker_killed(centre: Centre, seat: Ua) -> None:
    """While no worker is there: an alarm, and ringing for whoever calls; answered when one is back."""
    with carrier(centre) as caller, Rtp(TRUNK, 5) as mouth, Rtp(SEAT, 6) as ear:
        with no_worker(centre):
            until(lambda: "media_down_0" in alarms(centre), "the alarm")
            call = caller.invite(mouth.sdp)
            call.rings()
            call.rings()  # every 3 s, as long as it takes
            assert row(centre, call.call_id)["answered_at"] is None
        take(call, seat, mouth, ear)
        hear_each_other(mouth, ear)
        call.bye()
        assert ended(centre, call.call_id)["outcome"] == "answered"
        until(lambda: alarms(centre) <= {"clock_not_synchronised"}, "the end of the alarms")


def test_media_worker_killed_under_a_ringing_caller_who_gives_up(centre: Centre) -> None:
    with carrier(centre) as caller, Rtp(TRUNK, 7) as mouth, no_worker(centre):
        until(lambda: "media_down_0" in alarms(centre), "the alarm")
        call = caller.invite(mouth.sdp)
        call.rings()
        assert call.cancel().status == 487
        gone = ended(centre, call.call_id)
        assert (gone["outcome"], gone["ended_by"], gone["sip_status"]) == ("abandoned", "caller", 487)
        assert gone["id"] in {one["id"] for one in centre.get("/api/v1/callbacks")}


def test_full_port_range(tmp_path: Path) -> None:
    """Four pairs of ports: two calls have them, the next caller hears ringing until some are free again."""
    queue = f"{QUEUE}\noverflow_s = 600"
    with (
        running(Centre(tmp_path, agencies={}, queue=queue, rtp=21000, ports=8)) as centre,
        registered(centre, "101") as seat,
        registered(centre, "102") as second_seat,
        carrier(centre) as caller,
        Rtp(TRUNK, 8) as mouth,
        Rtp(SEAT, 9) as ear,
    ):
        first, _ = bridged(caller, seat, mouth, ear)
        second, _ = bridged(caller, second_seat, mouth, ear)
        third = caller.invite(mouth.sdp)
        third.rings()
        until(lambda: "media_ports_exhausted" in alarms(centre), "the alarm")
        first.bye()
        seat.wait(lambda message: message.method == "BYE")
        take(third, seat, mouth, ear)
        third.bye()
        assert ended(centre, third.call_id)["outcome"] == "answered"
        second.bye()
        assert not alarms(centre) & {"media_ports_exhausted", "media_down_0"}


@contextmanager
def no_worker(centre: Centre) -> Iterator[None]:
    """Kills the media worker with its keepers, and keeps any other from starting by holding its lock."""
    with (centre.folder / "media.sock.0.lock").open("a") as lock:
        session = os.getsid(worker_of(centre))
        assert session != os.getsid(0)
        deadline = monotonic() + 10
        while True:
            for process in processes_of(session):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert monotonic() < deadline
                sleep(0.001)
        yield


def processes_of(session: int) -> list[int]:
    """All of a session's, the one that stands by among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                found.append(int(folder.name))
    return found


def worker_of(centre: Centre) -> int:
    """The media worker's process."""
    started = [json.loads(line) for line in log_of(centre).splitlines() if "media.started" in line]
    return int(started[-1]["pid"])
