"""A telephone number as people write it: into the form that the records have, and where it stands in their words."""

import re
from collections.abc import Iterator, Mapping, Sequence

import phonenumbers

from siaga_pbx.records.errors import NotOnRecord

STRUCK = "[erased]"
"""What stands where a number was."""

_NO_DIGITS = bytes(byte for byte in range(256) if byte not in b"0123456789")
_BETWEEN = "[^0-9A-Za-z]{0,3}"  # spaces, dashes, dots, brackets, of whatever alphabet
# A number begins where no digit is before it; after a %20 of a URI it begins all the same.
_BEGINS = "(?:(?<![0-9])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))"
_ENDS = "(?![0-9])"


def e164(text: str, country: str) -> str:
    """`0812-3456-7890` or `+62 812 3456 7890` as `+6281234567890`. Raises NotOnRecord for what is no number."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        raise NotOnRecord(f"{text!r} is no telephone number") from None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def national_digits(number: str) -> str:
    """The part of an E.164 number that is the same however it is written: `81234567890` of `+6281234567890`."""
    return phonenumbers.national_significant_number(phonenumbers.parse(number))


class Spelling:
    """An E.164 number in whatever way it is written: `0812 3456-7890`, `62812...`, `(+62) 812.3456.7890`, `812...`."""

    def __init__(self, number: str) -> None:
        self.digits = national_digits(number)
        country = str(phonenumbers.parse(number).country_code)
        # What may come before: another country's way out (00, 001), the country, the 0 of a call within it.
        before = rf"(?:0[0-9]{{0,2}}{_BETWEEN})?(?:{country}{_BETWEEN})?(?:0{_BETWEEN})?"
        self._pattern = re.compile(_BEGINS + before + _BETWEEN.join(self.digits) + _ENDS)

    def may_be_in(self, stored: str) -> bool:
        """False only if it is not in this text, or JSON: a look that costs next to nothing."""
        return "\\u" in stored or self.digits.encode() in stored.encode().translate(None, _NO_DIGITS)

    def texts(self, value: object) -> Iterator[str]:
        """The texts, within mappings and sequences, that have it."""
        match value:
            case str() | int() if self._pattern.search(str(value)):
                yield str(value)
            case Mapping():
                for key, item in value.items():
                    yield from self.texts(key)
                    yield from self.texts(item)
            case Sequence() if not isinstance(value, str):
                for item in value:
                    yield from self.texts(item)
            case _:
                pass

    def struck_from(self, value: object) -> object:
        """The value without it; what is nothing else becomes None."""
        match value:
            case str() | int() if self._pattern.search(str(value)):
                rest = self._pattern.sub(STRUCK, str(value))
                return None if rest.strip(" +") == STRUCK else rest
            case Mapping():
                return {key: self.struck_from(item) for key, item in value.items()}
            case Sequence() if not isinstance(value, str):
                return [self.struck_from(item) for item in value]
            case _:
                return value
