"""The end of the chain, told by a real daemon to a real mosquitto: who keeps it can tell a record made anew."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from siaga_pbx.config import load
from siaga_pbx.demo.centre import free_port
from siaga_pbx.records.chain import GENESIS, Head, event_digest, event_hash
from siaga_pbx.records.database import sqlite_file
from tests.dispatch_centre import PREFIX, USERS, mosquitto, write_config
from tests.records_databases import SqliteFile

_FORGED = '{"forged": true}'
SIAGA = [sys.executable, "-m", "siaga_pbx"]


async def retained(port: int) -> dict[str, object]:
    """The head as an agency's own MQTT client sees it: Debian's, which knows nothing of our code."""
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-V", "5", "-q", "1", "-C", "1", "-W", "60"]
    topic = ["-u", "damkar", "-P", USERS["damkar"], "-t", f"{PREFIX}/chain"]
    process = await asyncio.create_subprocess_exec(*command, *topic, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, "nothing was published"
    found = json.loads(output)
    assert isinstance(found, dict)
    return found


async def verified(config: Path, *arguments: str) -> tuple[int, str]:
    command = [*SIAGA, "verify-records", *arguments, "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def make_anew(database: SqliteFile) -> None:
    """A forger who has read `chain` and `verify`: other content in the first event, and all that follows from it."""
    names = "seq, id, at, subject, subject_id, call_id, kind, digest"
    previous = GENESIS
    with database.tampering() as run:
        ((salt,),) = run("SELECT salt FROM event WHERE seq = 1")
        run("UPDATE event SET data = ?, digest = ? WHERE seq = 1", _FORGED, event_digest(salt, _FORGED))
        for row in run(f"SELECT {names} FROM event ORDER BY seq"):
            previous = event_hash(previous, *row)
            run("UPDATE event SET hash = ? WHERE seq = ?", previous, row[0])
        run("UPDATE writer SET hash = ? WHERE seq = ?", previous, row[0])


def test_a_record_that_was_made_anew_is_told_from_the_head_that_was_published(tmp_path: Path) -> None:
    asyncio.run(told_from_the_published_head(tmp_path))


async def told_from_the_published_head(folder: Path) -> None:
    broker = mosquitto(folder)
    await broker.start()
    try:
        config = write_config(folder, broker.url)
        with config.open("a") as file:
            file.write(f'[http]\nlisten = "127.0.0.1:{free_port()}"\n')
        with (folder / "log").open("wb") as log:
            environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
            daemon = await asyncio.create_subprocess_exec(
                *SIAGA, "run", "--config", str(config), stdout=log, stderr=log, env=environment
            )
            try:
                first = await retained(broker.port)
            finally:
                daemon.send_signal(signal.SIGTERM)
                await daemon.wait()
        last = await retained(broker.port)  # by somebody who came when the daemon was gone
    finally:
        await broker.stop()
    assert first["centre"] == last["centre"] == "cirebon"
    heads = [Head(int(str(told["seq"])), str(told["hash"])) for told in (first, last)]
    assert heads[0].seq < heads[1].seq
    logged = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    assert [(line["seq"], line["hash"]) for line in logged if line["event"] in ("chain head", "stopped")] == [
        *((head.seq, head.hash) for head in heads),
        (heads[1].seq, heads[1].hash),
    ]

    told = [argument for head in heads for argument in ("--head", str(head))]
    assert (await verified(config, *told))[0] == 0
    database = sqlite_file(load(config).records.database)
    assert database is not None
    make_anew(SqliteFile(database))
    code, text = await verified(config)
    assert (code, str(heads[1]) in text) == (0, False), "consistent in itself: its hashes and the writer's note"
    code, text = await verified(config, *told)
    assert code == 1
    assert [f"the one whose hash {head.hash} was published: the chain was made anew" in text for head in heads] == [
        True,
        True,
    ]
