"""Every metric of the daemon, under the names that dashboards and rules rely on (config/prometheus, config/grafana).

Gauges that follow something (queue, outbox, free ports) are best given a function, `queue_length.set_function(...)`,
which is called at each scrape. No label ever carries a caller's number, and none a word that a peer chose.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import NoReturn

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from siaga_pbx.media.protocol import Why

OUTCOMES = ("answered", "abandoned", "overflowed", "test", "failed", "interrupted")
IDENTITIES = ("subscriber", "no_credit", "no_sim", "withheld")
SEAT_STATES = ("offline", "ready", "offered", "talking", "wrap_up", "paused", "resting")
DISPATCH_STATES = (
    "pending",
    "published",
    "received",
    "accepted",
    "rejected",
    "en_route",
    "on_scene",
    "cleared",
    "failed",
    "cancelled",
)

_ANSWER_S = (1, 2, 5, 10, 15, 20, 30, 60, 120)
_ACCEPT_S = (5, 10, 15, 30, 45, 60, 90, 120, 300, 600, 1800)
_COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

LAG_INTERVAL_S = 0.1
"""How often the loop's lag is measured: often enough that no stall which a person hears slips between."""


class Metrics:
    """All of them, in one registry of their own; what has a fixed set of labels is exposed as 0 from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # The creation time of each series would double their number, and nothing reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the one function the library leaves untyped
        self.registry = registry
        self._calls()
        self._dispatch()
        self._sip()
        self._media()
        self._operation()
        ProcessCollector(registry=registry)

    def render(self) -> bytes:
        """The exposition in Prometheus's text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _calls(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.calls = counter(
            "siaga_calls_total",
            "Calls that ended, by trunk, outcome and class of the caller.",
            "trunk",
            "outcome",
            "identity",
        )
        self.answer_seconds = histogram(
            "siaga_answer_seconds", "From a call's arrival until two-way talk with a call-taker.", _ANSWER_S
        )
        self.queue_length = gauge("siaga_queue_length", "Callers that wait for a call-taker.")
        self.queue_oldest_seconds = gauge(
            "siaga_queue_oldest_seconds", "How long the caller has waited who waits longest; 0 when nobody does."
        )
        self.seats = gauge("siaga_seats", "Seats by state.", "state")
        self.seat_missed = counter("siaga_seat_missed_total", "Offers that a seat did not answer in time.")
        self.abandoned = counter("siaga_abandoned_total", "Callers who hung up before a call-taker answered.")
        for state in SEAT_STATES:
            self.seats.labels(state)

    def _dispatch(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.dispatches = counter(
            "siaga_dispatches_total", "Dispatches that entered a state, by agency.", "agency", "state"
        )
        self.dispatch_accept_seconds = histogram(
            "siaga_dispatch_accept_seconds",
            "From a dispatch's creation until a person at the agency accepted it.",
            _ACCEPT_S,
            "agency",
        )
        self.outbox_pending = gauge("siaga_outbox_pending", "Dispatches that no agency's endpoint has received yet.")
        self.outbox_oldest_seconds = gauge(
            "siaga_outbox_oldest_seconds", "How long the oldest of them has waited; 0 when none does."
        )
        self.agency_online = gauge("siaga_agency_online", "1 while the agency's endpoint says it is there.", "agency")
        self.mqtt_connected = gauge("siaga_mqtt_connected", "1 while connected to the MQTT broker.")
        self.mqtt_quarantined = _Counted("siaga_mqtt_quarantined", "Payloads from the broker that could not be used.")
        self.registry.register(self.mqtt_quarantined)

    def _sip(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.trunk_up = gauge("siaga_trunk_up", "1 while the trunk answers OPTIONS.", "trunk")
        self.sip_messages = counter(
            "siaga_sip_messages_total",
            "SIP messages, by direction (in, out) and kind (the method, or the class of the response).",
            "direction",
            "kind",
        )
        self.sip_malformed = counter("siaga_sip_malformed_total", "Messages that could not be used.", "reason")
        self.sip_dropped = counter("siaga_sip_dropped_total", "Messages dropped unanswered.", "reason")
        self.sip_retransmissions = counter("siaga_sip_retransmissions_total", "SIP messages that were sent again.")
        self.sip_auth_failures = counter("siaga_sip_auth_failures_total", "Digest answers that were wrong.", "reason")

    def _media(self) -> None:
        self.rtp_one_way_calls = self._counter(
            "siaga_rtp_one_way_calls_total", "Connected calls in which audio came from one side only."
        )
        self.rtp_lost_packets = self._counter("siaga_rtp_lost_packets_total", "RTP packets that did not arrive.")
        self.rtp_refused_packets = _CountedBy(
            "siaga_rtp_refused_packets", "Packets dropped as they were not the far side's, by reason.", "reason", Why
        )
        self.registry.register(self.rtp_refused_packets)
        self.media_ports_free = self._gauge("siaga_media_ports_free", "Pairs of ports free for new legs.")

    def _operation(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.records_commit_seconds = histogram(
            "siaga_records_commit_seconds", "One transaction of the records, until it was on the disk.", _COMMIT_S
        )
        self.journal_pending = gauge("siaga_journal_pending", "Batches of the record that wait for the database.")
        self.loop_lag_seconds = histogram("siaga_loop_lag_seconds", "How late the event loop ran what was due.", _LAG_S)
        self.clock_synchronised = gauge(
            "siaga_clock_synchronised", "1 while the machine's clock is kept true by a time service."
        )
        self.config_last_reload_successful = gauge(
            "siaga_config_last_reload_successful", "1 if the last load of the configuration went well."
        )
        self.alarm_active = gauge("siaga_alarm_active", "1 while the daemon raises the alarm.", "alarm")
        self.log_lines_dropped = counter(
            "siaga_log_lines_dropped_total", "Log lines lost because nobody read them fast enough."
        )
        self.internal_errors = counter(
            "siaga_internal_errors_total", "Faults of our own that were caught; the log has each.", "where"
        )
        self.build_info = gauge("siaga_build_info", "Always 1; the version is a label.", "version")
        self.build_info.labels(version("siaga-pbx")).set(1)

    # What the rest of the daemon calls instead of touching labels

    def follow(self, *, trunks: Iterable[str], checked_trunks: Iterable[str], agencies: Iterable[str]) -> None:
        """Take the ids of a configuration, at the start and after a reload.

        What is counted for them is exposed as 0 at once, because Prometheus sees no increase from nothing to 1. Gauges
        of a trunk or agency that is gone, or of a trunk that is no longer checked, are taken back, or they would alarm
        for ever. `trunk_up` appears with the first result.
        """
        for trunk in trunks:
            for outcome in OUTCOMES:
                for identity in IDENTITIES:
                    self.calls.labels(trunk, outcome, identity)
        agencies = frozenset(agencies)
        for agency in agencies:
            self.dispatch_accept_seconds.labels(agency)
            self.agency_online.labels(agency)
            for state in DISPATCH_STATES:
                self.dispatches.labels(agency, state)
        _keep(self.trunk_up, "trunk", frozenset(checked_trunks))
        _keep(self.agency_online, "agency", agencies)

    def show_seats(self, seats: Mapping[str, int]) -> None:
        """How many seats are in each state; those not named have none."""
        for state in SEAT_STATES:
            self.seats.labels(state).set(seats.get(state, 0))

    def count(self, name: str, reason: str) -> None:
        """A `Counted` event of the SIP stack."""
        match name:
            case "malformed":
                self.sip_malformed.labels(reason).inc()
            case "dropped":
                self.sip_dropped.labels(reason).inc()
            case "retransmission":
                self.sip_retransmissions.inc()
            case "auth_failed":
                self.sip_auth_failures.labels(reason).inc()
            case _:
                self.internal_errors.labels("metrics").inc()

    async def measure_loop_lag(self, now: Callable[[], float]) -> NoReturn:
        """Run as a task on the loop to be measured, until cancelled. `now` gives monotonic seconds."""
        while True:
            due = now() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self.loop_lag_seconds.observe(max(0.0, now() - due))


class _CountedBy(Collector):
    """The same by a label. Values that are to be seen before there are any are `known`."""

    def __init__(self, name: str, text: str, label: str, known: Iterable[str]) -> None:
        self._name, self._text, self._label = name, text, label
        self._known = tuple(known)
        self._counts: Callable[[], Mapping[str, int]] = dict

    def set_function(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=(self._label,))
        for value, count in {**dict.fromkeys(self._known, 0), **self._counts()}.items():
            family.add_metric((value,), count)
        yield family


class _Counted(Collector):
    """A counter that somebody else keeps: asked at each scrape."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._count: Callable[[], int] = int

    def set_function(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._count())


def _keep(gauge: Gauge, label: str, values: Collection[str]) -> None:
    """Takes back the series whose label is none of `values`."""
    shown = {sample.labels[label] for metric in gauge.collect() for sample in metric.samples}
    for value in shown.difference(values):
        gauge.remove(value)
