"""`dispatches --format cap|eido`: what is on record, in the forms of other systems; one document a line."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping

from siaga_pbx.commands.common import Row
from siaga_pbx.config import Config
from siaga_pbx.dispatch import cap, eido
from siaga_pbx.dispatch.export import Origin, Sent
from siaga_pbx.dispatch.message import Dispatch
from siaga_pbx.records.reader import Reader


def as_cap(config: Config, rows: Iterable[Row]) -> Iterator[str]:
    """A CAP message for each dispatch."""
    origin = origin_of(config)
    return (cap.alert(sent, origin) for sent in _sent(rows))


def as_eido(config: Config, reader: Reader, rows: Iterable[Row]) -> Iterator[str]:
    """An EIDO for each incident, with those of its dispatches that are given."""
    origin = origin_of(config)
    incidents: dict[str, list[Sent]] = {}
    for sent in _sent(rows):
        incidents.setdefault(sent.message.incident_id, []).append(sent)
    for id, dispatches in incidents.items():
        incident = reader.incident(id)
        if incident is not None:
            case = eido.Case(incident, dispatches, reader.call(str(incident["call_id"])))
            yield json.dumps(eido.document(case, origin))


def print_lines(lines: Iterable[str]) -> None:
    """As they are made: years of dispatches need no memory."""
    for line in lines:
        sys.stdout.write(f"{line}\n")


def origin_of(config: Config) -> Origin:
    """Who speaks."""
    return Origin(
        config.centre.id,
        config.centre.name,
        config.sip.domain,
        {category.id: category.name for category in config.dialplan.categories},
        {agency.id: agency.categories for agency in config.agencies},
    )


def _sent(rows: Iterable[Row]) -> Iterator[Sent]:
    """Those whose message is there still: what was erased is not exported."""
    for row in rows:
        if isinstance(row["message"], Mapping) and row["message"]:
            yield Sent(dict(row), Dispatch.parse(json.dumps(row["message"]).encode()))
