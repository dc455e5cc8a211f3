"""Who calls, as far as the headers tell. Nobody is refused for it: an odd identity is recorded, and the call goes on.

Which headers a carrier puts on its 112 trunk is found while the trunk is commissioned, so the trunk's settings say
where the number is (`number_from`) and what marks a class (`marks`). Why a withheld number is kept: docs/adr/0104.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import phonenumbers

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.uri import Uri

MAX_NUMBER = 40
"""Characters of a user part that are looked at: 15 digits of E.164, an access code, and generous separators."""

E164_DIGITS = 15


class IdentityClass(StrEnum):
    SUBSCRIBER = "subscriber"
    NO_CREDIT = "no_credit"
    """A registered subscriber with a normal number."""
    NO_SIM = "no_sim"
    """A phone in limited service: no number, so no way to call it back."""
    WITHHELD = "withheld"


class MarkSettings(Protocol):
    @property
    def header(self) -> str: ...

    @property
    def contains(self) -> str: ...

    @property
    def class_(self) -> str: ...


class TrunkSettings(Protocol):
    """`config.Trunk` is one."""

    @property
    def number_from(self) -> tuple[str, ...]: ...

    @property
    def marks(self) -> tuple[MarkSettings, ...]: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """`number` is E.164 or None; `callable`: it can be called back. From, PAI, Privacy and Diversion are kept apart."""

    class_: IdentityClass
    number: str | None
    callable: bool
    from_: str
    asserted: tuple[str, ...]
    privacy: frozenset[str]
    diversion: tuple[str, ...]


DEFAULT_NUMBER_FROM = ("p-asserted-identity", "from")

# RFC 3323 4.1.1.3 and 3GPP TS 23.003 13.6; RFC 3261 8.1.1.3 for other hosts.
_NO_SIM_ADDRESSES = ("anonymous@anonymous.invalid", "unavailable@unknown.invalid")
_ANONYMOUS_USERS = ("anonymous", "restricted", "withheld", "private")
_HIDING = frozenset({"id", "user", "header"})
# Non-dialable numbers of phones without a SIM: the emergency number and the last seven digits of the IMEI.
_PSEUDO = re.compile(r"(?:112|911)\d{7}")
# IMEI 15 or 16 digits (3GPP TS 23.003 6), IMSI 14 or 15: an equipment or SIM id where a number should be.
_EQUIPMENT = re.compile(r"\d{14,16}")
_NUMBER_SHAPE = re.compile(r"\+?[0-9][0-9().\- ]*")


def identify(request: Request, trunk: TrunkSettings | None, country: str) -> Identity:
    """The caller of an INVITE. `country`: ISO 3166, where a national number belongs. Never raises."""
    headers = request.headers
    asserted = tuple(headers.values("p-asserted-identity"))
    privacy = frozenset(token.strip().lower() for token in ";".join(headers.get_all("privacy")).split(";")) - {""}
    uris = [request.from_.uri, *_uris(asserted)]
    number = _number(request, trunk.number_from if trunk else DEFAULT_NUMBER_FROM, country)
    class_ = _marked(request, trunk) or _class(request.from_, uris, number, privacy, country)
    if class_ is IdentityClass.NO_SIM:
        number = None
    return Identity(
        class_,
        number,
        number is not None,
        headers.get("from") or "",
        asserted,
        privacy,
        tuple(headers.values("diversion")),
    )


def _marked(request: Request, trunk: TrunkSettings | None) -> IdentityClass | None:
    """The class of the first mark of the trunk that is found."""
    for mark in trunk.marks if trunk else ():
        wanted = mark.contains.lower()
        if any(wanted in value.lower() for value in request.headers.get_all(mark.header)):
            return IdentityClass(mark.class_)
    return None


def _class(
    from_: NameAddr, uris: list[Uri], number: str | None, privacy: frozenset[str], country: str
) -> IdentityClass:
    if privacy & _HIDING:
        return IdentityClass.WITHHELD
    if number is not None:
        return IdentityClass.SUBSCRIBER
    if any(_address(uri) in _NO_SIM_ADDRESSES or _stands_for_equipment(uri, country) for uri in uris):
        return IdentityClass.NO_SIM
    user = (from_.uri.username or "").lower()
    if user in _ANONYMOUS_USERS or from_.display.strip().lower() in _ANONYMOUS_USERS:
        return IdentityClass.WITHHELD
    return IdentityClass.SUBSCRIBER


def _address(uri: Uri) -> str:
    return f"{uri.username or ''}@{uri.host}".lower()


# Numbers


def _number(request: Request, order: tuple[str, ...], country: str) -> str | None:
    """The first number that is one, by the trunk's order of headers."""
    for source in order:
        read = _SOURCES.get(source.lower())
        for uri in read(request) if read else ():
            number = e164(uri, country)
            if number is not None:
                return number
    return None


def _of_list(header: str) -> Callable[[Request], Iterator[Uri]]:
    return lambda request: _uris(request.headers.values(header))


_SOURCES: dict[str, Callable[[Request], Iterator[Uri]]] = {
    "from": lambda request: iter([request.from_.uri]),
    "p-asserted-identity": _of_list("p-asserted-identity"),
    "p-preferred-identity": _of_list("p-preferred-identity"),
    "remote-party-id": _of_list("remote-party-id"),
    "diversion": _of_list("diversion"),
}


def _uris(values: tuple[str, ...] | list[str]) -> Iterator[Uri]:
    for value in values:
        try:
            yield NameAddr.parse(value).uri
        except RemoteError:
            continue


def e164(uri: Uri, country: str) -> str | None:
    """The number of a tel: or sip: URI in E.164; None if it has none that could be dialled. Never raises."""
    digits = _digits(uri)
    parsed = None if digits is None else _parse(digits, country)
    if parsed is None or _is_pseudo(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _digits(uri: Uri) -> str | None:
    """The user part, if it looks like a number; with its phone-context (RFC 3966 5.1.5) where that is a prefix."""
    if uri.opaque is not None:
        return None
    user, _, params = (uri.username or "").partition(";")
    if len(user) > MAX_NUMBER or not _NUMBER_SHAPE.fullmatch(user):
        return None
    context = uri.param("phone-context") or params.lower().partition("phone-context=")[2].partition(";")[0]
    if user[0] not in "+0" and context.startswith("+") and len(context) <= MAX_NUMBER:
        return context + user
    return user


def _parse(digits: str, country: str) -> phonenumbers.PhoneNumber | None:
    """The number as the country reads it, or as an international one whose + the carrier left out: a valid one first.

    One that begins with the country's own code is the latter: 62811222333 might be a line in North Sumatra (0628), but
    no network leaves out its 0. One that is only possible is taken too: ranges are newer than our tables.
    """
    readings = [digits] if digits[0] == "+" else [digits, "+" + digits.lstrip("0")]
    if digits.startswith(str(phonenumbers.country_code_for_region(country))):
        readings.reverse()
    possible = [parsed for reading in readings if (parsed := _possible(reading, country)) is not None]
    if len(possible) < 2:  # nearly always: looking a number up in all ranges takes as long as all else here
        return possible[0] if possible else None
    valid = (parsed for parsed in possible if phonenumbers.is_valid_number(parsed))
    return next(valid, possible[0])


def _possible(digits: str, country: str) -> phonenumbers.PhoneNumber | None:
    try:
        parsed = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return None
    length = len(f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}")
    return parsed if length <= E164_DIGITS and phonenumbers.is_possible_number(parsed) else None


def _is_pseudo(number: phonenumbers.PhoneNumber) -> bool:
    national = phonenumbers.national_significant_number(number)
    return _PSEUDO.fullmatch(national) is not None and not phonenumbers.is_valid_number(number)


def _stands_for_equipment(uri: Uri, country: str) -> bool:
    """A pseudo number, or an IMEI or IMSI in the place of a number."""
    if uri.opaque is not None:
        return "imei" in uri.opaque.lower()
    digits = _digits(uri)
    if digits is None:
        return False
    if _EQUIPMENT.fullmatch(digits):
        return True
    parsed = _parse(digits, country)
    return parsed is not None and _is_pseudo(parsed)
