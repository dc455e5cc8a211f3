"""SRTP at a seat over TLS: baresip in all its ways to do it, or not to, against both of ours."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from siaga_pbx.demo.callers import ALIKE
from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre, free_port
from siaga_pbx.demo.compare import likeness
from tests.authority import Authority
from tests.interop import baresip
from tests.interop.audio import Rtp, samples
from tests.interop.baresip import Baresip
from tests.interop.calls import carrier
from tests.interop.centres import alarms, ended, kinds, log_of, metric, row, running, seat_state, until

PIECE = 16_000
"""Samples of a voice in which a second is looked for that the other has heard."""
WORDS = samples(72)


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    folder = tmp_path_factory.mktemp("srtp")
    authority = Authority(folder)
    certificate, key = authority.pair("centre", DAEMON)
    tls = f'certificate = "{certificate}"\nkey = "{key}"\nca = "{authority.certificate}"\n'
    listen, queue = (f"tls://{DAEMON}:{free_port()}",), "wrap_up_s = 0\nrest_s = 0.2\nring_s = 5"
    with running(Centre(folder, agencies={}, queue=queue, listen=listen, sip=tls)) as made:
        yield made


def set_to(centre: Centre, mode: str) -> None:
    """[sip] srtp, by a reload."""
    centre.sip = re.sub("srtp = .*\n", "", centre.sip) + f'srtp = "{mode}"\n'
    centre.configure()
    assert httpx.post(f"{centre.url}/-/reload", headers=bearer(centre)).status_code == 200


def bearer(centre: Centre) -> dict[str, str]:
    return {"Authorization": f"Bearer {(centre.folder / 'siaga.token').read_text().strip()}"}


@contextmanager
def seat(centre: Centre, folder: Path, mediaenc: str, transport: str = "tls", control: int = 0) -> Iterator[Baresip]:
    """A registered phone with this setting of its own."""
    port = int(centre.listen[0].rpartition(":")[2]) if transport == "tls" else centre.sip_port
    password, ca = centre.password("101"), centre.folder / "authority.crt"
    server = (DAEMON, port)
    with baresip.seat(
        folder, "101", password, server, transport, WORDS, 27400, ca, mediaenc=mediaenc, control=control
    ) as phone:
        until(lambda: seat_state(centre, "101") in ("ready", "resting"), "the registration")
        yield phone
    until(lambda: seat_state(centre, "101") == "offline", "baresip's farewell")


ALL = [(ours, theirs) for ours in ("off", "offered", "required") for theirs in ("", "srtp", "srtp-mand")]
IMPOSSIBLE = [("off", "srtp-mand"), ("required", "")]
OFTEN = [("offered", "srtp-mand"), ("required", "srtp")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [pytest.param(*pair, marks=[] if pair in OFTEN else [pytest.mark.soak]) for pair in ALL if pair not in IMPOSSIBLE],
)
def test_both_hear_each_other(centre: Centre, tmp_path: Path, ours: str, theirs: str) -> None:
    set_to(centre, ours)
    with seat(centre, tmp_path / "seat", theirs) as phone:
        with carrier(centre) as ua, Rtp(TRUNK, 80) as caller:
            call = ua.invite(caller.sdp)
            caller.start(call.final().body)
            until(lambda: likeness(WORDS[:PIECE], caller.heard()) >= ALIKE, "the seat's voice at the caller")
            until(lambda: len(caller.heard()) > 2 * PIECE, "as much the other way")
            call.bye()
            assert ended(centre, call.call_id)["outcome"] == "answered"
        until(lambda: seat_state(centre, "101") == "ready", "the end at the seat")
        assert likeness(caller.said[:PIECE], phone.heard()) >= ALIKE
    offered, answered = descriptions(centre, call.call_id)
    assert offered[-1] == ("RTP/SAVP" if "required" in ours or theirs == "srtp-mand" else "RTP/AVP", int(ours != "off"))
    if ours != "off":  # baresip answers with a key that nobody asked for, and does not use it
        assert answered[0][1] == int(theirs != ""), "keys in the answer"
    assert metric(centre, 'siaga_rtp_refused_packets_total{reason="srtp"}') == 0
    assert "no_srtp_101" not in alarms(centre)


@pytest.mark.parametrize(("theirs", "transport"), [("", "tls"), pytest.param("srtp", "udp", marks=pytest.mark.soak)])
def test_a_seat_that_cannot_is_missed_and_the_caller_stays(
    centre: Centre, tmp_path: Path, theirs: str, transport: str
) -> None:
    set_to(centre, "required")
    with seat(centre, tmp_path / "seat", theirs, transport), carrier(centre) as ua, Rtp(TRUNK, 80) as caller:
        call = ua.invite(caller.sdp)
        caller.start(call.final().body)
        until(lambda: "missed" in kinds(centre, call.call_id), "the seat's miss")
        assert "no_srtp_101" in alarms(centre)
        heard = len(caller.heard())
        until(lambda: len(caller.heard()) > heard + 4000, "what a waiting caller hears")
        set_to(centre, "offered")
        assert "no_srtp_101" not in alarms(centre), "another rule"
        until(lambda: row(centre, call.call_id)["connected_at"], "the seat, by that")
        call.bye()
        assert ended(centre, call.call_id)["outcome"] == "answered"


@pytest.mark.soak
def test_a_hold_and_its_end(centre: Centre, tmp_path: Path) -> None:
    """A re-INVITE each, with keys: the audio goes on by them."""
    set_to(centre, "required")
    control = free_port()
    with (
        seat(centre, tmp_path / "seat", "srtp", control=control) as phone,
        carrier(centre) as ua,
        Rtp(TRUNK, 80) as caller,
    ):
        call = ua.invite(caller.sdp)
        caller.start(call.final().body)
        until(lambda: likeness(WORDS[:PIECE], caller.heard()) >= ALIKE, "the seat's voice at the caller")
        phone.tell("hold")
        until(lambda: "on_hold" in kinds(centre, call.call_id), "the hold")
        phone.tell("resume")
        until(lambda: "resumed" in kinds(centre, call.call_id), "its end")
        since = len(caller.heard())
        until(lambda: len(caller.heard()) > since + PIECE, "more")
        assert likeness(caller.heard()[since + 4000 :], WORDS) >= ALIKE
        call.bye()
    assert metric(centre, 'siaga_rtp_refused_packets_total{reason="srtp"}') == 0


def descriptions(centre: Centre, call_id: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """What went to the seat and came from it: the profile and the number of keys of each SDP, none of them readable."""
    of = row(centre, call_id)["id"]
    sent: list[tuple[str, int]] = []
    received: list[tuple[str, int]] = []
    for message in centre.get(f"/api/v1/calls/{of}/trace?unmasked=true")["messages"]:
        text = base64.b64decode(message["data"]).decode()
        profile = re.search(r"m=audio \d+ (\S+)", text)
        if profile is not None and message["transport"] == "tls":
            (sent if message["sent"] else received).append((profile[1], text.count("a=crypto")))
        assert re.search(r"inline:[^*\s]", text) is None
    assert "inline:" not in log_of(centre)
    return sent, received
