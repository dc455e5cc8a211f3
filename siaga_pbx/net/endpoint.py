"""The sockets of SIP around its core: what comes in goes to the stack, what the stack returns is carried out.

    endpoint = Endpoint(stack, config.sip.listen, clock, on_event, metrics)
    await endpoint.start()                       # OSError: an address that cannot be bound
    endpoint.perform(stack.answer(leg, sdp, clock.now()))
    await endpoint.close()

All of it belongs to one event loop. Between start and close nothing is raised: a peer's bytes, the network's errors and
faults of the stack or of `on_event` are counted, the last two logged, and the next packet is served.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from pathlib import Path
from typing import ParamSpec, Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from siaga_pbx.clock import Clock
from siaga_pbx.metrics import Metrics
from siaga_pbx.net.addresses import first_listen, is_numeric
from siaga_pbx.net.admission import StreamLimits
from siaga_pbx.net.dns import Server
from siaga_pbx.net.kinds import Kinds
from siaga_pbx.net.resolver import Resolver
from siaga_pbx.net.shedding import Known, Shedding, UdpLimits
from siaga_pbx.net.stream import SWEEP_S, StreamPeers, Streams
from siaga_pbx.net.tls import TlsContexts
from siaga_pbx.net.trace import Trace, Traced
from siaga_pbx.net.udp import RECEIVE_BUFFER, UdpSocket
from siaga_pbx.settings import Listen
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Counted, Event, Output, Resolve, Send
from siaga_pbx.sip.flow import Address, Flow, Target, Way
from siaga_pbx.sip.message import Message, parse

log: FilteringBoundLogger = structlog.get_logger()

P = ParamSpec("P")

TIMER_SLACK_S = 0.001
"""The loop's timers have a grain of a millisecond; early by less than that, they would turn in a circle."""
AFTER_FAULT_S = 0.1
"""A stack whose timer fails is not asked again at once, or it would take the loop with it."""

_KEEP_ALIVES = b"\r\n\0 "
"""What phones send on UDP to keep a NAT open; nothing but these is no message and no mistake."""
_STUN = b"\x21\x12\xa4\x42"
"""So do others with STUN (RFC 5626 4.4.2, RFC 8489 5). It is not answered: we do not ask for it (no Flow-Timer, no ob),
and whoever can write a false source would have us send to it."""


class SipCore(Protocol):
    """What the endpoint needs of `sip.stack.Stack`."""

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]: ...
    def receive_malformed(self, error: RemoteError, flow: Flow, now: float) -> list[Output]: ...
    def connection_closed(self, flow: Flow, now: float) -> list[Output]: ...
    def unreachable(self, target: Flow | Target, now: float) -> list[Output]: ...
    def resolved(self, token: str, targets: tuple[Target, ...], now: float) -> list[Output]: ...
    def handle_timer(self, now: float) -> list[Output]: ...
    def next_deadline(self) -> float | None: ...


class PeerBook(Known, StreamPeers, Protocol):
    """Whom we know (`net.peers.Peers`)."""


class _Nobody:
    """Stands for no knowledge at all: nobody is a trunk, and every socket is everybody's."""

    theirs: frozenset[Listen] = frozenset()

    def is_trunk(self, _who: str) -> bool:
        return False

    def may_use(self, _listen: Listen, _host: str) -> bool:
        return True

    def may_stay(self, _listen: Listen, _host: str, _names: frozenset[str]) -> bool:
        return True

    def listen_for(self, _transport: str, _host: str, _name: str = "") -> None:
        return None


class Endpoint:
    """Listens, sends, keeps the stack's time. `on_event` gets every event, `Counted` ones after they were counted."""

    def __init__(
        self,
        stack: SipCore,
        listen: Iterable[Listen],
        clock: Clock,
        on_event: Callable[[Event], None],
        metrics: Metrics,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        ca: Path | None = None,
        origins: Sequence[str] = (),
        resolver: Server | None = None,
        limits: StreamLimits | None = None,
        peers: PeerBook | None = None,
        udp_limits: UdpLimits | None = None,
        trace: Trace | None = None,
    ) -> None:
        """`peers` tells trunks, seats and strangers apart, by their addresses or by a name in a certificate that `ca`
        vouches for: who may use which socket, and how much (StreamLimits, UdpLimits). Without it nothing is shed.
        `origins`: see WebSocket; `resolver`: see NameServer.
        """
        self._stack = stack
        self._listen = tuple(listen)
        self._clock = clock
        self._on_event = on_event
        self._metrics = metrics
        self._kinds = Kinds(metrics)
        self._files = certificate, key, ca
        self._origins = tuple(origins)
        self._limits = limits or StreamLimits()
        self._peers: StreamPeers = peers or _Nobody()
        self._shedding = Shedding(peers, clock.now, metrics, udp_limits or UdpLimits()) if peers is not None else None
        self._trace = trace
        self._resolver = Resolver(clock, lambda: self.bound, resolver)
        self._lookups: set[asyncio.Task[None]] = set()
        self._udp: dict[Address, UdpSocket] = {}
        self._streams: Streams | None = None
        self._outputs: deque[Output] = deque()
        self._performing = False
        self._running = False
        # Timers and connections outlive the call that they were made for, and must not log under its id.
        self._context = Context()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self.bound: tuple[Listen, ...] = ()
        """What is listened on, in the order asked for, ports known. Give it to `Addresses.bound`."""

    async def start(self) -> None:
        """Bind everything and serve. Raises OSError, with nothing left open: an address is taken, a PEM file is bad."""
        self._streams = Streams(self, TlsContexts(*self._files), self._limits, self._peers, self._origins)
        bound = []
        try:
            for listen in self._listen:
                bound.append(self._bind(listen, self._streams))
        except OSError as error:
            await self.close()
            place = f"{listen.transport}://{listen.host}:{listen.port}"
            raise OSError(error.errno, f"{place}: {error.strerror or error}") from error
        self.bound = tuple(bound)
        self._running = True
        self._sweep()
        self._watch_timer()

    async def close(self) -> None:
        """Stop: nothing more is received; what was sent on connections goes out. Harmless when it does not run."""
        self._running = False
        for handle in (self._timer, self._sweeper):
            if handle is not None:
                handle.cancel()
        for udp in self._udp.values():
            udp.close()
        self._udp.clear()
        await self._resolver.close()
        await asyncio.gather(*self._lookups, return_exceptions=True)
        if self._streams is not None:
            await self._streams.close()

    def reload_certificate(self) -> None:
        """Take a renewed certificate for handshakes from now on. Raises OSError, and keeps the old, if it is bad."""
        if self._streams is not None:
            self._streams.tls = self._streams.tls.renewed()

    def perform(self, outputs: Iterable[Output]) -> None:
        """Carry out what the stack returned: send, and tell `on_event`.

        May be called from within `on_event`: what it is given then comes after what is being carried out, as the stack
        meant it.
        """
        self._outputs.extend(outputs)
        if self._performing:
            return
        self._performing = True
        try:
            while self._outputs:
                output = self._outputs.popleft()
                if isinstance(output, Send):
                    self._send(output)
                elif isinstance(output, Resolve):
                    self._look_up(output)
                else:
                    self._tell(output)
        finally:
            self._performing = False
        self._watch_timer()

    # In

    def received(self, item: Message | RemoteError, flow: Flow) -> None:
        """A message, or what could not be one, from a socket."""
        if flow.connection is not None and self._shedding is not None and not self._shedding.hears(flow):
            if self._streams is not None:
                self._streams.cut(flow.connection)
            return
        if isinstance(item, RemoteError):
            self._feed(self._stack.receive_malformed, item, flow, self._clock.now())
        else:
            self._kinds.received(item)
            if self._trace is not None and flow.transport != "udp":
                self._note(False, flow.transport, flow.local, flow.remote, bytes(item))
            self._feed(self._stack.receive, item, flow, self._clock.now())

    def closed(self, flow: Flow) -> None:
        self._feed(self._stack.connection_closed, flow, self._clock.now())

    def unreachable(self, way: Way) -> None:
        self._feed(self._stack.unreachable, way, self._clock.now())

    def refused(self, reason: str) -> None:
        self._metrics.count("dropped", reason)

    def failed(self) -> None:
        self._fault("sip")

    def now(self) -> float:
        return self._clock.now()

    def _datagram(self, udp: UdpSocket, data: bytes, source: Address) -> None:
        if not data.strip(_KEEP_ALIVES) or (data[4:8] == _STUN and data[0] < 4):
            return
        item: Message | RemoteError
        try:
            item = parse(data)
        except RemoteError as error:
            item = error.kept()
        except Exception:  # noqa: BLE001 - ours, and logged: the next datagram is somebody else's call
            self._fault("parse")
            return
        if self._trace is not None and not isinstance(item, RemoteError):
            self._note(False, "udp", udp.local, source, data)
        self.received(item, Flow("udp", udp.local, source))

    def _feed(self, step: Callable[P, list[Output]], *args: P.args, **kwargs: P.kwargs) -> bool:
        if not self._running:
            return True
        try:
            outputs = step(*args, **kwargs)
        except Exception:  # noqa: BLE001 - the same
            self._fault("sip")
            return False
        self.perform(outputs)
        return True

    # Out

    def _tell(self, event: Event) -> None:
        if isinstance(event, Counted):
            self._metrics.count(event.name, event.reason)
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - the same
            self._fault("event")

    def _send(self, send: Send) -> None:
        way, data = send.target, send.data
        if not self._running:
            return
        self._kinds.sent(data)
        if self._trace is not None:
            self._note(True, way.transport, *self._ends(way), data)
        if isinstance(way, Target) and not is_numeric(way.host):
            self._later_unreachable(way)  # its name was to be resolved first
        elif way.transport != "udp":
            if self._streams is None or not self._streams.send(way, data):
                self._later_unreachable(way)
        elif isinstance(way, Flow):
            self._send_udp(way, self._udp.get(way.local), data, way.remote)
        else:
            udp = self._udp.get(way.flow.local) if way.flow is not None else None
            self._send_udp(way, udp or self._udp_for(way.host), data, (way.host, way.port))

    def _ends(self, way: Way) -> tuple[Address, Address]:
        """Our address and theirs; ours is that of the first listener like it where the system chooses it."""
        if isinstance(way, Flow):
            return way.local, way.remote
        remote = (way.host, way.port)
        if way.flow is not None:
            return way.flow.local, remote
        alike = (one for one in self.bound if one.transport == way.transport and (":" in one.host) == (":" in way.host))
        ours = next(alike, None)
        return (ours.host, ours.port) if ours is not None else ("0.0.0.0", 0), remote  # noqa: S104 - shown, not bound

    def _note(self, sent: bool, transport: str, local: Address, remote: Address, data: bytes) -> None:
        assert self._trace is not None
        self._trace.note(Traced(time.time(), sent, transport, local, remote, data))

    def _send_udp(self, way: Way, udp: UdpSocket | None, data: bytes, peer: Address) -> None:
        if udp is None or not udp.send(data, peer, way):
            self._later_unreachable(way)

    def _udp_for(self, host: str) -> UdpSocket | None:
        """The socket that a trunk has for itself, else the first from which a packet gets there."""
        own = self._peers.listen_for("udp", host) or first_listen(self.bound, "udp", host, self._peers.theirs)
        return self._udp.get(own[1:]) if own is not None else None

    def _later_unreachable(self, way: Way) -> None:
        # Not at once: a stack that answers it with another packet to the same place would keep the loop for ever.
        asyncio.get_running_loop().call_soon(self.unreachable, way, context=self._context)

    def _look_up(self, wanted: Resolve) -> None:
        if self._running:
            task = asyncio.get_running_loop().create_task(self._located(wanted), context=self._context)
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _located(self, wanted: Resolve) -> None:
        targets = await self._resolver.locate(wanted.hop)
        self._feed(self._stack.resolved, wanted.token, targets, self._clock.now())

    # Time

    def _watch_timer(self) -> None:
        """Sees to it that handle_timer is called at the next deadline. A timer set too early just turns once."""
        if not self._running:
            return
        try:
            deadline = self._stack.next_deadline()
        except Exception:  # noqa: BLE001 - the same
            self._fault("sip")
            deadline = self._clock.now() + AFTER_FAULT_S
        if deadline is not None and (self._timer is None or deadline < self._due):
            self._set_timer(deadline)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        delay = max(0.0, due - self._clock.now()) + TIMER_SLACK_S
        self._timer = asyncio.get_running_loop().call_later(delay, self._turn, context=self._context)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock.now()
        if not self._feed(self._stack.handle_timer, now):
            self._set_timer(now + AFTER_FAULT_S)

    def _sweep(self) -> None:
        if self._streams is not None:
            self._streams.sweep()
        for udp in self._udp.values():
            if (lost := udp.overruns()) > 0:
                self._metrics.sip_dropped.labels("receive_buffer").inc(lost)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep, context=self._context)

    # Small things

    def _bind(self, listen: Listen, streams: Streams) -> Listen:
        if listen.transport != "udp":
            return streams.listen(listen)
        admits = (self._shedding.gate(listen),) if self._shedding is not None else ()
        udp = UdpSocket(listen.host, listen.port, self._datagram, self.unreachable, *admits)
        self._udp[udp.local] = udp
        if udp.room < RECEIVE_BUFFER:
            log.warning(
                "net.small_receive_buffer",
                listen=f"udp://{listen.host}:{listen.port}",
                bytes=udp.room,
                wanted=RECEIVE_BUFFER,
                remedy=f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER}",
            )
        udp.start()
        return Listen("udp", *udp.local)

    def _fault(self, where: str) -> None:
        """Counts and logs the exception that is being handled."""
        self._metrics.internal_errors.labels(where).inc()
        log.exception("net.fault", where=where)
