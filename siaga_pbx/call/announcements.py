"""Which waiting caller is told its place in the queue, and when. Pure."""

from collections.abc import Callable, Sequence

from siaga_pbx.call.call import Call, Offering, Waiting
from siaga_pbx.call.commands import Announce
from siaga_pbx.call.events import CallId

FIRST_S = 10.0
"""When a caller is told first: after the greeting. Most are answered by then, and never told."""

LAST_PLACE = 299
"""The numbers above are not among the prompts: who is that far back is told nothing."""


class Announcements:
    """`watch` each call that changes, `due` when the time has come. Nobody is told a place behind the one told before:
    it is true (a call of more weight came), but of no help to anybody."""

    def __init__(self) -> None:
        self._at: dict[CallId, float] = {}
        self._told: dict[CallId, int] = {}

    def watch(self, call: Call, every_s: float) -> None:
        """A call is as it is now. `every_s` 0: nobody is told anything."""
        if not isinstance(call.state, Waiting | Offering) or not every_s:
            self._at.pop(call.id, None)
            self._told.pop(call.id, None)
        else:
            self._at.setdefault(call.id, call.state.since + min(FIRST_S, every_s))

    def next_deadline(self) -> float | None:
        return min(self._at.values(), default=None)

    def due(self, order: Callable[[], Sequence[CallId]], every_s: float, now: float) -> list[Announce]:
        """Who is to be told now. `order`: those who wait, as they are served."""
        calls = [call for call, at in self._at.items() if at <= now]
        if not calls:
            return []
        places = {call: place for place, call in enumerate(order(), 1)}
        told = []
        for call in calls:
            self._at[call] = now + every_s
            if places[call] <= min(self._told.get(call, LAST_PLACE), LAST_PLACE):
                self._told[call] = places[call]
                told.append(Announce(call, places[call]))
        return told
