"""The JSON Schema files of the messages: made from the models, shipped for those who write an end of their own.

`python -m siaga_pbx.dispatch.schemas FOLDER ...` writes them into each folder.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from siaga_pbx.dispatch.message import Ack, Chain, Dispatch, Message, Presence, Status

MESSAGES: tuple[type[Message], ...] = (Dispatch, Ack, Presence, Status, Chain)


def json_schema(message: type[Message]) -> str:
    """The JSON Schema (draft 2020-12) of a message, as its file holds it."""
    schema = _without_titles(message.model_json_schema(by_alias=True))
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"siaga-pbx {message.name}, version 1"}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Writes `{name}.json` for each message."""
    folder.mkdir(parents=True, exist_ok=True)
    for message in MESSAGES:
        (folder / f"{message.name}.json").write_text(json_schema(message), encoding="utf-8")


def _without_titles(schema: Mapping[str, object]) -> dict[str, object]:
    """pydantic gives every member a title that only repeats its name."""
    return {
        key: _without_titles(value) if isinstance(value, Mapping) else value
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_schemas(Path(name))
