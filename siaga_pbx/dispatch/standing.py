"""The dispatches' alarms, together: one alarm of the daemon for each kind, which names those that stand in it."""

from collections.abc import Callable

from siaga_pbx.dispatch.ladder import Alarm

_SHOWN = 3


class Standing:
    """Which dispatches stand in which alarm. The daemon's alarm stands while one of them does."""

    def __init__(self, on_alarm: Callable[[str, bool, str], None]) -> None:
        self._on_alarm = on_alarm
        self._details: dict[Alarm, dict[str, str]] = {alarm: {} for alarm in Alarm}

    def raise_(self, alarm: Alarm, dispatch_id: str, detail: str) -> None:
        """This dispatch stands in the alarm. `detail` is a line for a person."""
        self._details[alarm][dispatch_id] = detail
        self._tell(alarm)

    def lower(self, alarm: Alarm, dispatch_id: str) -> None:
        """This one no longer does."""
        if self._details[alarm].pop(dispatch_id, None) is not None:
            self._tell(alarm)

    def _tell(self, alarm: Alarm) -> None:
        details = list(self._details[alarm].values())
        more = f"; {len(details) - _SHOWN} more" if len(details) > _SHOWN else ""
        self._on_alarm(str(alarm), bool(details), "; ".join(details[-_SHOWN:]) + more)
