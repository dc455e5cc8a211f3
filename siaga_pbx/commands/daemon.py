"""`run`, `media`, `check-config`, `default-config`."""

import sys
from importlib.resources import files
from pathlib import Path

from siaga_pbx import config as configuration
from siaga_pbx.commands.common import config_path, load_config
from siaga_pbx.config import ConfigErrors


def run(file: Path | None) -> int:
    """The daemon."""
    path = config_path(file)
    from siaga_pbx.app import run as run_daemon

    return run_daemon(path)


def media(file: Path | None, index: int, *, wait: bool) -> int:
    """One media worker."""
    config = load_config(file)
    from siaga_pbx.media.worker import run_worker

    return run_worker(config, index, wait=wait)


def check_config(file: Path | None) -> int:
    """All errors of the configuration on stderr, one a line; or what it has, in a line. An agency's own file too."""
    path = config_path(file)
    try:
        has = _agency_end(path) if configuration.is_agency_file(path) else _centre(path)
    except ConfigErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}: good: {has}\n")
    return 0


def _centre(path: Path) -> str:
    loaded = configuration.load(path)
    parts = ((loaded.trunks, "trunks"), (loaded.seats, "seats"), (loaded.agencies, "agencies"))
    return ", ".join(f"{len(rows)} {name}" for rows, name in parts)


def _agency_end(path: Path) -> str:
    end = configuration.load_agency(path)
    return f"the end of {', '.join(agency.id for agency in end.agencies)} for the centre {end.centre_id}"


def default_config() -> int:
    """The commented default on stdout."""
    sys.stdout.write(files("siaga_pbx").joinpath("siaga.default.toml").read_text(encoding="utf-8"))
    return 0
