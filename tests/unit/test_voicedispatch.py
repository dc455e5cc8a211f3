"""A dispatch told by telephone, with the real stack in virtual time: every way that such a call can go."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from siaga_pbx.dispatch.followup import CALL_S
from siaga_pbx.dispatch.hooks import Spoken
from siaga_pbx.dispatch.message import Dispatch
from siaga_pbx.media import protocol as media
from siaga_pbx.media.settings import socket_path
from siaga_pbx.voicedispatch import RING_S, TALK_S, THANKS_S
from tests.dispatch_centre import until
from tests.switch_bench import Centre, Phone
from tests.unit.test_dispatch_message import DISPATCH, encoded

MESSAGE = Dispatch.parse(encoded(DISPATCH))
TARGET = "sip:113@192.0.2.9"


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


@dataclass
class Calling:
    """A voice call under way, and the telephone that it rings."""

    centre: Centre
    told: list[str] = field(default_factory=list)
    task: "asyncio.Task[Spoken] | None" = None

    async def begin(self, target: str = TARGET, message: Dispatch = MESSAGE) -> Phone:
        def tell(kind: str, data: Mapping[str, object]) -> None:
            self.told.append(kind)

        self.task = asyncio.create_task(self.centre.voice.speak(target, message, tell))
        await until(lambda: self.centre.sent or (self.task and self.task.done()))  # a thread reads it out
        return self.centre.caller("agency")

    async def outcome(self) -> Spoken:
        assert self.task is not None
        return await asyncio.wait_for(self.task, 5)

    @property
    def leg(self) -> str:
        return self.centre.media.opened[0]

    @property
    def played(self) -> list[tuple[object, ...]]:
        return [asked[2:] for asked in self.centre.media.asked if asked[0] == "play"]

    def press(self, key: str) -> None:
        self.centre.hub.on_media(media.Dtmf(self.leg, key))

    def files(self) -> list[Path]:
        return list(socket_path(self.centre.config.media, 0).parent.glob("spoken-*"))


def scenario(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


async def is_over(centre: Centre) -> bool:
    centre.advance(40)
    await until(lambda: not Calling(centre).files())  # a thread removes them
    return centre.is_idle()


def test_it_is_told_until_one_is_pressed(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        invite = phone.take()
        assert str(invite.uri) == TARGET
        assert invite.headers.get("Priority") == "emergency"
        (file,) = call.files()
        assert call.played == [("voice-intro", "voice-fire", str(file), "voice-accept")]
        for _ in range(2):
            centre.hub.on_media(media.Played(call.leg))
        assert len(call.played) == 3
        call.press("1")
        call.press("1")  # a telephone that sends its keys by INFO too
        assert await call.outcome() == Spoken(True, "accepted by key after 2 times")
        assert call.played[-1] == ("voice-accepted",)
        centre.hub.on_media(media.Played(call.leg))
        phone.said_ok(centre.sent_request("BYE"))
        assert call.told == ["voice_call", "voice_answered", "voice_told", "voice_accepted"]
        assert await is_over(centre)

    scenario(work)


def test_one_by_info_counts_as_well_and_who_does_not_wait_for_the_thanks_has_accepted(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        phone.take()
        centre.sent.clear()
        info = phone.request("INFO", headers=(("Content-Type", "application/dtmf-relay"),))
        info.body = b"Signal=1\r\nDuration=160\r\n"
        phone.send(info)
        assert (await call.outcome()).accepted
        phone.bye()
        assert await is_over(centre)

    scenario(work)


def test_the_thanks_end_whether_they_could_be_played_or_not(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        phone.take()
        call.press("1")
        assert (await call.outcome()).accepted
        centre.advance(THANKS_S + 0.1)
        phone.said_ok(centre.sent_request("BYE"))
        assert await is_over(centre)

    scenario(work)


def test_another_key_asks_to_hear_it_again(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        phone.take()
        call.press("2")
        assert call.played[0] == call.played[1]
        assert call.task is not None
        assert not call.task.done()
        phone.bye()
        assert await call.outcome() == Spoken(False, "hung up without pressing 1")
        assert await is_over(centre)

    scenario(work)


@pytest.mark.parametrize(
    ("status", "why"), [(486, "busy"), (600, "busy"), (480, "no answer"), (404, "refused with 404")]
)
def test_a_refusal_is_told_at_once(centre: Centre, status: int, why: str) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        phone.answer(centre.sent_request("INVITE"), status)
        assert await call.outcome() == Spoken(False, why)
        assert call.told == ["voice_call", "voice_failed"]
        assert await is_over(centre)

    scenario(work)


def test_nobody_answers(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        invite = centre.sent_request("INVITE")
        phone.answer(invite, 180)
        centre.advance(RING_S + 0.1)
        assert await call.outcome() == Spoken(False, "no answer")
        cancel = centre.sent_request("CANCEL")
        phone.answer(cancel, 200)
        phone.answer(invite, 487)
        assert await is_over(centre)

    scenario(work)


def test_nobody_there_presses_a_key(centre: Centre) -> None:
    async def work() -> None:
        assert RING_S + TALK_S < CALL_S, "the ladder waits no longer"
        call = Calling(centre)
        phone = await call.begin()
        phone.take()
        centre.advance(TALK_S + 0.1)
        assert await call.outcome() == Spoken(False, "told, and nobody pressed 1")
        phone.said_ok(centre.sent_request("BYE"))
        assert await is_over(centre)

    scenario(work)


def test_what_is_no_longer_wanted_is_hung_up(centre: Centre) -> None:
    async def work() -> None:
        for answered in (True, False):
            call = Calling(centre)
            phone = await call.begin()
            invite = centre.sent_request("INVITE") if not answered else phone.take()
            if not answered:
                phone.answer(invite, 180)
            assert call.task is not None
            call.task.cancel()
            await asyncio.wait({call.task})
            if answered:
                phone.said_ok(centre.sent_request("BYE"))
            else:
                phone.answer(centre.sent_request("CANCEL"), 200)
                phone.answer(invite, 487)
            assert await is_over(centre)

    scenario(work)


def test_without_a_voice_the_prompts_say_where_it_can_be_read(centre: Centre) -> None:
    async def work() -> None:
        centre.voice_works = False
        call = Calling(centre)
        phone = await call.begin()
        phone.take()
        assert call.played == [("voice-intro", "voice-fire", "voice-details", "voice-accept")]
        assert call.told == ["voice_without_details", "voice_call", "voice_answered"]
        phone.bye()
        await call.outcome()
        assert await is_over(centre)

    scenario(work)


def test_what_cannot_be_called_fails_and_leaves_nothing(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        await call.begin(target="sip:")
        assert "nothing that can be called" in (await call.outcome()).detail
        centre.media.ports = 0
        await call.begin()
        assert await call.outcome() == Spoken(False, "no media worker, or no port")
        centre.voice.config = centre.config.model_copy(update={"trunks": ()})
        await call.begin()
        assert await call.outcome() == Spoken(False, "no [[trunk]] has outbound")
        centre.media.ports = 1000
        assert await is_over(centre)

    scenario(work)


def test_an_answer_without_audio_is_hung_up(centre: Centre) -> None:
    async def work() -> None:
        call = Calling(centre)
        phone = await call.begin()
        phone.answer(centre.sent_request("INVITE"), 200)
        assert await call.outcome() == Spoken(False, "answered without audio")
        phone.said_ok(centre.sent_request("BYE"))
        assert await is_over(centre)

    scenario(work)


def test_an_acceptance_waits_for_no_disk(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, works = threading.Event(), threading.Event()

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        hangs.set()
        works.wait(10)
        os.remove(path)

    async def work() -> None:
        monkeypatch.setattr(Path, "unlink", unlink)
        call = Calling(centre)
        phone = await call.begin()
        phone.take()
        call.press("1")
        assert (await call.outcome()).accepted
        await until(hangs.is_set)
        assert len(call.files()) == 1
        phone.bye()
        works.set()
        assert await is_over(centre)

    scenario(work)
