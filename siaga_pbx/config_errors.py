"""What is wrong in a configuration file, in words an admin can act on: file, key, found, accepted."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One thing to mend: which file, which key, what stands there, what would be accepted."""

    file: Path
    key: str
    found: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: found {self.found}; accepted: {self.accepted}"


class ConfigErrors(Exception):
    """All errors of one load, so that an admin mends them in one go."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


def explain(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str, str]:
    """A pydantic error as (key, found, accepted); what is accepted is said in the words of the field's description."""
    location = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    found = "nothing" if detail["type"] == "missing" else _shown(key, detail["input"])
    if detail["type"] == "extra_forbidden":
        return key, "a key that does not exist", no_such_key(str(location[-1]), tuple(_keys_of(model, location[:-1])))
    accepted = _description(model, location) or detail["msg"].removeprefix("Value error, ")
    return key, found, accepted


def _shown(key: str, value: object) -> str:
    if "password" in key or (key.endswith("database") and "@" in str(value)):
        return "a value that is not shown"
    if isinstance(value, Mapping):  # some of its values may be secrets
        return f"a table of {', '.join(map(str, value)) or 'nothing'}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def no_such_key(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return (f"did you mean {near[0]}? " if near else "") + "known keys: " + ", ".join(sorted(known))


def _walk(model: type[BaseModel], location: list[int | str]) -> Iterator[tuple[type[BaseModel], str]]:
    """The (model, field name) pairs along an error's location, going into tuples of sections."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        yield current, part
        current = _section_of(current, part)


def _section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            candidates = (field.annotation, *getattr(field.annotation, "__args__", ()))
            return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return None


def _description(model: type[BaseModel], location: list[int | str]) -> str | None:
    description = None
    for holder, part in _walk(model, location):
        for name, field in holder.model_fields.items():
            if part in (name, field.alias):
                description = field.description
    return description


def _keys_of(model: type[BaseModel], location: list[int | str]) -> list[str]:
    holder: type[BaseModel] | None = model
    for found, part in _walk(model, location):
        holder = _section_of(found, part)
    return [field.alias or name for name, field in (holder or model).model_fields.items()]


def names_of_required(model: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in model.model_fields.items() if field.is_required())
