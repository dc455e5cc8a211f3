"""`trace`: the SIP of a call as a ladder, in full, or as a pcap file."""

import base64
import sys
from pathlib import Path

from siaga_pbx.commands.common import load_config, zone_of
from siaga_pbx.commands.failures import Failed
from siaga_pbx.commands.ladder import arrow_text, ladder
from siaga_pbx.commands.running import running_daemon
from siaga_pbx.net.pcap import pcap
from siaga_pbx.net.trace import Traced
from siaga_pbx.web.traces import CallTrace, TracedMessage


def trace(file: Path | None, call_id: str, to: Path | None, full: bool, unmasked: bool) -> int:
    """Show the messages of a call of the running daemon, or write them to `to`. Raises `Failed` with the reason."""
    config = load_config(file)
    with running_daemon(config) as daemon:
        if daemon is None:
            raise Failed("the daemon does not run; its traces are in its memory only")
        answer = daemon.get(f"/api/v1/calls/{call_id}/trace?unmasked={str(unmasked).lower()}")
    messages = [_traced(one) for one in CallTrace.model_validate(answer).messages]
    if to is not None:
        try:
            to.touch(mode=0o600)
            to.write_bytes(pcap(messages))
        except OSError as error:
            raise Failed(f"{to}: {error.strerror or error}") from error
        sys.stderr.write(f"{to}: {len(messages)} messages\n")
        return 0
    zone = zone_of(config)
    for line in ladder(messages, zone):
        sys.stdout.write(f"{line}\n")
    for message in messages if full else ():
        sys.stdout.write(f"\n{arrow_text(message, zone)}\n{message.data.decode('utf-8', 'replace').rstrip()}\n")
    return 0


def _traced(one: TracedMessage) -> Traced:
    return Traced(one.at, one.sent, one.transport, one.local, one.remote, base64.b64decode(one.data))
