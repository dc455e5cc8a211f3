"""A civic address of a PIDF-LO (RFC 5139, RFC 4776 3.4) as one line, as it is written in Indonesia."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

MAX_ADDRESS = 500
"""Characters of the line; an agency is told no more either."""
MAX_ELEMENT = 120

# What is said of a place, from the landmark to the province; of names for one thing the first that is there.
_PLACE = (("LMK",), ("NAM",), ("LOC",), ("BLD",), ("UNIT",), ("FLR",), ("ROOM",), ("SEAT",), ("POBOX",))
_QUARTERS = (("A6",), ("A5",), ("A4",), ("A3", "PCN"), ("A2",))
_WORDS = {"FLR": "lantai", "ROOM": "ruang", "UNIT": "unit"}
_STREET = ("PRM", "PRD", "STS", "RD", "POM", "POD", "RDSEC", "RDBR", "RDSUBBR")


def read_civic(address: Element) -> str | None:
    """The line of a `civicAddress`; None if nothing is in it. The country is left out if it is Indonesia."""
    said = {name: text for name, text in _elements(address) if text}
    if "RD" not in said and "A6" in said:
        said["RD"] = said.pop("A6")  # the street of RFC 4119, which had no RD
    parts = [*_first(said, _PLACE), _street(said), *_first(said, _QUARTERS)]
    parts.append(" ".join(said[name] for name in ("A1", "PC") if name in said))
    parts.append("" if said.get("country", "ID").upper() == "ID" else said["country"].upper())
    line = ", ".join(part for part in dict.fromkeys(parts) if part)
    return line[:MAX_ADDRESS] or None


def _elements(address: Element) -> Iterator[tuple[str, str]]:
    """Name and text of each, the first of a name last, so that it is the one that counts."""
    for element in reversed(list(address)):
        if isinstance(element.tag, str):
            yield element.tag.rpartition("}")[2], " ".join((element.text or "").split())[:MAX_ELEMENT]


def _first(said: dict[str, str], names: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    for either in names:
        name = next((name for name in either if name in said), None)
        if name is not None:
            yield f"{_WORDS[name]} {said[name]}" if name in _WORDS else said[name]


def _street(said: dict[str, str]) -> str:
    """The road and its number: the kind of road (STS, "Jalan") stands before its name."""
    road = [said[name] for name in _STREET if name in said]
    number = said.get("HNO", "") + said.get("HNS", "")
    return " ".join([*road, f"No. {number}"] if number else road)
