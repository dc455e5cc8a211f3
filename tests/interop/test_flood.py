"""Floods, small ones: what benchmarks/flood.py measures at 20,000 messages a second, as properties. What a trunk has
for itself, and what is sent again, at the running daemon."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

import pytest

from benchmarks.batches import Batches
from benchmarks.flood import malformed, register
from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre, free_port
from siaga_pbx.sip.failures import LIMIT
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, registered
from tests.interop.centres import metric, row, running, until
from tests.interop.uac import Ua

OWN = "127.0.0.7"
"""The address of a trunk that has a socket for itself."""
OFFICE, ELSEWHERE, THIEF = "127.0.0.33", "127.0.0.34", "127.0.0.35"
STRANGER = "127.0.0.9"
MESSAGES = 2000
BATCH = 50
PAUSE_S = 0.01
"""5,000 a second at the most: what a busy machine's daemon reads, too, and far more than anybody may send."""
REASONS = {SEAT: "source_limit", STRANGER: "source_limit", TRUNK: "trunk_limit"}


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    made = Centre(tmp_path_factory.mktemp("flooded"), agencies={}, queue="wrap_up_s = 0", media="record = false")
    made.trunk = f'\n[[trunk]]\nid = "own"\naddresses = ["{OWN}"]\nlisten = "udp://{DAEMON}:{free_port()}"'
    with running(made):
        yield made


@contextmanager
def flood(centre: Centre, messages: list[bytes], host: str) -> Iterator[None]:
    """All the while, from that address; once more at the least when what is done meanwhile is over."""
    enough = threading.Event()

    def send(out: socket.socket) -> None:
        batches, sent = Batches(out, messages), 0
        while sent < MESSAGES or not enough.is_set():
            sent += batches.send(BATCH)
            sleep(PAUSE_S)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind((host, 0))
        out.connect((DAEMON, centre.sip_port))
        thread = threading.Thread(target=send, args=(out,))
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()


@pytest.mark.parametrize("host", [SEAT, STRANGER, TRUNK])
@pytest.mark.parametrize("make", [register, malformed])
def test_a_call_is_served_in_a_flood(centre: Centre, make: Callable[[int, str], bytes], host: str) -> None:
    """From a stranger, from the address of a seat's phone, and from the carrier itself."""
    counted = f'siaga_sip_dropped_total{{reason="{REASONS[host]}"}}'
    before, messages = metric(centre, counted), [make(number, host) for number in range(400)]
    with registered(centre, "101") as seat, carrier(centre) as caller, Rtp(TRUNK, 1) as mouth, Rtp(SEAT, 2) as ear:
        with flood(centre, messages, host):
            call, _ = bridged(caller, seat, mouth, ear)
            until(lambda: row(centre, call.call_id)["connected_at"], "the talk")
            assert call.bye().status == 200
        assert seat.register("101", centre.password("101")).status == 200, "the phone is not taken for the flood"
        assert metric(centre, counted) - before > MESSAGES / 4


def test_a_trunk_s_own_socket_is_for_nobody_else(centre: Centre) -> None:
    port = int(re.findall(r"\d+", centre.trunk)[-1])
    foreign = 'siaga_sip_dropped_total{reason="foreign_trunk"}'
    before, server = metric(centre, foreign), (DAEMON, port)
    with Ua(server, TRUNK) as other, Ua(server, STRANGER, "101") as phone, Ua(server, OWN) as own:
        other.invite("")
        assert phone.try_register("101", within=0.5) is None
        assert other.hears_nothing(seconds=0.5)
        assert metric(centre, foreign) == before + 2
        with Rtp(OWN, 3) as mouth:
            call = own.invite(mouth.sdp)
            answer = call.final()
            assert answer.status == 200
            assert f"{DAEMON}:{port}" in answer["Contact"]
            assert row(centre, call.call_id)["trunk"] == "own"
            assert call.bye().status == 200


def test_who_guesses_behind_a_nat_silences_himself_alone(centre: Centre) -> None:
    """Neither the phone whose name he guesses at, nor that seat at another address."""
    server = DAEMON, centre.sip_port
    with Ua(server, OFFICE, "101") as phone, Ua(server, OFFICE) as guesser, Ua(server, ELSEWHERE, "102") as other:
        assert phone.register("101", centre.password("101")).status == 200
        for seat in ("101", "102"):
            for guess in range(LIMIT):
                challenge = guesser.try_register(seat)
                assert challenge is not None
                told = guesser.try_register(seat, challenge, f"guess {guess}", within=0.5 if guess == LIMIT - 1 else 20)
            assert told is None, "from here on not even a challenge"
            assert guesser.try_register(seat, within=0.5) is None
        assert phone.register("101", centre.password("101")).status == 200
        assert other.register("102", centre.password("102")).status == 200
        for one, seat in ((phone, "101"), (other, "102")):
            assert one.register(seat, centre.password(seat), expires=0).status == 200


def test_what_opened_the_door_once_does_not_open_it_again(centre: Centre) -> None:
    """A nonce with its count is good for one request, at one address (RFC 7616 3.3, 5.12)."""
    password = centre.password("102")
    server = DAEMON, centre.sip_port
    with Ua(server, ELSEWHERE, "102") as phone, Ua(server, THIEF, "102") as thief:
        challenge = phone.try_register("102")
        assert challenge is not None
        stolen = thief.try_register("102", challenge, password)
        assert stolen is not None
        assert stolen.status == 401
        good, again = (phone.try_register("102", challenge, password) for _ in range(2))
        assert good is not None
        assert again is not None
        assert (good.status, again.status) == (200, 401)
        assert "stale=true" in again["WWW-Authenticate"].lower()
        assert phone.register("102", password, expires=0).status == 200
