"""`agency`: the receiving end, on the agency's own machine."""

from dataclasses import dataclass
from pathlib import Path

from siaga_pbx.commands.common import config_path, reported
from siaga_pbx.commands.failures import Failed, Misused
from siaga_pbx.config import ConfigErrors, load_agency
from siaga_pbx.dispatch.agency import AutoAnswers, UnknownAgency, run


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers: people, or the program itself (`auto`), `pace` times as slowly as people in a drill."""

    auto: bool = False
    pace: float = 1.0
    by: str | None = None
    sound: str = "alarm"


def agency(file: Path | None, agency_id: str, answering: Answering, state_file: Path | None) -> int:
    """Runs until it is left. A file with [centre] id, [mqtt] and its own [[agency]] is enough."""
    try:
        end = load_agency(config_path(file))
        auto = AutoAnswers(answering.pace) if answering.auto else None
        return run(end, agency_id, auto=auto, by=answering.by, state_file=state_file, sound=answering.sound)
    except ConfigErrors as error:
        raise reported(error) from error
    except UnknownAgency as error:
        raise Misused(str(error)) from error
    except OSError as error:
        raise Failed(str(error)) from error
