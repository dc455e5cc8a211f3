"""The broker between centre and agencies, and the centre's disk, as `dispatch_world` has them fail."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siaga_pbx.records.changes import Change, Delete, Event, Insert, Update, Upsert
from siaga_pbx.records.reader import Record

if TYPE_CHECKING:
    from tests.simulation.dispatch_world import World


@dataclass
class Mailbox:
    """What the broker keeps for one end, in order, until that end acknowledges it."""

    world: "World"
    broker: "Broker"
    receiver: Callable[[bytes], bool | None] = lambda payload: None
    subscribed: bool = False
    messages: list[bytes] = field(default_factory=list)
    busy: bool = False

    def put(self, payload: bytes) -> None:
        if self.subscribed:
            self.messages.append(payload)
            if self.world.happens(0.05):
                self.messages.append(payload)
            self.pump()

    def pump(self) -> None:
        if not self.busy and self.messages and self.broker.up:
            self.busy = True
            self.world.after(self.world.chance.uniform(0.001, 0.5), self._deliver)

    def _deliver(self) -> None:
        self.busy = False
        if not (self.broker.up and self.messages):
            return
        acknowledged = self.receiver(self.messages[0])
        if acknowledged is None:  # nobody is connected; it asks again when it is
            return
        if acknowledged and not self.world.happens(0.1):
            self.messages.pop(0)
        self.pump()


class Broker:
    """Keeps what it has taken, except when it forgets."""

    def __init__(self, world: "World", agencies: Iterable[str]) -> None:
        self.world = world
        self.up = True
        self.to_centre = Mailbox(world, self)
        self.to_agency = {name: Mailbox(world, self) for name in agencies}
        world.after(world.chance.expovariate(1 / 100), self._fail)

    def _fail(self) -> None:
        if not self.world.troubled:
            return
        self.up = False
        if self.world.chance.random() < 0.5:
            for mailbox in (self.to_centre, *self.to_agency.values()):
                mailbox.messages.clear()
                mailbox.subscribed = False
        self.world.after(self.world.chance.expovariate(1 / 30), self._recover)

    def _recover(self) -> None:
        self.up = True
        self.world.after(self.world.chance.expovariate(1 / 100), self._fail)
        for connect in (self.world.centre.connect, *(agency.connect for agency in self.world.agencies.values())):
            self.world.after(self.world.chance.uniform(0.1, 5), connect)


class Disk:
    """The centre's tables, and what a crash would lose of them."""

    def __init__(self) -> None:
        self.rows: dict[str, Record] = {}
        self.outbox: dict[str, Record] = {}
        self.events: list[Record] = []
        self._unsynced: list[Iterable[Change]] = []

    def write(self, changes: Iterable[Change]) -> None:
        self._unsynced.append(changes)

    def crash(self) -> None:
        self._unsynced.clear()

    def sync(self) -> None:
        for change in (change for changes in self._unsynced for change in changes):
            match change:
                case Insert("dispatch", row):
                    self.rows[str(row["id"])] = dict.fromkeys(_COLUMNS) | dict(row)
                case Update("dispatch", id, values):
                    self.rows[id] |= values
                case Upsert("outbox", row):
                    self.outbox[str(row["id"])] = dict(row)
                case Delete("outbox", id):
                    self.outbox.pop(id, None)
                case Event(at=at, subject_id=id, kind=kind, data=data):
                    self.events.append({"at": at, "id": id, "kind": kind, "data": dict(data)})
                case _:
                    raise AssertionError(change)
        self._unsynced.clear()

    def events_of(self, id: str) -> list[Record]:
        return [event for event in self.events if event["id"] == id]


_COLUMNS = ("published_at", "received_at", "accepted_at", "en_route_at", "arrived_at", "cleared_at")
