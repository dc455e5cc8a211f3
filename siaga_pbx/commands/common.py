"""What the commands share: how they fail, the configuration, the range of rows that is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

from siaga_pbx import config
from siaga_pbx.commands.failures import Failed
from siaga_pbx.commands.times import parse_since, recorded
from siaga_pbx.config import Config, ConfigErrors

Row: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the options of a listing say."""

    as_json: bool = False
    since: str | None = None
    limit: int | None = None

    def start(self, config: Config) -> str | None:
        """--since as the records write times. Raises `Misused` when it is no time."""
        return None if self.since is None else recorded(parse_since(self.since, datetime.now(UTC), zone_of(config)))


def config_path(given: Path | None) -> Path:
    """The configuration file to use. Raises `Failed` when it is not there."""
    path = config.find(given)
    if not path.is_file():
        raise Failed(f"no configuration file {path}: name one with --config FILE or $SIAGA_CONFIG")
    return path


def load_config(given: Path | None) -> Config:
    """The configuration. Raises `Failed` with its first error."""
    try:
        return config.load(config_path(given))
    except ConfigErrors as error:
        raise reported(error) from error


def reported(error: ConfigErrors) -> Failed:
    """The errors of a configuration in one line."""
    more = len(error.errors) - 1
    return Failed(f"{error.errors[0]}" + (f" ({more} more: siaga-pbx check-config)" if more else ""))


def zone_of(config: Config) -> ZoneInfo:
    """The centre's time zone, in which people are shown times."""
    return ZoneInfo(config.centre.timezone)
