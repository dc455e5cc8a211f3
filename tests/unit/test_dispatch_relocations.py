"""News of where a caller is, while the database is away."""

import asyncio
from collections.abc import Callable

import pytest

from siaga_pbx.dispatch import relocations
from siaga_pbx.dispatch.order import UnknownCall
from siaga_pbx.dispatch.relocations import Relocations
from siaga_pbx.records.errors import StoreUnavailable


class Record:
    """A database that is away for the next `away` tries; `on_try` is what happens during one."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.tries, self.told = away, 0, list[str]()
        self.errors: dict[str, Exception] = {}
        self.on_try: Callable[[], None] = lambda: None

    async def relocate(self, call: str) -> None:
        self.tries += 1
        on_try, self.on_try = self.on_try, lambda: None
        on_try()
        await asyncio.sleep(0)
        if call in self.errors:
            raise self.errors[call]
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        self.told.append(call)


def tell(record: Record, *calls: str) -> Relocations:
    """Tells of the calls, and returns when nothing is left to do."""

    async def run() -> Relocations:
        them = Relocations(record.relocate, retry_s=0.0)
        for call in calls:
            them.tell(call)
        while them._task is not None and not them._task.done():
            await them._task
        return them

    return asyncio.run(run())


def test_it_is_tried_until_the_database_is_back() -> None:
    record = Record(away=5)
    tell(record, "a", "b")
    assert sorted(record.told) == ["a", "b"]


def test_news_of_the_same_call_wait_once() -> None:
    record = Record(away=1)
    tell(record, "a", "a", "a")
    assert (record.told, record.tries) == (["a"], 2)


def test_news_that_come_while_it_is_told_are_told_too() -> None:
    record = Record()

    async def run() -> None:
        them = Relocations(record.relocate)
        record.on_try = lambda: them.tell("a")
        them.tell("a")
        assert them._task is not None
        await them._task

    asyncio.run(run())
    assert record.told == ["a", "a"]


@pytest.mark.parametrize("error", [UnknownCall("a"), KeyError("a")])
def test_what_is_refused_is_not_tried_again(error: Exception) -> None:
    record = Record()
    record.errors["a"] = error
    tell(record, "a", "b")
    assert (record.told, record.tries) == (["b"], 2)


def test_it_ends_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relocations, "GIVE_UP_S", -1.0)
    record = Record(away=10**9)
    tell(record, "a", "b")
    assert (record.told, record.tries) == ([], 2)


def test_no_more_wait_than_can_be_told() -> None:
    record = Record()
    calls = [str(number) for number in range(relocations.MAX_CALLS + 5)]
    tell(record, *calls)
    assert record.told == calls[5:]
