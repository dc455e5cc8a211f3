"""Orders become dispatches that are durable before they are confirmed, and followed until a person has accepted."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from siaga_pbx.config import Config
from siaga_pbx.dispatch.broker import CENTRE_USER, EMBEDDED, Embedded
from siaga_pbx.dispatch.followed import Followed, plan_of
from siaga_pbx.dispatch.hooks import Hooks
from siaga_pbx.dispatch.intake import Intake
from siaga_pbx.dispatch.ladder import Engage
from siaga_pbx.dispatch.lookup import Lookup
from siaga_pbx.dispatch.message import Ack, Chain, PayloadError, Presence, Status
from siaga_pbx.dispatch.mqtt import Bus, BusSettings, NotPublished, Outgoing
from siaga_pbx.dispatch.order import Cancel, Order, Receipt, Update
from siaga_pbx.dispatch.outbox import Outbox
from siaga_pbx.dispatch.plan import Plan
from siaga_pbx.dispatch.ports import Clock
from siaga_pbx.dispatch.quarantine import Quarantine, Quarantined
from siaga_pbx.dispatch.resume import Resume
from siaga_pbx.dispatch.topics import ALL, Topics
from siaga_pbx.records.chain import Head
from siaga_pbx.records.errors import RecordsError, StoreUnavailable
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store

log = structlog.get_logger(__name__)

BROKER_ALARM = "mqtt_disconnected"

_RETRY_S = 2.0  # while the database cannot be read or written
_CONFIRMED_S = 4.0  # how long who orders is kept waiting by a database that does not answer; the console waits five
_DURABLE_S = 5.0  # how long an answer waits for the disk before it is acknowledged to the broker all the same

ResultT = TypeVar("ResultT")


class Dispatcher:
    """Call start(), then the rest; everything on one event loop. The store must be open."""

    def __init__(self, config: Config, store: Store, reader: Reader, clock: Clock, hooks: Hooks | None = None) -> None:
        """`hooks.on_alarm` takes `Alarms.set` as it is."""
        self._config, self._store, self._clock = config, store, clock
        self._hooks = hooks or Hooks()
        self._online: dict[str, bool | None] = {agency.id: None for agency in config.agencies}
        self._quarantine = Quarantine(lambda event: store.write([event]))
        self._bus = Bus(self._bus_settings, self._status, self._on_message, self._on_connection)
        self._outbox = Outbox(store, clock, self._hooks, self._bus.publish, lambda: self._topics, self._engage)
        self._resume = Resume(reader, clock, self._plan)
        self._intake = Intake(store, clock, Lookup(store, reader, self._resume, self._outbox), self._outbox)
        self._embedded: Embedded | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._orders: set[asyncio.Task[Receipt]] = set()

    async def start(self) -> None:
        """Resumes from the database and keeps a connection to the broker. Never waits for the broker or the database.

        Raises BrokerMissing (or BrokerError) when the broker is "embedded" and cannot be run.
        """
        await self._embed()
        self._outbox.open()
        self._resuming = asyncio.create_task(self._resume_all(), name="resume dispatches")

    async def close(self) -> None:
        """Says goodbye to the broker. What is not delivered is resumed at the next start."""
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.wait({self._resuming})
        if self._orders:  # with a database that hangs nothing is lost that was confirmed
            await asyncio.wait(tuple(self._orders), timeout=_CONFIRMED_S)
        await self._bus.close()
        await self._outbox.close()
        if self._embedded is not None:
            await self._embedded.stop()

    async def configure(self, config: Config) -> None:
        """A reload: new orders follow the new configuration, the connection is made anew if its settings changed.

        Raises BrokerError when the broker is "embedded" and cannot be run; all else is in force even so.
        """
        old, self._config = self._config, config
        self._online = {agency.id: self._online.get(agency.id) for agency in config.agencies}
        same_agencies = [a.id for a in old.agencies] == [a.id for a in config.agencies]
        if old.mqtt == config.mqtt and (config.mqtt.broker != EMBEDDED or same_agencies):
            return
        try:
            await self._embed()
        finally:
            self._bus.reconnect()

    async def dispatch(self, order: Order) -> Receipt:
        """Commits incident, dispatches and outbox as one; returns once they are durable, delivered or not.

        A second order for the same call and category is an update. Raises OrderRefused (UnknownCall, UnknownCategory,
        NoAgency) or StoreUnavailable; then nothing was written.
        """
        return await self._take(lambda: self._intake.take(order, self._config))

    async def update(self, update: Update) -> Receipt:
        """Tells those who are dispatched more, by the next sequence of each. Durable and refused as `dispatch`
        (UnknownCall, NoIncident, WhichIncident).
        """
        return await self._take(lambda: self._intake.update(update, self._config))

    async def relocate(self, call_id: str) -> None:
        """The record knows better where a caller is: whoever goes there is told. Raises StoreUnavailable."""
        async with self._one_at_a_time:
            await self._intake.relocate(call_id, self._config)

    async def cancel(self, cancel: Cancel) -> Receipt:
        """Tells them that nobody is to go, by the next sequence of each. Durable and refused as `update` (NoAgency)."""
        return await self._take(lambda: self._intake.cancel(cancel, self._config))

    async def forget(self, calls: Collection[str]) -> None:
        """The records of these calls have lost content: what is followed of them is read anew, so that none of it comes
        back. Raises StoreUnavailable.
        """
        async with self._one_at_a_time:
            for incident in self._outbox.incidents_of(calls):
                fresh = await asyncio.to_thread(self._resume.incident, incident.id)
                if self._outbox.incident(incident.id) is incident:
                    self._outbox.renew(incident, fresh)

    async def witness(self, head: Head) -> bool:
        """Publishes the end of the record's chain, so that others know it. False: the broker has not taken it."""
        centre = self._config.centre.id
        chain = Chain(schema=1, centre=centre, seq=head.seq, hash=head.hash, at=self._clock.utc())
        try:
            await self._bus.publish(Outgoing(self._topics.chain, chain.encode(), retain=True))
        except NotPublished:
            return False
        return True

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._bus.connected

    @property
    def pending(self) -> int:
        """Dispatches whose latest sequence no agency's end has received yet."""
        return sum(followed.followup.wanted for followed in self._outbox)

    @property
    def oldest_s(self) -> float:
        """How long the oldest of them has waited, in seconds; 0 when none does."""
        since = [followed.followup.sequence_at for followed in self._outbox if followed.followup.wanted]
        return max(0.0, self._clock.now() - min(since)) if since else 0.0

    @property
    def agencies(self) -> Mapping[str, bool | None]:
        """Whether each configured agency's end is online; None: nothing heard of it, or the broker is away."""
        return self._online

    @property
    def quarantined(self) -> Sequence[Quarantined]:
        """The newest payloads that could not be used, oldest first."""
        return self._quarantine.kept

    # --- the configuration --------------------------------------------------------------------------------------------

    @property
    def _topics(self) -> Topics:
        return Topics(self._config.mqtt.prefix)

    def _plan(self, agency: str) -> Plan:
        return plan_of(self._config.agency(agency))

    def _bus_settings(self) -> BusSettings:
        mqtt, topics = self._config.mqtt, self._topics
        if self._embedded is not None:
            login = {"username": CENTRE_USER, "password": self._embedded.users[CENTRE_USER]}
            mqtt = mqtt.model_copy(update={"broker": self._embedded.url, **login})
        client_id = f"siaga-{mqtt.prefix.replace('/', '.')}-centre"
        return BusSettings.of(mqtt, client_id, topics.status, topics.ack(ALL), topics.presence(ALL))

    async def _embed(self) -> None:
        """Runs the embedded broker if the configuration says so, anew with its present agencies."""
        if self._embedded is not None:
            await self._embedded.stop()
            self._embedded = None
        config = self._config
        if config.mqtt.broker == EMBEDDED:
            embedded = Embedded(config.path, config.mqtt.prefix, [agency.id for agency in config.agencies])
            await embedded.start()
            self._embedded = embedded

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _take(self, act: Callable[[], Awaitable[Receipt]]) -> Receipt:
        """Whoever asks may go away (a closed HTTP connection); what has begun to be committed is followed even so."""
        task = asyncio.create_task(self._in_turn(act), name="order")
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        done, _ = await asyncio.wait({task}, timeout=_CONFIRMED_S)
        if done:
            return task.result()
        task.add_done_callback(_tell_late)
        slow = f"the database has not answered for {_CONFIRMED_S:.0f} s"
        raise StoreUnavailable(f"{slow}: telephone the agency; the dispatch is sent if it is committed after all")

    async def _in_turn(self, act: Callable[[], Awaitable[Receipt]]) -> Receipt:
        async with self._one_at_a_time:
            return await act()

    async def _engage(self, followed: Followed, engage: Engage) -> None:
        """A step of a ladder: repeated until the database takes it."""
        while True:
            try:
                async with self._one_at_a_time:
                    return await self._intake.engage(followed, engage, self._config)
            except RecordsError as error:
                log.error("agency not engaged yet", dispatch=followed.id, agency=engage.agency, reason=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _resume_all(self) -> None:
        """Follows what an earlier run left, then lets answers in."""
        while True:
            with suppress(StoreUnavailable):
                incidents = await asyncio.to_thread(self._resume.open_incidents)
                break
            await asyncio.sleep(_RETRY_S)
        for incident in incidents:
            if self._outbox.incident(incident.id) is None:  # an order was faster
                self._outbox.follow(incident)
        self._bus.start()

    # --- the bus ------------------------------------------------------------------------------------------------------

    def _status(self, online: bool) -> bytes:
        state: Status = Status(
            schema=1, centre=self._config.centre.id, state="online" if online else "offline", at=self._clock.utc()
        )
        return state.encode()

    def _on_connection(self, connected: bool, reason: str) -> None:
        self._hooks.on_connected(connected)
        if connected or reason:
            self._hooks.on_alarm(BROKER_ALARM, not connected, reason)
        if connected:
            self._outbox.connected()
            return
        for agency in self._online:
            self._set_online(agency, None)

    async def _on_message(self, topic: str, payload: bytes) -> None:
        match self._topics.parse(topic):
            case ("ack", agency):
                reason = await self._on_ack(agency, payload)
            case ("presence", agency):
                reason = self._on_presence(agency, payload)
            case _:
                reason = "not a topic of ours"
        if reason:
            self._quarantine.add(self._clock.utc(), topic, payload, reason)

    def _on_presence(self, agency: str, payload: bytes) -> str:
        """Returns what is wrong with it, if anything."""
        if agency not in self._online:
            return "no such agency is configured"
        if not payload:  # the retained message was removed
            self._set_online(agency, None)
            return ""
        try:
            presence = Presence.parse(payload)
        except PayloadError as error:
            return str(error)
        if presence.agency != agency:
            return f"another agency's topic than {presence.agency}'s"
        self._set_online(agency, presence.state == "online")
        if self._online[agency]:  # it may hasten a publication, never hold one back
            self._outbox.connected(agency)
        return ""

    def _set_online(self, agency: str, online: bool | None) -> None:
        self._online[agency] = online
        self._hooks.on_presence(agency, online)

    async def _on_ack(self, agency: str, payload: bytes) -> str:
        """Takes an agency's answer, and returns once it is durable; or returns what is wrong with it."""
        try:
            ack = Ack.parse(payload)
            followed = self._outbox.get(ack.dispatch_id) or await self._recall(ack.dispatch_id)
        except (PayloadError, StoreUnavailable) as error:
            return str(error)
        if followed is None:
            return "no such dispatch"
        if followed.agency != agency:
            return f"a dispatch of {followed.agency}, not of {agency}"
        if not followed.followup.knows(ack.sequence):
            return f"no sequence {ack.sequence} of this dispatch was made"
        kept = ack.kept is not False
        outputs = followed.followup.answered(ack.state, ack.sequence, self._clock.now(), ack.reason or "", kept=kept)
        self._outbox.carry_out(followed, outputs, ack.model_dump(exclude_none=True, exclude={"dispatch_id", "state"}))
        self._outbox.settle(followed)
        if outputs:
            await self._durable()
        return ""

    async def _recall(self, dispatch_id: str) -> Followed | None:
        """A dispatch that is no longer followed, with its incident."""
        incident = await asyncio.to_thread(self._resume.incident_of_dispatch, dispatch_id)
        if incident is not None and self._outbox.incident(incident.id) is None:
            self._outbox.follow(incident)
        return self._outbox.get(dispatch_id)

    async def _durable(self) -> None:
        """Returns when what was written is durable, in the database or in the journal."""
        written = asyncio.wrap_future(self._store.commit(()))
        with suppress(RecordsError):  # the journal has it
            _, slow = await asyncio.wait({written}, timeout=_DURABLE_S)
            if slow:
                log.error("the records do not write", waited_s=_DURABLE_S)
            else:
                written.result()


def _tell_late(order: asyncio.Task[Receipt]) -> None:
    """What became of an order whose giver was told that nobody knows."""
    error = None if order.cancelled() else order.exception()
    if order.cancelled() or error is not None:
        log.warning("a dispatch that was not confirmed in time is not committed", reason=str(error or "the end"))
    else:
        log.warning("a dispatch that was not confirmed in time is committed", incident=order.result().incident_id)
