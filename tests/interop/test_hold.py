"""baresip as a seat that puts its caller on hold: what the caller hears, packet by packet, and what is on record."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre, free_port
from siaga_pbx.demo.compare import recording
from siaga_pbx.media.g711 import RATE, decode
from siaga_pbx.media.prompts import read_prompt
from siaga_pbx.media.protocol import Codec
from tests.authority import Authority
from tests.interop import baresip
from tests.interop.audio import Rtp
from tests.interop.baresip import Baresip
from tests.interop.calls import carrier
from tests.interop.centres import ended, kinds, row, running, seat_state, until
from tests.tones import faults, tone

PITCH, LEVEL = 1000.0, 8000.0
"""What the call-taker says."""
HOLD = Path(__file__).parents[2] / "siaga_pbx" / "prompts" / "id" / "hold.wav"


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with running(Centre(tmp_path, agencies={}, queue="wrap_up_s = 0")) as made:
        yield made


@pytest.fixture
def seat(centre: Centre, tmp_path: Path) -> Iterator[Baresip]:
    server, ca, said = (DAEMON, centre.sip_port), Authority(tmp_path).certificate, tone(PITCH, 120 * RATE, LEVEL)
    control, folder, password = free_port(), tmp_path / "seat", centre.password("101")
    with baresip.seat(folder, "101", password, server, "udp", said, 27200, ca, control=control) as phone:
        until(lambda: seat_state(centre, "101") == "ready", "the registration")
        yield phone


def hears_the_seat(caller: Rtp, since: int) -> bool:
    """Whether the caller's last half second, of what came after `since` samples, is what the call-taker says."""
    heard = caller.heard()
    return len(heard) - since > RATE and faults(heard[-RATE // 2 :], [PITCH], LEVEL) == []


def hold_audio() -> bytes:
    """The first two seconds, as a caller in A-law hears them."""
    return decode(b"".join(read_prompt(HOLD)[Codec.PCMA][:100]), Codec.PCMA).tobytes()


def hears_hold(caller: Rtp, since: int) -> bool:
    """Whether it heard that to the sample, and so nothing of the call-taker."""
    return hold_audio() in caller.heard()[since:].tobytes()


def test_a_caller_on_hold_hears_so_and_the_talk_goes_on_after_it(centre: Centre, seat: Baresip) -> None:
    with carrier(centre) as phone, Rtp(TRUNK, 80) as caller:
        call = phone.invite(caller.sdp)
        answer = call.final()
        caller.start(answer.body)
        until(lambda: hears_the_seat(caller, 0), "the call-taker's voice")
        since = len(caller.heard())
        seat.tell("hold")
        until(lambda: hears_hold(caller, since), "hold audio")
        after = len(caller.heard())
        seat.tell("resume")
        until(lambda: hears_the_seat(caller, after), "the call-taker again")
        assert phone.hears_nothing(lambda message: message.status == 0, 0.1)  # no re-INVITE to who is held
        call.bye()
        ended(centre, call.call_id)
        until(lambda: "recorded" in kinds(centre, call.call_id), "the recording")
        events = centre.get(f"/api/v1/calls/{row(centre, call.call_id)['id']}")["events"]
        holds = [event for event in events if event["kind"] in ("held", "resumed")]
        assert [event["kind"] for event in holds] == ["held", "resumed"]
        assert all(event["data"]["seat"] == "101" for event in holds)
        assert all(event["data"]["seconds"] >= 2.0 for event in holds[1:])
        _, right = recording(centre.folder / "recordings" / row(centre, call.call_id)["recording"])
        assert right.astype(np.int16).tobytes().count(hold_audio()) == 1
