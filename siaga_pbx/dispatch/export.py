"""What the exports have in common: who speaks, and of what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

from siaga_pbx.dispatch.message import Dispatch
from siaga_pbx.records.reader import Record

# XML 1.0, 2.2: what a document cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Origin:
    """The centre that speaks, and its words. `domain` makes its ids unique in the world."""

    centre: str
    name: str
    domain: str
    categories: Mapping[str, str] = field(default_factory=dict)
    """Their names, by id."""
    agencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The categories each responds to, by its id."""

    @property
    def element(self) -> str:
        """The centre as an element of a network: a name like a host's."""
        return f"{self.centre}.{self.domain}"

    def category(self, id: str) -> str:
        """A category as people read it."""
        return self.categories.get(id, id)


@dataclass(frozen=True, slots=True)
class Sent:
    """A dispatch on record: its row, and the latest message that was made of it."""

    row: Record
    message: Dispatch


def add(parent: Element, name: str, text: str | None = None, /, **attributes: str) -> Element:
    """An element with text that XML can hold; the serialiser escapes it."""
    element = SubElement(parent, name, attributes)
    if text is not None:
        element.text = _NOT_XML.sub("\ufffd", text)
    return element


def in_one_line(document: Element) -> str:
    """The document as a line of text: line breaks in it are character references."""
    text = tostring(document, encoding="unicode").replace("\r", "&#13;").replace("\n", "&#10;")
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'


def place(message: Dispatch) -> str:
    """Where it is, in words; "not known" when nobody said."""
    location = message.location
    if location is not None and location.address:
        return location.address
    if location is not None and location.lat is not None:
        return f"{location.lat}, {location.lon}"
    return "not known"
