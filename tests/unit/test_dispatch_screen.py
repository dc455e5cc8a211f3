"""The agency's screen: what is seen, and what the keys do."""

import asyncio
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from siaga_pbx.config import AgencyEnd
from siaga_pbx.dispatch.agency_book import Entry, News, Signature
from siaga_pbx.dispatch.agency_screen import Screen
from siaga_pbx.dispatch.agency_sound import EVERY_S, Ringer
from siaga_pbx.dispatch.agency_view import in_a_line
from siaga_pbx.dispatch.ladder import State
from siaga_pbx.dispatch.message import Dispatch, Kind, Location, Purpose
from siaga_pbx.dispatch.station import Station, state_file_of
from siaga_pbx.records.ids import new_id
from siaga_pbx.settings import Agency, Mqtt
from tests.unit.test_dispatch_message import DISPATCH, encoded

MESSAGE = Dispatch.parse(encoded(DISPATCH))
NOW = Signature("Regu 1", "2026-11-24T00:00:05.000Z")


class Seen:
    """A screen on paper."""

    def __init__(self, folder: Path, width: int = 120, height: int = 40) -> None:
        end = AgencyEnd(
            path=folder / "siaga.toml",
            centre_id="cirebon",
            mqtt=Mqtt(broker="mqtt://127.0.0.1:1"),
            agencies=(Agency(id="damkar"),),
        )
        self.paper = io.StringIO()
        console = Console(file=self.paper, width=width, height=height, force_terminal=True, color_system=None)
        self.station = Station(end, "damkar", folder / "book.json", "Regu 1")
        self.sounds = 0
        self.ringer = Ringer(self.sound)
        self.now = datetime(2026, 11, 24, 0, 0, 30, tzinfo=UTC)
        self.screen = Screen(self.station, "Damkar at cirebon", self.ringer, console, UTC, lambda: self.now)
        self._size = width, height

    def sound(self) -> None:
        self.sounds += 1

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
        width, height = self._size
        paper = io.StringIO()
        Console(file=paper, width=width, height=height, color_system=None).print(self.screen.render(), end="")
        return paper.getvalue()


def on_screen(folder: Path, scenario: Callable[[Seen], None], width: int = 120, height: int = 40) -> None:
    async def within() -> None:
        scenario(Seen(folder, width, height))

    asyncio.run(within())


def test_a_dispatch_is_seen_in_full_and_rings(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        assert "Damkar at cirebon" in seen.text()
        seen.arrives(note="Rumah [b]terbakar[/b]")
        assert seen.sounds == 1
        text = seen.text()
        for part in (
            "24 Nov 00:00:05",
            "0:25",
            "0:30 left",
            "▶ NEW · FIRE · Jl. Siliwangi 1",
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
        assert "▶ 24 Nov" in seen.text()
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
        seen.press("x\r  \rno\x1b")
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
        seen.press("qa")
        assert not seen.screen.quitting
        assert seen.state(entry) is State.RECEIVED, "whatever was pressed then meant: stay"
        seen.press("qy")
        assert seen.screen.quitting

    on_screen(tmp_path, scenario)


def test_what_is_not_kept_stays_on_the_screen_until_it_is(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        seen.arrives()
        sounds = seen.sounds
        seen.station.fault = "book.json cannot be written: No space left on device"
        seen.screen.kept(seen.station.fault)
        assert seen.sounds > sounds
        seen.press("\x1br")
        assert "NOT KEPT" in seen.text()
        assert "No space left on device" in seen.text()
        assert "not told: not kept" in seen.text()
        seen.station.fault = ""
        seen.screen.kept("")
        assert "NOT KEPT" not in seen.text()

    on_screen(tmp_path, scenario)


def test_what_is_refused_and_the_connection_are_seen(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        seen.screen.refused("category: field required")
        seen.screen.connection(False, "Connection refused")
        text = seen.text()
        assert "refused a message 24 Nov 00:00:30: category: field required" in text
        assert "NO CONNECTION: Connection refused" in text
        assert seen.sounds == 1
        seen.screen.refused("not JSON")
        assert "refused 2 messages, the last 24 Nov 00:00:30: not JSON" in seen.text()
        seen.press("\x1b")
        assert "Esc: seen" not in seen.text()

    on_screen(tmp_path, scenario)


def test_it_sounds_again_and_again_until_something_is_keyed(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        first, second = seen.arrives(), seen.arrives()
        assert seen.sounds == 2
        start = 1e9
        for second_of_time in range(10):
            seen.ringer.tick(start + second_of_time)
        assert seen.sounds == 2 + -(-10 // int(EVERY_S))
        seen.press("r")
        assert seen.state(first) is State.RECEIVED
        assert list(seen.ringer.ringing) == [second.message.dispatch_id]
        seen.press("ka")
        seen.ringer.tick(start + 100)
        sounds = seen.sounds
        seen.ringer.tick(start + 200)
        assert (seen.sounds, seen.ringer.ringing) == (sounds, {})

    on_screen(tmp_path, scenario)


def test_after_a_restart_what_nobody_answered_rings_again(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        waits, gone = seen.arrives(), seen.arrives()
        seen.press("jc")
        ringer = Ringer(seen.sound)
        for entry in seen.station.book.entries:
            ringer.take_up(entry)
        ids = {waits.message.dispatch_id, gone.message.dispatch_id}
        cleared = {entry.message.dispatch_id for entry in seen.station.book.entries if entry.closed}
        assert set(ringer.ringing) == ids - cleared

    on_screen(tmp_path, scenario)


def test_an_update_and_a_cancel_are_loud_and_say_what_changed(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        entry = seen.arrives(people=3)
        id = entry.message.dispatch_id
        seen.press("ae")
        assert seen.ringer.ringing == {}
        place = Location(address="Pasar Pagi", lat=-6.7, lon=108.5)
        seen.arrives(dispatch_id=id, sequence=2, type=Kind.UPDATE, location=place, people=4)
        text = seen.text()
        assert "▶ UPDATE · FIRE · Pasar Pagi · where: Jl. Siliwangi 1 → Pasar Pagi" in text
        assert "people: 3 → 4" in " ".join(text.replace("│", " ").split())
        assert seen.ringer.ringing == {id: News.UPDATE}
        seen.press("r")
        assert seen.ringer.ringing == {}
        seen.arrives(dispatch_id=id, sequence=3, type=Kind.CANCEL)
        assert "▶ CANCELLED · FIRE" in seen.text()
        seen.press("o")
        assert "not on_scene: it is cancelled" in seen.text()
        assert seen.ringer.ringing == {}

    on_screen(tmp_path, scenario)


def test_an_exercise_and_a_test_are_told_apart(tmp_path: Path) -> None:
    def scenario(seen: Seen) -> None:
        seen.arrives(status=Purpose.TEST)
        text = seen.text()
        assert "FIRE (TEST)" in text
        assert "TEST of the equipment: answer, do not go" in text

    on_screen(tmp_path, scenario)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 15), (200, 60), (40, 10)])
def test_it_fits_any_terminal_and_the_chosen_one_is_on_it(tmp_path: Path, width: int, height: int) -> None:
    def scenario(seen: Seen) -> None:
        for number in range(30):
            seen.arrives(location=Location(address=f"Jl. {number} " + "panjang " * 30), note="api " * 200)
        for _ in range(40):
            lines = seen.text().splitlines()
            assert len(lines) <= height
            assert all(len(line) <= width for line in lines)
            assert sum(line.startswith("▶") for line in lines) == 1
            seen.press("j")

    on_screen(tmp_path, scenario, width, height)


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
