"""Answers as people would, for drills: each dispatch after some time accepted, on its way, arrived, cleared."""

import asyncio
import random
from collections.abc import Mapping

from siaga_pbx.dispatch.agency_book import Entry, News, NotPossible
from siaga_pbx.dispatch.ladder import Answer, State
from siaga_pbx.dispatch.station import Listener, Station

# From, to: seconds that people take for each step; a drill has no patience for the true half hours.
TAKES_S: Mapping[Answer, tuple[float, float]] = {
    State.ACCEPTED: (2.0, 8.0),
    State.EN_ROUTE: (10.0, 40.0),
    State.ON_SCENE: (60.0, 240.0),
    State.CLEARED: (120.0, 600.0),
}


class Auto(Listener):
    """Give it the news. `pace` multiplies the times: 0 answers at once. `until` is the last state it goes to."""

    def __init__(
        self, station: Station, chance: random.Random, pace: float = 1.0, until: Answer = State.CLEARED
    ) -> None:
        self._station, self._chance, self._pace = station, chance, pace
        steps = list(TAKES_S)
        self._steps = steps[: steps.index(until) + 1] if until in steps else []
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, news: News, entry: Entry) -> None:
        if news is News.NEW:
            self._begin(entry)

    def take_up(self) -> None:
        """Goes on with what an earlier run left open."""
        for entry in self._station.book.entries:
            if not entry.closed:
                self._begin(entry)

    def _begin(self, entry: Entry) -> None:
        task = asyncio.create_task(self._answer(entry.message.dispatch_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _answer(self, dispatch_id: str) -> None:
        for state in self._steps:
            await asyncio.sleep(self._pace * self._chance.uniform(*TAKES_S[state]))
            try:
                self._station.enter(dispatch_id, state)
            except NotPossible:  # a person, or a restart, was faster
                continue
