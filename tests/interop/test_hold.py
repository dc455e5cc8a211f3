"""Seats and callers who put the other on hold: what each hears, packet by packet, and what is on record."""

import re
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
from tests.interop.calls import SEAT, bridged, carrier, registered
from tests.interop.centres import ended, kinds, row, running, seat_state, until
from tests.interop.uac import Dialog
from tests.tones import faults, tone

PITCH, LEVEL = 1000.0, 8000.0
"""What the call-taker says."""
HOLD = Path(__file__).parents[2] / "siaga_pbx" / "prompts" / "id" / "hold.wav"


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("hold"), agencies={}, queue="wrap_up_s = 0")) as made:
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
    return len(heard) - since > RATE * 6 // 10 and faults(heard[-RATE // 2 :], [PITCH], LEVEL) == []


def hold_audio() -> bytes:
    """The first second, as a caller in A-law hears them."""
    return decode(b"".join(read_prompt(HOLD)[Codec.PCMA][:50]), Codec.PCMA).tobytes()


def hears_hold(caller: Rtp, since: int) -> bool:
    """Whether it heard that to the sample, and so nothing of the call-taker."""
    return hold_audio() in caller.heard()[since:].tobytes()


def shown_on_hold(centre: Centre) -> list[bool]:
    """Of each live call."""
    return [call["on_hold_since"] is not None for call in centre.get("/api/v1/status")["calls"]]


def test_a_caller_on_hold_hears_so_and_the_talk_goes_on_after_it(centre: Centre, seat: Baresip) -> None:
    with carrier(centre) as phone, Rtp(TRUNK, 80) as caller:
        call = phone.invite(caller.sdp)
        answer = call.final()
        caller.start(answer.body)
        until(lambda: hears_the_seat(caller, 0), "the call-taker's voice")
        since = len(caller.heard())
        seat.tell("hold")
        until(lambda: hears_hold(caller, since), "hold audio")
        assert shown_on_hold(centre) == [True]
        after = len(caller.heard())
        seat.tell("resume")
        until(lambda: hears_the_seat(caller, after), "the call-taker again")
        assert shown_on_hold(centre) == [False]
        assert phone.hears_nothing(lambda message: message.status == 0, 0.1)  # no re-INVITE to who is held
        call.bye()
        ended(centre, call.call_id)
        until(lambda: "recorded" in kinds(centre, call.call_id), "the recording")
        events = centre.get(f"/api/v1/calls/{row(centre, call.call_id)['id']}")["events"]
        holds = [event for event in events if event["kind"] in ("on_hold", "resumed")]
        assert [event["kind"] for event in holds] == ["on_hold", "resumed"]
        assert all(event["data"]["seat"] == "101" for event in holds)
        assert all(event["data"]["seconds"] >= 1.0 for event in holds[1:])
        _, right = recording(centre.folder / "recordings" / row(centre, call.call_id)["recording"])
        assert right.astype(np.int16).tobytes().count(hold_audio()) == 1


def hears(ear: Rtp, mouth: Rtp, since: int) -> bool:
    """Whether the last half second that one heard, of what came after `since` samples, is what the other says."""
    heard = ear.heard()
    twice = np.concatenate((mouth.said, mouth.said)).tobytes()
    return len(heard) - since > RATE * 6 // 10 and heard[-RATE // 2 :].tobytes() in twice


def described(rtp: Rtp, version: int, change: str = "") -> str:
    """Its SDP with a line of direction, or with the address that is none."""
    sdp = rtp.sdp.replace("o=- 1 1 ", f"o=- 1 {version} ")
    return re.sub(r"c=IN IP4 \S+", change, sdp) if change.startswith("c=") else f"{sdp}{change}\r\n" if change else sdp


def reinvite(call: Dialog, sdp: str) -> str:
    """The answer to it."""
    call.invite(sdp)
    answer = call.final()
    assert answer.status == 200, answer.start
    return answer.body


def test_each_form_of_hold_by_a_seat_and_by_the_caller(centre: Centre) -> None:
    with carrier(centre) as phone, registered(centre, "102") as desk, Rtp(TRUNK, 82) as caller, Rtp(SEAT, 83) as seat:
        call, taken = bridged(phone, desk, caller, seat)
        until(lambda: hears(caller, seat, 0) and hears(seat, caller, 0), "each other's voice")
        forms = ("a=sendonly", "a=recvonly"), ("a=inactive", "a=inactive"), ("c=IN IP4 0.0.0.0", "a=recvonly")
        for version, (form, answer) in enumerate(forms, 1):
            since = len(caller.heard())
            assert answer in reinvite(taken, described(seat, 2 * version, form))
            until(lambda: hears_hold(caller, since), f"hold audio after {form}")  # noqa: B023
            after = len(caller.heard()), len(seat.heard())
            assert "a=sendrecv" in reinvite(taken, described(seat, 2 * version + 1))
            until(lambda: hears(caller, seat, after[0]), "the call-taker again")  # noqa: B023
            until(lambda: hears(seat, caller, after[1]), "the caller again")  # noqa: B023
        assert phone.hears_nothing(lambda message: message.status == 0, 0.1)
        assert "a=recvonly" in reinvite(call, described(caller, 2, "a=sendonly"))
        since, heard = len(seat.heard()), len(caller.heard())
        until(lambda: hears(seat, caller, since), "the caller, who holds and is heard")
        assert len(caller.heard()) - heard < RATE // 4  # and is sent nothing
        assert "a=sendrecv" in reinvite(call, described(caller, 3))
        until(lambda: hears(caller, seat, heard), "the call-taker again")
        call.bye()
        found = [kind for kind in kinds(centre, call.call_id) if kind in ("on_hold", "resumed")]
        assert found == ["on_hold", "resumed"] * 4
