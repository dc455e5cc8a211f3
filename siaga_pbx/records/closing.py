"""When a row is evidence: once closed, its digest is in the chain of events, and so is that of every later change."""

from collections.abc import Mapping

# Rejected is closed like the rest: another agency gets a row of its own. A row that goes on all the same is "reopened".
DISPATCH_CLOSED = frozenset({"rejected", "cleared", "failed", "cancelled"})

CLOSED = "row_closed"
AMENDED = "row_amended"
REOPENED = "row_reopened"
ERASED = "erased"
RESERVED = frozenset({CLOSED, AMENDED, REOPENED, ERASED})  # kinds of events that the writer alone makes

# Kinds that outlive the erasure of their call: who has read it, and that it was held. Nothing of the caller is in them.
READ, HELD, RELEASED = "read", "held", "released"
LASTING = frozenset({READ, HELD, RELEASED})

# The tables whose rows close, with the columns that say so; one of `callback` or `hold` is over as soon as it is there.
CLOSING_COLUMNS: dict[str, tuple[str, ...]] = {
    "call": ("ended_at",),
    "incident": ("closed_at",),
    "dispatch": ("state",),
    "callback": (),
    "hold": (),
}


def is_closed(table: str, row: Mapping[str, object]) -> bool:
    """Whether this row of one of these tables is over; the row may be of its closing columns only."""
    match table:
        case "call" | "incident":
            return row.get(CLOSING_COLUMNS[table][0]) is not None
        case "dispatch":
            return row.get("state") in DISPATCH_CLOSED
        case _:
            return True


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
