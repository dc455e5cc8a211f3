"""The AsyncAPI document: it is what the code says, and holds together."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from siaga_pbx.dispatch.asyncapi import OPERATIONS, Value, as_yaml, document
from siaga_pbx.dispatch.schemas import MESSAGES
from siaga_pbx.dispatch.topics import Topics

DOCS = Path(__file__).parents[2] / "docs"
REQUIRED = {
    "channels": {"address", "messages", "parameters"},
    "operations": {"action", "channel", "messages", "bindings"},
    "servers": {"host", "protocol", "security"},
}


def part(*path: str) -> Value:
    found: Value = document()
    for name in path:
        assert isinstance(found, dict)
        found = found[name]
    return found


def references(value: Value) -> list[str]:
    if isinstance(value, dict):
        return [str(value["$ref"])] if "$ref" in value else [ref for one in value.values() for ref in references(one)]
    return [ref for one in value for ref in references(one)] if isinstance(value, list) else []


def test_the_file_is_what_the_code_makes() -> None:
    text = (DOCS / "asyncapi.yaml").read_text(encoding="utf-8")
    assert text.split("\n", 1)[1] == as_yaml(document()) + "\n", "run python -m siaga_pbx.dispatch.asyncapi"


def test_every_reference_leads_somewhere() -> None:
    found = references(document())
    assert len(found) >= 19
    for reference in found:
        if reference.startswith("#/"):
            assert part(*reference.removeprefix("#/").split("/"))
        else:
            Draft202012Validator.check_schema(json.loads((DOCS / reference).read_text(encoding="utf-8")))


def test_it_has_what_asyncapi_3_requires() -> None:
    assert part("asyncapi") == "3.0.0"
    for kind, members in REQUIRED.items():
        objects = part(kind)
        assert isinstance(objects, dict)
        for name, one in objects.items():
            assert isinstance(one, dict)
            assert members <= set(one), f"{kind}.{name}"
    for _, name, _, _, _ in OPERATIONS:
        assert part("operations", name, "action") in ("send", "receive")
        assert part("operations", name, "bindings", "mqtt", "qos") == 1


def test_the_channels_are_the_topics_of_the_code_and_their_parameters_are_named() -> None:
    topics = Topics("siaga/cirebon")
    addresses = {}
    for message in MESSAGES:
        address = str(part("channels", message.name, "address"))
        parameters = part("channels", message.name, "parameters")
        assert isinstance(parameters, dict)
        assert {f"{{{name}}}" for name in parameters} == {one for one in ("{prefix}", "{agency}") if one in address}
        addresses[message.name] = address.format(prefix="siaga/cirebon", agency="damkar")
    assert addresses == {
        "dispatch": topics.dispatch("damkar"),
        "ack": topics.ack("damkar"),
        "presence": topics.presence("damkar"),
        "status": topics.status,
        "chain": topics.chain,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": {"c": True}}, "a: 1\nb:\n  c: true"),
        ({"a": ["x", {"b": "y"}]}, 'a:\n  - "x"\n  -\n    b: "y"'),
        ({"$ref": 'a "b": {c}', "a b": {}}, '$ref: "a \\"b\\": {c}"\n"a b": {}'),
    ],
)
def test_yaml(value: Value, text: str) -> None:
    assert as_yaml(value) == text
