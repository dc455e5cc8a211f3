"""An end for an agency that was written from docs/agency-protocol.md alone, with paho and nothing of ours."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from siaga_pbx.dispatch.order import Cancel, Order
from tests.dispatch_centre import PREFIX, USERS, Centre, centre_at, mosquitto, until, write_config

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]  # JSON, whose members are what they are


class OtherEnd:
    """A fire station's end by somebody else. `memory` is its disk: it outlives a connection."""

    def __init__(self, port: int, memory: dict[str, Json], agency: str = "damkar") -> None:
        self.memory = memory
        self.refused: list[str] = []
        self.shown: list[Json] = []
        self._agency, self._lock = agency, threading.Lock()
        self._schema = json.loads((ROOT / "config" / "schemas" / "dispatch.json").read_text())
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, "other-end-1", protocol=mqtt.MQTTv5, manual_ack=True
        )
        client.username_pw_set(agency, USERS[agency])
        client.will_set(f"{PREFIX}/presence/{agency}", self._presence("offline"), 1, True)
        client.on_connect, client.on_message = self._connected, self._arrived
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own is not annotated
        session.SessionExpiryInterval = 86_400
        client.connect("127.0.0.1", port, clean_start=False, properties=session)
        client.loop_start()

    def answer(self, dispatch_id: str, state: str, reason: str | None = None) -> None:
        """A person keys it."""
        with self._lock:
            self.memory[dispatch_id]["state"] = state
        self._tell(dispatch_id, reason)

    def leave(self) -> None:
        self._client.publish(f"{PREFIX}/presence/{self._agency}", self._presence("offline"), 1, True)
        self._client.disconnect()
        self._client.loop_stop()

    def vanish(self) -> None:
        """The power goes."""
        self._client._sock_close()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, userdata: object, flags: object, code: object, p: object) -> None:
        client.subscribe(f"{PREFIX}/dispatch/{self._agency}", 1)
        client.publish(f"{PREFIX}/presence/{self._agency}", self._presence("online"), 1, True)
        for dispatch_id, known in self.memory.items():
            if known["message"]["expires_at"] > _now():
                self._tell(dispatch_id)

    def _arrived(self, client: mqtt.Client, userdata: object, packet: mqtt.MQTTMessage) -> None:
        try:
            message = json.loads(packet.payload)
            jsonschema.validate(message, self._schema)
            if (message["agency"], message["centre"]) != (self._agency, "cirebon"):
                raise ValueError("not for us")
        except (ValueError, jsonschema.ValidationError) as error:
            self.refused.append(str(error))
        else:
            properties = vars(packet.properties)
            assert properties["ResponseTopic"] == f"{PREFIX}/ack/{self._agency}"
            assert properties["CorrelationData"].decode() == f"{message['dispatch_id']}:{message['sequence']}"
            self._keep(message)
            self._tell(message["dispatch_id"])
        client.ack(packet.mid, packet.qos)

    def _keep(self, message: Json) -> None:
        with self._lock:
            known = self.memory.get(message["dispatch_id"])
            if known is not None and message["sequence"] <= known["message"]["sequence"]:
                return
            anew = known is None or (message["type"] == "alert" and known["state"] in ("rejected", "cleared"))
            state = "received" if known is None or anew else known["state"]
            self.memory[message["dispatch_id"]] = {"message": message, "state": state}
            self.shown.append(message)

    def _tell(self, dispatch_id: str, reason: str | None = None) -> None:
        known = self.memory[dispatch_id]
        ack = {"dispatch_id": dispatch_id, "state": known["state"], "at": _now(), "by": "Regu lain"}
        ack["sequence"] = known["message"]["sequence"]
        if known["state"] == "rejected":
            ack["reason"] = reason or "-"
        self._client.publish(f"{PREFIX}/ack/{self._agency}", json.dumps(ack), 1)

    def _presence(self, state: str) -> str:
        return json.dumps({"schema": 1, "agency": self._agency, "state": state, "at": _now()})


def _in(states: list[tuple[str, str]], one: tuple[str, str]) -> bool:
    return one in states


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@contextmanager
def other_end(port: int, memory: dict[str, Json]) -> Iterator[OtherEnd]:
    end = OtherEnd(port, memory)
    try:
        yield end
    finally:
        end.leave()


def run(folder: Path, scenario: Callable[[Centre, int], Any], **settings: Any) -> None:
    async def bounded() -> None:
        broker = mosquitto(folder)
        async with asyncio.timeout(30):
            await broker.start()
            try:
                async with centre_at(write_config(folder, broker.url, **settings)) as centre:
                    await scenario(centre, broker.port)
            finally:
                await broker.stop()

    asyncio.run(bounded())


def test_an_end_by_somebody_else_takes_a_dispatch_from_received_to_cleared(tmp_path: Path) -> None:
    async def scenario(centre: Centre, port: int) -> None:
        with other_end(port, {}) as end:
            await until(lambda: centre.dispatcher.agencies["damkar"])
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Rumah terbakar"))).dispatch_ids
            for state in ("received", "accepted", "en_route", "on_scene", "cleared"):
                await until(lambda: id in end.memory)
                if state != "received":
                    end.answer(id, state)
                await until(partial(_in, centre.told.states, ("damkar", state)))
            assert end.shown[0]["note"] == "Rumah terbakar"
            assert (end.refused, list(centre.dispatcher.quarantined)) == ([], [])
        await until(lambda: centre.dispatcher.agencies["damkar"] is False)

    run(tmp_path, scenario)


def test_a_repetition_is_answered_with_its_present_state_and_shown_once(tmp_path: Path) -> None:
    async def scenario(centre: Centre, port: int) -> None:
        with other_end(port, {}) as end:
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: "dispatch_unanswered" in centre.told.alarms)  # after a repetition ("resend")
            assert int(str(centre.dispatch(id)["attempts"])) >= 2
            assert len(end.shown) == 1
            end.answer(id, "accepted")
            await until(lambda: not centre.told.alarms)

    run(tmp_path, scenario, accept_within_s=0.4, escalate='["resend", "alarm"]')


def test_updates_a_rejection_and_a_cancel(tmp_path: Path) -> None:
    async def scenario(centre: Centre, port: int) -> None:
        with other_end(port, {}) as end:
            call = centre.call()
            (id,) = (await centre.dispatcher.dispatch(Order(call, "fire"))).dispatch_ids
            await until(lambda: id in end.memory)
            end.answer(id, "rejected", "no engine")
            await until(lambda: ("damkar", "rejected") in centre.told.states)
            await centre.dispatcher.dispatch(Order(call, "fire", people=2))  # asked anew
            await until(lambda: len(end.shown) == 2)
            assert (end.shown[1]["type"], end.memory[id]["state"]) == ("alert", "received")
            end.answer(id, "accepted")
            await until(lambda: centre.dispatch(id)["state"] == "accepted")
            await centre.dispatcher.dispatch(Order(call, "fire", people=4))
            await until(lambda: len(end.shown) == 3)
            assert (end.shown[2]["type"], end.shown[2]["people"]) == ("update", 4)
            await centre.dispatcher.cancel(Cancel(call))
            await until(lambda: len(end.shown) == 4)
            assert end.shown[3]["type"] == "cancel"
            await until(lambda: centre.dispatcher.pending == 0)
            assert list(centre.dispatcher.quarantined) == []

    run(tmp_path, scenario)


def test_what_is_sent_while_it_is_away_comes_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(centre: Centre, port: int) -> None:
        memory: dict[str, Json] = {}
        end = OtherEnd(port, memory)
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: ("damkar", "received") in centre.told.states)
        end.vanish()
        await until(lambda: centre.dispatcher.agencies["damkar"] is False)  # its will
        (second,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        memory[id]["state"] = "on_scene"  # keyed while the line was down
        with other_end(port, memory):
            await until(lambda: ("damkar", "on_scene") in centre.told.states)
            await until(lambda: second in memory and centre.dispatcher.pending == 0)

    run(tmp_path, scenario)


def test_what_the_page_shows_as_an_example_is_what_the_schema_says() -> None:
    text = (ROOT / "docs" / "agency-protocol.md").read_text()
    decoder, found = json.JSONDecoder(), []
    for start in (at for at in range(len(text)) if text.startswith('    {"', at)):
        found.append(decoder.raw_decode(text[start:].lstrip())[0])
    assert len(found) == 3
    id = "019abc00-0000-7000-8000-000000000000"
    for name, example in zip(("dispatch", "ack", "presence"), found, strict=True):
        whole = {key: id if str(value).endswith("...") else value for key, value in example.items()}
        jsonschema.validate(whole, json.loads((ROOT / "config" / "schemas" / f"{name}.json").read_text()))


def test_mosquittos_own_clients_are_enough_to_answer(tmp_path: Path) -> None:
    """The commands of the page."""

    async def scenario(centre: Centre, port: int) -> None:
        login = ("-h", "127.0.0.1", "-p", str(port), "-V", "5", "-q", "1", "-u", "damkar", "-P", USERS["damkar"])
        session = ("-c", "-x", "604800", "-i", "damkar-1")
        listening = await asyncio.create_subprocess_exec(
            *("mosquitto_sub", *login, *session, "-t", f"{PREFIX}/dispatch/damkar", "-F", "%p", "-C", "1"),
            stdout=asyncio.subprocess.PIPE,
        )
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        printed, _ = await listening.communicate()
        assert json.loads(printed)["dispatch_id"] == id
        ack = json.dumps({"dispatch_id": id, "state": "accepted", "at": time.ctime(), "by": "me"})
        told = await asyncio.create_subprocess_exec("mosquitto_pub", *login, "-t", f"{PREFIX}/ack/damkar", "-m", ack)
        assert await told.wait() == 0
        await until(lambda: ("damkar", "accepted") in centre.told.states)

    run(tmp_path, scenario)
