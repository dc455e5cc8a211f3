"""Feature codes: what a call-taker keys within a call, and what a seat dials when it is idle."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeAlias, TypeVar

from siaga_pbx.sip.uri import Uri

INTER_DIGIT_S = 3.0
"""A code that could still become a longer one is taken as it is after this long without a key."""

_SIGNAL = re.compile(rb"(?im)^[ \t]*signal[ \t]*=[ \t]*(1[01]|[0-9*#a-d])[ \t]*\r?$")
_PLAIN = re.compile(rb"\s*(1[01]|[0-9*#A-Da-d])\s*")


class FeatureSettings(Protocol):
    """`config.Feature` is one."""

    @property
    def dial(self) -> str: ...


F = TypeVar("F", bound=FeatureSettings)


class KeySource(StrEnum):
    """How a phone sends its keys."""

    RTP = "rtp"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Known(Generic[F]):
    """A code of the dialplan."""

    feature: F


@dataclass(frozen=True, slots=True)
class Unknown:
    """Keys that began like a code and are none."""

    dialled: str


Keyed: TypeAlias = Known[F] | Unknown


class FeatureKeys(Generic[F]):
    """The keys of one seat's leg. A code begins with `*`; keys outside a code are for nobody and are ignored.

    A code is taken at its last key, or, if a longer one begins with it, at `#` or INTER_DIGIT_S later: call `expire` at
    `deadline`. A `*` within a code that allows none there begins a new one. A phone that sends each key both ways, by
    RTP and by INFO, is heard by the way it used first.
    """

    def __init__(self, features: Iterable[F]) -> None:
        self._codes = {feature.dial: feature for feature in features}
        self._keyed = ""
        self._last = 0.0
        self._source: KeySource | None = None

    @property
    def deadline(self) -> float | None:
        return self._last + INTER_DIGIT_S if self._keyed else None

    def press(self, key: str, now: float, source: KeySource = KeySource.RTP) -> Keyed[F] | None:
        """One key (0-9 * # A-D). What it completes, None while a code is not complete."""
        if self._source is None:
            self._source = source
        if source is not self._source:
            return None
        if self._keyed and now >= self._last + INTER_DIGIT_S:
            late = self._finish()
            self._begin(key, now)
            return late
        if not self._keyed:
            self._begin(key, now)
            return None
        if key == "#":
            return self._finish()
        self._last = now
        return self._extend(key)

    def expire(self, now: float) -> Keyed[F] | None:
        """What is complete because no more keys came."""
        deadline = self.deadline
        return self._finish() if deadline is not None and now >= deadline else None

    def _begin(self, key: str, now: float) -> None:
        if key == "*":
            self._keyed, self._last = key, now

    def _extend(self, key: str) -> Keyed[F] | None:
        keyed = self._keyed + key
        longer = [code for code in self._codes if code != keyed and code.startswith(keyed)]
        if key == "*" and not longer and keyed not in self._codes:
            self._keyed = key
            return None
        self._keyed = keyed
        return None if longer else self._finish()

    def _finish(self) -> Keyed[F] | None:
        keyed, self._keyed = self._keyed, ""
        if keyed in ("", "*"):
            return None
        feature = self._codes.get(keyed)
        return Unknown(keyed) if feature is None else Known(feature)


def dialled(uri: Uri, features: Iterable[F]) -> F | None:
    """The feature whose code a seat dialled as a number: `sip:*2@...` or `sip:%2A2@...`; a `#` behind it is allowed."""
    code = (uri.username or "").partition(";")[0].removesuffix("#")
    return next((feature for feature in features if feature.dial == code), None)


def info_key(content_type: str, body: bytes) -> str | None:
    """The key in a SIP INFO: application/dtmf-relay (`Signal=5`) or application/dtmf (`5`); 10 is `*` and 11 is `#`.

    There is no standard beyond the habit. None if there is no key in it.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/dtmf-relay":
        match = _SIGNAL.search(body)
    elif kind == "application/dtmf":
        match = _PLAIN.fullmatch(body)
    else:
        return None
    if match is None:
        return None
    key = match[1].decode().upper()
    return {"10": "*", "11": "#"}.get(key, key)
