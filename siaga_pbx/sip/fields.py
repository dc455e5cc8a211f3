"""The header list of a message: ordered, compared without case, compact forms understood (RFC 3261 7.3)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from siaga_pbx.sip.errors import LocalError
from siaga_pbx.sip.params import split_commas

T = TypeVar("T")

_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
_USUAL = (
    "Accept",
    "Accept-Contact",
    "Allow",
    "Allow-Events",
    "Authorization",
    "Call-ID",
    "Call-Info",
    "Contact",
    "Content-Disposition",
    "Content-Length",
    "Content-Type",
    "CSeq",
    "Date",
    "Event",
    "Expires",
    "From",
    "Geolocation",
    "History-Info",
    "Max-Forwards",
    "Min-SE",
    "P-Access-Network-Info",
    "P-Asserted-Identity",
    "P-Charging-Vector",
    "P-Early-Media",
    "Privacy",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Reason",
    "Record-Route",
    "Require",
    "Route",
    "Server",
    "Session-Expires",
    "Subject",
    "Supported",
    "Timestamp",
    "To",
    "User-Agent",
    "Via",
    "Warning",
    "WWW-Authenticate",
)
KEYS = {name: name.lower() for name in _USUAL} | {name.lower(): name.lower() for name in _USUAL}
KEYS |= _COMPACT | {letter.upper(): name for letter, name in _COMPACT.items()}


def header_key(name: str) -> str:
    """What two spellings of one header have in common: the long name in lower case."""
    key = KEYS.get(name)
    if key is None:
        key = name.lower()
        key = KEYS.get(key, key)
    return key


class Headers:
    """The headers of one message, in order. Names compare without case, and a compact form equals its long one.

    One entry is one header line; folded lines were joined. Values are text as it was written, without white space at
    the ends. Adding one with a line break in it raises LocalError: it would be two headers to whoever reads it.
    """

    __slots__ = ("_first", "_typed", "fields")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self.fields: list[tuple[str, str, str]] = []
        """(key, name as written, value) of each line. For reading only."""
        self._first: dict[str, str] | None = None
        """By key the value of its first line; None while it has to be made anew."""
        self._typed: dict[str, Any] = {}
        """What `typed` has made, each of the type that it is asked for by."""
        for name, value in items:
            self.add(name, value)

    @classmethod
    def of_lines(cls, fields: list[tuple[str, str, str]]) -> "Headers":
        """For the parser: headers of (key, name, value) that need no check, since they came from single lines."""
        headers = cls()
        headers.fields = fields
        return headers

    def get(self, name: str) -> str | None:
        """The value of the first line of that name."""
        return self.first().get(header_key(name))

    @property
    def repeated(self) -> bool:
        """Whether any header has more than one line."""
        return len(self.first()) != len(self.fields)

    def first(self) -> dict[str, str]:
        """The value of the first line of every header, by `header_key`. For reading only."""
        if self._first is None:
            self._first = {key: value for key, _, value in reversed(self.fields)}
        return self._first

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of that name, one entry a line."""
        key, first = header_key(name), self.first()
        if key not in first:
            return []
        return [value for field_key, _, value in self.fields if field_key == key] if self.repeated else [first[key]]

    def values(self, name: str) -> list[str]:
        """The members of a header that is a comma-separated list (RFC 3261 7.3.1): of all its lines, each split."""
        lines = self.get_all(name)
        if len(lines) == 1:
            return split_commas(lines[0])
        return [part for line in lines for part in split_commas(line)]

    def add(self, name: str, value: str) -> None:
        """One more line at the end."""
        self.fields.append(self._changed(name, value))

    def prepend(self, name: str, value: str) -> None:
        """One more line, before all others of that name."""
        field = self._changed(name, value)
        self.fields.insert(self._position(field[0], 0), field)

    def set(self, name: str, value: str) -> None:
        """One line of that name, where the first was (else at the end), in place of all."""
        field = self._changed(name, value)
        position = self._position(field[0], len(self.fields))
        self.fields[position:] = [field, *(other for other in self.fields[position:] if other[0] != field[0])]

    def set_first(self, name: str, value: str) -> None:
        """The value of the first line of that name only; the other lines stay."""
        field = self._changed(name, value)
        position = self._position(field[0], len(self.fields))
        self.fields[position : position + 1] = [field]

    def remove(self, name: str) -> None:
        """No line of that name."""
        key = header_key(name)
        self._forget(key)
        self.fields = [field for field in self.fields if field[0] != key]

    def items(self) -> Iterator[tuple[str, str]]:
        """(name as written, value) of every line."""
        return ((name, value) for _, name, value in self.fields)

    def copy(self) -> "Headers":
        headers = Headers.of_lines(self.fields.copy())
        headers._typed = self._typed.copy()
        return headers

    def typed(self, view: str, read: Callable[["Headers"], T]) -> T:
        """What `read` makes of these headers, made once and kept until a header of that name changes.

        `view` is a header's lower-case name, with a `*` behind it for a reading of the whole list.
        """
        made: T
        try:
            made = self._typed[view]
        except KeyError:
            made = self._typed[view] = read(self)
        return made

    def _changed(self, name: str, value: str) -> tuple[str, str, str]:
        if "\n" in value or "\r" in value:
            raise LocalError(f"a line break in {name}")
        key = header_key(name)
        self._forget(key)
        return key, name, value

    def _forget(self, key: str) -> None:
        self._first = None
        if self._typed:
            self._typed.pop(key, None)
            self._typed.pop(key + "*", None)

    def _position(self, key: str, absent: int) -> int:
        for index, field in enumerate(self.fields):
            if field[0] == key:
                return index
        return absent

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        return self.fields == other.fields if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable: mypy has no other spelling of "not hashable"

    def __repr__(self) -> str:
        return f"Headers({list(self.items())!r})"
