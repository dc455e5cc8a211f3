"""The command `report`: its periods, and the three forms of the same numbers."""

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from benchmarks.report import make_year
from siaga_pbx.cli import main
from siaga_pbx.commands.failures import Misused
from siaga_pbx.commands.report import parse_period

_JAKARTA = ZoneInfo("Asia/Jakarta")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A centre with a year of 3650 calls, ten a day."""
    return make_year(tmp_path_factory.mktemp("centre"), 3650)


@pytest.mark.parametrize(
    ("unit", "text", "start", "end"),
    [
        ("day", "2026-11-24", "2026-11-24T00:00+07:00", "2026-11-25T00:00+07:00"),
        ("day", "2024-02-29", "2024-02-29T00:00+07:00", "2024-03-01T00:00+07:00"),
        ("month", "2026-12", "2026-12-01T00:00+07:00", "2027-01-01T00:00+07:00"),
        ("year", "2026", "2026-01-01T00:00+07:00", "2027-01-01T00:00+07:00"),
    ],
)
def test_periods(unit: str, text: str, start: str, end: str) -> None:
    period = parse_period(unit, text, _JAKARTA)
    assert (period.start, period.end) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("day", "2026-11"),
        ("month", "2026-13"),
        ("month", "2026"),
        ("year", "2026-11"),
        ("day", "2026-02-29"),
        ("day", ""),
    ],
)
def test_what_is_no_period(unit: str, text: str) -> None:
    with pytest.raises(Misused, match=f"--{unit}"):
        parse_period(unit, text, _JAKARTA)


@pytest.mark.parametrize("arguments", [[], ["--day", "2026-11-24", "--month", "2026-11"]])
def test_one_period_is_named(arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments, "--config", str(config)]) == 2
    assert capsys.readouterr().err == "siaga-pbx: name one of --day, --month and --year\n"


def test_the_three_forms_say_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for form in ("json", "csv", "table"):
        assert main(["report", "--month", "2026-03", "--format", form, "--config", str(config)]) == 0
        said.append(capsys.readouterr().out)
    report = json.loads(said[0])
    assert (report["centre"], report["period"], report["calls"]) == ("cirebon", "2026-03", 310)
    assert (report["start"], report["end"]) == ("2026-02-28T17:00:00.000Z", "2026-03-31T17:00:00.000Z")
    assert sum(report["hours"]) == sum(report["outcomes"].values()) == 310
    lines = dict(csv.reader(io.StringIO(said[1])))
    assert lines.pop("what") == "value"
    assert lines["calls"] == "310"
    assert lines["goals.15.met"] == str(report["goals"][0]["met"])
    assert lines["hours.07"] == str(report["hours"][7])
    assert lines["agencies.damkar.accepted.times.p90_s"] == str(
        report["agencies"]["damkar"]["accepted"]["times"]["p90_s"]
    )
    goal = report["goals"][1]
    for words in (
        "Cirebon Siaga 112, 2026-03 (Asia/Jakarta)",
        "310 calls; 0 test calls besides",
        f"{goal['percent']:.2f} % ({goal['met']} of {goal['judged']})",
        "Dinas Pemadam",
        "Kesehatan",
    ):
        assert words in said[2]


def test_a_period_without_calls_and_one_to_come(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--day", "2025-06-01", "--config", str(config)]) == 0
    assert "no calls to judge by" in capsys.readouterr().out
    assert main(["report", "--year", "2999", "--config", str(config)]) == 0
    assert "0 calls; 0 test calls besides; not over yet" in capsys.readouterr().out


def test_without_a_database(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("siaga.toml", "dialplan.toml"):
        (tmp_path / name).write_text((config.parent / name).read_text())
    assert main(["report", "--year", "2026", "--config", str(tmp_path / "siaga.toml")]) == 1
    assert "no database" in capsys.readouterr().err
