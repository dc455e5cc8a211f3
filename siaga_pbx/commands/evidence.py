"""`verify-records` and `backup`: does the record show that somebody changed it? A copy of it that shows the same."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from siaga_pbx.commands.common import load_config
from siaga_pbx.commands.failures import Failed, Misused
from siaga_pbx.commands.onrecord import note_access, records
from siaga_pbx.commands.running import running_daemon
from siaga_pbx.records.backup import back_up
from siaga_pbx.records.chain import Head
from siaga_pbx.records.copying import copy_records
from siaga_pbx.records.database import sqlite_file
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.recordings import faults
from siaga_pbx.records.verify import Finding, examine


def verify_records(file: Path | None, database: str | None, heads: Sequence[str], *, recordings: bool = False) -> int:
    """Every fault on stdout, one a line, and exit code 1; or a line that says what was proven.

    `database`: a file or a URL, such as a backup's, instead of the configuration's. `heads`: what was published.
    `recordings`: the audio files, too.
    """
    try:
        known = [Head.parse(text) for text in heads]
    except ValueError as error:
        raise Misused(f"--head: {error}") from error
    url = _url(file, database)
    finding = _examined(url, known)
    problems = [*map(str, finding.problems), *(_files(file, url) if recordings else ())]
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    if problems:
        return 1
    last = f"{finding.head.seq} events, the last {finding.last_at}, head {finding.head}"
    gone = f", {finding.erased} calls erased" if finding.erased else ""
    sys.stdout.write(f"the chain holds: {last + gone if finding.head.seq else 'no events yet'}\n")
    return 0


def backup(file: Path | None, target: Path) -> int:
    """Copies the database while the daemon runs, and verifies the copy; 1 when that finds faults (the copy is kept).

    Whoever has the copy can read every caller in it, so the access is noted, and in the copy too.
    """
    config = load_config(file)
    database = config.records.database
    with records(config) as reader:
        note_access(config, reader, "backup")
    try:
        back_up(database, target)
    except RecordsError as error:
        raise Failed(f"no backup: {error}") from error
    finding = _examined(f"sqlite:///{target.absolute()}", [])
    if finding.problems:
        raise Failed(f"{target} is a copy of a record with faults, the first: {finding.problems[0]}")
    sys.stdout.write(f"{target}: {target.stat().st_size} bytes, {finding.head.seq} events, head {finding.head}\n")
    return 0


def copy_records_from(file: Path | None, source: str) -> int:
    """Copies another database into the configuration's, which is empty, while no daemon runs; 1 if that has faults."""
    config = load_config(file)
    target, origin = config.records.database, _url(file, source)
    with running_daemon(config) as daemon:
        if daemon is not None:
            raise Failed("a daemon runs: what it writes meanwhile would be missing; stop it first")
    if origin == target:
        raise Misused("--from is the configuration's own database: name the new one in its [records] database first")
    old = sqlite_file(origin)
    if old is not None and not old.exists():
        raise Failed(f"no database {old}")
    try:
        finding = copy_records(origin, target)
    except RecordsError as error:
        raise Failed(str(error)) from error
    if finding.problems:
        raise Failed(f"the copy has faults, as may have had the record, the first: {finding.problems[0]}")
    sys.stdout.write(f"copied: {finding.head.seq} events, head {finding.head}\n")
    return 0


def _files(file: Path | None, database: str) -> Iterator[str]:
    """What is wrong with the recordings."""
    try:
        with Reader(database) as reader:
            yield from faults(reader, load_config(file).records.recordings)
    except RecordsError as error:
        raise Failed(f"the recordings cannot be verified: {error}") from error


def _url(file: Path | None, database: str | None) -> str:
    if database is None:
        return load_config(file).records.database
    if "://" not in database:
        return f"sqlite:///{Path(database).absolute()}"
    if not database.startswith(("sqlite:///", "postgresql://")):
        raise Misused("--database: a file, sqlite:///FILE or postgresql://...")
    return database


def _examined(database: str, known: Sequence[Head]) -> Finding:
    file = sqlite_file(database)
    if file is not None and not file.exists():
        raise Failed(f"no database {file}: the daemon makes it at its first start")
    try:
        return examine(database, known)
    except RecordsError as error:
        raise Failed(f"{file or 'the database'}: {error}") from error
