"""The forms in which the commands write dispatches for other systems."""

from enum import StrEnum


class Form(StrEnum):
    """What another system takes in."""

    CAP = "cap"
    EIDO = "eido"


class ReportForm(StrEnum):
    """How a report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
