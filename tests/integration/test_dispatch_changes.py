"""More becomes known of an incident, more people report it, or nobody is to go: real broker, real agency's end."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import Kind
from siaga_pbx.dispatch.order import (
    Cancel,
    NoAgency,
    NoIncident,
    Order,
    Place,
    UnknownCall,
    Update,
    WhichIncident,
)
from siaga_pbx.records import changes as record
from siaga_pbx.records.ids import new_id
from tests.dispatch_centre import agency_at, centre_at, until
from tests.integration.test_dispatch import Place as Where
from tests.integration.test_dispatch import run


def test_the_same_agencies_are_told_more_by_their_next_sequences(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        async with (
            centre_at(where.config()) as centre,
            agency_at(where.config(user="damkar")) as damkar,
            agency_at(where.config(user="psc119"), "psc119") as psc119,
        ):
            call_id = centre.call(lat=-6.7, lon=108.5, radius_m=900.0, location_method="cell")
            order = Order(call_id, "accident", note="Tabrakan", address="Jl. Siliwangi")
            first = await centre.dispatcher.dispatch(order)
            await until(lambda: len(damkar.book.entries) == len(psc119.book.entries) == 1)
            place = Place(-6.71, 108.55, 10.0)
            second = await centre.dispatcher.update(Update(call_id, address="Jl. Siliwangi 12", place=place))
            assert second == first
            await until(lambda: all(one.book.entries[0].message.sequence == 2 for one in (damkar, psc119)))
            for station in (damkar, psc119):
                (entry,) = station.book.entries
                assert entry.message.type is Kind.UPDATE
                assert (entry.message.note, entry.message.callers) == ("Tabrakan", 1)
                assert entry.message.location is not None
                assert entry.message.location.model_dump() == {
                    "lat": -6.71,
                    "lon": 108.55,
                    "radius_m": 10.0,
                    "method": "manual",
                    "address": "Jl. Siliwangi 12",
                }
            await until(lambda: centre.dispatcher.pending == 0)
            assert [centre.dispatch(id)["sequence"] for id in first.dispatch_ids] == [2, 2]
            (incident,) = centre.reader.incidents()
            assert (incident["lat"], incident["location_method"], incident["address"]) == (
                *(-6.71, "manual"),
                "Jl. Siliwangi 12",
            )

    run(tmp_path, scenario)


def test_another_caller_joins_the_incident_and_is_counted_once(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config(user="damkar")) as station:
            receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Asap"))
            call = {"caller_number": "+6281200000111", "lat": -6.7, "lon": 108.5, "radius_m": 30.0}
            second = centre.call(**call, location_method="handset")
            joined = Update(second, incident_id=receipt.incident_id, note="Api besar", people=2, protected=True)
            for _ in range(2):
                assert await centre.dispatcher.update(joined) == receipt
            more = await centre.dispatcher.update(Update(second, note="Api di lantai dua"))
            assert more == receipt, "it is found by the call that has joined"
            await until(lambda: station.book.entries and station.book.entries[0].message.sequence == 4)
            message = station.book.entries[0].message
            assert (message.callers, message.people, message.note) == (2, 2, "Api di lantai dua")
            assert message.location is not None
            assert (message.location.radius_m, message.location.method) == (30.0, "handset")
            assert message.protected
            assert message.callback is not None
            assert message.callback.number is None
            assert centre.store.flush()
            kinds = [event["kind"] for event in centre.reader.events(subject="call", subject_id=second)]
            assert kinds.count("incident_joined") == 1
            assert centre.reader.incidents()[0]["callers"] == 2

    run(tmp_path, scenario)


def test_an_update_follows_whoever_was_engaged_and_begins_nobody_anew(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        ladder = '["agency:bpbd", "alarm"]'
        async with (
            centre_at(where.config(escalate=ladder)) as centre,
            agency_at(where.config(user="damkar")) as damkar,
            agency_at(where.config(user="bpbd"), "bpbd") as bpbd,
        ):
            call_id = centre.call()
            (id,) = (await centre.dispatcher.dispatch(Order(call_id, "fire"))).dispatch_ids
            await until(lambda: damkar.book.get(id))
            damkar.enter(id, State.REJECTED, "no engine")
            await until(lambda: bpbd.book.entries)
            receipt = await centre.dispatcher.update(Update(call_id, note="Api besar"))
            await until(lambda: bpbd.book.entries[0].message.sequence == 2)
            assert receipt.dispatch_ids == (bpbd.book.entries[0].message.dispatch_id,)
            assert centre.dispatch(id)["reason"] == "no engine"
            assert centre.dispatch(id)["rejected_at"]
            assert centre.dispatch(id)["sequence"] == 1

    run(tmp_path, scenario)


def test_a_cancellation_is_delivered_like_a_dispatch_and_closes_the_incident(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        ladder = '["alarm"]'
        damkar_config = where.config(user="damkar")
        async with centre_at(where.config(escalate=ladder, accept_within_s=0.3)) as centre:
            call_id = centre.call()
            async with agency_at(damkar_config) as station:
                receipt = await centre.dispatcher.dispatch(Order(call_id, "fire", note="Asap"))
                (id,) = receipt.dispatch_ids
                await until(lambda: "dispatch_unanswered" in centre.told.alarms)
                await until(lambda: station.book.get(id))
            assert await centre.dispatcher.cancel(Cancel(call_id, reason="Alarm palsu")) == receipt
            assert "dispatch_unanswered" not in centre.told.alarms
            assert centre.dispatcher.pending == 1, "it has to be received as well"
            row = centre.dispatch(id)
            assert (row["state"], row["reason"], row["sequence"]) == ("cancelled", "Alarm palsu", 2)
            async with agency_at(damkar_config) as station:
                await until(lambda: station.book.entries[0].cancelled)
                assert station.book.entries[0].message.note == "Alarm palsu"
                await until(lambda: centre.dispatcher.pending == 0)
                assert centre.store.flush()
                assert centre.reader.incidents()[0]["status"] == "closed"
                with pytest.raises(NoIncident):
                    await centre.dispatcher.cancel(Cancel(call_id))
                again = await centre.dispatcher.dispatch(Order(call_id, "fire"))
                assert again.incident_id != receipt.incident_id

    run(tmp_path, scenario)


def test_one_agency_alone_is_told_that_it_need_not_go(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        async with centre_at(where.config()) as centre:
            call_id = centre.call()
            damkar, psc119 = (await centre.dispatcher.dispatch(Order(call_id, "accident"))).dispatch_ids
            receipt = await centre.dispatcher.cancel(Cancel(call_id, agency="psc119"))
            assert receipt.dispatch_ids == (psc119,)
            assert [centre.dispatch(id)["state"] for id in (damkar, psc119)] != ["cancelled", "cancelled"]
            assert centre.dispatch(psc119)["state"] == "cancelled"
            with pytest.raises(NoAgency):
                await centre.dispatcher.cancel(Cancel(call_id, agency="psc119"))

    run(tmp_path, scenario)


def test_what_nobody_can_mean_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        async with centre_at(where.config()) as centre:
            call_id = centre.call()
            refused: list[tuple[type[Exception], Callable[[], Awaitable[object]]]] = [
                (NoIncident, lambda: centre.dispatcher.update(Update(call_id, note="x"))),
                (NoIncident, lambda: centre.dispatcher.cancel(Cancel(call_id))),
                (UnknownCall, lambda: centre.dispatcher.update(Update(new_id()))),
                (NoIncident, lambda: centre.dispatcher.update(Update(call_id, incident_id=new_id()))),
            ]
            for error, act in refused:
                with pytest.raises(error):
                    await act()
            assert centre.store.flush()
            assert centre.reader.incidents() == centre.reader.outbox() == []
            await centre.dispatcher.dispatch(Order(call_id, "fire"))
            accident = await centre.dispatcher.dispatch(Order(call_id, "accident"))
            with pytest.raises(WhichIncident, match="fire, accident"):
                await centre.dispatcher.update(Update(call_id, note="x"))
            assert await centre.dispatcher.update(Update(call_id, "accident", note="x")) == accident

    run(tmp_path, scenario)


def test_alarms_that_stood_stand_after_a_restart_and_those_that_were_over_do_not(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        async with agency_at(where.config(user="damkar")) as station:
            async with centre_at(where.config()) as centre:
                (id,) = (await centre.dispatcher.dispatch(Order(centre.call(), "fire"))).dispatch_ids
                await until(lambda: station.book.get(id))
                station.enter(id, State.EN_ROUTE)
                # The agency's own book takes no rejection of what is under way; a program of another make may say it.
                ack = f'{{"dispatch_id":"{id}","state":"rejected","at":"now","by":"x","reason":"mogok"}}'
                await until(lambda: centre.dispatch(id)["state"] == "en_route")
                await centre.dispatcher._on_ack("damkar", ack.encode())
                await until(lambda: "dispatch_withdrawn" in centre.told.alarms)
            async with centre_at(where.config()) as centre:
                await until(lambda: "mogok" in centre.told.alarms.get("dispatch_withdrawn", ""))
                station.enter(id, State.ON_SCENE)
                await until(lambda: "dispatch_withdrawn" not in centre.told.alarms)
                await until(lambda: centre.dispatch(id)["arrived_at"])
            async with centre_at(where.config()) as centre:
                await until(lambda: centre.dispatcher._outbox.get(id))
                assert not centre.told.alarms

    run(tmp_path, scenario)


def test_who_goes_there_learns_where_the_caller_is_by_now(tmp_path: Path) -> None:
    async def scenario(where: Where) -> None:
        async with centre_at(where.config()) as centre, agency_at(where.config(user="damkar")) as station:
            call_id = centre.call(lat=-6.7, lon=108.5, radius_m=900.0, location_method="cell", address="Jl. Siliwangi")
            await centre.dispatcher.relocate(call_id)  # nobody goes anywhere yet
            await centre.dispatcher.dispatch(Order(call_id, "fire"))
            await centre.dispatcher.relocate(call_id)  # it is no news
            better = {"lat": -6.71, "lon": 108.55, "radius_m": 12.0, "location_method": "GPS"}
            centre.store.write([record.Update("call", call_id, better)])
            await centre.dispatcher.relocate(call_id)
            await until(lambda: station.book.entries and station.book.entries[0].message.sequence == 2)
            message = station.book.entries[0].message
            assert message.type is Kind.UPDATE
            assert message.location is not None
            told = message.location.model_dump()
            assert (told["lat"], told["radius_m"], told["address"]) == (-6.71, 12.0, "Jl. Siliwangi")
            # A person knows better than a network.
            await centre.dispatcher.update(Update(call_id, address="Jl. Kartini 4", place=Place(-6.72, 108.56)))
            centre.store.write([record.Update("call", call_id, better | {"lat": -6.73, "address": "Jl. Lain"})])
            await centre.dispatcher.relocate(call_id)
            await until(lambda: station.book.entries[0].message.sequence == 3)
            assert station.book.entries[0].message.location == message.location.model_copy(
                update={"lat": -6.72, "lon": 108.56, "radius_m": None, "method": "manual", "address": "Jl. Kartini 4"}
            )

    run(tmp_path, scenario)
