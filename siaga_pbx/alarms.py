"""What needs a person's eye: raised and cleared by name, logged, on record, and shown by `status` and the console."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

from siaga_pbx.records.changes import Event
from siaga_pbx.records.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that stands. `since` is UTC text; `detail` one line for a person, with no caller's number in it."""

    name: str
    since: str
    detail: str


class Alarms:
    """The alarms that stand. `set` on the event loop only; raising one that stands only renews its detail."""

    def __init__(self, store: Store, utc: Callable[[], str], gauge: Gauge) -> None:
        """`gauge` has the label `alarm`: 1 while it stands."""
        self._store, self._utc, self._gauge = store, utc, gauge
        self._active: dict[str, Alarm] = {}

    @property
    def active(self) -> Mapping[str, Alarm]:
        return self._active

    def set(self, name: str, active: bool, detail: str = "") -> None:
        """Raise (or renew) an alarm, or clear it. Clearing one that does not stand does nothing."""
        standing = self._active.get(name)
        if active:
            at = standing.since if standing else self._utc()
            self._active[name] = Alarm(name, at, detail)
            self._gauge.labels(name).set(1)
            if standing is None:
                log.warning("alarm raised", alarm=name, detail=detail)
                self._record("alarm_raised", name, detail)
        elif standing is not None:
            del self._active[name]
            self._gauge.labels(name).set(0)
            log.info("alarm cleared", alarm=name, detail=detail)
            self._record("alarm_cleared", name, detail)

    def _record(self, kind: str, name: str, detail: str) -> None:
        self._store.write([Event(self._utc(), "system", name, None, kind, {"detail": detail})])
