"""The record fails under the daemon: calls are answered, bridged and recorded as before, and none of it is lost."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from siaga_pbx.demo.centre import TRUNK, Centre
from siaga_pbx.records.chain import Head
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, hear_each_other, registered
from tests.interop.centres import alarms, ended, log_of, metric, row, running, siaga, until
from tests.interop.uac import Ua
from tests.postgres_server import PASSWORD, PostgresServer
from tests.records_databases import PostgresDatabase, SqliteFile
from tests.records_outages import small_disk

pytestmark = pytest.mark.quiet
"""Each of them takes the better part of a minute."""

QUEUE = "ring_s = 30\nrest_s = 1\nwrap_up_s = 0"


def calls_as_ever(centre: Centre, caller: Ua, seat: Ua) -> str:
    """A call that is answered, bridged, heard on both ends and ended; its SIP Call-ID."""
    with Rtp(TRUNK, 90) as mouth, Rtp(SEAT, 91) as ear:
        call, _ = bridged(caller, seat, mouth, ear)
        hear_each_other(mouth, ear)
        call.bye()
        seat.wait(lambda message: message.method == "BYE")
    return call.call_id


def recording_of(centre: Centre, sip_call_id: str) -> str:
    return row(centre, sip_call_id)["recording"] or ""


@contextmanager
def peers(centre: Centre) -> Iterator[tuple[Ua, Ua]]:
    with registered(centre, "101") as seat, carrier(centre) as caller:
        yield caller, seat


def failed(centre: Centre) -> None:
    """The alarm stands, and the metric shows what waits."""
    until(lambda: "records" in alarms(centre), "the alarm")
    until(lambda: metric(centre, "siaga_journal_pending") > 0, "the metric")


def mended(centre: Centre, *sip_call_ids: str) -> None:
    """The alarm is over, nothing waits, and each call is on record from its arrival to its recording."""
    until(lambda: "records" not in alarms(centre), "the end of the alarm")
    until(lambda: metric(centre, "siaga_journal_pending") == 0, "the replay")
    for sip_call_id in sip_call_ids:
        found = ended(centre, sip_call_id)
        assert found["outcome"] == "answered"
        assert found["received_at"] <= found["answered_at"] <= found["connected_at"] <= found["ended_at"]
        until(partial(recording_of, centre, sip_call_id), "the recording")
        recording = centre.folder / "recordings" / recording_of(centre, sip_call_id)
        assert recording.stat().st_size > 10_000
        events = centre.get(f"/api/v1/calls/{found['id']}")["events"]
        kinds = [one["kind"] for one in events if one["subject"] == "call"]
        assert kinds.count("received") == kinds.count("row_closed") == 1, kinds


def test_locked_then_damaged_then_restored_from_a_backup(tmp_path: Path) -> None:
    database = SqliteFile(tmp_path / "siaga.db")
    with running(Centre(tmp_path, agencies={}, queue=QUEUE)) as centre:
        with peers(centre) as (caller, seat):
            with database.locked():
                failed_calls = [calls_as_ever(centre, caller, seat)]
                failed(centre)
            mended(centre, *failed_calls)

            made = siaga(centre, "backup", str(tmp_path / "backup.db"))
            assert made.returncode == 0, made.stderr
            assert siaga(centre, "verify-records", "--database", str(tmp_path / "backup.db")).returncode == 0
            assert siaga(centre, "backup", str(tmp_path / "backup.db")).returncode == 1, "it is there already"

        centre.stop()
        head = told_at_the_stop(centre)
        good = siaga(centre, "verify-records", "--head", str(head))
        assert (good.returncode, str(head) in good.stdout) == (0, True)
        forged = siaga(centre, "verify-records", "--head", f"{head.seq - 1}:{head.hash}")
        assert forged.returncode == 1
        assert forged.stdout.startswith(f"event {head.seq - 1} (")
        assert siaga(centre, "verify-records", "--head", "what").returncode == 2

        flip(database.file)
        centre.start_daemon()
        with peers(centre) as (caller, seat):
            after = calls_as_ever(centre, caller, seat)
            failed(centre)
            assert siaga(centre, "verify-records").returncode == 1
            for name in ("siaga.db-wal", "siaga.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            shutil.copy(tmp_path / "backup.db", tmp_path / "restored.db")
            (tmp_path / "restored.db").replace(database.file)
            mended(centre, *failed_calls, after)
        assert siaga(centre, "verify-records").returncode == 0


def flip(file: Path) -> None:
    """Every page but the first is damaged."""
    data = bytearray(file.read_bytes())
    for place in range(4096, len(data), 512):
        data[place] ^= 0xFF
    file.write_bytes(data)


def told_at_the_stop(centre: Centre) -> Head:
    """The chain's head, from the daemon's last line."""
    lines = [json.loads(line) for line in log_of(centre).splitlines() if '"stopped"' in line]
    return Head(lines[-1]["seq"], lines[-1]["hash"])


def test_its_disk_is_full(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with small_disk(place, "4m") as disk:
        (tmp_path / "siaga.token").symlink_to(disk / "siaga.token")
        centre = Centre(tmp_path, agencies={}, queue=QUEUE, database="sqlite:///small/siaga.db")
        with running(centre), peers(centre) as (caller, seat):
            filler = disk / "filler"
            room = os.statvfs(disk)
            filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
            calls = [calls_as_ever(centre, caller, seat)]
            failed(centre)
            calls.append(calls_as_ever(centre, caller, seat))
            filler.unlink()
            mended(centre, *calls)
        assert siaga(centre, "verify-records").returncode == 0


def test_on_postgresql_and_while_its_server_is_killed(server: PostgresServer, tmp_path: Path) -> None:
    database = PostgresDatabase(server, tmp_path)
    centre = Centre(tmp_path, agencies={"damkar": "Damkar"}, queue=QUEUE, database=database.url)
    try:
        with running(centre), peers(centre) as (caller, seat):
            first = calls_as_ever(centre, caller, seat)
            mended(centre, first)
            sent = siaga(centre, "dispatch", str(row(centre, first)["id"]), "--category", "fire", "--note", "asap")
            assert sent.returncode == 0, sent.stderr
            until(lambda: {one["state"] for one in dispatches(centre)} & {"accepted", "en_route"}, "acceptance")
            server.kill()
            second = calls_as_ever(centre, caller, seat)
            failed(centre)
            server.start()
            mended(centre, first, second)
            verified = siaga(centre, "verify-records")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            refused = siaga(centre, "backup", str(tmp_path / "backup.db"))
            assert (refused.returncode, "pg_dump" in refused.stderr) == (1, True)
        assert PASSWORD not in log_of(centre)
        assert database.url.split(":")[2].split("@")[0] not in log_of(centre)
    finally:
        server.start()
        database.drop()


def dispatches(centre: Centre) -> list[dict[str, object]]:
    return [json.loads(line) for line in siaga(centre, "dispatches", "--json").stdout.splitlines()]
