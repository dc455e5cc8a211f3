"""Times of the command line."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from siaga_pbx.commands.failures import Misused
from siaga_pbx.commands.times import between, duration, local, parse_since, recorded

NOW = datetime(2026, 11, 24, 8, 0, 30, tzinfo=UTC)
JAKARTA = ZoneInfo("Asia/Jakarta")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", "2026-11-24T07:59:00.000Z"),
        ("15m", "2026-11-24T07:45:30.000Z"),
        ("2h", "2026-11-24T06:00:30.000Z"),
        ("7D", "2026-11-17T08:00:30.000Z"),
        ("1w", "2026-11-17T08:00:30.000Z"),
        ("2026-11-24T07:00:00.5Z", "2026-11-24T07:00:00.500Z"),
        ("2026-11-24T07:00:00+07:00", "2026-11-24T00:00:00.000Z"),
        ("2026-11-24", "2026-11-23T17:00:00.000Z"),
        ("2026-11-24 07:00", "2026-11-24T00:00:00.000Z"),
    ],
)
def test_since(text: str, expected: str) -> None:
    assert recorded(parse_since(text, NOW, JAKARTA)) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "h", "1y", "-1h", "1.5h", "1h30m", "yesterday", "2026-13-01", "9999999d", "999999w", "0001-01-01"]
)
def test_since_that_is_no_time(text: str) -> None:
    with pytest.raises(Misused, match="--since"):
        parse_since(text, NOW, JAKARTA)


def test_local_is_the_centres_time() -> None:
    assert local("2026-11-24T00:00:00.000Z", JAKARTA) == "2026-11-24 07:00:00"
    assert local(None, JAKARTA) == ""


def test_between() -> None:
    assert between("2026-11-24T00:00:00.000Z", "2026-11-24T00:00:01.500Z") == 1.5
    assert between(None, "2026-11-24T00:00:01.500Z") is None
    assert between("2026-11-24T00:00:00.000Z", None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (-1.0, "0 s"), (12.9, "12 s"), (60.0, "1:00"), (3599.0, "59:59"), (3723.0, "1:02:03")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
