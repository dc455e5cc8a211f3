"""What breaks between the centre and an agency: broker, connection, either end. Nothing is lost, nothing is silent."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from siaga_pbx.config import load
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.mqtt import Outgoing
from siaga_pbx.dispatch.order import Order, Update
from siaga_pbx.records.errors import StoreUnavailable
from siaga_pbx.records.times import later, utc_now
from siaga_pbx.records.verify import verify
from tests.dispatch_centre import PREFIX, RULES, agency_at, centre_at, listener, mosquitto, until, write_config


def run(scenario: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
    """Runs it in bounded time; what it starts is stopped."""

    async def bounded() -> None:
        async with asyncio.timeout(40), AsyncExitStack() as stack:
            await scenario(stack)

    asyncio.run(bounded())


def test_a_dispatch_made_while_the_broker_is_down_arrives_when_it_is_up(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        await until(lambda: centre.dispatcher.connected and station.connected)
        await broker.kill()
        await until(lambda: "mqtt_disconnected" in centre.told.alarms)
        loop = asyncio.get_running_loop()
        began = loop.time()
        receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
        assert loop.time() - began < 2, "it waits for the disk, not for the broker"
        assert centre.dispatcher.pending == 1
        await broker.start()
        await until(lambda: station.book.get(receipt.dispatch_ids[0]))
        await until(lambda: centre.dispatcher.pending == 0)
        assert "mqtt_disconnected" not in centre.told.alarms
        assert centre.dispatch(receipt.dispatch_ids[0])["state"] == "received"

    run(scenario)


def test_an_update_of_an_old_incident_arrives_though_the_centre_was_started_again(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        config = write_config(tmp_path, broker.url)
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        async with centre_at(config) as centre:
            call = centre.call()
            (id,) = (await centre.dispatcher.dispatch(Order(call, "fire"))).dispatch_ids
            await until(lambda: station.book.get(id))
            await until(lambda: centre.dispatcher.pending == 0)
            await broker.kill()
            await centre.dispatcher.update(Update(call, people=7))
            assert centre.store.flush()
        with closing(sqlite3.connect(tmp_path / "siaga.db")) as records, records:
            records.execute("UPDATE incident SET opened_at = ?", (later(utc_now(), -30 * 86_400),))
        centre = await stack.enter_async_context(centre_at(config))
        await until(lambda: centre.dispatcher.pending == 1)  # before the agency says anything
        await broker.start()
        await until(lambda: (entry := station.book.get(id)) is not None and entry.message.people == 7)

    run(scenario)


def test_a_broker_that_forgets_what_it_took_loses_nothing(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path, persistent=False)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        file = write_config(tmp_path, broker.url, user="damkar")
        async with agency_at(file) as station:
            await until(lambda: station.connected and centre.dispatcher.connected)
        # The broker has a session for the agency, so it takes the dispatch without a complaint, and forgets it.
        receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
        await until(lambda: ("damkar", "published") in centre.told.states)
        assert "dispatch_no_subscriber" not in centre.told.alarms
        await broker.stop()
        await broker.start()
        station = await stack.enter_async_context(agency_at(file))
        await until(lambda: station.book.get(receipt.dispatch_ids[0]))
        await until(lambda: centre.dispatcher.pending == 0)

    run(scenario)


def test_an_answer_that_the_broker_forgot_is_given_again(tmp_path: Path) -> None:
    """The agency has the broker's word for its answer while the centre is down; then the broker loses its memory."""

    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path, persistent=False)
        await broker.start()
        stack.push_async_callback(broker.stop)
        config = write_config(tmp_path, broker.url)
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        async with centre_at(config) as centre:
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: centre.dispatcher.pending == 0 and centre.told.states)
        station.enter(id, State.ACCEPTED)
        await until(lambda: station.book.pending == 0)
        await broker.stop()
        await broker.start()
        await until(lambda: station.connected)
        # What the broker acknowledges after this, it acknowledges after the answer; and it has nobody to give that to.
        await station._bus.publish(Outgoing(f"{PREFIX}/presence/damkar", station._presence(True), retain=True))
        centre = await stack.enter_async_context(centre_at(config))
        await until(lambda: ("damkar", "accepted") in centre.told.states)

    run(scenario)


def test_answers_given_while_the_centre_is_down_wait_at_the_broker(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        config = write_config(tmp_path, broker.url)
        async with agency_at(write_config(tmp_path, broker.url, user="damkar")) as station:
            async with centre_at(config) as centre:
                (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
                await until(lambda: station.book.get(id))
            station.enter(id, State.EN_ROUTE)
            await until(lambda: station.book.pending == 0)
        centre = await stack.enter_async_context(centre_at(config))
        await until(lambda: ("damkar", "en_route") in centre.told.states)
        assert centre.dispatch(id)["accepted_at"] is not None

    run(scenario)


def test_no_subscriber_is_an_alarm_until_the_agency_has_it(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        await until(lambda: centre.dispatcher.connected)
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: "dispatch_no_subscriber" in centre.told.alarms)
        assert id in centre.told.alarms["dispatch_no_subscriber"]
        await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        await until(lambda: not centre.told.alarms)

    run(scenario)


def test_a_broker_that_refuses_is_an_alarm_and_asked_again(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path, acl=RULES.replace(f"readwrite {PREFIX}/#", f"read {PREFIX}/#"))
        await broker.start()
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        await until(lambda: centre.dispatcher.connected)
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: "dispatch_refused" in centre.told.alarms)
        assert "Not authorized (0x87)" in centre.told.alarms["dispatch_refused"]
        assert centre.dispatch(id)["state"] == "pending"
        await broker.stop()
        broker = mosquitto(tmp_path, port=broker.port)
        await broker.start()
        stack.push_async_callback(broker.stop)
        await until(lambda: "dispatch_refused" not in centre.told.alarms)
        assert centre.dispatch(id)["state"] == "published"

    run(scenario)


class Cutter:
    """A wire between the centre and the broker that breaks at each dispatch, before or after it got through."""

    def __init__(self, port: int, cuts: list[str]) -> None:
        self._port, self.cuts = port, cuts
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
            down = asyncio.create_task(self._pass(up_reader, writer))
            await self._pass(reader, up_writer)
            down.cancel()
        except OSError:
            writer.close()
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                publishes = data[0] >> 4 == 3 and b"/dispatch/" in data
                cut = self.cuts.pop(0) if publishes and self.cuts else ""
                if cut != "before":
                    writer.write(data)
                    await writer.drain()
                if cut:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()


def test_a_connection_that_breaks_in_the_middle_of_a_dispatch_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        cutter = Cutter(broker.port, ["before", "after", "before"])
        port = await cutter.start()
        stack.push_async_callback(cutter.stop)
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, f"mqtt://127.0.0.1:{port}")))
        await until(lambda: centre.dispatcher.agencies["damkar"])
        calls = [centre.call() for _ in range(3)]
        orders = [centre.dispatcher.dispatch(Order(call, "fire")) for call in calls]
        receipts = await asyncio.gather(*orders)
        await until(lambda: centre.dispatcher.pending == 0 and not cutter.cuts, 20)
        ids = {receipt.dispatch_ids[0] for receipt in receipts}
        assert {entry.message.dispatch_id for entry in station.book.entries} == ids
        assert all(centre.dispatch(id)["state"] == "received" for id in ids)

    run(scenario)


def test_a_broker_that_says_nothing_blocks_nothing(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        left = []

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass
            left.append(True)
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with centre_at(write_config(tmp_path, f"mqtt://127.0.0.1:{port}")) as centre:
            await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
            assert loop.time() - began < 3
            assert centre.dispatcher.pending == 1
            await until(lambda: "timed out" in centre.told.alarms.get("mqtt_disconnected", ""))
            await until(lambda: left)

    run(scenario)


_CRASHING = """
import asyncio, os, sys
from pathlib import Path
from siaga_pbx.dispatch.order import Order, Update
from tests.dispatch_centre import centre_at

async def main() -> None:
    async with centre_at(Path(sys.argv[1])) as centre:
        receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
        print(receipt.dispatch_ids[0], flush=True)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def test_a_centre_that_is_killed_right_after_its_receipt_delivers_at_its_next_start(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        config = write_config(tmp_path, "mqtt://127.0.0.1:1")  # nobody is there
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _CRASHING, str(config)),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        output = (await process.stdout.read()).decode().split()
        assert await process.wait() == -signal.SIGKILL
        await broker.start()
        stack.push_async_callback(broker.stop)
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        await until(lambda: centre.dispatcher.pending == 0 and station.book.entries)
        assert [entry.message.dispatch_id for entry in station.book.entries] == output[-1:]
        assert not verify(centre.config.records.database)

    run(scenario)


_TELLING = """
import asyncio, sys
from pathlib import Path
from siaga_pbx.dispatch.order import Order, Update
from tests.dispatch_centre import centre_at, until

async def main() -> None:
    async with centre_at(Path(sys.argv[1])) as centre:
        receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
        for state in ("received", "accepted"):
            await until(lambda: ("damkar", state) in centre.told.states)
            assert state == "accepted" or centre.store.flush()
            print(state, receipt.dispatch_ids[0], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_an_answer_that_is_not_on_the_disk_yet_is_not_acknowledged_to_the_broker(tmp_path: Path) -> None:
    """The centre is killed when it knows of the acceptance and has not written it; the broker gives it again."""

    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        config = write_config(tmp_path, broker.url)
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _TELLING, str(config)),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        lines = process.stdout
        id = (await anext(line async for line in lines if line.startswith(b"received"))).decode().split()[1]
        await until(lambda: station.book.pending == 0)
        with closing(sqlite3.connect(tmp_path / "siaga.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            station.enter(id, State.ACCEPTED)
            await anext(line async for line in lines if line.startswith(b"accepted"))
            await until(lambda: station.book.pending == 0)
            process.kill()
            await process.communicate()
        centre = await stack.enter_async_context(centre_at(config))
        await until(lambda: centre.dispatch(id)["state"] == "accepted")

    run(scenario)


def test_the_ladder_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        config = write_config(tmp_path, broker.url, accept_within_s=0.5, escalate='["agency:bpbd", "alarm"]')
        bpbd = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="bpbd"), "bpbd"))
        async with centre_at(config) as centre:
            (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
            await until(lambda: bpbd.book.entries)
        centre = await stack.enter_async_context(centre_at(config))
        await until(lambda: id in centre.told.alarms.get("dispatch_unanswered", ""))
        assert len(bpbd.book.entries) == 1, "no step is taken twice"
        bpbd.enter(bpbd.book.entries[0].message.dispatch_id, State.ACCEPTED)
        await until(lambda: "dispatch_unanswered" not in centre.told.alarms)
        assert centre.kinds(id)[-2:] == ["relieved", "dispatch_unanswered_over"]

    run(scenario)


def test_a_late_answer_to_what_is_closed_is_taken_from_the_records(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        config = write_config(tmp_path, broker.url, accept_within_s=0.3, escalate='["agency:bpbd", "alarm"]')
        bpbd = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="bpbd"), "bpbd"))
        damkar = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        centre = await stack.enter_async_context(centre_at(config))
        receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire"))
        (id,) = receipt.dispatch_ids
        await until(lambda: damkar.book.entries)
        damkar.enter(id, State.REJECTED, "no engine")
        await until(lambda: bpbd.book.entries)
        bpbd.enter(bpbd.book.entries[0].message.dispatch_id, State.CLEARED)

        def status() -> object:
            assert centre.store.flush()
            incident = centre.reader.incident(receipt.incident_id)
            return incident and incident["status"]

        await until(lambda: status() == "closed")
        damkar.enter(id, State.ACCEPTED)
        await until(lambda: centre.dispatch(id)["state"] == "accepted")
        assert status() == "open"
        damkar.enter(id, State.CLEARED)
        await until(lambda: status() == "closed")
        assert not verify(centre.config.records.database)

    run(scenario)


def test_a_reload_moves_to_another_broker_without_losing_what_is_under_way(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        old, new = mosquitto(tmp_path / "old"), mosquitto(tmp_path / "new")
        for broker in (old, new):
            await broker.start()
            stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, old.url)))
        await until(lambda: centre.dispatcher.connected)
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: centre.dispatch(id)["state"] == "published")
        await centre.dispatcher.configure(load(write_config(tmp_path, new.url)))
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, new.url, user="damkar")))
        await until(lambda: station.book.get(id) and centre.dispatcher.pending == 0)

    run(scenario)


def test_a_flood_of_nonsense_is_bounded_and_the_answers_still_come_through(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url)))
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        flooder, _ = await stack.enter_async_context(listener(broker.url, "damkar"))
        await until(lambda: centre.dispatcher.agencies["damkar"])
        nonsense = Outgoing(f"{PREFIX}/ack/damkar", b"x" * 2000)
        for _ in range(15):  # all at once is more than a busy machine confirms in time
            await asyncio.gather(*(flooder.publish(nonsense) for _ in range(20)))
        (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
        await until(lambda: station.book.get(id))
        station.enter(id, State.ACCEPTED)
        await until(lambda: ("damkar", "accepted") in centre.told.states)
        assert len(centre.dispatcher.quarantined) == 100
        assert centre.store.flush()
        assert len(centre.reader.events(subject="system", subject_id="mqtt")) <= 60

    run(scenario)


def test_a_database_that_does_not_answer_is_told_and_what_it_takes_after_all_is_sent(tmp_path: Path) -> None:
    """The call-taker is not left waiting, and nothing that was committed is forgotten."""

    async def scenario(stack: AsyncExitStack) -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        stack.push_async_callback(broker.stop)
        centre = await stack.enter_async_context(centre_at(write_config(tmp_path, broker.url), busy_timeout_s=60))
        station = await stack.enter_async_context(agency_at(write_config(tmp_path, broker.url, user="damkar")))
        await until(lambda: centre.dispatcher.connected and station.connected)
        call = centre.call()
        assert centre.store.flush()
        with closing(sqlite3.connect(tmp_path / "siaga.db", isolation_level=None)) as locker:
            locker.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="telephone the agency"):
                await centre.dispatcher.dispatch(Order(call, "fire"))
            locker.execute("ROLLBACK")
        await until(lambda: station.book.entries)
        await until(lambda: centre.dispatcher.pending == 0)

    run(scenario)
