"""The command `siaga-pbx`: its surface. What a command does is in `siaga_pbx.commands`, imported when it runs.

Exit codes: 0 well, 1 not, 2 misuse. An error is one line on stderr.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from siaga_pbx.commands.failures import Failed
from siaga_pbx.commands.forms import Form, ReportForm

# Plain help: the rich one takes 0.3 s to import.
app = typer.Typer(
    name="siaga-pbx",
    help="The daemon of a city's 112 emergency centre, and the commands around it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Default: $SIAGA_CONFIG, config/siaga.toml, /etc/siaga-pbx/siaga.toml."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="T", help="From then on: a time (ISO 8601), or an age such as 15m, 2h.")
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the newest N.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    os.umask(0o077)  # whatever is written holds callers' data
    try:
        code = app(args=arguments, prog_name="siaga-pbx", standalone_mode=False)
        sys.stdout.flush()
    except (Failed, TyperException) as error:
        return _fail(error, error.exit_code)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _fail(error: Exception, code: int) -> int:
    message = error.format_message() if isinstance(error, TyperException) else str(error)
    if isinstance(error, TyperException):
        message += " See --help."
    sys.stderr.write(f"siaga-pbx: {' '.join(message.split())}\n")
    return code


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"siaga-pbx {version('siaga-pbx')}\n")
        raise typer.Exit


@app.callback()
def _siaga_pbx(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Show it.")] = False,
) -> None:
    """The daemon of a city's 112 emergency centre, and the commands around it."""


@app.command()
def run(config: Config = None) -> int:
    """The daemon: SIGTERM drains it, SIGHUP reloads."""
    from siaga_pbx.commands import daemon

    return daemon.run(config)


@app.command()
def media(
    config: Config = None,
    index: Annotated[int, typer.Option("--index", metavar="N", min=0, help="Which of the workers.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="If it runs already, be ready to take its place.")] = False,
) -> int:
    """One media worker (`run` starts its own)."""
    from siaga_pbx.commands import daemon

    return daemon.media(config, index, wait=wait)


@app.command()
def check_config(config: Config = None) -> int:
    """Check the configuration: every error at once."""
    from siaga_pbx.commands import daemon

    return daemon.check_config(config)


@app.command()
def default_config() -> int:
    """Print the commented default configuration."""
    from siaga_pbx.commands import daemon

    return daemon.default_config()


@app.command()
def demo(
    calls: Annotated[int, typer.Option("--calls", metavar="N", min=1, max=1000, help="How many calls.")] = 6,
    keep: Annotated[bool, typer.Option("--keep", help="Keep it running afterwards, until Ctrl-C.")] = False,
) -> int:
    """Show it all working on this machine.

    Trunk callers, seats, broker and agency on loopback, with real audio; exit code 0 only if every call was answered,
    bridged, recorded and dispatched.
    """
    from siaga_pbx.commands import drills

    return drills.demo(calls, keep)


@app.command()
def probe(config: Config = None) -> int:
    """Make a real test call through the daemon."""
    from siaga_pbx.commands import drills

    return drills.probe(config)


@app.command()
def status(config: Config = None, json: Json = False, since: Since = None, limit: Limit = None) -> int:
    """Show the centre now; --since counts calls by outcome."""
    from siaga_pbx.commands import live
    from siaga_pbx.commands.common import Selection

    return live.status(config, Selection(json, since, limit))


@app.command()
def seats(config: Config = None, json: Json = False, since: Since = None, limit: Limit = None) -> int:
    """List the seats; --since: those changed from then on."""
    from siaga_pbx.commands import live
    from siaga_pbx.commands.common import Selection

    return live.seats(config, Selection(json, since, limit))


@app.command()
def calls(config: Config = None, json: Json = False, since: Since = None, limit: Limit = None) -> int:
    """List calls, oldest first.

    The newest 50; with --json or --since every one; with --limit the newest N.
    """
    from siaga_pbx.commands import history
    from siaga_pbx.commands.common import Selection

    return history.calls(config, Selection(json, since, limit))


@app.command()
def dispatches(
    config: Config = None,
    json: Json = False,
    since: Since = None,
    limit: Limit = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="For other systems: CAP 1.2 (XML) or NENA EIDO, one a line.")
    ] = None,
) -> int:
    """List dispatches, oldest first.

    The newest 50; with --json, --since or --format every one; with --limit the newest N. A line of --format is a
    dispatch (cap), or an incident with its dispatches (eido).
    """
    from siaga_pbx.commands import history
    from siaga_pbx.commands.common import Selection

    return history.dispatches(config, Selection(json, since, limit), form)


@app.command()
def dispatch(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="A live or ended call (see: calls).")],
    category: Annotated[str | None, typer.Option("--category", metavar="ID", help="What it is for, as fire.")] = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What happened.")] = None,
    address: Annotated[str | None, typer.Option("--address", metavar="TEXT", help="Where.")] = None,
    place: Annotated[
        str | None, typer.Option("--place", metavar="LAT,LON[,M]", help="Where, in degrees, within M metres.")
    ] = None,
    people: Annotated[int | None, typer.Option("--people", metavar="N", min=0, help="How many are affected.")] = None,
    protected: Annotated[
        bool | None, typer.Option("--protected", help="Keep the informant's number from them.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Tell those who are dispatched more.")] = False,
    incident: Annotated[
        str | None, typer.Option("--incident", metavar="ID", help="With --update: it is another call's incident.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Nobody is to go any more.")] = False,
    agency: Annotated[str | None, typer.Option("--agency", metavar="ID", help="With --cancel: this one alone.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="With --cancel: why.")] = None,
    config: Config = None,
) -> int:
    """Dispatch the agencies of a category; or tell those who are dispatched more, or that nobody is to go.

    Exit code 0 once it is committed: from then on it is delivered, whatever fails.
    """
    from siaga_pbx.commands.dispatch import dispatch as send

    asked = {"category": category, "note": note, "address": address, "place": place, "people": people}
    asked |= {"protected": protected, "incident": incident, "agency": agency, "reason": reason}
    return send(config, call_id, asked, update=update, cancel=cancel)


@app.command()
def agency(
    agency_id: Annotated[str, typer.Argument(metavar="ID", help="An [[agency]] of the configuration.")],
    config: Config = None,
    auto: Annotated[bool, typer.Option("--auto", help="Answer by itself, for drills.")] = False,
    pace: Annotated[float, typer.Option("--pace", metavar="X", min=0, help="With --auto: X times as slowly.")] = 1.0,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who signs the answers.")] = None,
    state: Annotated[Path | None, typer.Option("--state", metavar="FILE", help="Where it remembers them.")] = None,
    sound: Annotated[str, typer.Option("--sound", metavar="WHAT", help="alarm, bell, off or a WAV file.")] = "alarm",
) -> int:
    """The agency's end: shows dispatches, answers by key."""
    from siaga_pbx.commands import agency

    return agency.agency(config, agency_id, agency.Answering(auto, pace, by, sound), state)


@app.command()
def mqtt_acl(config: Config = None) -> int:
    """Print the broker's access rules (mosquitto's acl_file)."""
    from siaga_pbx.commands import broker

    return broker.mqtt_acl(config)


@app.command()
def trace(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID")],
    config: Config = None,
    to: Annotated[Path | None, typer.Option("--pcap", metavar="FILE", help="Write them for Wireshark instead.")] = None,
    full: Annotated[bool, typer.Option("--full", help="The messages too, below the ladder.")] = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="With telephone numbers and digests' proofs.")] = False,
) -> int:
    """Show the SIP of a recent call, all its legs, as a ladder."""
    from siaga_pbx.commands import trace

    return trace.trace(config, call_id, to, full, unmasked)


@app.command()
def verify_records(
    config: Config = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="FILE", help="A file or URL instead, such as a backup.")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", metavar="SEQ:HASH", help="A head that was published: the chain must have it still."),
    ] = None,
    recordings: Annotated[
        bool, typer.Option("--recordings", help="The audio files too: every one is read, which takes its time.")
    ] = False,
) -> int:
    """Check that nobody changed what is on record."""
    from siaga_pbx.commands import evidence

    return evidence.verify_records(config, database, head or [], recordings=recordings)


@app.command()
def recording(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="A call that is over (see: calls).")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="A new file, instead of stdout.")
    ] = None,
    config: Config = None,
) -> int:
    """Write the audio of a call: siaga-pbx recording CALL_ID > call.wav.

    WAV in stereo: left what the caller said, right all that the caller heard. It is compared with the SHA-256 on record
    (exit code 1 if it is another), and noted who listens.
    """
    from siaga_pbx.commands.recording import recording as write

    return write(config, call_id, output)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; one that is there is left alone.")],
    config: Config = None,
) -> int:
    """Copy the record into a file while the daemon runs, and check the copy."""
    from siaga_pbx.commands import evidence

    return evidence.backup(config, file)


@app.command()
def copy_records(
    source: Annotated[str, typer.Option("--from", metavar="FILE", help="The database of before, a file or a URL.")],
    config: Config = None,
) -> int:
    """Move to another database: copy the one of before, all of it, into the configuration's, which is empty.

    The daemon must be stopped. The chain of the copy is checked, and is the same.
    """
    from siaga_pbx.commands import evidence

    return evidence.copy_records_from(config, source)


@app.command()
def report(
    day: Annotated[
        str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="A day of the centre's calendar.")
    ] = None,
    month: Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="A month.")] = None,
    year: Annotated[str | None, typer.Option("--year", metavar="YYYY", help="A year.")] = None,
    form: Annotated[ReportForm, typer.Option("--format", help="For people, or for programs.")] = ReportForm.TABLE,
    json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="As --format csv.")] = False,
    config: Config = None,
) -> int:
    """Calls, answer times, dispositions and the agencies' times of a day, a month or a year."""
    from siaga_pbx.commands.report import report as make

    wanted = ReportForm.JSON if json else ReportForm.CSV if csv else form
    return make(config, {"day": day, "month": month, "year": year}, wanted)


@app.command()
def hold(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="A call, or an incident for its call.")],
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Who needs it, and for what.")] = None,
    release: Annotated[bool, typer.Option("--release", help="It may go again.")] = False,
    config: Config = None,
) -> int:
    """Keep a call, whatever its days or a request for erasure."""
    from siaga_pbx.commands import protection

    return protection.hold(config, call_id, reason, release)


@app.command()
def erase(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="It stays on record: no names in it.")],
    call_id: Annotated[
        str | None, typer.Argument(metavar="[CALL_ID]", help="A call, or an incident for its call.")
    ] = None,
    number: Annotated[str | None, typer.Option("--number", metavar="NUMBER", help="All calls of a number.")] = None,
    config: Config = None,
) -> int:
    """Remove what identifies a caller, recordings included.

    The chain still verifies. What is held, or goes on, stays: then exit code 1.
    """
    from siaga_pbx.commands import protection

    return protection.erase(config, call_id, number, reason)


@app.command()
def export(
    to: Annotated[Path, typer.Argument(metavar="FILE.zip", help="The file to make; another name makes a folder.")],
    number: Annotated[str, typer.Option("--number", metavar="NUMBER", help="Whose calls.")],
    config: Config = None,
) -> int:
    """Write all that is held about a number, recordings included."""
    from siaga_pbx.commands import protection

    return protection.export(config, number, to)


@app.command()
def accesses(
    call: Annotated[str | None, typer.Option("--call", metavar="CALL_ID", help="Of this call alone.")] = None,
    config: Config = None,
    json: Json = False,
    since: Since = None,
    limit: Limit = None,
) -> int:
    """List who has read calls and recordings, oldest first."""
    from siaga_pbx.commands import protection
    from siaga_pbx.commands.common import Selection

    return protection.accesses(config, call, Selection(json, since, limit))
