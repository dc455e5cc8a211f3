"""How long a dispatch takes from the command to the agency, beside a bare QoS 1 publish through the same broker.

Run: python benchmarks/dispatch.py [--dispatches 500] [--folder DIR]
A whole daemon, and a mosquitto. In turns: an order by the API (what `siaga-pbx dispatch` asks), which is on the
disk before it is published and confirmed; and a client that only publishes as many bytes. One subscriber, this process,
sees both arrive, so one clock measures both. The order is written by hand to a connection that is kept: an HTTP library
would cost as much as what is measured (httpx: 1 to 3 ms a request).
"""

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from siaga_pbx.config import load
from siaga_pbx.demo.centre import Centre
from siaga_pbx.dispatch.broker import CENTRE_USER, Mosquitto, access_rules
from siaga_pbx.records.changes import Insert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_now

ALLOWED_MS = 5.0
"""What the commit, the follow-up and the API may add at the median."""
_USERS = {CENTRE_USER: "a-secret", "damkar": "another", "bare": "a-third"}
_TOPIC = "siaga/demo/dispatch/damkar"
_BARE = b'{"bare": true, "filler": "%s"}'
_ORDER = {"category": "fire", "note": "Rumah terbakar, api besar di lantai dua", "address": "Jl. Siliwangi No. 12"}


class Api:
    """A connection to the daemon that is kept, as a program beside it has one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, token: str) -> None:
        self._reader, self._writer = reader, writer
        self._head = f"Host: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"

    @classmethod
    async def connect(cls, url: str, token: str) -> "Api":
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        return cls(reader, writer, address.netloc, token)

    async def post(self, path: str, body: object) -> int:
        """The status of the answer, once all of it is there."""
        content = json.dumps(body)
        self._writer.write(
            f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(content)}\r\n\r\n{content}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        await self._reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
        return int(head.split()[1])

    def close(self) -> None:
        self._writer.close()


class Subscriber:
    """The agency's end: notes when each message came, and says "received"."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def listen(self) -> None:
        async for message in self._client.messages:
            payload = message.payload
            assert isinstance(payload, bytes)
            self._arrived.put_nowait((time.perf_counter(), payload))

    async def next(self) -> tuple[float, bytes]:
        return await asyncio.wait_for(self._arrived.get(), 10)

    async def acknowledge(self, dispatch: dict[str, object]) -> None:
        ack = {"dispatch_id": dispatch["dispatch_id"], "state": "received", "at": utc_now(), "by": "benchmark"}
        await self._client.publish("siaga/demo/ack/damkar", json.dumps(ack), qos=1)


def client_of(broker: Mosquitto, user: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=user,
        username=user,
        password=_USERS[user],
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
    )


async def measure(
    broker: Mosquitto, centre: Centre, calls: Sequence[str]
) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds: bare publish to arrival, order to arrival, order to its confirmation."""
    token = (centre.folder / "siaga.token").read_text().strip()
    bare: list[float] = []
    arrived: list[float] = []
    confirmed: list[float] = []
    async with (
        client_of(broker, "damkar") as subscribed,
        client_of(broker, "bare") as publisher,
    ):
        api = await Api.connect(centre.url, token)
        await subscribed.subscribe(_TOPIC, qos=1)
        subscriber = Subscriber(subscribed)
        listening = asyncio.create_task(subscriber.listen())
        payload = _BARE % (b"x" * 900)
        for call in calls:
            began = time.perf_counter()
            await publisher.publish(_TOPIC, payload, qos=1, properties=_properties())
            at, _ = await subscriber.next()
            bare.append(1000 * (at - began))
            began = time.perf_counter()
            status = await api.post(f"/api/v1/calls/{call}/dispatches", _ORDER)
            confirmed.append(1000 * (time.perf_counter() - began))
            assert status == HTTPStatus.CREATED
            at, message = await subscriber.next()
            arrived.append(1000 * (at - began))
            payload = _BARE % (b"x" * (len(message) - len(_BARE) + 2))
            await subscriber.acknowledge(json.loads(message))
        listening.cancel()
        api.close()
    return bare, arrived, confirmed


def _properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own is not annotated
    properties.MessageExpiryInterval = 600
    return properties


async def run(folder: Path, dispatches: int) -> tuple[list[float], list[float], list[float]]:
    """A centre with a broker of its own; `measure` it."""
    rules = access_rules("siaga/demo", ["damkar"]) + "user bare\ntopic write siaga/demo/#\n"
    broker = Mosquitto(folder / "broker", _USERS, rules)
    await broker.start()
    centre = Centre(folder, agencies={})
    centre.configure()
    login = f'broker = "{broker.url}"\nusername = "{CENTRE_USER}"\npassword = "{_USERS[CENTRE_USER]}"'
    centre.config.write_text(centre.config.read_text().replace('broker = "embedded"', login))
    calls = ended_calls(folder, dispatches)
    try:
        await asyncio.to_thread(centre.start_daemon)
        return await measure(broker, centre, calls)
    finally:
        await asyncio.to_thread(centre.stop)
        await broker.stop()


def ended_calls(folder: Path, count: int) -> list[str]:
    """Calls that can be dispatched for; written before the daemon starts."""
    store = Store(load(folder / "siaga.toml").records.database)
    store.open()
    ids = [new_id() for _ in range(count)]
    row = {"received_at": utc_now(), "ended_at": utc_now(), "caller_number": "+6281200000789", "callable": True}
    store.commit([Insert("call", {"id": id, **row}) for id in ids]).result(60)
    store.close()
    return ids


def line(name: str, times: Sequence[float]) -> str:
    ordered = sorted(times)
    return f"{name:<34} median {statistics.median(ordered):6.2f} ms   p99 {ordered[int(0.99 * len(ordered))]:6.2f} ms\n"


def main() -> None:
    """Prints the three, and whether the difference keeps to what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dispatches", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where the database lies (default: a temporary folder)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="siaga-bench-", dir=asked.folder) as name:
        bare, arrived, confirmed = asyncio.run(run(Path(name), asked.dispatches))
    warm = asked.dispatches // 10  # the first ones find nothing warm
    bare, arrived, confirmed = bare[warm:], arrived[warm:], confirmed[warm:]
    sys.stdout.write(line("bare publish to arrival", bare))
    sys.stdout.write(line("order to arrival at the agency", arrived))
    sys.stdout.write(line("order to its confirmation", confirmed))
    added = statistics.median(arrived) - statistics.median(bare)
    sys.stdout.write(f"{'added at the median':<34} {added:13.2f} ms   (at most {ALLOWED_MS:.0f})\n")


if __name__ == "__main__":
    main()
