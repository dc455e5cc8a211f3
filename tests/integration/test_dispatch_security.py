"""The bus keeps others out, on a real broker: the rights that `mqtt-acl` writes, TLS, passwords, certificates."""

import asyncio
import gc
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from siaga_pbx.commands.broker import mqtt_acl
from siaga_pbx.commands.failures import Failed
from siaga_pbx.dispatch.broker import Mosquitto, _free_port
from siaga_pbx.dispatch.mqtt import Bus, BusSettings, Outgoing
from siaga_pbx.settings import Mqtt
from tests.authority import HOUR, Authority, Pair
from tests.dispatch_centre import AGENCIES, PREFIX, USERS, mosquitto, until, write_config

NOT_AUTHORISED = 0x87  # MQTT 5, 2.4


class Peer:
    """A client of the broker that knows nothing of our code: paho, in its own thread."""

    def __init__(self, port: int, user: str, will_topic: str | None = None) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._user = user
        self._codes: dict[int, int] = {}
        self._news = threading.Condition()
        self._client = Client(CallbackAPIVersion.VERSION2, f"peer-{user}", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(user, USERS[user])
        if will_topic is not None:
            self._client.will_set(will_topic, b"will", qos=1)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_code
        self._client.on_subscribe = self._on_codes
        self._connected = False
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._wait(lambda: self._connected)

    def publish(self, topic: str, retain: bool = False) -> int:
        """The reason code of the PUBACK."""
        sent = self._client.publish(topic, f"from {self._user}", 1, retain)
        self._wait(lambda: sent.mid in self._codes)
        return self._codes.pop(sent.mid)

    def subscribe(self, topic: str) -> int:
        """The reason code of the SUBACK."""
        _, mid = self._client.subscribe(topic, 1)
        assert mid is not None
        self._wait(lambda: mid in self._codes)
        return self._codes.pop(mid)

    def vanish(self) -> None:
        """As a power cut would: without a DISCONNECT, so that the broker publishes the will."""
        self._client._sock_close()
        self._client.loop_stop()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(condition, 5), "no answer of the broker"

    def _on_connect(self, c: Client, u: object, flags: ConnectFlags, code: ReasonCode, p: Properties | None) -> None:
        assert not code.is_failure, str(code)
        with self._news:
            self._connected = True
            self._news.notify_all()

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        with self._news:
            self.got.append((message.topic, bytes(message.payload)))
            self._news.notify_all()

    def _on_code(self, client: Client, userdata: object, mid: int, code: ReasonCode, p: Properties | None) -> None:
        with self._news:
            self._codes[mid] = code.value
            self._news.notify_all()

    def _on_codes(
        self, client: Client, userdata: object, mid: int, codes: list[ReasonCode], p: Properties | None
    ) -> None:
        self._on_code(client, userdata, mid, codes[0], p)

    def heard(self, topic: str) -> bool:
        """Whether a message to this topic came, or comes."""
        with self._news:
            return self._news.wait_for(lambda: any(one == topic for one, _ in self.got), 5)


@contextmanager
def peers(*all_: Peer) -> Iterator[None]:
    try:
        yield
    finally:
        for one in all_:
            one.close()


@contextmanager
def running(broker: Mosquitto) -> Iterator[None]:
    """The broker, its process kept by an event loop of its own."""
    with asyncio.Runner() as runner:
        runner.run(broker.start())
        try:
            yield
        finally:
            runner.run(broker.stop())


@pytest.fixture
def rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `siaga-pbx mqtt-acl` writes."""
    assert mqtt_acl(write_config(tmp_path, "mqtt://127.0.0.1:1883")) == 0
    return capsys.readouterr().out


# --- rights -----------------------------------------------------------------------------------------------------------


def test_with_the_rules_of_mqtt_acl_each_agency_has_its_own_and_nothing_else(tmp_path: Path, rules: str) -> None:
    broker = mosquitto(tmp_path, acl=rules)
    with running(broker):
        centre = Peer(broker.port, "centre")
        ends = {agency: Peer(broker.port, agency) for agency in AGENCIES}
        with peers(centre, *ends.values()):
            centre.subscribe(f"{PREFIX}/#")
            for agency, end in ends.items():
                # mosquitto lets anybody subscribe to anything, and then gives only what may be read.
                end.subscribe("#")
                assert end.subscribe(f"{PREFIX}/dispatch/{agency}") == 1
            for topic in [f"{PREFIX}/dispatch/{agency}" for agency in AGENCIES] + [f"{PREFIX}/status"]:
                assert centre.publish(topic) == 0
            for agency, end in ends.items():
                mine = {f"{PREFIX}/{kind}/{agency}" for kind in ("ack", "presence")}
                for other in (*AGENCIES, "nobody"):
                    for kind in ("dispatch", "ack", "presence"):
                        topic = f"{PREFIX}/{kind}/{other}"
                        code = end.publish(topic)
                        assert code == (0 if topic in mine else NOT_AUTHORISED), f"{agency} publishes to {topic}"
                for topic in (f"{PREFIX}/status", PREFIX, f"{PREFIX}/ack", f"{PREFIX}/ack/{agency}/x", "x", "siaga/x"):
                    assert end.publish(topic) == NOT_AUTHORISED, f"{agency} publishes to {topic}"
                    assert end.publish(topic, retain=True) == NOT_AUTHORISED
            for agency, end in ends.items():
                for kind in ("ack", "presence"):
                    assert centre.heard(f"{PREFIX}/{kind}/{agency}")
                assert end.heard(f"{PREFIX}/dispatch/{agency}")
                assert end.heard(f"{PREFIX}/status")
                # What others sent has reached the centre by now; whatever of it this end may read it has.
                read = {topic for topic, _ in end.got}
                assert read == {f"{PREFIX}/dispatch/{agency}", f"{PREFIX}/status"}, agency
            assert {payload for topic, payload in centre.got if topic == f"{PREFIX}/ack/damkar"} == {b"from damkar"}


def test_nobody_leaves_a_will_where_he_may_not_write(tmp_path: Path, rules: str) -> None:
    broker = mosquitto(tmp_path, acl=rules)
    with running(broker):
        centre = Peer(broker.port, "centre")
        forger = Peer(broker.port, "bpbd", will_topic=f"{PREFIX}/presence/damkar")
        honest = Peer(broker.port, "damkar", will_topic=f"{PREFIX}/presence/damkar")
        with peers(centre, honest):
            centre.subscribe(f"{PREFIX}/presence/+")
            forger.vanish()
            honest.vanish()
            assert centre.heard(f"{PREFIX}/presence/damkar")
            assert centre.publish(f"{PREFIX}/presence/psc119") == 0
            assert centre.heard(f"{PREFIX}/presence/psc119")
            assert [topic for topic, _ in centre.got] == [f"{PREFIX}/presence/damkar", f"{PREFIX}/presence/psc119"]


def test_mqtt_acl_names_the_centres_own_user_and_refuses_an_agencys(
    tmp_path: Path, rules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"user centre\ntopic readwrite {PREFIX}/#" in rules
    config = write_config(tmp_path, "mqtt://127.0.0.1:1883")
    config.write_text(config.read_text().replace('username = "centre"', 'username = "pusat"'))
    assert mqtt_acl(config) == 0
    assert "user pusat\n" in capsys.readouterr().out
    config.write_text(config.read_text().replace('username = "pusat"', 'username = "bpbd"'))
    with pytest.raises(Failed, match="'bpbd' is the id of an agency"):
        mqtt_acl(config)


# --- TLS, passwords, client certificates ------------------------------------------------------------------------------


class Secure:
    """A broker with TLS for `localhost`, and where everything is."""

    def __init__(self, folder: Path, *extra: str, valid: bool = True) -> None:
        self.authority, self.other = Authority(folder), Authority(folder, "other")
        server = self.authority.pair("broker", "localhost", valid_for=HOUR if valid else -HOUR)
        self.port = _free_port()
        lines = (f"listener {self.port} 127.0.0.1", f"certfile {server[0]}", f"keyfile {server[1]}", *extra)
        self.broker = mosquitto(folder, extra=[line.format(ca=self.authority.certificate) for line in lines])

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.port}"


async def outcome(broker: str, *, ca: Path | None = None, pair: Pair | None = None, password: str = "") -> str:
    """ "connected", or the first reason why not, as the alarm, the log and the status have it."""
    certificate, key = pair or (None, None)
    login = {"username": "centre", "password": password or USERS["centre"]}
    mqtt = Mqtt(broker=broker, ca=ca, certificate=certificate, key=key, insecure=True, **login)
    settings = BusSettings.of(mqtt, "probe", f"{PREFIX}/status")
    said: list[str] = []

    async def ignore(topic: str, payload: bytes) -> None:
        pass

    bus = Bus(lambda: settings, lambda online: b"{}", ignore, lambda up, why: said.append("connected" if up else why))
    bus.start()
    try:
        await until(lambda: said)
        return said[0]
    finally:
        await bus.close()
        gc.collect()  # paho leaves the socket of a failed handshake to be collected: here, not in another test


broken_handshakes = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@broken_handshakes
def test_what_is_wrong_with_tls_or_the_password_is_told_in_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Secure(tmp_path)
        await at.broker.start()
        try:
            ca, none = at.authority.certificate, tmp_path / "none.pem"
            pair = at.authority.pair("centre")
            assert await outcome(at.url, ca=ca) == "connected"
            found = {
                "not signed by the authority in": await outcome(at.url, ca=at.other.certificate),
                "is not for this address: 127.0.0.1": await outcome(f"mqtts://127.0.0.1:{at.port}", ca=ca),
                "does not take [mqtt] username and password": await outcome(at.url, ca=ca, password="wrong"),
                f"[mqtt] ca {none}: No such file": await outcome(at.url, ca=none),
                f"[mqtt] ca {pair[1]}: no certificates in PEM": await outcome(at.url, ca=pair[1]),
                f"[mqtt] key {none}: No such file": await outcome(at.url, ca=ca, pair=(pair[0], none)),
                "do not belong together": await outcome(at.url, ca=ca, pair=(pair[0], tmp_path / "broker.key")),
                "nothing listens at localhost:1": await outcome("mqtts://localhost:1", ca=ca),
            }
            for expected, said in found.items():
                assert expected in said
                assert "\n" not in said
        finally:
            await at.broker.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


@broken_handshakes
def test_a_broker_whose_certificate_has_expired_gets_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Secure(tmp_path, valid=False)
        await at.broker.start()
        try:
            assert "has expired" in await outcome(at.url, ca=at.authority.certificate)
        finally:
            await at.broker.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


@broken_handshakes
def test_a_broker_that_asks_for_client_certificates_lets_in_whom_its_authority_signed(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Secure(tmp_path, "cafile {ca}", "require_certificate true")
        await at.broker.start()
        try:
            ca = at.authority.certificate
            # The alert of a broker can be overtaken by the end of its connection: then the words name the same setting.
            refused = r"not accept our \[mqtt\] certificate"
            assert re.search(f"asks for a client certificate|{refused}", await outcome(at.url, ca=ca))
            assert re.search(refused, await outcome(at.url, ca=ca, pair=at.other.pair("stranger")))
            assert await outcome(at.url, ca=ca, pair=at.authority.pair("centre")) == "connected"
        finally:
            await at.broker.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_with_the_identity_of_a_certificate_no_password_is_needed_and_the_rights_hold(
    tmp_path: Path, rules: str
) -> None:
    """`use_identity_as_username`: the CN of the certificate is the user."""

    async def scenario() -> None:
        authority = Authority(tmp_path)
        server = authority.pair("broker", "localhost")
        port = _free_port()
        lines = (
            f"listener {port} 127.0.0.1",
            f"certfile {server[0]}",
            f"keyfile {server[1]}",
            f"cafile {authority.certificate}",
            "require_certificate true",
            "use_identity_as_username true",
        )
        broker = mosquitto(tmp_path, acl=rules, extra=lines)
        await broker.start()
        try:
            pair = authority.pair("damkar")
            tls = {"ca": authority.certificate, "certificate": pair[0], "key": pair[1]}
            settings = BusSettings.of(Mqtt(broker=f"mqtts://localhost:{port}", **tls), "x", f"{PREFIX}/presence/damkar")

            async def ignore(topic: str, payload: bytes) -> None:
                pass

            bus = Bus(lambda: settings, lambda online: b"{}", ignore, lambda up, why: None)
            bus.start()
            await until(lambda: bus.connected)
            assert await bus.publish(Outgoing(f"{PREFIX}/ack/damkar", b"{}")) < 0x80
            with pytest.raises(Exception, match="0x87"):
                await bus.publish(Outgoing(f"{PREFIX}/ack/bpbd", b"{}"))
            await bus.close()
        finally:
            await broker.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))
