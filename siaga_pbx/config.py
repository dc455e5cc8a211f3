"""The files -> one frozen `Config`, or every error at once, each with file, key, found and accepted.

`load(path)` reads `siaga.toml` and the dialplan it names. Paths are relative to the file they stand in. A value may be
`{ env = "NAME" }` or `{ file = "path" }`, so that secrets stay out of the file. Nothing else in the package reads TOML.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from siaga_pbx.config_errors import ConfigError, ConfigErrors, explain, names_of_required, no_such_key
from siaga_pbx.settings import (
    Agency,
    Category,
    Centre,
    Dialplan,
    Feature,
    Http,
    Listen,
    Mark,
    Media,
    Mqtt,
    QueueSettings,
    Records,
    Route,
    Seat,
    Section,
    Sip,
    Trunk,
)

__all__ = [
    "Agency",
    "AgencyEnd",
    "Category",
    "Centre",
    "Config",
    "ConfigError",
    "ConfigErrors",
    "Dialplan",
    "Feature",
    "Http",
    "Listen",
    "Mark",
    "Media",
    "Mqtt",
    "QueueSettings",
    "Records",
    "Route",
    "Seat",
    "Sip",
    "Trunk",
    "load",
    "load_agency",
]

# Stands in for a secret that could not be read, so that the one fault is reported once.
_UNREAD = "(unread)"
SEARCH_PATH = ("config/siaga.toml", "/etc/siaga-pbx/siaga.toml")


class Config(Section):
    """The whole configuration; frozen, safe to share. `agencies_for` tells whom a category is dispatched to."""

    path: Path
    centre: Centre
    sip: Sip
    trunks: tuple[Trunk, ...]
    media: Media
    queue: QueueSettings
    seats: tuple[Seat, ...]
    records: Records
    mqtt: Mqtt
    agencies: tuple[Agency, ...]
    http: Http
    dialplan: Dialplan

    def agencies_for(self, category: str) -> tuple[str, ...]:
        """Ids of a category's agencies: the dialplan's list first, then agencies that name the category themselves."""
        listed = [a for c in self.dialplan.categories if c.id == category for a in c.agencies]
        named = [agency.id for agency in self.agencies if category in agency.categories]
        return tuple(dict.fromkeys(listed + named))

    def agency(self, agency_id: str) -> Agency | None:
        return next((agency for agency in self.agencies if agency.id == agency_id), None)

    def trunk(self, trunk_id: str) -> Trunk | None:
        return next((trunk for trunk in self.trunks if trunk.id == trunk_id), None)

    @property
    def token_file(self) -> Path:
        """The API's bearer token, kept 0600 beside the database."""
        return self.state_folder / "siaga.token"

    @property
    def state_folder(self) -> Path:
        """Where the database's file is; with a database elsewhere, beside the folder of the recordings."""
        return (self._database_file or self.records.recordings).parent

    @property
    def journal_file(self) -> Path:
        """What takes the record while the database fails."""
        file = self._database_file
        return self.state_folder / (f"{file.name}.pending" if file is not None else "siaga.pending")

    @property
    def live_file(self) -> Path:
        """Where the live calls stand for the next daemon: beside the media workers' socket, who have their audio."""
        assert self.media.socket is not None, "load() has given it a place"
        return self.media.socket.with_name(f"{self.media.socket.name}.calls")

    @property
    def _database_file(self) -> Path | None:
        database = self.records.database
        return Path(database.removeprefix("sqlite:///")) if database.startswith("sqlite:///") else None


class AgencyEnd(Section):
    """What an agency's own machine needs: the centre's id, the broker, its own `[[agency]]`."""

    path: Path
    centre_id: str
    mqtt: Mqtt
    agencies: tuple[Agency, ...]


def find(given: Path | None) -> Path:
    """The configuration file to use: the one given, else $SIAGA_CONFIG, else the usual places (first that exists)."""
    if given is not None:
        return given
    if from_environment := os.environ.get("SIAGA_CONFIG"):
        return Path(from_environment)
    return next((Path(place) for place in SEARCH_PATH if Path(place).exists()), Path(SEARCH_PATH[-1]))


def load(path: Path) -> Config:
    """Read the configuration and its dialplan. Raises `ConfigErrors` with every error of both files."""
    reader = _Reader(path.absolute())
    centre = reader.section("centre", Centre, required=True)
    dialplan_path = reader.relative(centre.dialplan) if centre is not None else reader.dialplan_of_a_broken_centre()
    dialplan = reader.other_file(dialplan_path, Dialplan) if dialplan_path is not None else None
    if centre is not None:
        centre = centre.model_copy(update={"dialplan": dialplan_path})
    media = reader.section("media", Media)
    records = reader.section("records", Records, required=True)
    parts: dict[str, object] = {
        "path": reader.path,
        "centre": centre,
        "sip": _with_paths(reader, reader.section("sip", Sip, required=True), "certificate", "key", "ca"),
        "trunks": reader.tables("trunk", Trunk),
        "media": media and _place_media(reader, media),
        "queue": reader.section("queue", QueueSettings),
        "seats": reader.tables("seat", Seat),
        "records": records and _place_records(reader, records),
        "mqtt": _with_paths(reader, reader.section("mqtt", Mqtt, required=True), "ca", "certificate", "key"),
        "agencies": reader.tables("agency", Agency),
        "http": reader.section("http", Http),
        "dialplan": dialplan,
    }
    reader.refuse_unknown_sections(
        ("centre", "sip", "trunk", "media", "queue", "seat", "records", "mqtt", "agency", "http")
    )
    if not parts["trunks"] and "trunk" not in reader.data:
        reader.error("trunk", "no [[trunk]]", "at least one [[trunk]], or no call can come in")
    if reader.errors or any(part is None for part in parts.values()):
        raise ConfigErrors(reader.errors)
    config = Config.model_validate(parts)
    problems = [
        ConfigError(dialplan_path if where == "dialplan" and dialplan_path else reader.path, key, found, accepted)
        for where, key, found, accepted in _cross_checks(config)
    ]
    if problems:
        raise ConfigErrors(problems)
    return config


def load_agency(path: Path) -> AgencyEnd:
    """Read an agency's file: [centre] id, [mqtt] and [[agency]] only; a centre's whole file serves as well."""
    reader = _Reader(path.absolute())
    mqtt = _with_paths(reader, reader.section("mqtt", Mqtt, required=True), "ca", "certificate", "key")
    agencies = reader.tables("agency", Agency)
    centre = reader.data.get("centre")
    centre_id = centre.get("id") if isinstance(centre, dict) else None
    if not isinstance(centre_id, str):
        reader.error("centre.id", "nothing", "the id of the centre this agency belongs to")
    if not agencies and not reader.errors:
        reader.error("agency", "no [[agency]]", "this agency's own [[agency]] table")
    if reader.errors:
        raise ConfigErrors(reader.errors)
    return AgencyEnd.model_validate({"path": reader.path, "centre_id": centre_id, "mqtt": mqtt, "agencies": agencies})


def is_agency_file(path: Path) -> bool:
    """Whether a file is an agency's own: nothing of a centre's calls in it. False for one that cannot be read."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return "agency" in data and not data.keys() & {"sip", "trunk", "seat", "records", "media", "queue", "http"}


SectionT = TypeVar("SectionT", bound=Section)


class _Reader:
    """One file being read: its data with secrets resolved, and the errors so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: list[ConfigError] = []
        data = self._read(path)
        if data is None:
            raise ConfigErrors(self.errors)
        self.data = data

    def error(self, key: str, found: str, accepted: str, file: Path | None = None) -> None:
        self.errors.append(ConfigError(file or self.path, key, found, accepted))

    def relative(self, path: Path) -> Path:
        return path if path.is_absolute() else Path(os.path.normpath(self.path.parent / path))

    def section(self, name: str, model: type[SectionT], required: bool = False) -> SectionT | None:
        if required and name not in self.data:
            self.error(name, "nothing", f"a [{name}] section with {names_of_required(model)}")
            return None
        return self._validate(self.data.get(name, {}), model, name, self.path)

    def tables(self, name: str, model: type[SectionT]) -> tuple[SectionT, ...]:
        entries = self.data.get(name, [])
        if not isinstance(entries, list):
            self.error(name, f"[{name}]", f"[[{name}]], a table that can be repeated")
            return ()
        read = (self._validate(entry, model, f"{name}[{i}]", self.path) for i, entry in enumerate(entries))
        return tuple(entry for entry in read if entry is not None)

    def dialplan_of_a_broken_centre(self) -> Path | None:
        """The dialplan is read even so: all errors at once."""
        match self.data.get("centre"):
            case {"dialplan": str(name)}:
                return self.relative(Path(name))
        return None

    def other_file(self, path: Path, model: type[SectionT]) -> SectionT | None:
        data = self._read(path)
        return None if data is None else self._validate(data, model, "", path)

    def refuse_unknown_sections(self, known: tuple[str, ...]) -> None:
        for name in self.data:
            if name not in known:
                self.error(name, f"[{name}]", no_such_key(name, known))

    def _validate(self, value: object, model: type[SectionT], prefix: str, file: Path) -> SectionT | None:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                key, found, accepted = explain(detail, model)
                self.error(".".join(part for part in (prefix, key) if part), found, accepted, file)
            return None

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.error("(file)", "no such file", "a readable TOML file", path)
        except (OSError, UnicodeDecodeError) as error:
            self.error("(file)", str(error), "a readable TOML file in UTF-8", path)
        except tomllib.TOMLDecodeError as error:
            self.error("(syntax)", str(error), "TOML 1.0", path)
        else:
            return {key: self._resolve(value, key, path) for key, value in data.items()}
        return None

    def _resolve(self, value: Any, key: str, file: Path) -> Any:
        """Replace `{ env = "NAME" }` and `{ file = "path" }` by what they name."""
        match value:
            case {"env": str(name), **rest} if not rest:
                if name not in os.environ:
                    self.error(key, f"environment variable {name}, which is not set", f"{name} set to the value", file)
                return os.environ.get(name, _UNREAD)
            case {"file": str(name), **rest} if not rest:
                secret = Path(name) if Path(name).is_absolute() else file.parent / name
                try:
                    return secret.read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    reason = error.strerror if isinstance(error, OSError) else str(error)
                    self.error(key, f"file {secret} ({reason})", "a readable file that holds the value", file)
                    return _UNREAD
            case dict():
                return {name: self._resolve(inner, f"{key}.{name}", file) for name, inner in value.items()}
            case list():
                return [self._resolve(inner, f"{key}[{i}]", file) for i, inner in enumerate(value)]
        return value


def _with_paths(reader: _Reader, section: SectionT | None, *names: str) -> SectionT | None:
    """Make the named path settings of a section absolute, and say so when such a file is not there."""
    if section is None:
        return None
    placed = {name: reader.relative(path) for name in names if (path := getattr(section, name)) is not None}
    for name, path in placed.items():
        if not path.is_file():
            reader.error(name, f"{path}, which is not there", "a readable PEM file")
    return section.model_copy(update=placed)


def _place_media(reader: _Reader, media: Media) -> Media:
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    default = Path(runtime) / "media.sock" if runtime else reader.path.parent / "media.sock"
    prompts = reader.relative(media.prompts) if media.prompts is not None else None
    return media.model_copy(
        update={"socket": reader.relative(media.socket) if media.socket else default, "prompts": prompts}
    )


def _place_records(reader: _Reader, records: Records) -> Records:
    database = records.database
    if database.startswith("sqlite:///"):
        database = f"sqlite:///{reader.relative(Path(database.removeprefix('sqlite:///')))}"
    return records.model_copy(update={"database": database, "recordings": reader.relative(records.recordings)})


def _cross_checks(config: Config) -> Iterator[tuple[str, str, str, str]]:
    """What only shows when sections are seen together: (where, key, found, accepted)."""
    yield from _unique(config)
    yield from _references(config)
    own = [trunk.listen for trunk in config.trunks if trunk.listen is not None]
    if any(listen.transport in ("tls", "wss") for listen in (*config.sip.listen, *own)):
        for name in ("certificate", "key"):
            if getattr(config.sip, name) is None:
                yield "siaga", f"sip.{name}", "nothing", "a PEM file, as a listen has a tls:// or wss:// address"
    elif "required" in (config.sip.srtp, *(seat.srtp for seat in config.seats)):
        yield "siaga", "sip.srtp", "'required'", "'off' or 'offered', unless a listen has a tls:// or wss:// address"
    yield from _trunks(config)
    if config.queue.overflow is not None and not any(trunk.outbound for trunk in config.trunks):
        yield "siaga", "queue.overflow", repr(config.queue.overflow), "a target only when a [[trunk]] has outbound"


def _trunks(config: Config) -> Iterator[tuple[str, str, str, str]]:
    """Who a trunk is told by."""
    taken: set[str] = set()
    for index, trunk in enumerate(config.trunks):
        if trunk.listen in config.sip.listen:
            place = f"{trunk.listen.transport}://{trunk.listen.host}:{trunk.listen.port}" if trunk.listen else ""
            yield "siaga", f"trunk[{index}].listen", repr(place), "a socket of this trunk's own, none of sip.listen"
        if not trunk.addresses and not trunk.certificate_names:
            yield "siaga", f"trunk[{index}].addresses", "nothing", "its IP addresses, or certificate_names"
        if trunk.certificate_names and config.sip.ca is None:
            yield "siaga", "sip.ca", "nothing", "a PEM file, as a [[trunk]] has certificate_names"
        for name in taken.intersection(trunk.certificate_names):
            yield "siaga", f"trunk[{index}].certificate_names", repr(name), "a name that no other [[trunk]] has"
        taken.update(trunk.certificate_names)


def _unique(config: Config) -> Iterator[tuple[str, str, str, str]]:
    groups: Mapping[str, tuple[str, ...]] = {
        "trunk": tuple(trunk.id for trunk in config.trunks),
        "seat": tuple(seat.id for seat in config.seats),
        "agency": tuple(agency.id for agency in config.agencies),
    }
    for name, ids in groups.items():
        for index, one in enumerate(ids):
            if one in ids[:index]:
                yield "siaga", f"{name}[{index}].id", repr(one), f"an id that no other [[{name}]] has"


def _references(config: Config) -> Iterator[tuple[str, str, str, str]]:
    agencies = {agency.id for agency in config.agencies}
    categories: set[str] = {category.id for category in config.dialplan.categories}
    for i, category in enumerate(config.dialplan.categories):
        for agency in category.agencies:
            if agency not in agencies:
                yield "dialplan", f"category[{i}].agencies", repr(agency), _one_of(agencies, "an [[agency]]")
    for i, feature in enumerate(config.dialplan.features):
        if feature.category is not None and feature.category not in categories:
            yield "dialplan", f"feature[{i}].category", repr(feature.category), _one_of(categories, "a [[category]]")
    for i, own in enumerate(config.agencies):
        for name in own.categories:
            if name not in categories:
                yield "siaga", f"agency[{i}].categories", repr(name), _one_of(categories, "a [[category]]")
        for step in own.escalate:
            if step.startswith("agency:") and step.removeprefix("agency:") not in agencies - {own.id}:
                yield "siaga", f"agency[{i}].escalate", repr(step), _one_of(agencies - {own.id}, "another [[agency]]")


def _one_of(known: set[str], kind: str) -> str:
    return f"{kind}: {', '.join(sorted(known)) or 'none is configured'}"
