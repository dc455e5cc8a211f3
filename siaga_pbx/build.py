"""Puts the parts of the daemon together, in the order of the arrows. Nothing is started or bound here."""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from siaga_pbx.alarms import Alarms
from siaga_pbx.call.commands import SeatState
from siaga_pbx.call.queue import Queue
from siaga_pbx.calllog import CallLog
from siaga_pbx.clock import Clock
from siaga_pbx.config import Config
from siaga_pbx.dispatch.dispatcher import Dispatcher
from siaga_pbx.dispatch.hooks import Hooks as DispatchHooks
from siaga_pbx.dispatch.order import Order, OrderRefused
from siaga_pbx.dispatch.relocations import Relocations
from siaga_pbx.hub import Hub
from siaga_pbx.legs import LegBook
from siaga_pbx.livefile import LiveFile
from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.protocol import Network
from siaga_pbx.metrics import Metrics
from siaga_pbx.net.addresses import Addresses, Advertised
from siaga_pbx.net.endpoint import Endpoint
from siaga_pbx.net.peers import Peers
from siaga_pbx.net.trace import Trace
from siaga_pbx.records.accesses import AccessLog
from siaga_pbx.records.custody import Custody
from siaga_pbx.records.errors import RecordsError
from siaga_pbx.records.hooks import Hooks as RecordHooks
from siaga_pbx.records.reader import Reader
from siaga_pbx.records.store import Store
from siaga_pbx.seatkeys import SeatKeys
from siaga_pbx.seatlines import Actions, SeatLines
from siaga_pbx.settings import Listen
from siaga_pbx.sip.options import SeatOptions, StackSettings, TrunkOptions
from siaga_pbx.sip.stack import Stack
from siaga_pbx.slowness import Slowness
from siaga_pbx.switch import Switch
from siaga_pbx.takeover import TakeOver
from siaga_pbx.tools import Tools
from siaga_pbx.voicedispatch import VoiceDispatch

log = structlog.get_logger(__name__)

_FORGET_S = 30.0  # how long an erasure waits until what is followed has forgotten it


@dataclass(slots=True)
class Parts:
    """The daemon's parts. `pending` is how many batches wait in the journal."""

    config: Config
    clock: Clock
    metrics: Metrics
    addresses: Addresses
    store: Store
    reader: Reader
    accesses: AccessLog
    custody: Custody
    alarms: Alarms
    stack: Stack
    peers: Peers
    endpoint: Endpoint
    trace: Trace
    media: MediaClient
    seat_keys: SeatKeys
    queue: Queue
    tools: Tools
    switch: Switch
    lines: SeatLines
    takeover: TakeOver
    voice: VoiceDispatch
    hub: Hub
    dispatcher: Dispatcher
    slowness: Slowness
    pending: Callable[[], int]

    def configure(self, config: Config) -> None:
        """Bring a new configuration into force in all parts but the dispatcher; calls, seats and bindings stay."""
        now = self.clock.now()
        self.config = config
        self.addresses.configure(config.sip.advertise, advertised(config))
        self.peers.configure(config.trunks)
        self.switch.configure(config)
        self.lines.config = self.voice.config = self.takeover.config = config
        self.hub.configure(config)
        self.seat_keys.config = config
        self.endpoint.perform(self.stack.configure(stack_settings(config, self.addresses), now))
        self.switch.carry_out(self.queue.configure(config.queue, config.seats, now))
        follow(self.metrics, config)


def assemble(config: Config, spawn: Sequence[str]) -> Parts:
    """Build every part; call it on the running loop. `spawn` is the command that starts a media worker."""
    loop = asyncio.get_running_loop()
    clock, metrics = Clock(), Metrics(CollectorRegistry())
    parts: Parts
    journal = _Journal()
    store = Store(
        config.records.database,
        node=config.centre.id,
        journal=config.journal_file,
        hooks=RecordHooks(
            on_alarm=lambda *alarm: _from_thread(loop, parts_alarms.set, *alarm),
            on_commit=metrics.records_commit_seconds.observe,
            on_pending=journal.show,
        ),
    )
    parts_alarms = Alarms(store, clock.utc, metrics.alarm_active)
    reader = Reader(config.records.database)
    addresses = Addresses(clock, config.sip.advertise, advertised(config))
    stack = Stack(stack_settings(config, addresses), Entropy().take)
    peers = Peers(stack, config.sip.listen, config.trunks)
    trace = Trace()
    endpoint = Endpoint(
        stack,
        listens(config),
        clock,
        lambda event: parts.hub.on_sip(event),
        metrics,
        certificate=config.sip.certificate,
        key=config.sip.key,
        ca=config.sip.ca,
        origins=config.sip.origins,
        resolver=config.sip.resolver,
        peers=peers,
        trace=trace,
    )
    seat_keys = SeatKeys(config, parts_alarms)
    media = MediaClient(config.media, lambda event: parts.hub.on_media(event), spawn=spawn)
    tools = Tools(
        stack=stack,
        perform=endpoint.perform,
        queue=Queue(config.queue, config.seats),
        media=media,
        legs=LegBook(media, lambda trunk: _media_networks(parts.config, trunk), trace.join, seat_keys),
        log=CallLog(store, clock.utc, config.centre.id),
        alarms=parts_alarms,
        metrics=metrics,
        now=clock.now,
        epoch=time.time,
        # Not in the context of the call that asks: its id would stand on every line logged then.
        later=lambda delay, act: loop.call_later(delay, act, context=Context()),
    )
    voice = VoiceDispatch(config, tools)
    dispatcher = Dispatcher(config, store, reader, clock, _dispatch_hooks(parts_alarms, metrics, voice))
    switch = Switch(config, tools, Relocations(dispatcher.relocate).tell)
    actions = Actions(
        dispatch=lambda call, category, seat: _dispatch(dispatcher, call, category, seat),
        callbacks=reader.callbacks,
        tell=switch.tell,
        last_call=switch.takers.last_call,
    )
    lines = SeatLines(config, tools, actions)
    parts = Parts(
        config=config,
        clock=clock,
        metrics=metrics,
        addresses=addresses,
        store=store,
        reader=reader,
        accesses=AccessLog(store.write, clock.now, clock.utc),
        custody=Custody(store, reader, config.records.recordings, clock.utc, forgetting(dispatcher, trace, loop)),
        alarms=parts_alarms,
        stack=stack,
        peers=peers,
        endpoint=endpoint,
        trace=trace,
        media=media,
        seat_keys=seat_keys,
        queue=tools.queue,
        tools=tools,
        switch=switch,
        lines=lines,
        takeover=TakeOver(config, tools, switch, lines, LiveFile(config.live_file, partial(_live_fault, parts_alarms))),
        voice=voice,
        hub=Hub(config, tools, switch, lines, voice, store),
        dispatcher=dispatcher,
        slowness=(slowness := Slowness(store, parts_alarms.set, clock.now)),
        pending=lambda: journal.pending + slowness.waiting,
    )
    _gauges(parts)
    follow(metrics, config)
    return parts


def _live_fault(alarms: Alarms, failing: bool, reason: str) -> None:
    alarms.set("live_file", failing, f"a crash would lose the calls: {reason}" if failing else "")


class Entropy:
    """os.urandom by the kilobyte: each system call gives other threads the interpreter, and a call needs several."""

    def __init__(self) -> None:
        self._store = b""

    def take(self, count: int) -> bytes:
        """So many random bytes, given out once."""
        if len(self._store) < count:
            self._store = os.urandom(4096 + count)
        taken, self._store = self._store[:count], self._store[count:]
        return taken


class _Journal:
    """How many batches wait in the journal, as its thread told last."""

    pending = 0

    def show(self, pending: int) -> None:
        self.pending = pending


def follow(metrics: Metrics, config: Config) -> None:
    """Expose the trunks and agencies of a configuration."""
    metrics.follow(
        trunks=[trunk.id for trunk in config.trunks],
        checked_trunks=[trunk.id for trunk in config.trunks if trunk.health_uri],
        agencies=[agency.id for agency in config.agencies],
    )


def advertised(config: Config) -> list[Advertised]:
    """What the trunks are told instead of what everybody is."""
    return [
        Advertised(trunk.addresses, trunk.advertise, trunk.listen, trunk.certificate_names)
        for trunk in config.trunks
        if trunk.advertise or trunk.listen
    ]


def listens(config: Config) -> tuple[Listen, ...]:
    """Every socket to bind: the centre's, and those that a trunk has for itself."""
    own = tuple(trunk.listen for trunk in config.trunks if trunk.listen is not None)
    return tuple(dict.fromkeys(config.sip.listen + own))


def stack_settings(config: Config, addresses: Addresses) -> StackSettings:
    """What the SIP core is told of the configuration."""
    return StackSettings(
        domain=config.sip.domain,
        own_hosts=addresses.own_hosts(),
        trunks=tuple(TrunkOptions(trunk.id, trunk.addresses, trunk.certificate_names) for trunk in config.trunks),
        seats=tuple(SeatOptions(seat.id, seat.password, seat.digest) for seat in config.seats),
        contact_for=addresses.contact_for,
        digest=config.sip.digest,
    )


def _media_networks(config: Config, trunk_id: str) -> tuple[Network, ...]:
    trunk = config.trunk(trunk_id)
    return () if trunk is None else trunk.media_addresses or trunk.addresses


def _gauges(parts: Parts) -> None:
    """Gauges that follow something are asked at each scrape."""
    metrics, dispatcher = parts.metrics, parts.dispatcher
    for state in SeatState:
        metrics.seats.labels(state.value).set_function(partial(_seats_in, parts.queue, state))
    metrics.queue_length.set_function(lambda: len(parts.queue.view().waiting))
    metrics.queue_oldest_seconds.set_function(lambda: _oldest_s(parts))
    metrics.outbox_pending.set_function(lambda: dispatcher.pending)
    metrics.outbox_oldest_seconds.set_function(lambda: dispatcher.oldest_s)
    metrics.mqtt_connected.set_function(lambda: dispatcher.connected)
    metrics.mqtt_quarantined.set_function(lambda: dispatcher.quarantined[-1].number if dispatcher.quarantined else 0)
    metrics.rtp_refused_packets.set_function(lambda: parts.media.refused)
    metrics.media_ports_free.set_function(lambda: parts.media.ports_free)
    metrics.journal_pending.set_function(parts.pending)


def _seats_in(queue: Queue, state: SeatState) -> int:
    return queue.view().seats_by_state.get(state, 0)


def _oldest_s(parts: Parts) -> float:
    since = parts.queue.view().oldest_since
    return 0.0 if since is None else max(0.0, parts.clock.now() - since)


def _dispatch_hooks(alarms: Alarms, metrics: Metrics, voice: VoiceDispatch) -> DispatchHooks:
    return DispatchHooks(
        on_alarm=alarms.set,
        on_state=lambda agency, state: metrics.dispatches.labels(agency, state).inc(),
        on_accepted=lambda agency, seconds: metrics.dispatch_accept_seconds.labels(agency).observe(seconds),
        on_presence=lambda agency, online: metrics.agency_online.labels(agency).set(bool(online)),
        speak=voice.speak,
    )


def forgetting(
    dispatcher: Dispatcher, trace: Trace, loop: asyncio.AbstractEventLoop
) -> Callable[[Collection[str]], None]:
    """What is done, off the loop, when records have lost content. It raises StoreUnavailable, TimeoutError."""

    async def forget(calls: Collection[str]) -> None:
        for call in calls:
            trace.forget(call)
        await dispatcher.forget(calls)

    return lambda calls: asyncio.run_coroutine_threadsafe(forget(calls), loop).result(_FORGET_S)


async def _dispatch(dispatcher: Dispatcher, call: str, category: str, seat: str) -> bool:
    """A dispatch by feature code; what refuses it is for the log, as a phone has no words for it."""
    try:
        await dispatcher.dispatch(Order(call, category, seat=seat))
    except (OrderRefused, RecordsError) as error:
        log.warning("dispatch refused", call_id=call, category=category, seat=seat, why=str(error))
        return False
    return True


def _from_thread(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *arguments: object) -> None:
    """Hand something over to the loop from another thread; a loop that is closed needs it no more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(act, *arguments)
