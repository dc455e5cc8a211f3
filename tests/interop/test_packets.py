"""baresip as a seat with packets of its own length, and RTCP on the port of its audio."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from siaga_pbx.demo.callers import ALIKE
from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from siaga_pbx.demo.compare import likeness, recording
from tests.authority import Authority
from tests.interop import baresip
from tests.interop.audio import Rtp, samples
from tests.interop.calls import PIECE, carrier
from tests.interop.centres import ended, kinds, running, seat_state, until

TALK_S = 3


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    folder = tmp_path_factory.mktemp("packets")
    Authority(folder)  # baresip wants one, whatever the transport
    with running(Centre(folder, agencies={}, queue="wrap_up_s = 0")) as made:
        yield made


def test_a_seat_that_likes_long_packets_and_one_port(centre: Centre, tmp_path: Path) -> None:
    """It takes the length that we offer instead, and the one port."""
    words = samples(80)
    password, server = centre.password("101"), (DAEMON, centre.sip_port)
    with (
        baresip.seat(
            tmp_path / "seat", "101", password, server, "udp", words, 27200, centre.folder / "authority.crt",
            account=";ptime=60", config="rtcp_mux yes\n",
        ) as phone,
        carrier(centre) as caller,
        Rtp(TRUNK, 81) as mouth,
    ):  # fmt: skip
        until(lambda: seat_state(centre, "101") == "ready", "the registration")
        call = caller.invite(mouth.sdp)
        mouth.start(call.final().body)
        until(lambda: likeness(words[:PIECE], mouth.heard()) >= ALIKE, "the seat's voice at the caller", 20.0)
        so_far = len(mouth.heard())
        until(lambda: len(mouth.heard()) > so_far + TALK_S * 8000, "more of it", 20.0)
        call.bye()
        over = ended(centre, call.call_id)
        assert over["outcome"] == "answered"
        until(lambda: seat_state(centre, "101") == "ready", "the end at the seat")
        assert likeness(mouth.said[: 2 * PIECE], phone.heard()) >= ALIKE
        until(lambda: "recorded" in kinds(centre, call.call_id), "the recording")
        left, right = recording(centre.folder / "recordings" / over["recording"])
        assert likeness(mouth.said[: 2 * PIECE], left) >= ALIKE
        assert likeness(words[:PIECE], right) >= ALIKE
        assert "RTP/RTCP multiplexing enabled" in phone.log
