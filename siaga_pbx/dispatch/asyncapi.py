"""The contract between the centre and an agency as an AsyncAPI 3.0 document: made from the code that keeps it.

`python -m siaga_pbx.dispatch.asyncapi FILE` writes it; its messages refer to the JSON Schema files.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from siaga_pbx.dispatch.followup import LIFETIME_S
from siaga_pbx.dispatch.message import MAX_PAYLOAD, Ack, Chain, Dispatch, Message, Presence, Status
from siaga_pbx.dispatch.mqtt import KEEPALIVE_S, SESSION_EXPIRY_S
from siaga_pbx.dispatch.topics import Topics

Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"

SCHEMAS = "../config/schemas"
_TOPICS, _AGENCY = Topics("{prefix}"), "{agency}"
_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
_PLAIN = re.compile(r"^[A-Za-z$][A-Za-z0-9_$./-]*$")

# What an agency's end does: the operation, the message, its topic, and whether the message is retained.
OPERATIONS: Sequence[tuple[str, str, type[Message], str, bool]] = (
    ("receive", "receiveDispatch", Dispatch, _TOPICS.dispatch(_AGENCY), False),
    ("send", "answer", Ack, _TOPICS.ack(_AGENCY), False),
    ("send", "tellPresence", Presence, _TOPICS.presence(_AGENCY), True),
    ("receive", "readStatus", Status, _TOPICS.status, True),
    ("receive", "keepChain", Chain, _TOPICS.chain, True),
)


def document() -> dict[str, Value]:
    """The document, from the point of view of an agency's end."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "siaga-pbx: an agency's end",
            "version": "1.0.0",
            "description": "How an agency is told and answers, over MQTT 5. What it means: docs/agency-protocol.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"broker": _server()},
        "channels": {message.name: _channel(message, topic) for _, _, message, topic, _ in OPERATIONS},
        "operations": {name: _operation(action, message, kept) for action, name, message, _, kept in OPERATIONS},
        "components": {
            "messages": {message.name: _message(message) for _, _, message, _, _ in OPERATIONS},
            "securitySchemes": {
                "password": {"type": "userPassword", "description": "the user is the agency's id"},
                "certificate": {"type": "X509", "description": "where the broker asks for it"},
            },
        },
    }


def as_yaml(value: Value, indent: int = 0) -> str:
    """Block YAML 1.2, its texts as JSON has them."""
    lines: list[str] = []
    pad = " " * indent
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = key if _PLAIN.match(key) else json.dumps(key)
            lines.append(f"{pad}{name}:{_below(item, indent)}")
    elif isinstance(value, Sequence):
        lines += [f"{pad}-{_below(item, indent)}" for item in value]
    return "\n".join(lines)


def _below(item: Value, indent: int) -> str:
    if isinstance(item, str | int):  # bool is one of int
        return f" {json.dumps(item, ensure_ascii=False)}"
    return f"\n{as_yaml(item, indent + 2)}" if item else " {}"


def _server() -> dict[str, Value]:
    will: Value = {"topic": _TOPICS.presence(_AGENCY), "qos": 1, "retain": True, "message": "a presence, offline"}
    return {
        "host": "{host}:8883",
        "protocol": "mqtts",
        "protocolVersion": "5",
        "description": "the centre's broker; its staff give the address, the login and the prefix",
        "variables": {"host": {"description": "the broker's name, as in its certificate"}},
        "security": [
            {"$ref": "#/components/securitySchemes/password"},
            {"$ref": "#/components/securitySchemes/certificate"},
        ],
        "bindings": {
            "mqtt": {
                "clientId": "siaga-{prefix}-agency-{agency}",
                "cleanSession": False,
                "lastWill": will,
                "keepAlive": KEEPALIVE_S,
                "sessionExpiryInterval": SESSION_EXPIRY_S,
                "bindingVersion": "0.2.0",
            }
        },
    }


def _channel(message: type[Message], topic: str) -> dict[str, Value]:
    parameters: dict[str, Value] = {"prefix": {"description": "the first levels of every topic: [mqtt] prefix"}}
    if _AGENCY in topic:
        parameters["agency"] = {"description": "the agency's id, also its user on the broker"}
    return {
        "address": topic,
        "parameters": parameters,
        "messages": {message.name: {"$ref": f"#/components/messages/{message.name}"}},
    }


def _operation(action: str, message: type[Message], retained: bool) -> dict[str, Value]:
    mqtt: dict[str, Value] = {"qos": 1, "retain": retained}
    if message is Dispatch:
        mqtt["messageExpiryInterval"] = {"type": "integer", "minimum": 1, "maximum": int(LIFETIME_S)}
    operation: dict[str, Value] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{message.name}"},
        "messages": [{"$ref": f"#/channels/{message.name}/messages/{message.name}"}],
        "bindings": {"mqtt": mqtt | {"bindingVersion": "0.2.0"}},
    }
    if message is Dispatch:
        operation["reply"] = {"channel": {"$ref": "#/channels/ack"}}
    return operation


def _message(message: type[Message]) -> dict[str, Value]:
    mqtt: dict[str, Value] = {"payloadFormatIndicator": 1, "contentType": "application/json"}
    if message is Dispatch:
        mqtt["correlationData"] = {"type": "string", "pattern": "^[0-9a-f-]{36}:[1-9][0-9]*$"}
        mqtt["responseTopic"] = {"type": "string", "description": _TOPICS.ack(_AGENCY)}
    return {
        "name": message.name,
        "contentType": "application/json",
        "summary": f"{(message.__doc__ or '').splitlines()[0]} At most {MAX_PAYLOAD} bytes.",
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"{SCHEMAS}/{message.name}.json"}},
        "bindings": {"mqtt": mqtt | {"bindingVersion": "0.2.0"}},
    }


if __name__ == "__main__":
    head = "# Made by `python -m siaga_pbx.dispatch.asyncapi docs/asyncapi.yaml`: change the code, not this file.\n"
    Path(sys.argv[1]).write_text(f"{head}{as_yaml(document())}\n", encoding="utf-8")
