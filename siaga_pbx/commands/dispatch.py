"""`dispatch`: send the agencies of a category to a call's incident."""

import sys
from pathlib import Path

from siaga_pbx.commands.common import Row, load_config
from siaga_pbx.commands.running import running_daemon


def dispatch(file: Path | None, call_id: str, order: Row) -> int:
    """Have the running daemon commit and deliver it."""
    config = load_config(file)
    with running_daemon(config) as daemon:
        receipt = daemon.post(f"/api/v1/calls/{call_id}/dispatches", order)
    sys.stdout.write(f"{receipt}\n")
    return 0
