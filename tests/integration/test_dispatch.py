"""From the order to the agency's answer, on a real mosquitto with passwords and rights, and a real database."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import aiomqtt
import pytest
from jsonschema import Draft202012Validator

from siaga_pbx.config import load
from siaga_pbx.dispatch.broker import Mosquitto
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import Purpose
from siaga_pbx.dispatch.mqtt import Outgoing
from siaga_pbx.dispatch.order import NoAgency, Order, UnknownCall, UnknownCategory
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.verify import verify
from tests.dispatch_centre import (
    AGENCIES,
    PREFIX,
    USERS,
    Centre,
    agency_at,
    centre_at,
    listener,
    mosquitto,
    until,
    write_config,
)


@dataclass(frozen=True)
class Place:
    """A broker that runs, and where the files are."""

    folder: Path
    broker: Mosquitto

    def config(self, user: str = "centre", *, accept_within_s: float = 60, escalate: str = '["alarm"]') -> Path:
        return write_config(self.folder, self.broker.url, user=user, accept_within_s=accept_within_s, escalate=escalate)


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    broker = mosquitto(folder)
    await broker.start()
    try:
        yield Place(folder, broker)
    finally:
        await broker.stop()


def run(folder: Path, scenario: Callable[[Place], Awaitable[None]]) -> None:
    """Runs it beside a broker, in bounded time."""

    async def bounded() -> None:
        async with asyncio.timeout(30), place(folder) as where:
            await scenario(where)

    asyncio.run(bounded())


async def connected(centre: Centre) -> None:
    await until(lambda: centre.dispatcher.connected)


# --- the order --------------------------------------------------------------------------------------------------------


def test_an_order_reaches_the_agency_and_its_answers_come_back(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config("damkar")) as station:
            await until(lambda: centre.dispatcher.agencies["damkar"])
            call_id = centre.call(lat=-6.7, lon=108.5, radius_m=150.0, location_method="cell")
            order = Order(call_id, "fire", note="Rumah terbakar", address="Jl. Siliwangi 1", people=3, seat="101")
            receipt = await centre.dispatcher.dispatch(order)
            (dispatch_id,) = receipt.dispatch_ids
            await until(lambda: station.book.get(dispatch_id))
            for state in (State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED):
                station.enter(dispatch_id, state)
            await until(lambda: ("damkar", "cleared") in centre.told.states)

            row = centre.dispatch(dispatch_id)
            times = [
                row[f"{name}_at"] for name in ("created", "published", "received", "accepted", "arrived", "cleared")
            ]
            assert times == sorted(map(str, times))
            assert (row["state"], row["sequence"], row["attempts"], row["next_attempt_at"]) == ("cleared", 1, 1, None)
            assert centre.kinds(dispatch_id) == [
                *("ordered", "published", "delivered", "received", "accepted", "en_route", "on_scene", "cleared"),
                "row_closed",
            ]
            incident = centre.reader.incident(receipt.incident_id)
            assert incident is not None
            assert (incident["status"], incident["people"], incident["lat"]) == ("closed", 3, -6.7)
            assert centre.reader.outbox() == []
            answer = centre.reader.events(subject_id=dispatch_id)[4]["data"]
            assert isinstance(answer, dict)
            assert (answer["by"], answer["sequence"], answer["from"]) == ("Regu 1", 1, "received")
            assert [agency for agency, _ in centre.told.accepted] == ["damkar"]
            counted = ["pending", "published", "received", "accepted", "en_route", "on_scene", "cleared"]
            assert centre.told.states == [("damkar", state) for state in counted]
            assert (centre.dispatcher.pending, centre.dispatcher.oldest_s, centre.told.alarms) == (0, 0.0, {})
        assert not verify(centre.config.records.database)

    run(tmp_path, scenario)


def test_the_dispatch_is_what_its_schema_says_and_carries_what_mqtt_5_is_for(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        client = aiomqtt.Client(
            "127.0.0.1",
            where.broker.port,
            protocol=aiomqtt.ProtocolVersion.V5,
            username="damkar",
            password=USERS["damkar"],
        )
        async with centre_at(where.config()) as centre, client:
            await client.subscribe(f"{PREFIX}/dispatch/damkar", qos=1)
            order = Order(centre.call(caller_number=None, callable=False), "fire", purpose=Purpose.EXERCISE)
            receipt = await centre.dispatcher.dispatch(order)
            got = await anext(client.messages)
            schema = json.loads(files("siaga_pbx").joinpath("schemas/dispatch.json").read_text())
            message = json.loads(got.payload)
            Draft202012Validator(schema).validate(message)
            assert (message["status"], message["callback"]["number"]) == ("exercise", None)
            assert (got.topic.value, got.qos, got.retain) == (f"{PREFIX}/dispatch/damkar", 1, False)
            assert got.properties is not None
            properties = vars(got.properties)
            assert properties["ResponseTopic"] == f"{PREFIX}/ack/damkar"
            assert properties["CorrelationData"] == f"{receipt.dispatch_ids[0]}:1".encode()
            assert 0 < properties["MessageExpiryInterval"] <= 600
            assert properties["ContentType"] == "application/json"

    run(tmp_path, scenario)


def test_a_second_order_is_an_update_of_the_same_dispatches(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config("damkar")) as station:
            call_id = centre.call()
            first = await centre.dispatcher.dispatch(
                Order(call_id, "accident", note="Tabrakan", address="Jl. Siliwangi 1")
            )
            damkar = next(id for id in first.dispatch_ids if centre.dispatch(id)["agency"] == "damkar")
            await until(lambda: station.book.get(damkar))
            station.enter(damkar, State.ACCEPTED)
            await until(lambda: ("damkar", "accepted") in centre.told.states)
            second = await centre.dispatcher.dispatch(Order(call_id, "accident", people=4, protected=True))
            assert (second.incident_id, set(second.dispatch_ids)) == (first.incident_id, set(first.dispatch_ids))
            await until(lambda: (entry := station.book.get(damkar)) and entry.message.sequence == 2)
            entry = station.book.get(damkar)
            assert entry is not None
            message = entry.message
            assert (message.type.value, message.note, message.people) == ("update", "Tabrakan", 4)
            assert message.callback is not None
            assert (message.protected, message.callback.number) == (True, None)
            await until(lambda: centre.dispatcher.pending == 1)  # psc119 is not there
            row = centre.dispatch(damkar)
            assert (row["sequence"], row["state"]) == (2, "accepted")
            other = await centre.dispatcher.dispatch(Order(call_id, "fire"))
            assert other.incident_id != first.incident_id

    run(tmp_path, scenario)


def test_a_rejected_dispatch_that_is_ordered_again_begins_anew(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config("damkar")) as station:
            call_id = centre.call()
            (id,) = (await centre.dispatcher.dispatch(Order(call_id, "fire"))).dispatch_ids
            await until(lambda: station.book.get(id))
            station.enter(id, State.REJECTED, "no engine")
            await until(lambda: "dispatch_unanswered" in centre.told.alarms)
            assert "rejected: no engine" in centre.told.alarms["dispatch_unanswered"]
            again = await centre.dispatcher.dispatch(Order(call_id, "fire"))
            assert again.dispatch_ids == (id,)
            await until(lambda: (entry := station.book.get(id)) and entry.state is State.RECEIVED)
            await until(lambda: centre.dispatch(id)["state"] == "received")
            assert centre.told.alarms == {}
            station.enter(id, State.ACCEPTED)
            await until(lambda: centre.dispatch(id)["state"] == "accepted")
        assert not verify(centre.config.records.database)

    run(tmp_path, scenario)


def test_an_order_that_cannot_be_carried_out_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        file = where.config()
        dialplan = tmp_path / "dialplan.toml"
        riot = '[[category]]\nid = "riot"\nname = "Kerusuhan"\nagencies = ["bpbd"]\n'
        dialplan.write_text(dialplan.read_text() + riot)
        async with centre_at(file) as centre:
            call_id = centre.call()
            with pytest.raises(UnknownCall, match=r"no call .* is on record"):
                await centre.dispatcher.dispatch(Order(new_id(), "fire"))
            with pytest.raises(UnknownCategory, match="no category 'flood' in the dialplan: fire, accident, riot"):
                await centre.dispatcher.dispatch(Order(call_id, "flood"))
            without = tuple(agency for agency in centre.config.agencies if agency.id != "bpbd")
            await centre.dispatcher.configure(centre.config.model_copy(update={"agencies": without}))
            with pytest.raises(NoAgency, match="no agency responds to category riot"):
                await centre.dispatcher.dispatch(Order(call_id, "riot"))
            assert centre.store.flush()
            assert (centre.reader.incidents(), centre.reader.dispatches(), centre.reader.outbox()) == ([], [], [])

    run(tmp_path, scenario)


def test_when_the_records_do_not_take_it_it_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with (
            centre_at(where.config()) as centre,
            listener(where.broker.url, "damkar", f"{PREFIX}/dispatch/damkar") as (_, got),
        ):
            call_id = centre.call()
            assert centre.store.flush()
            centre.store.close()
            with pytest.raises(StoreUnavailable):
                await centre.dispatcher.dispatch(Order(call_id, "fire"))
            assert (centre.dispatcher.pending, got) == (0, [])

    run(tmp_path, scenario)


def test_whoever_ordered_may_go_away(tmp_path: Path) -> None:
    """A closed HTTP connection cancels its request; what is committed is followed even so."""

    async def scenario(where: Place) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config("damkar")) as station:
            call_id = centre.call()
            for ticks in range(12):
                order = asyncio.create_task(centre.dispatcher.dispatch(Order(call_id, "fire")))
                for _ in range(ticks):
                    await asyncio.sleep(0)
                order.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await order
            await until(lambda: station.book.entries and station.book.entries[0].message.sequence >= 11)
            await until(lambda: centre.dispatcher.pending == 0)

    run(tmp_path, scenario)


# --- the agency -------------------------------------------------------------------------------------------------------


def test_an_agency_without_rights_cannot_read_anothers_topic_or_answer_for_it(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with (
            centre_at(where.config()) as centre,
            listener(where.broker.url, "bpbd", f"{PREFIX}/#") as (spy, overheard),
            listener(where.broker.url, "damkar", f"{PREFIX}/dispatch/damkar") as (_, got),
        ):
            await connected(centre)
            receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Rumah terbakar"))
            await until(lambda: got)
            ack = {"dispatch_id": receipt.dispatch_ids[0], "state": "accepted", "at": "now", "by": "spy"}
            with pytest.raises(Exception, match="0x87"):
                await spy.publish(Outgoing(f"{PREFIX}/ack/damkar", json.dumps(ack).encode()))
            with pytest.raises(Exception, match="0x87"):
                await spy.publish(Outgoing(f"{PREFIX}/dispatch/damkar", b"{}", retain=True))
            await spy.publish(Outgoing(f"{PREFIX}/ack/bpbd", json.dumps(ack).encode()))
            await until(lambda: centre.dispatcher.quarantined)
            assert {topic for topic, _ in overheard} <= {f"{PREFIX}/status"}
            assert centre.dispatch(receipt.dispatch_ids[0])["state"] == "published"

    run(tmp_path, scenario)


def test_a_wrong_password_is_told_and_tried_again(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        file = where.config()
        file.write_text(file.read_text().replace("pusat-rahasia", "wrong"))
        async with centre_at(file) as centre:
            await until(lambda: centre.told.raised.count("mqtt_disconnected") >= 2)
            assert "ot authori" in centre.told.alarms["mqtt_disconnected"]
            right = load(where.config())
            await centre.dispatcher.configure(right)
            await connected(centre)
            assert "mqtt_disconnected" not in centre.told.alarms

    run(tmp_path, scenario)


WRONG: list[tuple[str, str, dict[str, object] | bytes]] = [
    ("not JSON", "damkar", b"accepted"),
    ("state", "damkar", {"state": "arrived"}),
    ("Value error, reason: only with rejected", "damkar", {"reason": "because"}),
    ("no such dispatch", "damkar", {"dispatch_id": new_id()}),
    ("a dispatch of damkar, not of bpbd", "bpbd", {}),
    ("no sequence 2 of this dispatch was made", "damkar", {"sequence": 2}),
]


def test_wrong_answers_are_quarantined_and_change_nothing(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with centre_at(where.config()) as centre, listener(where.broker.url, "centre") as (bus, _):
            await connected(centre)
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            for _, agency, change in WRONG:
                ack: dict[str, object] = {"dispatch_id": id, "state": "accepted", "at": "now", "by": "x"}
                payload = change if isinstance(change, bytes) else json.dumps(ack | change).encode()
                await bus.publish(Outgoing(f"{PREFIX}/ack/{agency}", payload))
            await bus.publish(Outgoing(f"{PREFIX}/presence/nobody", b"{}"))
            await bus.publish(Outgoing(f"{PREFIX}/presence/damkar", b"{}"))
            await until(lambda: len(centre.dispatcher.quarantined) == len(WRONG) + 2)
            reasons = [one.reason for one in centre.dispatcher.quarantined]
            for (reason, _, _), found in zip(WRONG[1:], reasons[1:], strict=False):
                assert reason in found
            assert reasons[-2] == "no such agency is configured"
            assert centre.dispatch(id)["state"] == "published"
            events = centre.reader.events(subject="system", subject_id="mqtt")
            assert [event["kind"] for event in events] == ["quarantined"] * len(reasons)

    run(tmp_path, scenario)


def test_a_duplicate_is_answered_again_and_shown_once(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with (
            centre_at(where.config(escalate='["resend", "alarm"]', accept_within_s=0.3)) as centre,
            agency_at(where.config("damkar")) as station,
        ):
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: "dispatch_unanswered" in centre.told.alarms)
            assert int(str(centre.dispatch(id)["attempts"])) >= 2, "one more if its presence comes first"
            assert len(station.book.entries) == 1
            station.enter(id, State.ACCEPTED)
            await until(lambda: not centre.told.alarms)
            assert centre.kinds(id).count("received") == 1

    run(tmp_path, scenario)


def test_presence_is_known_and_publishing_never_waits_for_it(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with (
            centre_at(where.config()) as centre,
            listener(where.broker.url, "bpbd", f"{PREFIX}/status") as (_, heard),
        ):
            await connected(centre)
            assert centre.dispatcher.agencies["damkar"] is None
            receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
            async with agency_at(where.config("damkar")) as station:
                await until(lambda: centre.dispatcher.agencies["damkar"])
                await until(lambda: station.book.get(receipt.dispatch_ids[0]))
            await until(lambda: centre.dispatcher.agencies["damkar"] is False)
            await until(lambda: heard)
            assert json.loads(heard[0][1])["state"] == "online"
            await where.broker.kill()
            await until(lambda: centre.dispatcher.agencies["damkar"] is None)

    run(tmp_path, scenario)


# --- the ladder -------------------------------------------------------------------------------------------------------


def test_an_agency_that_does_not_answer_is_replaced_and_relieved(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        ladder = '["agency:bpbd", "call:tel:113", "alarm"]'
        async with (
            centre_at(where.config(escalate=ladder, accept_within_s=0.4)) as centre,
            agency_at(where.config("bpbd"), "bpbd") as bpbd,
        ):
            receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Rumah terbakar", seat="101"))
            (damkar,) = receipt.dispatch_ids
            await until(lambda: bpbd.book.entries)
            message = bpbd.book.entries[0].message
            assert (message.incident_id, message.note, message.seat) == (receipt.incident_id, "Rumah terbakar", "101")
            bpbd.enter(message.dispatch_id, State.ACCEPTED)
            await until(lambda: "relieved" in centre.kinds(damkar))
            assert centre.dispatch(message.dispatch_id)["state"] == "accepted"
            assert [k for k in centre.kinds(damkar) if k in ("escalated", "engaged", "relieved")] == [
                *("escalated", "engaged", "relieved")
            ]
            assert "dispatch_unanswered" not in centre.told.raised

    run(tmp_path, scenario)


def test_two_agencies_that_stand_in_for_each_other_are_each_followed(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        file = where.config(escalate='["agency:bpbd", "alarm"]', accept_within_s=0.3)
        file.write_text(file.read_text().replace('escalate = ["alarm"]', 'escalate = ["agency:damkar", "alarm"]'))
        async with centre_at(file) as centre, agency_at(where.config("damkar")) as damkar:
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: len(centre.reader.dispatches()) == 2)
            bpbd = next(str(row["id"]) for row in centre.reader.dispatches() if row["id"] != id)
            await until(lambda: "engaged" in centre.kinds(bpbd))
            damkar.enter(id, State.ACCEPTED)
            await until(lambda: "relieved" in centre.kinds(bpbd))
            assert "relieved" not in centre.kinds(id), "it has accepted itself: its arrival is waited for"
            await until(lambda: "dispatch_unanswered" not in centre.told.alarms)

    run(tmp_path, scenario)


def test_who_accepts_relieves_all_in_whose_stead_it_was_engaged(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        file = where.config(escalate='["agency:bpbd", "alarm"]', accept_within_s=0.3)
        file.write_text(file.read_text().replace('escalate = ["alarm"]', 'escalate = ["agency:psc119", "alarm"]'))
        async with centre_at(file) as centre, agency_at(where.config("psc119"), "psc119") as psc119:
            (damkar,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: psc119.book.entries)
            psc119.enter(psc119.book.entries[0].message.dispatch_id, State.ACCEPTED)
            await until(lambda: "relieved" in centre.kinds(damkar))
            others = [str(row["id"]) for row in centre.reader.dispatches() if row["agency"] == "bpbd"]
            assert ["relieved" in centre.kinds(id) for id in others] == [True]
            await until(lambda: "dispatch_unanswered" not in centre.told.alarms)

    run(tmp_path, scenario)


def test_what_is_closed_is_not_kept_in_memory(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config("damkar")) as station:
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: station.book.get(id))
            station.enter(id, State.CLEARED)
            await until(lambda: not list(centre.dispatcher._outbox))
            station.restate(id)
            await until(lambda: station.book.pending == 0)
            await station._bus.publish(Outgoing(f"{PREFIX}/ack/damkar", b"after it"))
            await until(lambda: centre.dispatcher.quarantined)
            assert not list(centre.dispatcher._outbox)

    run(tmp_path, scenario)


def test_a_voice_call_that_nobody_can_make_is_an_alarm_and_the_next_step_follows(tmp_path: Path) -> None:
    async def scenario(where: Place) -> None:
        ladder = '["call:sip:113@192.0.2.9", "alarm"]'
        async with centre_at(where.config(escalate=ladder, accept_within_s=0.2)) as centre:
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: "dispatch_unanswered" in centre.told.alarms)
            assert "no voice calls can be made here" in centre.told.alarms["dispatch_step_failed"]
            assert centre.kinds(id).count("escalated") == 2

    run(tmp_path, scenario)


@pytest.mark.parametrize("agency", AGENCIES)
def test_every_agency_has_its_own_topic(tmp_path: Path, agency: str) -> None:
    async def scenario(where: Place) -> None:
        topic = f"{PREFIX}/dispatch/{agency}"
        async with (
            listener(where.broker.url, "centre") as (bus, _),
            listener(where.broker.url, agency, topic) as (_, got),
        ):
            await bus.publish(Outgoing(topic, b"{}"))
            await until(lambda: got)

    run(tmp_path, scenario)
