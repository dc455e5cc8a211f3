"""Counts SIP messages by direction and kind, with as few steps as a hot path deserves."""

from prometheus_client import Counter

from siaga_pbx.metrics import Metrics
from siaga_pbx.sip.message import Message, Request

METHODS = (
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "REGISTER",
    "PRACK",
    "UPDATE",
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "PUBLISH",
    "REFER",
    "SUBSCRIBE",
)
"""Methods that are counted by name; a peer that makes up others makes no label of them."""
OTHER = "other"
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "6xx")


class Kinds:
    """One counter a direction and kind, all there from the start."""

    def __init__(self, metrics: Metrics) -> None:
        counter = metrics.sip_messages
        self._in: dict[str, Counter] = {kind: counter.labels("in", kind) for kind in (*METHODS, *CLASSES, OTHER)}
        out = {kind: counter.labels("out", kind) for kind in (*METHODS, *CLASSES, OTHER)}
        # What we send is bytes by now; its beginning tells.
        self._out = {method.encode(): out[method] for method in METHODS}
        self._out |= {b"SIP/2.0 " + kind[:1].encode(): out[kind] for kind in CLASSES}
        self._out_other = out[OTHER]

    def received(self, message: Message) -> None:
        kind = message.method if isinstance(message, Request) else CLASSES[message.status // 100 - 1]
        (self._in.get(kind) or self._in[OTHER]).inc()

    def sent(self, data: bytes) -> None:
        start = data[:9] if data.startswith(b"SIP/2.0 ") else data[: data.find(b" ")]
        self._out.get(start, self._out_other).inc()
