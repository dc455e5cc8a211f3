"""Where callers are, when their network says so again: in a later re-INVITE or UPDATE (RFC 6442 4.1)."""

from collections.abc import Callable

from siaga_pbx.call.location import locate
from siaga_pbx.calllog import CallLog, columns_of
from siaga_pbx.legs import Leg, Role
from siaga_pbx.sip.message import Request


class Whereabouts:
    """Brings the record up to date; `on_news(call)` is for those who were sent to the old place."""

    def __init__(self, log: CallLog, on_news: Callable[[str], None]) -> None:
        self._log, self._on_news = log, on_news

    def look(self, leg: Leg, request: Request) -> None:
        """A request within a caller's call. What it says that was known, or is only vaguer, changes nothing."""
        location = locate(request) if leg.role is Role.CALLER else None
        if location is None:
            return
        row, said = self._log.row(leg.call), columns_of(location)
        moved = location.improves(_number(row.get("lat")), _number(row.get("lon")), _number(row.get("radius_m")))
        news = {name: value for name, value in said.items() if moved or name == "address"}
        news = {name: value for name, value in news.items() if value != row.get(name)}
        if news.get("address", ...) is None:
            del news["address"]  # a place without an address does not say that the address is wrong
        if news:
            self._log.step(leg.call, "located", said, news)
            self._on_news(leg.call)


def _number(value: object) -> float | None:
    return value if isinstance(value, float) else None
