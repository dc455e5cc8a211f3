"""baresip as the seat and pyVoIP as the caller: what each says is found in what the other hears."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from siaga_pbx.demo.callers import ALIKE
from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre, free_port
from siaga_pbx.demo.compare import likeness, recording
from siaga_pbx.demo.phones import Caller, exact_audio, voice
from tests.authority import Authority
from tests.interop import baresip
from tests.interop.centres import ended, kinds, row, running, seat_state, until

TALK_S = 4.0
"""How much the caller says; on a busy machine pyVoIP takes longer for it, with pauses of its own."""


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    folder = tmp_path_factory.mktemp("baresip")
    authority = Authority(folder)
    certificate, key = authority.pair("centre", DAEMON)
    tls = f'certificate = "{certificate}"\nkey = "{key}"\nca = "{authority.certificate}"'
    listen = (f"tls://{DAEMON}:{free_port()}",)
    with running(Centre(folder, agencies={}, queue="wrap_up_s = 0", listen=listen, sip=tls)) as made:
        yield made


# pyVoIP closes its socket under its own sending thread, which then may die of it: at the end of the call, no matter.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_seat_and_caller_hear_each_other(centre: Centre, tmp_path: Path, transport: str) -> None:
    words = _samples(voice(70))
    port = int(centre.listen[0].rpartition(":")[2]) if transport == "tls" else centre.sip_port
    server, ca = (DAEMON, port), centre.folder / "authority.crt"
    with baresip.seat(tmp_path / "seat", "101", centre.password("101"), server, transport, words, 27000, ca) as phone:
        until(lambda: seat_state(centre, "101") == "ready", "the registration")
        said, heard, call_id = _call(centre)
        call = ended(centre, call_id)
        assert (call["outcome"], call["seat_id"], call["ended_by"]) == ("answered", "101", "caller")
        until(lambda: seat_state(centre, "101") == "ready", "the end at the seat")
        assert likeness(words, heard) >= ALIKE
        assert likeness(said, phone.heard()) >= ALIKE
        until(lambda: "recorded" in kinds(centre, call_id), "the recording")
        left, right = recording(centre.folder / "recordings" / call["recording"])
        assert likeness(said, left) >= ALIKE
        assert likeness(words, right) >= ALIKE
    until(lambda: seat_state(centre, "101") == "offline", "baresip's farewell")


def _call(centre: Centre) -> tuple[NDArray[np.int16], NDArray[np.int16], str]:
    """A pyVoIP caller by way of the trunk: what it said, what it heard, and its Call-ID."""
    with exact_audio():
        caller = Caller("6281230000070", (DAEMON, centre.sip_port), TRUNK, free_port(host=TRUNK), 71, lambda text: text)
        try:
            caller.dial()
            until(lambda: row(centre, caller.call_id)["connected_at"], "the seat's answer")
            caller.talk()
            until(lambda: spoken(caller) >= TALK_S, "the caller's words")
            caller.hang_up()
        finally:
            caller.stop()
    assert caller.conversation is not None
    return caller.conversation.sent(), caller.conversation.heard(), caller.call_id


def spoken(caller: Caller) -> float:
    return len(caller.conversation.sent()) / 8000 if caller.conversation is not None else 0.0


def _samples(words: bytes) -> NDArray[np.int16]:
    """pyVoIP's 8 unsigned bits as 16 signed ones."""
    return ((np.frombuffer(words, np.uint8).astype(np.int16) - 128) << 8).astype(np.int16)
