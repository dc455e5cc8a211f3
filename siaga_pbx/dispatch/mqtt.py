"""A connection to the broker that is kept: MQTT 5, QoS 1, a persistent session. Both ends use it.

A message that comes in is acknowledged to the broker only once its handler is done with it, so what a crash interrupts
comes again. A message that goes out is done when the broker's PUBACK is there, and its reason code is read.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import DisconnectFlags
from paho.mqtt.enums import LogLevel
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from siaga_pbx.dispatch.bus_faults import explain, tls_context
from siaga_pbx.dispatch.inbox import Inbox
from siaga_pbx.dispatch.message import MAX_PAYLOAD
from siaga_pbx.settings import Mqtt

if TYPE_CHECKING:
    from paho.mqtt.client import CallbackOnDisconnect_v2, CallbackOnPublish_v2, CallbackOnSocket, SocketLike

log = structlog.get_logger(__name__)

# What paho says on its own would go to stderr, beside our log: the reasons that matter are read in `on_log` below.
_PAHO_LOG = logging.getLogger("siaga_pbx.paho")
_PAHO_LOG.addHandler(logging.NullHandler())
_PAHO_LOG.propagate = False

NO_MATCHING_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1
SESSION_EXPIRY_S = 7 * 86_400
"""How long the broker keeps answers for an end that is away."""

_REFUSED = 0x80  # reason codes from here on are failures (MQTT 5, 2.4)
KEEPALIVE_S = 20
_TIMEOUT_S = 5.0  # for each of CONNACK, SUBACK, PUBACK
_RECEIVE_MAXIMUM = 64  # unacknowledged messages that the broker may have under way to us: bounds what we queue
_PACKET_LIMIT = MAX_PAYLOAD + 4096  # the payload, the topic and the properties
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_STABLE_S = 10.0  # a connection that lasted as long begins the back-off anew
_AT_ONCE = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)  # no packet waits for the acknowledgement of another

OnMessage: TypeAlias = Callable[[str, bytes], Awaitable[None]]
OnConnection: TypeAlias = Callable[[bool, str], None]


class NotPublished(Exception):
    """The broker has not taken the message: there is no connection, or it broke before the PUBACK."""


class Refused(NotPublished):
    """The broker answered that it does not take the message."""


@dataclass(frozen=True, slots=True)
class BusSettings:
    """Where to connect, as whom, what to listen to. `client_id` names the session that the broker keeps."""

    host: str
    port: int
    tls: bool
    client_id: str
    presence_topic: str
    subscriptions: tuple[str, ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, mqtt: Mqtt, client_id: str, presence_topic: str, *subscriptions: str) -> "BusSettings":
        """From the [mqtt] section; `broker` is a URL here."""
        url = urlsplit(mqtt.broker)
        tls = url.scheme == "mqtts"
        return cls(
            host=url.hostname or "",
            port=url.port or (8883 if tls else 1883),
            tls=tls,
            client_id=client_id,
            presence_topic=presence_topic,
            subscriptions=subscriptions,
            username=mqtt.username,
            password=mqtt.password,
            ca=mqtt.ca,
            certificate=mqtt.certificate,
            key=mqtt.key,
        )


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish with QoS 1. `expiry_s` bounds how long the broker keeps its copy."""

    topic: str
    payload: bytes
    retain: bool = False
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None

    def properties(self) -> Properties:
        properties = _properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1  # UTF-8
        if self.expiry_s is not None:
            properties.MessageExpiryInterval = self.expiry_s
        if self.response_topic is not None:
            properties.ResponseTopic = self.response_topic
        if self.correlation is not None:
            properties.CorrelationData = self.correlation
        return properties


class Bus:
    """Keeps a connection until close(). All callbacks come on the event loop, one at a time.

    `settings()` is asked at each attempt. `presence(online)` gives the retained message that tells whether this end is
    there; the one for False is also the will. `on_message(topic, payload)` is awaited before the next one is taken;
    `on_connection(connected, reason)` is called at each change, and at each further attempt that fails; there is no
    reason when this end has left by its own wish.
    """

    def __init__(
        self,
        settings: Callable[[], BusSettings],
        presence: Callable[[bool], bytes],
        on_message: OnMessage,
        on_connection: OnConnection,
    ) -> None:
        self._settings, self._presence = settings, presence
        self._on_message, self._on_connection = on_message, on_connection
        self._task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()  # ends the session that is there, not the next one
        self._broken = ""  # why, when it is not by our own wish
        self._closing = False
        self._dropped = asyncio.Event()  # by the broker, before it had answered our CONNECT
        self._complaint = ""  # the last error that paho spoke of
        self._paho: Paho | None = None
        self._unconfirmed: dict[int, asyncio.Future[ReasonCode]] = {}

    @property
    def connected(self) -> bool:
        return self._paho is not None

    def start(self) -> None:
        """Begins to connect, and never stops trying."""
        self._task = asyncio.create_task(self._run(), name="mqtt")

    async def close(self) -> None:
        """Tells that this end leaves, and disconnects. The broker keeps the session."""
        self._closing = True
        self._leave.set()
        if self._task is not None:
            _, slow = await asyncio.wait({self._task}, timeout=2 * _TIMEOUT_S)
            for task in slow:  # in the middle of connecting to what does not answer
                task.cancel()
                await asyncio.wait({task})

    def reconnect(self) -> None:
        """The settings have changed."""
        self._leave.set()

    async def publish(self, message: Outgoing) -> int:
        """Returns the reason code of the broker's PUBACK, which is a success. Raises Refused, NotPublished."""
        if self._paho is None:
            raise NotPublished("not connected to the broker")
        sent = self._paho.publish(message.topic, message.payload, 1, message.retain, message.properties())
        if sent.rc != 0:
            raise NotPublished(f"not sent ({sent.rc.name})")
        confirmed = self._unconfirmed[sent.mid] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                code = await confirmed
        except TimeoutError:
            self._break("the broker does not acknowledge")
            raise NotPublished("the broker did not acknowledge it") from None
        finally:
            self._unconfirmed.pop(sent.mid, None)
        if code.value >= _REFUSED:
            raise Refused(f"{code.getName()} (0x{code.value:02x})")
        return int(code.value)

    # --- connections, one after the other -----------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing:
            self._leave.clear()
            self._broken = ""
            began = loop.time()
            try:
                await self._connect()
                reason = self._broken
            except (aiomqtt.MqttError, OSError) as error:
                reason = str(error.__cause__ or error) or type(error).__name__
            except Exception as error:  # whatever it is, the next attempt may do better
                log.exception("broker connection failed")
                reason = repr(error)
            if reason:
                settings = self._settings()
                reason = explain(reason, f"{settings.host}:{settings.port}")
                log.warning("broker lost", reason=reason)
            self._on_connection(False, reason)
            failures = 0 if loop.time() - began >= _STABLE_S else failures + 1
            if reason and not self._closing:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._leave.wait(), _BACKOFF_S[min(max(failures, 1), len(_BACKOFF_S)) - 1])

    async def _connect(self) -> None:
        """One connection, until it breaks (raises MqttError) or is to be left."""
        settings = self._settings()
        client = await self._client(settings)
        try:
            await self._enter(client)
        except BaseException:
            client._client.disconnect()  # aiomqtt leaves the socket of a connection without CONNACK open
            raise
        try:
            await self._serve(client, settings)
        finally:
            self._paho = None
            for waiting in self._unconfirmed.values():
                if not waiting.done():
                    waiting.set_exception(NotPublished("the connection broke"))
            with suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)

    async def _enter(self, client: aiomqtt.Client) -> None:
        """Raises MqttError: at once if the broker drops the connection without a CONNACK, which aiomqtt waits out."""
        entering = asyncio.ensure_future(client.__aenter__())
        dropped = asyncio.ensure_future(self._dropped.wait())
        try:
            await asyncio.wait({entering, dropped}, return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():
                raise aiomqtt.MqttError(self._complaint or "the broker closed the connection at once")
            entering.result()
        finally:
            for task in (entering, dropped):
                task.cancel()
            await asyncio.wait({entering, dropped})

    async def _serve(self, client: aiomqtt.Client, settings: BusSettings) -> None:
        await _subscribe(client, settings.subscriptions)
        _write_at_once(client)
        self._paho = client._client
        log.info("broker connected", host=settings.host, port=settings.port)
        self._on_connection(True, "")
        tasks = {
            asyncio.create_task(self._tell(settings, True)),
            (receiving := asyncio.create_task(self._receive(client))),
            (leaving := asyncio.create_task(self._leave.wait())),
        }
        try:
            await asyncio.wait({receiving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not self._broken:
                tasks.add(telling := asyncio.create_task(self._tell(settings, False)))
                await asyncio.wait({receiving, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not receiving.cancelled():
            receiving.result()

    async def _tell(self, settings: BusSettings, online: bool) -> None:
        """Publishes that this end is there, or leaves."""
        try:
            await self.publish(Outgoing(settings.presence_topic, self._presence(online), retain=True))
        except NotPublished as error:
            log.warning("presence not published", reason=str(error))

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            try:
                await self._on_message(message.topic.value, payload)
            except Exception:  # whatever it is, this message must not keep the others away
                log.exception("message not handled", topic=message.topic.value)
            if message.qos > 0:
                client._client.ack(message.mid, message.qos)
            await asyncio.sleep(0)  # however many wait: what the broker says to our own messages is read as well

    def _break(self, reason: str) -> None:
        self._broken = reason
        self._leave.set()

    async def _client(self, settings: BusSettings) -> aiomqtt.Client:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        properties.MaximumPacketSize = _PACKET_LIMIT
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
            username=settings.username,
            password=settings.password,
            will=aiomqtt.Will(settings.presence_topic, self._presence(False), qos=1, retain=True),
            tls_context=await self._tls(settings),
            keepalive=KEEPALIVE_S,
            timeout=_TIMEOUT_S,
            queue_type=Inbox,
            socket_options=_AT_ONCE,
            logger=_PAHO_LOG,
        )
        self._chain(client)
        cast("Inbox", client._queue).bind(lambda: self._break("more comes than can be taken in"))
        return client

    async def _tls(self, settings: BusSettings) -> ssl.SSLContext | None:
        """Reads the files anew for each connection: a renewed certificate is taken without a restart."""
        if not settings.tls:
            return None
        return await asyncio.to_thread(tls_context, settings.ca, settings.certificate, settings.key)

    def _chain(self, client: aiomqtt.Client) -> None:
        """What aiomqtt has no name for: we acknowledge, read the PUBACK's reason code, and why a connection ended."""
        self._dropped.clear()
        self._complaint = ""
        inner = client._client
        inner.manual_ack_set(True)
        published = cast("CallbackOnPublish_v2", inner.on_publish)
        disconnected = cast("CallbackOnDisconnect_v2", inner.on_disconnect)

        def on_publish(paho: Paho, userdata: object, mid: int, code: ReasonCode, properties: Properties) -> None:
            waiting = self._unconfirmed.get(mid)
            if waiting is not None and not waiting.done():
                waiting.set_result(code)
            published(paho, userdata, mid, code, properties)

        def on_disconnect(
            paho: Paho, userdata: object, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
        ) -> None:
            if not client._connected.done():
                self._dropped.set()
            disconnected(paho, userdata, flags, code, properties)

        def on_log(paho: Paho, userdata: object, level: int, text: str) -> None:
            if level == LogLevel.MQTT_LOG_ERR:
                self._complaint = text

        inner.on_publish, inner.on_disconnect, inner.on_log = on_publish, on_disconnect, on_log


def _write_at_once(client: aiomqtt.Client) -> None:
    """What is published goes out before what the loop has to do besides, such as the answer to whoever ordered it;
    aiomqtt waits until the loop has seen that the socket can be written. Call it on the event loop.
    """
    inner, loop = client._client, asyncio.get_running_loop()
    wait = cast("CallbackOnSocket", inner.on_socket_register_write)

    def write(paho: Paho, userdata: object, sock: "SocketLike") -> None:
        paho.loop_write()
        if paho.want_write() and sock.fileno() >= 0:  # else it has just been found broken, and closed
            wait(paho, userdata, sock)

    def soon(paho: Paho, userdata: object, sock: "SocketLike") -> None:
        loop.call_soon(write, paho, userdata, sock)  # paho holds a lock now that writing takes

    inner.on_socket_register_write = soon


async def _subscribe(client: aiomqtt.Client, topics: Sequence[str]) -> None:
    """With QoS 1. Raises MqttError, if the broker refuses one as well."""
    codes = await client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics]) if topics else ()
    for topic, code in zip(topics, codes, strict=True):
        if isinstance(code, ReasonCode) and code.is_failure:
            raise aiomqtt.MqttError(f"no subscription to {topic}: {code}")


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho's own is not annotated
