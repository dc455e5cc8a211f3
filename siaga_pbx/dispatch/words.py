"""A dispatch in spoken Indonesian: what prompts say of it, and what only a voice that reads text can say."""

import re

from siaga_pbx.dispatch.message import Dispatch, Location, Purpose

CATEGORIES = frozenset({"fire", "accident", "disaster", "health", "security", "riot", "other"})
"""Those of PM Kominfo 10/2016: each has a prompt."""
_TEXT_LIMIT = 400  # characters of address and of note: half a minute each
_WORDS = {
    "jl": "jalan",
    "jln": "jalan",
    "gg": "gang",
    "kec": "kecamatan",
    "kel": "kelurahan",
    "kab": "kabupaten",
    "ds": "desa",
    "no": "nomor",
}
_SHORT = re.compile(rf"\b({'|'.join(_WORDS)})\.\s*", re.IGNORECASE)
_COUNTRY = "+62"


def opening(message: Dispatch) -> tuple[str, ...]:
    """The prompts that come first: who calls, whether it is a drill, what it is about."""
    drill = {Purpose.EXERCISE: ("voice-exercise",), Purpose.TEST: ("voice-test",)}
    category = message.category if message.category in CATEGORIES else "other"
    return ("voice-intro", *drill.get(message.status, ()), f"voice-{category}")


def details(message: Dispatch) -> str:
    """The rest, to be read out. The caller's number is in it only if it is in the message."""
    parts = [_place(message.location)] if message.location is not None else []
    if message.note:
        parts.append(f"Keterangan: {_readable(message.note)}")
    if message.people is not None:
        parts.append(f"Jumlah orang: {message.people}")
    if message.callback is not None and message.callback.number:
        parts.append(f"Nomor pelapor: {_digits(message.callback.number)}")
    return " ".join(f"{part.rstrip('. ')}." for part in parts)


def _place(location: Location) -> str:
    if location.address:
        return f"Alamat: {_readable(location.address)}"
    return f"Koordinat: lintang {_degrees(location.lat)}, bujur {_degrees(location.lon)}"


def _degrees(value: float | None) -> str:
    """A decimal comma, as it is said: minus enam koma tujuh."""
    return f"{value or 0.0:.4f}".replace("-", "minus ").replace(".", ",")


def _readable(text: str) -> str:
    """Abbreviations written out; brackets would be phonemes to the voice."""
    plain = " ".join(re.sub(r"[\[\]<>{}|\\]", " ", text).split())[:_TEXT_LIMIT]
    return _SHORT.sub(lambda found: f"{_WORDS[found[1].lower()]} ", plain)


def _digits(number: str) -> str:
    """One by one, in groups of four as numbers are told."""
    national = f"0{number.removeprefix(_COUNTRY)}" if number.startswith(_COUNTRY) else number
    digits = [digit for digit in national if digit.isdigit()]
    return ", ".join(" ".join(digits[start : start + 4]) for start in range(0, len(digits), 4))
