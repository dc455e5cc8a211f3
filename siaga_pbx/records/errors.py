"""What can go wrong with the records. A call never depends on any of it."""


class RecordsError(Exception):
    """Base of the errors of this package."""


class StoreUnavailable(RecordsError):
    """The database cannot be written (or read) now; nothing of the changes is in it. Try again later."""


class ChangeRefused(RecordsError):
    """The database works, but these changes contradict it (a foreign key, a double id, an unknown column)."""


class NotOnRecord(RecordsError):
    """There is no such thing."""


class NotPossible(RecordsError):
    """As things stand this is not done; nothing has changed."""


class StoreInUse(RecordsError):
    """Another process is the writer of this database."""


def first_line(error: Exception) -> str:
    """What went wrong; the SQL below it helps nobody who reads an alarm."""
    return str(error).partition("\n")[0]
