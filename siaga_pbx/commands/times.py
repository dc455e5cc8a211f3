"""Times of the command line: `--since` read, times on record shown."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from siaga_pbx.commands.failures import Misused

_AGE = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_since(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """An ISO 8601 date or time (without a zone it is the centre's), or an age such as `90s`, `15m`, `2h`, `7d`, `1w`.

    Raises `Misused` for anything else.
    """
    try:
        if age := _AGE.fullmatch(text.strip().lower()):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
        return (moment.replace(tzinfo=zone) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Misused(f"--since {text!r}: not a time such as 2026-11-24T08:00 nor an age such as 15m, 2h, 7d") from None


def recorded(moment: datetime) -> str:
    """A moment as the records write it."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def local(text: object, zone: ZoneInfo) -> str:
    """A time on record as people at the centre read it; empty for none."""
    return f"{datetime.fromisoformat(text).astimezone(zone):%Y-%m-%d %H:%M:%S}" if isinstance(text, str) else ""


def between(start: object, end: object) -> float | None:
    """Seconds from one time on record to another; None when one is missing."""
    if isinstance(start, str) and isinstance(end, str):
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return None


def duration(seconds: float | None) -> str:
    """`12 s`, `3:05` or `1:02:03`; empty for None."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
