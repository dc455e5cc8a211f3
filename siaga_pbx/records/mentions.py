"""Where a number stands in what is recorded of others: in an event, a note, an address, a message to an agency."""

from collections.abc import Iterator
from dataclasses import dataclass

from siaga_pbx.records.changes import Update
from siaga_pbx.records.numbers import Spelling
from siaga_pbx.records.reader import Reader, Record

EVENT = "event"
_REQUIRED = "note"  # of a message to an agency: never null
_LEAST_DIGITS = 7  # fewer are found in anything


@dataclass(frozen=True, slots=True)
class Mention:
    """A column that has the number, decoded; `call_id`: whose record it is part of, if any call's. `at`: UTC text."""

    table: str
    id: str
    call_id: str | None
    at: str
    column: str
    value: object

    def rows(self, spelling: Spelling) -> Iterator[Record]:
        """For an export: each text that has it, and nothing else of that record."""
        where: Record = {"table": self.table, "id": self.id, "call_id": self.call_id, "at": self.at}
        for text in spelling.texts(self.value):
            yield where | {"column": self.column, "text": text}

    def struck(self, spelling: Spelling) -> Update:
        """The change of a row, not an event's, that takes the number out of it."""
        value = spelling.struck_from(self.value)
        if isinstance(value, dict) and _REQUIRED in value:
            value |= {_REQUIRED: value[_REQUIRED] or ""}
        return Update(self.table, self.id, {self.column: value})


def mentions_of(reader: Reader, spelling: Spelling) -> list[Mention]:
    """All of them, the calls of the number itself among them. Goes through everything that is recorded in words."""
    if len(spelling.digits) < _LEAST_DIGITS:
        return []
    return list(_found(reader, spelling))


def _found(reader: Reader, spelling: Spelling) -> Iterator[Mention]:
    for table, column, row in reader.words(spelling.may_be_in):
        if any(spelling.texts(row["value"])):
            call_id = None if row["call_id"] is None else str(row["call_id"])
            yield Mention(table, str(row["id"]), call_id, str(row["at"]), column, row["value"])
