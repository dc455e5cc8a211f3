"""Call-takers' phones behind a NAT, which gives them ports of its own and forgets them: they are called all the same.

Namespaces and nftables make the network (nat.py), baresip is the phone, a scripted carrier the caller.
"""

import socket
import subprocess
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from siaga_pbx.demo.callers import ALIKE
from siaga_pbx.demo.centre import Centre
from siaga_pbx.demo.compare import likeness
from siaga_pbx.sip.framing import StreamFramer
from siaga_pbx.sip.message import Request, make_response
from tests.authority import Authority
from tests.interop import baresip, nat
from tests.interop.audio import Rtp, samples
from tests.interop.baresip import Baresip
from tests.interop.calls import PIECE
from tests.interop.centres import WITHIN_S, ended, kinds, metric, running, seat_state, until
from tests.interop.nat import CARRIER, CENTRE, DESKS, Lab
from tests.interop.uac import Dialog, Ua

PORT = 5060
TALK = 3 * 8000
"""Samples that a caller hears of a seat before he hangs up: so the seat has heard some seconds of him too."""
SEATS = {"101": "Meja 1", "102": "Meja 2", "103": "Meja 3"}
_OBSTACLE = nat.obstacle()

pytestmark = pytest.mark.skipif(_OBSTACLE is not None, reason=str(_OBSTACLE))


@contextmanager
def site(folder: Path, forgets_s: int = 30, keep_alive_s: float = 25, more: str = "") -> Iterator[tuple[Lab, Centre]]:
    """The network with the centre in it, where this thread is; the NAT forgets UDP after that time.

    `more` is more of the carrier's [[trunk]].
    """
    Authority(folder)  # baresip does not start without one, whatever it is for
    with nat.lab() as lab, lab.inside("centre"):
        lab.forget_after(forgets_s)
        centre = Centre(
            folder,
            seats=SEATS,
            agencies={},
            queue="wrap_up_s = 0\nring_s = 60\nrest_s = 1",
            listen=(f"udp://{CENTRE}:{PORT}", f"tcp://{CENTRE}:{PORT}"),
            sip=f"keep_alive_s = {keep_alive_s}",
            media=f'address = ["{CENTRE}"]',
            trunk=f'\n[[trunk]]\nid = "far"\naddresses = ["{CARRIER}"]\n{more}',
        )
        with running(centre):
            yield lab, centre


@contextmanager
def phone(lab: Lab, centre: Centre, seat: str, transport: str, desk: int = 0) -> Iterator[Baresip]:
    """A seat's baresip in the office, registered; it says the voice of its seat's number."""
    folder, password, said = centre.folder / f"{seat}-{monotonic()}", centre.password(seat), samples(int(seat))
    rtp = 20_000 + 100 * int(seat) % 10_000
    where = {"host": DESKS[desk], "through": lab.command("office"), "expires": 3600}
    ca = centre.folder / "authority.crt"
    with baresip.seat(folder, seat, password, (CENTRE, PORT), transport, said, rtp, ca, **where) as made:  # type: ignore[arg-type]
        until(lambda: seat_state(centre, seat) == "ready", f"the registration of {seat}")
        yield made


@contextmanager
def caller(lab: Lab, index: int) -> Iterator[tuple[Ua, Rtp]]:
    """Somebody on the trunk, with a voice of his own."""
    with ExitStack() as stack:
        with lab.inside("carrier"):
            ua, voice = Ua((CENTRE, PORT), CARRIER), Rtp(CARRIER, index)
        yield stack.enter_context(ua), stack.enter_context(voice)


def called(ua: Ua, voice: Rtp) -> Dialog:
    call = ua.invite(voice.sdp)
    answer = call.final()
    assert answer.status == 200, answer.start
    voice.start(answer.body)
    return call


def taken(centre: Centre, call: Dialog, voice: Rtp, within: float = WITHIN_S) -> tuple[str, int]:
    """The seat that talks to the caller, and how many samples the caller will have heard when they have talked."""
    seat = until(lambda: _talking(centre, call), "the seat's answer", within)
    assert seat is not None
    return seat, len(voice.heard()) + TALK


def _talking(centre: Centre, call: Dialog) -> str | None:
    rows = centre.get("/api/v1/calls?limit=10")
    return next((row["seat_id"] for row in rows if row["sip_call_id"] == call.call_id and row["connected_at"]), None)


def talk(centre: Centre, call: Dialog, voice: Rtp, phone: Baresip, seat: str, enough: int) -> None:
    """The two hear each other, and nobody else; the caller hangs up."""
    said = samples(int(seat))[:PIECE]
    until(lambda: len(voice.heard()) >= enough, "some seconds of talk")
    until(lambda: likeness(said, voice.heard()) >= ALIKE, "the seat's voice")
    others = [likeness(samples(int(other))[:PIECE], voice.heard()) for other in SEATS if other != seat]
    assert max(others) < ALIKE, "another seat's voice"
    assert "audio_from_elsewhere" in kinds(centre, call.call_id), "the NAT gave the audio another port"
    call.bye()
    row = ended(centre, call.call_id)
    assert (row["outcome"], row["seat_id"], row["ended_by"]) == ("answered", seat, "caller")
    until(lambda: seat_state(centre, seat) == "ready", "the end at the seat")
    until(lambda: _alike_at(phone, voice) >= ALIKE, f"the caller's voice at {seat}")


def _alike_at(phone: Baresip, voice: Rtp) -> float:
    """How much of the caller is in what the phone has written down; it does that a little after the call."""
    try:
        return likeness(voice.said[:PIECE], phone.heard())
    except (wave.Error, EOFError, ValueError):
        return 0.0


def stays(true: Callable[[], bool], seconds: float, what: str) -> None:
    until_then = monotonic() + seconds
    while monotonic() < until_then:
        assert true(), f"{what} did not last"
        sleep(0.1)


def test_phones_behind_a_nat_are_called_and_heard_after_it_would_have_forgotten_them(tmp_path: Path) -> None:
    """Two over UDP and one over TCP, at two desks: nobody has another's call or another's voice."""
    with site(tmp_path, forgets_s=3, keep_alive_s=1) as (lab, centre), ExitStack() as stack:
        desks = (("101", "udp", 0), ("102", "udp", 1), ("103", "tcp", 1))
        phones = {each[0]: stack.enter_context(phone(lab, centre, *each)) for each in desks}
        mapped = lab.mappings(PORT)
        assert len(mapped) == 2
        stays(lambda: lab.mappings(PORT) == mapped, 6.2, "what the NAT knew of the phones")

        people = [stack.enter_context(caller(lab, index)) for index in (71, 72, 73)]
        calls = [(called(*each), each[1]) for each in people]
        talks = [taken(centre, *each) for each in calls]
        assert sorted(seat for seat, _ in talks) == list(SEATS)
        for each, (seat, enough) in zip(calls, talks, strict=True):
            talk(centre, *each, phones[seat], seat, enough)


@pytest.mark.soak
def test_the_usual_keep_alive_holds_what_is_forgotten_after_half_a_minute(tmp_path: Path) -> None:
    with site(tmp_path, forgets_s=30) as (lab, centre), phone(lab, centre, "101", "udp") as seat:
        mapped = lab.mappings(PORT)
        stays(lambda: lab.mappings(PORT) == mapped, 95, "what the NAT knew of the phone")
        with caller(lab, 71) as (ua, voice):
            call = called(ua, voice)
            talk(centre, call, voice, seat, *taken(centre, call, voice))


@pytest.mark.soak
def test_without_keep_alive_the_way_is_lost_and_the_phones_next_registration_mends_it(tmp_path: Path) -> None:
    """What the other tests prove is not the network's doing. The caller waits meanwhile: nobody is refused."""
    with site(tmp_path, 5, keep_alive_s=3600) as (lab, centre), phone(lab, centre, "101", "udp"):
        until(lambda: not lab.mappings(PORT), "the NAT's oblivion")
        with caller(lab, 71) as (ua, voice):
            call = called(ua, voice)
            stays(lambda: _talking(centre, call) is None, 10, "the silence")
            seat, _ = taken(centre, call, voice, within=70)
            assert seat == "101"
            until(lambda: likeness(samples(101)[:PIECE], voice.heard()) >= ALIKE, "the seat's voice")
            call.bye()


@pytest.mark.soak
def test_a_phones_connection_that_died_unseen_is_found_out(tmp_path: Path) -> None:
    """Half open: the router swallows everything. The kernel's own retries would last a quarter of an hour."""
    with site(tmp_path) as (lab, centre), phone(lab, centre, "103", "tcp") as seat:
        assert _connections(PORT) == 1
        with lab.broken("router"), caller(lab, 71) as (ua, voice):
            call = called(ua, voice)
            until(lambda: _connections(PORT) == 0, "the end of the connection", within=60)
            assert _talking(centre, call) is None
            call.bye()
        # The phone finds out when it registers again, which it does after 270 s, and after half a minute and another.
        until(lambda: _connections(PORT) == 1, "the phone's next connection", within=420)
        until(lambda: seat_state(centre, "103") == "ready", "the seat")
        with caller(lab, 72) as (ua, voice):
            call = called(ua, voice)
            talk(centre, call, voice, seat, *taken(centre, call, voice))


@pytest.mark.soak
def test_a_carriers_connection_that_died_unseen_is_found_out_and_dialled_anew(tmp_path: Path) -> None:
    health = f'health_uri = "sip:{CARRIER}:{PORT};transport=tcp"'
    up = 'siaga_trunk_up{trunk="far"}'
    with site(tmp_path, more=health) as (lab, centre), _listening(lab):
        until(lambda: metric(centre, up) == 1, "the carrier's answer", within=40)
        assert _connections(PORT) == 1
        with lab.broken("carrier"):
            until(lambda: _connections(PORT) == 0, "the end of the connection", within=60)
            until(lambda: metric(centre, up) == 0, "the alarm", within=60)
        until(lambda: metric(centre, up) == 1, "the carrier's answer", within=60)


@contextmanager
def _listening(lab: Lab) -> Iterator[None]:
    """The carrier's SIP over TCP: answers whatever asks."""
    with lab.inside("carrier"):
        listener = socket.create_server((CARRIER, PORT))

    def serve(connection: socket.socket) -> None:
        framer = StreamFramer()
        with connection:
            while data := connection.recv(4096):
                for item in framer.feed(data):
                    if isinstance(item, Request):
                        connection.sendall(bytes(make_response(item, 200)))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _connections(port: int) -> int:
    """How many connections to that port the kernel holds, here."""
    command = ["ss", "-Htn", "state", "established", f"( sport = :{port} or dport = :{port} )"]
    return len(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
