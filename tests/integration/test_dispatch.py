"""From the order to the agency's answer, on a real mosquitto with passwords and rights."""

import asyncio
from pathlib import Path

from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.order import Order
from tests.dispatch_centre import agency_at, centre_at, mosquitto, until, write_config


def test_an_order_reaches_the_agency_and_its_answers_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = mosquitto(tmp_path)
        await broker.start()
        async with (
            centre_at(write_config(tmp_path, broker.url)) as centre,
            agency_at(write_config(tmp_path, broker.url, user="damkar")) as station,
        ):
            await until(lambda: centre.dispatcher.agencies["damkar"])
            receipt = await centre.dispatcher.dispatch(Order(centre.call(), "fire", note="Rumah terbakar", seat="101"))
            (dispatch_id,) = receipt.dispatch_ids
            await until(lambda: station.book.get(dispatch_id))
            for state in (State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED):
                station.enter(dispatch_id, state)
            await until(lambda: ("damkar", "cleared") in centre.told.states)
            row = centre.dispatch(dispatch_id)
            print(row, centre.kinds(dispatch_id))
        await broker.stop()

    asyncio.run(scenario())
