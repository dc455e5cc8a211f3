"""A request of ours to one target after the other, until one answers (RFC 3263 4.3); large ones by TCP first."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from siaga_pbx.sip.core import Core
from siaga_pbx.sip.deadlines import Alarm
from siaga_pbx.sip.flow import Target, Way, reliable
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.transaction import Answer, Client, InviteClient, Lost

PATIENCE_S = 4.0
"""How long a target may say nothing while there is another. Timer B is 32 s, and somebody waits; by now we have sent
four times."""
MAX_DATAGRAM = 1300 - 120
"""Bytes of a request without its Via, which has some 120: a larger datagram may not pass (RFC 3261 18.1.1)."""

Launch: TypeAlias = Callable[[Request, Way, Answer, float], InviteClient | Client]
Late: TypeAlias = Callable[[InviteClient, Response, float], None]


class Attempts:
    """One request. `build(way)` makes it as it goes by a way, without our Via; `launch` sends it in a transaction.

    `answer` gets what the user of one transaction would get; of targets that were not the last it does not get how they
    failed: no way there, silence, 503. `late` gets what one says to an INVITE after it was given up: somebody rings
    there for nobody.
    """

    __slots__ = ("_answer", "_build", "_core", "_late", "_launch", "_left", "_patience")

    def __init__(
        self, core: Core, build: Callable[[Way], Request], launch: Launch, answer: Answer, late: Late | None = None
    ) -> None:
        self._core = core
        self._build = build
        self._launch = launch
        self._answer = answer
        self._late = late
        self._patience: Alarm | None = None

    def start(self, ways: list[Way], now: float) -> None:
        """Sends to the first; none at all is no way there. `ways` then holds what is left; who empties it stops us."""
        self._left = ways
        ways[:] = self._core.avoided.order(ways, now)
        if ways:
            self._next(now)
        else:
            self._answer(Lost.NO_WAY, now)

    def _next(self, now: float) -> None:
        way = self._left.pop(0)
        request = self._build(way)
        if self._left and not reliable(way) and len(bytes(request)) > MAX_DATAGRAM:
            better = next((other for other in self._left if reliable(other)), None)
            if better is not None:
                self._left.remove(better)
                self._left.insert(0, way)
                way, request = better, self._build(better)
        transaction = self._launch(request, way, partial(self._answered, way), now)
        if self._left:
            self._patience = self._core.alarm(now + PATIENCE_S, partial(self._give_up, way, transaction))

    def _give_up(self, way: Way, transaction: InviteClient | Client, now: float) -> None:
        if not isinstance(transaction, InviteClient):
            self._core.carry_out(transaction, transaction.lose(), now)
            return
        transaction.rest()
        transaction.answer = partial(self._answered_late, transaction)
        self._answered(way, Lost.SILENCE, now)

    def _answered_late(self, transaction: InviteClient, response: Response | Lost, now: float) -> None:
        if isinstance(response, Response) and self._late is not None:
            self._late(transaction, response, now)

    def _answered(self, way: Way, response: Response | Lost, now: float) -> None:
        if self._patience is not None:
            self._patience.at = None
            self._patience = None
        failed = isinstance(response, Lost) or response.status == 503
        if isinstance(way, Target):
            if failed:
                self._core.avoided.add(way, now)
            else:
                self._core.avoided.remove(way)
        if failed and self._left:
            self._next(now)
        else:
            self._answer(response, now)
