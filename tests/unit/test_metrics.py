"""metrics: the contract's names and types, labels from the start, and what reloads take back."""

import asyncio
import contextlib
import re
import shutil
import subprocess
import time

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from siaga_pbx.metrics import DISPATCH_STATES, IDENTITIES, LAG_INTERVAL_S, OUTCOMES, SEAT_STATES, Metrics

CONTRACT = {
    "siaga_calls_total": ("counter", {"trunk", "outcome", "identity"}),
    "siaga_answer_seconds": ("histogram", set()),
    "siaga_queue_length": ("gauge", set()),
    "siaga_queue_oldest_seconds": ("gauge", set()),
    "siaga_seats": ("gauge", {"state"}),
    "siaga_seat_missed_total": ("counter", set()),
    "siaga_abandoned_total": ("counter", set()),
    "siaga_dispatches_total": ("counter", {"agency", "state"}),
    "siaga_dispatch_accept_seconds": ("histogram", {"agency"}),
    "siaga_outbox_pending": ("gauge", set()),
    "siaga_outbox_oldest_seconds": ("gauge", set()),
    "siaga_agency_online": ("gauge", {"agency"}),
    "siaga_mqtt_connected": ("gauge", set()),
    "siaga_mqtt_quarantined_total": ("counter", set()),
    "siaga_rtp_refused_packets_total": ("counter", {"reason"}),
    "siaga_trunk_up": ("gauge", {"trunk"}),
    "siaga_sip_messages_total": ("counter", {"direction", "kind"}),
    "siaga_sip_malformed_total": ("counter", {"reason"}),
    "siaga_sip_dropped_total": ("counter", {"reason"}),
    "siaga_sip_retransmissions_total": ("counter", set()),
    "siaga_rtp_one_way_calls_total": ("counter", set()),
    "siaga_rtp_lost_packets_total": ("counter", set()),
    "siaga_media_ports_free": ("gauge", set()),
    "siaga_records_commit_seconds": ("histogram", set()),
    "siaga_journal_pending": ("gauge", set()),
    "siaga_loop_lag_seconds": ("histogram", set()),
    "siaga_clock_synchronised": ("gauge", set()),
    "siaga_config_last_reload_successful": ("gauge", set()),
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def in_use(metrics: Metrics) -> Metrics:
    """With every label there is."""
    metrics.follow(trunks=["telkomsel"], checked_trunks=["telkomsel"], agencies=["damkar"])
    metrics.trunk_up.labels("telkomsel").set(1)
    metrics.mqtt_quarantined.set_function(lambda: 3)
    metrics.sip_messages.labels("in", "INVITE").inc()
    metrics.alarm_active.labels("media").set(1)
    metrics.internal_errors.labels("sip").inc(0)
    for name in ("malformed", "dropped", "auth_failed", "retransmission"):
        metrics.count(name, "reason")
    return metrics


def test_the_contract_is_kept(metrics: Metrics) -> None:
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(in_use(metrics).render().decode())
    }
    for name, (kind, labels) in CONTRACT.items():
        family = families[name]
        assert family.type == kind, name
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == labels, name
        assert family.documentation.endswith("."), name


def test_the_answer_buckets_are_those_of_the_standard(metrics: Metrics) -> None:
    bounds = [
        sample.labels["le"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "siaga_answer_seconds_bucket"
    ]
    assert bounds == ["1.0", "2.0", "5.0", "10.0", "15.0", "20.0", "30.0", "60.0", "120.0", "+Inf"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (package prometheus) is not installed")
def test_promtool_has_no_complaint(metrics: Metrics) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=in_use(metrics).render(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_what_can_be_counted_is_there_as_0_from_the_start(metrics: Metrics) -> None:
    metrics.follow(trunks=["t1", "t2"], checked_trunks=["t1"], agencies=["damkar"])
    value = metrics.registry.get_sample_value
    for trunk in ("t1", "t2"):
        for outcome in OUTCOMES:
            for identity in IDENTITIES:
                labels = {"trunk": trunk, "outcome": outcome, "identity": identity}
                assert value("siaga_calls_total", labels) == 0
    assert all(value("siaga_dispatches_total", {"agency": "damkar", "state": state}) == 0 for state in DISPATCH_STATES)
    assert all(value("siaga_seats", {"state": state}) == 0 for state in SEAT_STATES)
    assert value("siaga_agency_online", {"agency": "damkar"}) == 0
    assert value("siaga_trunk_up", {"trunk": "t1"}) is None  # nothing is known of it yet


def test_a_reload_takes_back_what_is_gone_and_keeps_what_is_there(metrics: Metrics) -> None:
    metrics.follow(trunks=["t1", "t2"], checked_trunks=["t1", "t2"], agencies=["damkar", "pmi"])
    metrics.trunk_up.labels("t1").set(1)
    metrics.trunk_up.labels("t2").set(0)
    metrics.agency_online.labels("damkar").set(1)
    metrics.follow(trunks=["t1", "t2"], checked_trunks=["t1"], agencies=["damkar"])
    value = metrics.registry.get_sample_value
    assert value("siaga_trunk_up", {"trunk": "t1"}) == 1
    assert value("siaga_trunk_up", {"trunk": "t2"}) is None
    assert value("siaga_agency_online", {"agency": "damkar"}) == 1
    assert value("siaga_agency_online", {"agency": "pmi"}) is None


def test_seats_are_shown_in_every_state(metrics: Metrics) -> None:
    metrics.show_seats({"ready": 2, "talking": 1})
    metrics.show_seats({"ready": 1})
    value = metrics.registry.get_sample_value
    assert {state: value("siaga_seats", {"state": state}) for state in SEAT_STATES} == {
        **dict.fromkeys(SEAT_STATES, 0),
        "ready": 1,
    }


def test_an_event_that_nobody_knows_is_a_fault_of_ours(metrics: Metrics) -> None:
    metrics.count("xyzzy", "anything")
    assert metrics.registry.get_sample_value("siaga_internal_errors_total", {"where": "metrics"}) == 1


def test_a_stalled_loop_shows(metrics: Metrics) -> None:
    async def work() -> None:
        measuring = asyncio.create_task(metrics.measure_loop_lag(time.monotonic))
        await asyncio.sleep(0)
        time.sleep(LAG_INTERVAL_S + 0.3)  # noqa: ASYNC251 - the stall
        value = metrics.registry.get_sample_value
        while not value("siaga_loop_lag_seconds_count"):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        total = value("siaga_loop_lag_seconds_sum")
        assert total is not None
        assert 0.3 <= total < 3
        measuring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await measuring

    asyncio.run(work())


def test_two_daemons_in_one_process_do_not_share(metrics: Metrics) -> None:
    other = Metrics(CollectorRegistry())
    other.abandoned.inc()
    assert metrics.registry.get_sample_value("siaga_abandoned_total") == 0


def test_the_process_itself_is_shown(metrics: Metrics) -> None:
    text = metrics.render().decode()
    assert re.search(r"^process_open_fds \d", text, re.MULTILINE)
    assert re.search(r'^siaga_build_info\{version="\d', text, re.MULTILINE)
    assert "_created" not in text
