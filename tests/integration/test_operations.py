"""What an operator installs: units, rules, the dashboard. Checked by their own tools and against our metrics."""

import configparser
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from siaga_pbx.app import DRAIN_LIMIT_S
from siaga_pbx.media.protocol import Why
from siaga_pbx.metrics import DISPATCH_STATES, IDENTITIES, OUTCOMES, SEAT_STATES, Metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "config" / "prometheus"
DASHBOARD = ROOT / "config" / "grafana" / "siaga.json"
UNITS = ROOT / "systemd"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (package prometheus) is missing")
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze (package systemd) is missing"
)


def run(*command: str | Path) -> str:
    """What a tool says; it must be content."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Prometheus


@needs_promtool
def test_the_rules_are_good_and_each_fires_when_it_should() -> None:
    assert "rules found" in run("promtool", "check", "rules", PROMETHEUS / "siaga.rules.yml")
    assert "SUCCESS" in run("promtool", "test", "rules", PROMETHEUS / "siaga.rules.test.yml")


@needs_promtool
def test_the_example_of_a_scrape_is_good() -> None:
    assert "is valid" in run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = (PROMETHEUS / "siaga.rules.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) == len(set(alerts)) > 20
    tests = (PROMETHEUS / "siaga.rules.test.yml").read_text()
    assert [alert for alert in alerts if not re.search(rf"\b{alert}\b", tests)] == []
    for part in rules.split("- alert: ")[1:]:
        assert re.search(r"severity: (page|warning)\b", part), part
        assert "summary: " in part, part
        assert "action: " in part, part


# Metrics named by rules and dashboard


def families() -> dict[str, Metric]:
    """Every family that is exposed, by the names of its samples."""
    metrics = Metrics(CollectorRegistry())
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {family.name + suffix: family for family in metrics.registry.collect() for suffix in suffixes[family.type]}


LABELS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "siaga_calls_total": {"trunk": None, "outcome": OUTCOMES, "identity": IDENTITIES},
    "siaga_seats": {"state": SEAT_STATES},
    "siaga_dispatches_total": {"agency": None, "state": DISPATCH_STATES},
    "siaga_dispatch_accept_seconds_bucket": {"agency": None, "le": None},
    "siaga_answer_seconds_bucket": {"le": ("1.0", "2.0", "5.0", "10.0", "15.0", "20.0", "30.0", "60.0", "120.0")},
    "siaga_agency_online": {"agency": None},
    "siaga_trunk_up": {"trunk": None},
    "siaga_alarm_active": {"alarm": None},
    "siaga_sip_messages_total": {"direction": ("in", "out"), "kind": None},
    "siaga_sip_auth_failures_total": {"reason": None},
    "siaga_rtp_refused_packets_total": {"reason": tuple(Why)},
}
"""What a selector may ask of a metric; None: any value."""


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """Every query of the rules and of the dashboard."""
    rules = (PROMETHEUS / "siaga.rules.yml").read_text()
    for match in re.finditer(r"^( +)expr: (?:\|\n((?:\1  .*\n)+)|(?!\|)(.+))", rules, re.MULTILINE):
        yield match[2] or match[3]
    dashboard = json.loads(DASHBOARD.read_text())
    yield from (target["expr"] for panel in panels(dashboard) for target in panel["targets"])
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])


def test_every_metric_that_is_asked_for_exists() -> None:
    known = families()
    asked = {name for text in expressions() for name in re.findall(r"\b(?:siaga|process)_[a-z0-9_]+", text)}
    assert len(asked) > 30
    assert asked - set(known) == set()


def test_every_contract_metric_is_shown_somewhere() -> None:
    text = "\n".join(expressions())
    families = {f.name for f in Metrics(CollectorRegistry()).registry.collect() if f.name.startswith("siaga_")}
    assert {name for name in families if name not in text} == set()


def test_selectors_ask_for_labels_and_values_that_there_are() -> None:
    selectors = [match for text in expressions() for match in re.findall(r"\b(siaga_[a-z0-9_]+)\{([^}]*)\}", text)]
    assert len(selectors) > 40
    for metric, matchers in selectors:
        for label, values in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', matchers):
            if label in ("instance", "job"):
                continue
            accepted = LABELS[metric][label]
            assert accepted is None or set(values.split("|")) <= set(accepted), (metric, label, values)


@needs_promtool
def test_every_query_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "5m", "$__range": "1h", "$instance": ".*"}
    rules: list[dict[str, str]] = []
    for number, expression in enumerate(expressions()):
        for variable, value in variables.items():
            expression = expression.replace(variable, value)
        rules.append({"record": f"query:{number}", "expr": expression})
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", file)


def test_the_dashboard_is_laid_out_well() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for panel in panels(dashboard):
        assert panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


# systemd


class Unit:
    """One unit file; a key may stand several times."""

    def __init__(self, name: str) -> None:
        self.path = UNITS / name
        self._parser = configparser.RawConfigParser(strict=False, dict_type=_Repeating, delimiters="=")
        self._parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
        self._parser.read(self.path)

    def all(self, key: str, section: str = "Service") -> list[str]:
        return self._parser.get(section, key, fallback="").splitlines()

    def one(self, key: str, section: str = "Service") -> str:
        [value] = self.all(key, section)
        return value


class _Repeating(dict[str, Any]):
    """Joins the lines of a key that stands several times."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


DAEMON, MEDIA, FURTHER = (Unit(f"siaga-{name}.service") for name in ("pbx", "media", "media@"))


@needs_systemd
def test_the_units_are_well_formed(tmp_path: Path) -> None:
    """In a copy that names programs which are there."""
    for unit in (DAEMON, MEDIA, FURTHER):
        text = unit.path.read_text().replace("/opt/siaga-pbx/bin/siaga-pbx", "/bin/true")
        (tmp_path / unit.path.name).write_text(text)
    names = ("siaga-pbx.service", "siaga-media.service", "siaga-media@1.service")
    assert run("systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in names)) == ""


@needs_systemd
@pytest.mark.parametrize("unit", [DAEMON, MEDIA, FURTHER], ids=lambda unit: unit.path.name)
def test_the_units_are_confined(unit: Unit) -> None:
    text = run("systemd-analyze", "security", "--no-pager", "--offline=true", unit.path)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert found is not None
    assert float(found[1]) <= 3.0


def test_the_daemon_is_started_for_ever_and_given_time_to_drain() -> None:
    assert DAEMON.one("Type") == "notify"
    assert DAEMON.one("Restart") == MEDIA.one("Restart") == "always"
    assert DAEMON.one("StartLimitIntervalSec", "Unit") == MEDIA.one("StartLimitIntervalSec", "Unit") == "0"
    assert int(DAEMON.one("TimeoutStopSec")) > DRAIN_LIMIT_S == 300
    assert int(DAEMON.one("WatchdogSec")) > 0
    assert DAEMON.one("LimitNOFILE") == MEDIA.one("LimitNOFILE") == "65536"
    assert DAEMON.one("ExecReload").endswith("-HUP $MAINPID")
    assert DAEMON.one("ExecStart").split()[1:] == ["run", "--config", "/etc/siaga-pbx/siaga.toml"]


def test_the_workers_are_not_the_daemons() -> None:
    """Stopping or killing the daemon leaves them; both find the socket at one place, which neither takes along."""
    assert "siaga-media.service" in DAEMON.one("Wants", "Unit")
    assert "siaga-media.service" in DAEMON.one("After", "Unit")
    for key in ("Requires", "BindsTo", "PartOf"):
        assert not DAEMON.all(key, "Unit")
        assert not MEDIA.all(key, "Unit")
    for unit in (DAEMON, MEDIA, FURTHER):
        assert unit.one("KillMode") == "process"
        assert unit.one("RuntimeDirectory") == "siaga-pbx"
        assert unit.one("RuntimeDirectoryPreserve") == "yes"
        assert unit.one("StateDirectory") == "siaga-pbx"
        assert unit.one("User") == "siaga"
        assert unit.one("UMask") == "0077"


def test_the_clock_can_be_asked_and_not_set() -> None:
    filters = DAEMON.all("SystemCallFilter")
    assert filters[0] == "@system-service"
    assert filters[-1] == "adjtimex clock_adjtime"  # after what takes @clock away
    assert DAEMON.all("CapabilityBoundingSet") in ([], [""])
    assert not DAEMON.all("ProtectClock")


def test_a_further_worker_is_like_the_first() -> None:
    def settings(unit: Unit) -> list[str]:
        lines = unit.path.read_text().splitlines()
        return [line for line in lines[lines.index("[Unit]") :] if not line.startswith("Description=")]

    expected = [line + (" --index %i" if line.startswith("ExecStart=") else "") for line in settings(MEDIA)]
    assert settings(FURTHER) == expected
