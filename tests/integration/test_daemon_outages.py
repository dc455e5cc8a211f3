"""Its disk stalls, turns read-only, flips bits under a daemon with calls: they are as ever, and the record is whole.

What else can fail is in `test_daemon_records`.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from siaga_pbx.demo.centre import Centre
from siaga_pbx.slowness import CALM_S
from tests.integration.test_daemon_records import QUEUE, calls_as_ever, failed, flip, mended, peers
from tests.integration.test_media_disk import frozen, mounted
from tests.interop.centres import alarms, metric, running, siaga, until
from tests.records_databases import SqliteFile
from tests.records_outages import kinds
from tests.records_replay import events_of, fill

_CALLS = 2000  # of an outage, three batches each: the replay is killed after the first third, and after the second

pytestmark = pytest.mark.soak
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")


@contextmanager
def disk_of_its_own(tmp_path: Path) -> Iterator[Centre]:
    """A centre whose database, alone with its journal, is on a disk."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
        (tmp_path / "siaga.token").symlink_to(disk / "siaga.token")
        with running(Centre(tmp_path, agencies={}, queue=QUEUE, database="sqlite:///disk/siaga.db")) as centre:
            yield centre


@contextmanager
def immutable(*files: Path) -> Iterator[None]:
    """Nobody may write them, not even root, and not even who has them open."""
    names = [str(file) for file in files if file.exists()]
    subprocess.run(["chattr", "+i", *names], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *names], check=True)


@as_root
def test_its_disk_stalls_then_it_turns_read_only(tmp_path: Path) -> None:
    with disk_of_its_own(tmp_path) as centre, peers(centre) as (caller, seat):
        disk = tmp_path / "disk"
        with frozen(disk):
            calls = [calls_as_ever(centre, caller, seat)]
            until(lambda: "records_slow" in alarms(centre), "the alarm")
            assert metric(centre, "siaga_journal_pending") > 0
            assert metric(centre, 'siaga_alarm_active{alarm="records_slow"}') == 1
            calls.append(calls_as_ever(centre, caller, seat))
            order = ("dispatch", "unknown", "--category", "fire", "--note", "asap")
            refused = siaga(centre, *order)
            assert (refused.returncode, "not answer" in refused.stderr) == (1, True), refused.stderr
        mended(centre, *calls)
        until(lambda: "records_slow" not in alarms(centre), "the end of the alarm", CALM_S + 20)

        with immutable(disk / "siaga.db", disk / "siaga.db-wal"):
            calls.append(calls_as_ever(centre, caller, seat))
            failed(centre)
            calls.append(calls_as_ever(centre, caller, seat))
        mended(centre, *calls)
        assert siaga(centre, "verify-records").returncode == 0


def test_bytes_flip_while_it_runs(tmp_path: Path) -> None:
    """SQLite has what it writes in its own memory and may never read what is damaged: somebody has to look."""
    database = SqliteFile(tmp_path / "siaga.db")
    with running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre, peers(centre) as (caller, seat):
        first = calls_as_ever(centre, caller, seat)
        mended(centre, first)
        assert siaga(centre, "backup", str(tmp_path / "backup.db")).returncode == 0
        flip(database.file)
        in_between = calls_as_ever(centre, caller, seat)
        assert centre.daemon is not None
        centre.daemon.send_signal(signal.SIGHUP)  # a reload has it checked; otherwise that is once an hour
        failed(centre)
        assert metric(centre, 'siaga_alarm_active{alarm="records"}') == 1
        after = calls_as_ever(centre, caller, seat)
        assert siaga(centre, "verify-records").returncode == 1
        for name in ("siaga.db-wal", "siaga.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "backup.db").rename(database.file)
        mended(centre, first, after)
        assert siaga(centre, "verify-records").returncode == 0
        assert not database.rows("SELECT 1 FROM call WHERE sip_call_id = ?", in_between), (
            "it went with the damaged file"
        )


@pytest.mark.soak
def test_locked_for_a_minute(tmp_path: Path) -> None:
    """Somebody's transaction that is not over for a real minute: a call every few seconds all the while."""
    database, calls = SqliteFile(tmp_path / "siaga.db"), []
    with running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre, peers(centre) as (caller, seat):
        with database.locked():
            end = monotonic() + 60
            while monotonic() < end:
                calls.append(calls_as_ever(centre, caller, seat))
            failed(centre)
        mended(centre, *calls)
        assert siaga(centre, "verify-records").returncode == 0


def test_killed_in_the_middle_of_its_replays(tmp_path: Path) -> None:
    """SIGKILL of a daemon that cannot write, then of those that bring what it left into the database."""
    database = SqliteFile(tmp_path / "siaga.db")
    with running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre:
        with peers(centre) as (caller, seat), database.locked():
            call = calls_as_ever(centre, caller, seat)
            failed(centre)
            kill(centre.daemon)
        fill(database.journal, 0, _CALLS)
        for part in (1, 2):
            command = [*centre.command, "run", "--config", str(centre.config)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
                until(partial(reached, database, part * _CALLS), "a part of the journal", within=60)
                kill(daemon)
            assert database.journal.exists(), "the replay was over"
        centre.start_daemon()
        mended(centre, call)
        assert kinds(database) == events_of(_CALLS)
        assert not database.rows("SELECT data FROM event WHERE kind = 'changes_refused'")
        assert siaga(centre, "verify-records").returncode == 0


def kill(daemon: subprocess.Popen[bytes] | None) -> None:
    assert daemon is not None
    daemon.kill()
    daemon.wait()


def reached(database: SqliteFile, count: int) -> bool:
    return len(kinds(database)) >= count
