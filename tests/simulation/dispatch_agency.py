"""An agency's end and its people, as `dispatch_world` has them fail; the book is the real one."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from siaga_pbx.dispatch.agency_book import Book, Entry, News, NotPossible, Saved, Signature
from siaga_pbx.dispatch.ladder import Answer, State
from siaga_pbx.dispatch.message import Dispatch

if TYPE_CHECKING:
    from tests.simulation.dispatch_world import World


class Agency:
    """An agency's end and its people, who answer or do not. `news`: with the memory that it came into."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.saved = Saved()
        self.alive = self.fault = False
        self.life = self.forgotten = self.faults = 0
        self.news: list[tuple[int, News, int]] = []
        self.people = world.chance.choice(["accept", "reject", "ignore", "reject, then accept"])
        world.broker.to_agency[name].receiver = self.receive
        world.after(world.chance.choice([0.0, 0.0, 30.0, 300.0]), self.boot)

    def held(self, dispatch_id: str) -> int:
        """The sequence that its file holds; 0 for none."""
        return max((e.message.sequence for e in self.saved.entries if e.message.dispatch_id == dispatch_id), default=0)

    def boot(self) -> None:
        self.alive, self.fault, self.life = True, False, self.life + 1
        self.book = Book(self.saved)
        self.connect()
        if self.world.troubled:
            self._soon(self.world.chance.expovariate(1 / 120), self.die)

    def die(self) -> None:
        if self.world.troubled:
            self.forgotten += self.fault
            self.alive = False
            self.world.after(self.world.chance.expovariate(1 / 40), self.boot)

    def connect(self) -> None:
        if self.alive and self.world.broker.up:
            self.world.broker.to_agency[self.name].subscribed = True
            if not self.fault:
                self.book.restate(self._signature())
            self.world.broker.to_agency[self.name].pump()
            self._send()

    def receive(self, payload: bytes) -> bool | None:
        if not self.alive:
            return None
        message = Dispatch.parse(payload)
        if self.world.happens(0.05):
            self.die()
            return False
        news, entry = self.book.receive(message, self._signature())
        self.news.append((self.forgotten, news, message.sequence))
        self._save()
        if news is News.NEW and self.people != "ignore":
            self._soon(self.world.chance.uniform(1, 30), partial(self._answer, entry))
        self._send()
        return True

    def _answer(self, entry: Entry) -> None:
        self._enter(entry, State.ACCEPTED if self.people == "accept" else State.REJECTED)
        if self.people == "reject, then accept":
            self._soon(20, partial(self._enter, entry, State.ACCEPTED))
        if self.people != "reject":
            later: dict[Answer, float] = {State.EN_ROUTE: 100.0, State.ON_SCENE: 400.0, State.CLEARED: 900.0}
            for state, delay in later.items():
                self._soon(delay, partial(self._enter, entry, state))

    def _enter(self, entry: Entry, state: Answer) -> None:
        try:
            self.book.enter(entry.message.dispatch_id, state, self._signature())
        except NotPossible:
            return
        self._save()
        self._send()

    def _send(self) -> None:
        ack = self.book.unsent
        if ack is None or not self.world.broker.up:
            return
        mailbox = self.world.broker.to_centre
        if mailbox.subscribed and not self.world.happens(0.1):
            mailbox.put(ack.encode())
            if not self.world.happens(0.1):
                self.book.confirm(ack)
        self._soon(self.world.chance.uniform(0.01, 1), self._send)

    def _save(self) -> None:
        if self.world.happens(0.8 if self.fault else 0.05):
            self.book.not_kept()
            self.fault, self.faults = True, self.faults + 1
            self._soon(2.0, self._save)
            return
        self.saved = self.book.saved()
        if self.fault:
            self.fault = False
            self.book.restate(self._signature())
            self._send()

    def _signature(self) -> Signature:
        return Signature("Regu 1", self.world.utc())

    def _soon(self, delay: float, act: Callable[[], None]) -> None:
        life = self.life
        self.world.after(delay, lambda: act() if self.alive and self.life == life else None)
