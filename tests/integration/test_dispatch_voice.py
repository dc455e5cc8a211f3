"""An agency whose machine nobody answers is called by telephone: the daemon, a SIP phone with audio, and its keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.integration.test_daemon_features import info
from tests.interop.audio import Rtp
from tests.interop.calls import carrier
from tests.interop.centres import alarms, ended, log_of, running, siaga, until
from tests.interop.uac import Ua

TARGET = "sip:113@192.0.2.9"


class VoiceCentre(Centre):
    """Damkar is called after a second; then, by another trunk's way, once more; then there is an alarm."""

    def configure(self) -> None:
        """Its agency's ladder."""
        Centre.configure(self)
        text = self.config.read_text()
        ladder = f'accept_within_s = 1\nescalate = ["call:{TARGET}", "call:sip:114@192.0.2.9", "alarm"]\n'
        assert text.count('id = "damkar"\n') == 1
        self.config.write_text(text.replace('id = "damkar"\n', f'id = "damkar"\n{ladder}'))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Centre, Ua]]:
    """The centre, and the carrier's end of its outbound calls."""
    made = VoiceCentre(tmp_path_factory.mktemp("voice"), agencies={}, ports=600)
    with Ua((DAEMON, made.sip_port), TRUNK, "sbc") as hop:
        made.trunk = f'outbound = "sip:{hop.host}:{hop.port}"'
        with running(made):
            yield made, hop


def an_ended_call(centre: Centre, index: int) -> str:
    with carrier(centre) as caller, Rtp(TRUNK, index) as mouth:
        call = caller.invite(mouth.sdp)
        call.final()
        call.bye()
        return str(ended(centre, call.call_id)["id"])


def dispatched(centre: Centre, call_id: str) -> dict[str, Any]:
    (one,) = centre.get(f"/api/v1/calls/{call_id}")["dispatches"]
    return dict(one)


def steps(centre: Centre, call_id: str) -> list[str]:
    events = centre.get(f"/api/v1/calls/{call_id}")["events"]
    return [event["kind"] for event in events if event["subject"] == "dispatch"]


def test_the_dispatch_is_spoken_and_one_accepts_it(place: tuple[Centre, Ua]) -> None:
    centre, hop = place
    call_id = an_ended_call(centre, 70)
    order = ("--category", "fire", "--note", "Rumah terbakar", "--address", "Jl. Siliwangi No. 12")
    assert siaga(centre, "dispatch", call_id, *order).returncode == 0
    with Rtp(TRUNK, 71) as phone:
        called = hop.offered()
        assert called.request is not None
        assert called.request.start == f"INVITE {TARGET} SIP/2.0"
        assert called.request["Priority"] == "emergency"
        phone.start(called.offer)
        called.ring()
        called.answer(phone.sdp)
        until(lambda: len(phone.heard()) > 3 * 8000, "what is said")
        spoken = phone.heard()[: 3 * 8000].astype(float) / 32768
        assert np.sqrt((spoken**2).mean()) > 0.02, "it is silence"
        phone.press("1")
        until(lambda: dispatched(centre, call_id)["state"] == "accepted", "the acceptance")
        called.hung_up()
    one = dispatched(centre, call_id)
    assert one["accepted_at"]
    assert one["accept_by"] < one["accepted_at"] < one["arrive_by"]
    told = steps(centre, call_id)
    assert [kind for kind in told if kind.startswith("voice")] == ["voice_call", "voice_answered", "voice_accepted"]
    accepted = next(event for event in centre.get(f"/api/v1/calls/{call_id}")["events"] if event["kind"] == "accepted")
    assert accepted["data"]["by"] == f"call:{TARGET}"
    assert centre.get("/api/v1/status")["outbox"]["pending"] == 1, "their machine still has to receive it"
    assert not list(Path(centre.folder).rglob("spoken-*"))
    assert "Siliwangi" not in log_of(centre), "what callers say is in no log"


def test_nobody_there_so_the_next_is_called_who_presses_one_by_info(place: tuple[Centre, Ua]) -> None:
    centre, hop = place
    call_id = an_ended_call(centre, 72)
    centre.post(f"/api/v1/calls/{call_id}/dispatches", {"category": "fire"})
    hop.offered().reject(486)
    with Rtp(TRUNK, 73) as phone:
        second = hop.offered()
        assert second.request is not None
        assert second.request.start == "INVITE sip:114@192.0.2.9 SIP/2.0"
        assert "busy" in str(centre.get("/api/v1/status")["alarms"])
        phone.start(second.offer)
        second.answer(phone.sdp)
        until(lambda: len(phone.heard()) > 8000, "what is said")
        info(second, "1")
        second.hung_up()
    until(lambda: dispatched(centre, call_id)["state"] == "accepted", "the acceptance")
    until(lambda: "dispatch_step_failed" not in alarms(centre), "the end of the alarm")


def test_a_cancelled_dispatch_is_hung_up_on_and_nobody_else_is_called(place: tuple[Centre, Ua]) -> None:
    centre, hop = place
    call_id = an_ended_call(centre, 74)
    centre.post(f"/api/v1/calls/{call_id}/dispatches", {"category": "fire"})
    with Rtp(TRUNK, 75) as phone:
        called = hop.offered()
        phone.start(called.offer)
        called.answer(phone.sdp)
        assert siaga(centre, "dispatch", call_id, "--cancel", "--reason", "Alarm palsu").returncode == 0
        called.hung_up()
    assert dispatched(centre, call_id)["state"] == "cancelled"
    assert hop.hears_nothing(lambda message: message.method == "INVITE", 1.5)


def test_nobody_anywhere_is_an_alarm(place: tuple[Centre, Ua]) -> None:
    centre, hop = place
    call_id = an_ended_call(centre, 76)
    centre.post(f"/api/v1/calls/{call_id}/dispatches", {"category": "fire"})
    for _ in range(2):
        hop.offered().reject(480)
    until(lambda: "dispatch_unanswered" in alarms(centre), "the alarm")
    assert steps(centre, call_id).count("escalated") == 3
