"""What is erased does not come back from what is followed in memory; what agencies may need yet is not erased."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from siaga_pbx.build import forgetting
from siaga_pbx.dispatch.ladder import Answer, State
from siaga_pbx.dispatch.message import Ack
from siaga_pbx.dispatch.order import Cancel, NoIncident, Order, Update
from siaga_pbx.net.trace import Trace
from siaga_pbx.records.custody import Custody, Erased
from siaga_pbx.records.errors import NotPossible
from siaga_pbx.records.times import later, utc_now
from tests.dispatch_centre import Centre, centre_at, write_config

NUMBER = "+6281234567890"
DAYS = 3


@asynccontextmanager
async def unconnected(folder: Path) -> AsyncIterator[Centre]:
    """A centre whose broker is not there; agencies answer all the same."""
    async with asyncio.timeout(30), centre_at(write_config(folder, "mqtt://127.0.0.1:1")) as centre:
        await until_resumed(centre)
        yield centre


async def until_resumed(centre: Centre) -> None:
    assert centre.dispatcher._resuming is not None
    await asyncio.wait({centre.dispatcher._resuming})


async def answer(centre: Centre, dispatch_id: str, *states: Answer) -> None:
    for state in states:
        ack = Ack(dispatch_id=dispatch_id, state=state, at=utc_now(), by="Regu 1")
        assert await centre.dispatcher._on_ack("damkar", ack.encode()) == ""


async def erase(centre: Centre, act: Callable[[Custody], Erased]) -> Erased:
    """Some days later."""
    loop = asyncio.get_running_loop()
    recordings = centre.config.records.recordings
    custody = Custody(
        centre.store,
        centre.reader,
        recordings,
        lambda: later(utc_now(), DAYS * 86_400),
        forgetting(centre.dispatcher, Trace(), loop),
    )
    return await asyncio.to_thread(act, custody)


def everything(centre: Centre) -> str:
    assert centre.store.flush()
    reader = centre.reader
    return str([reader.calls(), reader.incidents(), reader.dispatches(), reader.outbox(), reader.events()])


async def ordered(centre: Centre, note: str) -> tuple[str, str]:
    """An ended call, and its dispatch; the agency has accepted it, and never clears it."""
    call = centre.call(ended_at=utc_now())
    (dispatch,) = (await centre.dispatcher.dispatch(Order(call, "fire", note=note))).dispatch_ids
    await answer(centre, dispatch, State.RECEIVED, State.ACCEPTED)
    return call, dispatch


def test_an_update_does_not_bring_back_what_is_erased(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with unconnected(tmp_path) as centre:
            call, dispatch = await ordered(centre, "Rumah Pak Budi")
            erased = await erase(centre, lambda custody: custody.erase_call(call, "asked for", "siti"))
            assert erased.calls == (call,)
            with pytest.raises(NoIncident):
                await centre.dispatcher.update(Update(call, people=2))
            assert "Budi" not in everything(centre)
            assert centre.dispatcher._outbox.get(dispatch) is None

    asyncio.run(scenario())


def test_after_a_restart_what_is_erased_is_over_as_well(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with unconnected(tmp_path) as centre:
            call, _ = await ordered(centre, "Rumah Pak Budi")
            await erase(centre, lambda custody: custody.erase_call(call, "asked for", "siti"))
        async with unconnected(tmp_path) as centre:
            with pytest.raises(NoIncident):
                await centre.dispatcher.cancel(Cancel(call))
            again = await centre.dispatcher.dispatch(Order(call, "fire"))
            assert len(again.dispatch_ids) == 1

    asyncio.run(scenario())


def test_a_number_struck_from_a_note_does_not_come_back_and_they_are_followed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with unconnected(tmp_path) as centre:
            call, dispatch = await ordered(centre, "Tetangga: 0812-3456-7890")
            erased = await erase(centre, lambda custody: custody.erase_number(NUMBER, "asked for", "siti"))
            assert (erased.calls, erased.going_on) == ((), ())
            await centre.dispatcher.update(Update(call, people=2))
            message = centre.dispatch(dispatch)["message"]
            assert isinstance(message, dict)
            assert (message["people"], message["note"]) == (2, "Tetangga: [erased]")
            assert "3456-7890" not in everything(centre)

    asyncio.run(scenario())


def test_what_an_agency_has_not_received_yet_is_not_erased(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with unconnected(tmp_path) as centre:
            call, dispatch = await ordered(centre, "Rumah Pak Budi")
            await centre.dispatcher.cancel(Cancel(call))
            with pytest.raises(NotPossible, match="goes on"):
                await erase(centre, lambda custody: custody.erase_call(call, "asked for", "siti"))
            await answer(centre, dispatch, State.RECEIVED)
            assert (await erase(centre, lambda custody: custody.erase_call(call, "asked for", "siti"))).calls == (call,)

    asyncio.run(scenario())
