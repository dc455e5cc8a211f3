"""A centre's dispatch side and an agency's end on a real mosquitto, for the tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from siaga_pbx.clock import Clock
from siaga_pbx.config import Config, load, load_agency
from siaga_pbx.dispatch.broker import Mosquitto, access_rules
from siaga_pbx.dispatch.dispatcher import Dispatcher
from siaga_pbx.dispatch.hooks import Hooks
from siaga_pbx.dispatch.mqtt import Bus, BusSettings
from siaga_pbx.dispatch.station import Station
from siaga_pbx.records.changes import Insert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store
from siaga_pbx.settings import Mqtt

PREFIX = "siaga/test"
AGENCIES = ("damkar", "bpbd", "psc119")
USERS = {"centre": "pusat-rahasia", **{agency: f"{agency}-rahasia" for agency in AGENCIES}}

RULES = access_rules(PREFIX, AGENCIES)

_SIAGA = """
[centre]
id = "cirebon"
dialplan = "dialplan.toml"
[sip]
listen = ["udp://127.0.0.1:0"]
domain = "siaga.local"
[[trunk]]
id = "carrier"
addresses = ["127.0.0.0/8"]
[records]
database = "sqlite:///siaga.db"
keep_calls_days = 30
keep_recordings_days = 30
[mqtt]
broker = "{broker}"
username = "{user}"
password = "{password}"
prefix = "siaga/test"
[[agency]]
id = "damkar"
name = "Dinas Pemadam Kebakaran"
accept_within_s = {accept_within_s}
escalate = {escalate}
[[agency]]
id = "bpbd"
accept_within_s = {accept_within_s}
escalate = ["alarm"]
[[agency]]
id = "psc119"
"""

_DIALPLAN = """
[[category]]
id = "fire"
name = "Kebakaran"
agencies = ["damkar"]
[[category]]
id = "accident"
name = "Kecelakaan"
agencies = ["damkar", "psc119"]
"""


def write_config(
    folder: Path, broker: str, *, user: str = "centre", accept_within_s: float = 60, escalate: str = '["alarm"]'
) -> Path:
    """The files of a centre, or with another user of an agency."""
    (folder / "dialplan.toml").write_text(_DIALPLAN)
    file = folder / f"{user}.toml"
    values = {"broker": broker, "user": user, "password": USERS[user], "escalate": escalate}
    file.write_text(_SIAGA.format(accept_within_s=accept_within_s, **values))
    return file


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Returns once the condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def mosquitto(
    folder: Path, *, port: int = 0, persistent: bool = True, acl: str = RULES, extra: Iterable[str] = ()
) -> Mosquitto:
    """A broker with a password and rights for each end. Start it."""
    return Mosquitto(folder / "broker", USERS, acl, port=port, persistent=persistent, extra=extra)


@dataclass
class Told:
    """What the hooks were told."""

    alarms: dict[str, str] = field(default_factory=dict)
    raised: list[str] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    accepted: list[tuple[str, float]] = field(default_factory=list)

    def hooks(self) -> Hooks:
        return Hooks(
            on_alarm=self._alarm,
            on_state=lambda agency, state: self.states.append((agency, state)),
            on_accepted=lambda agency, seconds: self.accepted.append((agency, seconds)),
        )

    def _alarm(self, name: str, active: bool, detail: str) -> None:
        if active:
            self.alarms[name] = detail
            self.raised.append(name)
        else:
            self.alarms.pop(name, None)


@dataclass
class Centre:
    """A dispatcher with its records."""

    config: Config
    store: Store
    reader: Reader
    dispatcher: Dispatcher
    told: Told

    def call(self, **columns: object) -> str:
        """Writes a call and returns its id."""
        row: Record = {
            "id": new_id(),
            "received_at": Clock().utc(),
            "caller_number": "+6281200000789",
            "identity_class": "subscriber",
            "callable": True,
        }
        row |= columns
        self.store.write([Insert("call", row)])
        return str(row["id"])

    def dispatch(self, id: str) -> Record:
        """The row, with all that was written before."""
        assert self.store.flush()
        row = self.reader.dispatch(id)
        assert row is not None
        return row

    def kinds(self, id: str) -> list[str]:
        """The kinds of the dispatch's events."""
        assert self.store.flush()
        return [str(event["kind"]) for event in self.reader.events(subject_id=id)]


@asynccontextmanager
async def centre_at(config_file: Path, busy_timeout_s: float = 2.0) -> AsyncIterator[Centre]:
    """A running dispatcher, closed in the end."""
    config = load(config_file)
    told = Told()
    store = Store(config.records.database, busy_timeout_s=busy_timeout_s)
    store.open()
    try:
        with Reader(config.records.database) as reader:
            dispatcher = Dispatcher(config, store, reader, Clock(), told.hooks())
            await dispatcher.start()
            try:
                yield Centre(config, store, reader, dispatcher, told)
            finally:
                await dispatcher.close()
    finally:
        store.close()


@asynccontextmanager
async def agency_at(config_file: Path, agency: str = "damkar") -> AsyncIterator[Station]:
    """An agency's end without a face."""
    station = Station(load_agency(config_file), agency, config_file.with_suffix(".state.json"), "Regu 1")
    station.start()
    try:
        yield station
    finally:
        await station.close()


@asynccontextmanager
async def listener(
    url: str, user: str, *topics: str, password: str | None = None
) -> AsyncIterator[tuple[Bus, list[tuple[str, bytes]]]]:
    """A client of the broker that keeps what it gets."""
    got: list[tuple[str, bytes]] = []

    async def keep(topic: str, payload: bytes) -> None:
        got.append((topic, payload))

    login: Mapping[str, str] = {"username": user, "password": password or USERS[user]}
    settings = BusSettings.of(Mqtt(broker=url, **login), f"test-{new_id()}", f"{PREFIX}/test/{user}", *topics)
    bus = Bus(lambda: settings, lambda online: b"{}", keep, lambda connected, reason: None)
    bus.start()
    try:
        await until(lambda: bus.connected)
        yield bus, got
    finally:
        await bus.close()
