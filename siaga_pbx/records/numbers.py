"""A telephone number as a person writes it, in the form that the records have."""

import phonenumbers

from siaga_pbx.records.errors import NotOnRecord


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
