"""SDES (RFC 4568): the keys of SRTP, told in the SDP. Only in what goes over TLS: who reads one hears all."""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

KEY_BYTES = 30
"""A master key of 128 bits and a salt of 112 (RFC 4568 6.2), for both suites."""

Line: TypeAlias = tuple[str, str]
"""The letter and the value of one SDP line."""


class Suite(StrEnum):
    """The crypto-suites that we have, the one we offer first."""

    SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    SHA1_32 = "AES_CM_128_HMAC_SHA1_32"


@dataclass(frozen=True, slots=True)
class Security:
    """Our side of a leg that is to have SRTP: `key` is what we protect with, in base64, the same for the leg's life.

    `required`: no audio without. Otherwise SRTP is offered beside RTP (RFC 8643): whoever does not know it passes over
    the key.
    """

    key: str = field(repr=False)
    required: bool


@dataclass(frozen=True, slots=True)
class Keys:
    """What was agreed: the suite, and in base64 the master key and salt of what we send, and of what they send."""

    suite: Suite
    ours: str = field(repr=False)
    theirs: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Crypto:
    """One `a=crypto` that we can use. `str` gives the attribute's value."""

    tag: int
    suite: Suite
    key: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.tag} {self.suite} inline:{self.key}"


def text_of(key: bytes) -> str:
    """A new key of `KEY_BYTES` random bytes as `Security` has it."""
    assert len(key) == KEY_BYTES, "a master key and its salt"
    return base64.b64encode(key).decode()


def offered(security: Security) -> Crypto:
    """What we offer: the suite that everybody has."""
    return Crypto(1, Suite.SHA1_80, security.key)


def answered(lines: Iterable[Line], security: Security | None) -> tuple[tuple[Line, ...], Keys | None]:
    """The lines of our answer to what a section offers, and what is agreed by it; nothing if there is nothing for us.

    The first that we can use (RFC 4568 5.1.2).
    """
    theirs = next(iter(read(lines)), None) if security is not None else None
    if theirs is None or security is None:
        return (), None
    ours = Crypto(theirs.tag, theirs.suite, security.key)
    return (("a", f"crypto:{ours}"),), Keys(theirs.suite, security.key, theirs.key)


def agreed(offer: Iterable[Line], answer: Iterable[Line]) -> Keys | None:
    """What the answer agrees of our offer (the lines of both sections); None if it takes none of it.

    The suite tells which was meant, as phones number their answer on their own.
    """
    ours = {crypto.suite: crypto for crypto in read(offer)}
    chosen = next((crypto for crypto in read(answer) if crypto.suite in ours), None)
    return None if chosen is None else Keys(chosen.suite, ours[chosen.suite].key, chosen.key)


_CRYPTO = re.compile(r"crypto:\s*([0-9]{1,9})\s+(\S+)\s+(\S+)\s*(.*)", re.IGNORECASE)
_INLINE = re.compile(r"inline:([A-Za-z0-9+/]{40})(?:\|(?:2\^)?[0-9]{1,20})?", re.IGNORECASE)
"""Key and salt, perhaps with a lifetime, which no call reaches. A key with an MKI, or several keys, are of another
kind: their packets carry which one they are of."""
_HARMLESS = re.compile(r"WSH=[0-9]{1,5}", re.IGNORECASE)
"""Session parameters that change nothing for us (RFC 4568 6.3.7). All others do: an unencrypted stream, for one."""


def read(lines: Iterable[Line]) -> list[Crypto]:
    """The `a=crypto` of a section that we can use, in order. What is odd is left out."""
    found = []
    for letter, value in lines:
        if letter != "a" or (match := _CRYPTO.fullmatch(value)) is None:
            continue
        tag, suite, key, parameters = match.groups()
        inline = _INLINE.fullmatch(key)
        if inline is None or not all(_HARMLESS.fullmatch(parameter) for parameter in parameters.split()):
            continue
        if suite.upper() in Suite.__members__.values() and _is_key(inline[1]):
            found.append(Crypto(int(tag), Suite(suite.upper()), inline[1]))
    return found


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False
