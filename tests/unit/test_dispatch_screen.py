"""The agency's screen: what is seen, and what the keys do."""

import asyncio
import io
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest
from rich.console import Console

from siaga_pbx.config import AgencyEnd
from siaga_pbx.dispatch.agency_book import Entry, News, Signature
from siaga_pbx.dispatch.agency_screen import Screen, in_a_line
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import Dispatch
from siaga_pbx.dispatch.station import Station, state_file_of
from siaga_pbx.records.ids import new_id
from siaga_pbx.settings import Agency, Mqtt
from tests.unit.test_dispatch_message import DISPATCH, encoded

MESSAGE = Dispatch.parse(encoded(DISPATCH))
NOW = Signature("Regu 1", "2026-11-24T00:00:05.000Z")


class Seen:
    """A screen on paper."""

    def __init__(self, folder: Path) -> None:
        end = AgencyEnd(
            path=folder / "siaga.toml",
            centre_id="cirebon",
            mqtt=Mqtt(broker="mqtt://127.0.0.1:1"),
            agencies=(Agency(id="damkar"),),
        )
        self.paper = io.StringIO()
        console = Console(file=self.paper, width=120, height=40, force_terminal=True, color_system=None)
        self.station = Station(end, "damkar", folder / "book.json", "Regu 1")
        self.screen = Screen(self.station, "Damkar at cirebon", console, UTC)

    def arrives(self, **change: object) -> Entry:
        message = MESSAGE.model_copy(update={"dispatch_id": new_id(), **change})
        news, entry = self.station.book.receive(message, NOW)
        self.screen.hear(news, entry)
        return entry

    def state(self, entry: Entry) -> State:
        now = self.station.book.get(entry.message.dispatch_id)
        assert now is not None
        return now.state

    def press(self, keys: str) -> None:
        for key in keys:
            self.screen.press(key)

    def text(self) -> str:
        self.paper.truncate(0)
        Console(file=self.paper, width=120, color_system=None).print(self.screen.render())
        return self.paper.getvalue()


def on_screen(folder: Path, scenario: Callable[[Seen], None]) -> None:
    async def within() -> None:
        scenario(Seen(folder))

    asyncio.run(within())


def test_a_dispatch_is_seen_in_full_and_rings(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        assert "Damkar at cirebon" in seen.text()
        seen.arrives(note="Rumah [b]terbakar[/b]")
        assert "\a" in seen.paper.getvalue()
        text = seen.text()
        for part in (
            "24 Nov 00:00:00",
            "fire",
            "received",
            "Jl. Siliwangi 1",
            "Rumah [b]terbakar[/b]",
            "+6281200000789",
        ):
            assert part in text
        seen.arrives(protected=True, callback=None, location=None)
        seen.press("k")
        assert "protected" in seen.text()
        assert "not known" in seen.text()
        seen.arrives(note="\x1b[2J\x1b]0;gone\x07", location=None)
        seen.press("k")
        assert "\x1b" not in seen.text()

    on_screen(tmp_path, scenario)


def test_keys_answer_the_chosen_dispatch(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        first, second = seen.arrives(), seen.arrives()
        assert ">" in seen.text()
        seen.press("a")
        assert (seen.state(first), seen.state(second)) == (State.ACCEPTED, State.RECEIVED)
        seen.press("ea")
        assert "not accepted: it is en_route already" in seen.text()
        seen.press("ko")
        assert seen.state(second) is State.ON_SCENE
        seen.press("c")
        assert (seen.state(first), seen.state(second)) == (State.EN_ROUTE, State.CLEARED)

    on_screen(tmp_path, scenario)


def test_a_rejection_has_its_reason_typed_and_can_be_left(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        entry = seen.arrives()
        seen.press("xno\x1b")
        assert seen.state(entry) is State.RECEIVED
        seen.press("xall outt\x7f of service")
        assert "all out of service_" in seen.text()
        seen.press("\r")
        rejected = seen.station.book.get(entry.message.dispatch_id)
        assert rejected is not None
        assert (rejected.state, rejected.reason) == (State.REJECTED, "all out of service")

    on_screen(tmp_path, scenario)


def test_a_new_dispatch_never_comes_between_a_key_and_its_dispatch(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        first = seen.arrives()
        seen.press("xno eng")
        second = seen.arrives()
        seen.press("ine\r")
        assert (seen.state(first), seen.state(second)) == (State.REJECTED, State.RECEIVED)
        seen.arrives()
        third = seen.arrives()
        seen.press("a")
        assert seen.state(third) is State.RECEIVED, "the one before it was chosen, and still waits"

    on_screen(tmp_path, scenario)


def test_telling_again_and_leaving(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        seen.press("ra")
        assert "no dispatch is chosen" in seen.text()
        entry = seen.arrives()
        while (ack := seen.station.book.unsent) is not None:
            seen.station.book.confirm(ack)
        seen.press("r")
        ack = seen.station.book.unsent
        assert ack is not None
        assert (ack.dispatch_id, ack.state) == (entry.message.dispatch_id, State.RECEIVED)
        seen.press("q")
        assert seen.screen.quitting

    on_screen(tmp_path, scenario)


def test_what_is_refused_and_the_connection_are_seen(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        seen.screen.refused("category: field required")
        seen.screen.connection(False, "Connection refused")
        text = seen.text()
        assert "refused: category: field required" in text
        assert "no connection: Connection refused" in text

    on_screen(tmp_path, scenario)


def test_a_line_for_a_pipe_is_one_line() -> None:
    entry = Entry(message=MESSAGE.model_copy(update={"note": "a\nb\x1b[31m"}), state=State.RECEIVED)
    line = in_a_line(News.NEW, entry)
    assert line.startswith(f"new {MESSAGE.dispatch_id}:1 fire received at Jl. Siliwangi 1 (2 people): a b")
    assert line.isprintable()


def test_the_state_file_is_the_units_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/siaga:/other")
    assert state_file_of("cirebon", "damkar") == Path("/var/lib/siaga/agency-cirebon-damkar.json")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/regu/state")
    assert state_file_of("cirebon", "damkar") == Path("/home/regu/state/siaga-pbx/agency-cirebon-damkar.json")
