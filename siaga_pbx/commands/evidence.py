"""`verify-records`: does the record show that somebody changed it?"""

import sys
from pathlib import Path

from siaga_pbx.commands.common import load_config
from siaga_pbx.commands.onrecord import records
from siaga_pbx.records.verify import verify


def verify_records(file: Path | None) -> int:
    """Every fault on stdout, one a line, and exit code 1; or a line that says what was proven."""
    config = load_config(file)
    with records(config) as reader:
        problems = verify(config.records.database)
        last = reader.events(limit=1)
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    if problems:
        return 1
    head = f"{last[0]['seq']} events, the last {last[0]['at']}, head {last[0]['hash']}" if last else "no events yet"
    sys.stdout.write(f"the chain holds: {head}\n")
    return 0
