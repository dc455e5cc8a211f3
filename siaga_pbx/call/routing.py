"""Where a call goes, by what was dialled. Pure; a call from a trunk always goes somewhere."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from siaga_pbx.sip.uri import Uri

# What people and carriers put between digits (RFC 3966 5.1.1), the + of E.164, and white space.
_SEPARATORS = str.maketrans("", "", "+-.() \t")


class Action(StrEnum):
    QUEUE = "queue"
    TEST_CALL = "test-call"


class RouteSettings(Protocol):
    """`config.Route` is one. A pattern that ends in `*` matches whatever begins so."""

    @property
    def match(self) -> tuple[str, ...]: ...

    @property
    def action(self) -> str: ...

    @property
    def skills(self) -> frozenset[str]: ...

    @property
    def language(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Routed:
    """`matched` False: no route knows what was dialled. It is an emergency call all the same."""

    action: Action
    skills: frozenset[str]
    matched: bool
    language: str | None = None


def route(uri: Uri, routes: Iterable[RouteSettings]) -> Routed:
    """The first route that matches, else the queue with no skills needed."""
    dialled = dialled_key(uri)
    for each in routes:
        if any(_matches(dialled, pattern) for pattern in each.match):
            return Routed(Action(each.action), each.skills, True, each.language)
    return Routed(Action.QUEUE, frozenset(), False)


def dialled_key(uri: Uri) -> str:
    """What of a Request-URI is compared.

    Of sip:, sips: and tel: the user part without escapes, + , separators and parameters (`+62-112;phone-context=...`),
    whatever the host; of urn:service:... and other schemes all of it, in lower case (RFC 5031 4.1), without parameters.
    """
    if uri.opaque is not None:
        return f"{uri.scheme}:{re.split('[;?#]', uri.opaque, maxsplit=1)[0]}".lower()
    return _number_key(uri.username or "")


def _number_key(text: str) -> str:
    return text.partition(";")[0].translate(_SEPARATORS).lower()


def _matches(dialled: str, pattern: str) -> bool:
    key = pattern.strip().lower()
    if ":" not in key:
        key = _number_key(key)
    return dialled.startswith(key[:-1]) if key.endswith("*") else dialled == key
