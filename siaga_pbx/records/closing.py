"""When a row is evidence: once closed, its digest is in the chain of events, and so is that of every later change."""

from collections.abc import Mapping

# Rejected is closed like the rest: another agency gets a row of its own. A row that goes on all the same is "reopened".
DISPATCH_CLOSED = frozenset({"rejected", "cleared", "failed", "cancelled"})

CLOSED = "row_closed"
AMENDED = "row_amended"
REOPENED = "row_reopened"
ERASED = "erased"
RESERVED = frozenset({CLOSED, AMENDED, REOPENED, ERASED})  # kinds of events that the writer alone makes

# The tables whose rows close, with the columns that say so.
CLOSING_COLUMNS = {"call": ("ended_at",), "dispatch": ("state",)}


def is_closed(table: str, row: Mapping[str, object]) -> bool:
    """Whether this row of `call` or `dispatch` is over."""
    return row["ended_at"] is not None if table == "call" else row["state"] in DISPATCH_CLOSED


def kind_of_change(before: bool, after: bool) -> str | None:
    """The kind of the event that a change of a row needs, by whether it was closed before and is closed after."""
    match before, after:
        case False, True:
            return CLOSED
        case True, True:
            return AMENDED
        case True, False:
            return REOPENED
        case _:
            return None
