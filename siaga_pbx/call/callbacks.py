"""The call-back list: whom a seat calls next. Every caller who was lost gets at least one attempt (NENA-STA-020.1).

The list is the records' (`records.Reader.callbacks`): rows of calls that were lost, can be called, and were neither
called nor dismissed. The rules here order it.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

R = TypeVar("R", bound=Mapping[str, object])

_NO_ATTEMPTS: Mapping[str, int] = {}


def next_to_call(
    rows: Iterable[R], calling: Iterable[str] = (), attempts: Mapping[str, int] = _NO_ATTEMPTS
) -> R | None:
    """The row to call now; None if there is none.

    `calling`: the ids of rows that seats are calling at this moment; nobody is called by two seats, also not when the
    same number is on the list twice. `attempts`: how often each row was tried in vain; the least tried goes first, so
    that one number that does not answer holds nobody up. Then the higher priority, then who has waited longest.
    """
    rows = [row for row in rows if number_of(row) is not None]
    engaged = set(calling)
    engaged_numbers = {number_of(row) for row in rows if row["id"] in engaged}
    free = [row for row in rows if row["id"] not in engaged and number_of(row) not in engaged_numbers]
    return min(free, key=lambda row: _turn(row, attempts), default=None)


def same_caller(rows: Iterable[R], called: R) -> list[R]:
    """The other rows of the caller who was reached: they are settled by the same conversation."""
    number = number_of(called)
    return [row for row in rows if number_of(row) == number and row["id"] != called["id"]]


def number_of(row: Mapping[str, object]) -> str | None:
    """The number to dial, None if the row has none that can be."""
    number = row.get("caller_number")
    return number if isinstance(number, str) and number and row.get("callable", True) else None


def _turn(row: Mapping[str, object], attempts: Mapping[str, int]) -> tuple[int, int, str, str]:
    priority = row.get("priority")
    urgency = priority if isinstance(priority, int) else 0
    return attempts.get(str(row["id"]), 0), -urgency, str(row.get("received_at") or ""), str(row["id"])
