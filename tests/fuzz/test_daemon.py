"""The running daemon's socket against what is malformed: nothing it receives is its end."""

import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.vectors.verdicts import VECTORS

SEED = 112
MUTATIONS = 400


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    made = Centre(tmp_path_factory.mktemp("centre"), agencies={})
    try:
        made.start()
        yield made
    finally:
        made.stop()


def alive(centre: Centre, host: str) -> bool:
    """Whether the daemon answers an OPTIONS of the trunk."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((host, 0))
        udp.settimeout(0.5)
        port = udp.getsockname()[1]
        branch = f"z9hG4bK{random.getrandbits(60):x}"
        options = (
            f"OPTIONS sip:112@{DAEMON} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch={branch}\r\n"
            f"From: <sip:probe@{host}>;tag=1\r\nTo: <sip:112@{DAEMON}>\r\nCall-ID: {branch}\r\n"
            "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        for _ in range(20):  # sent again as RFC 3261 17.1.2 wants: beyond its measure an OPTIONS is shed
            udp.sendto(options, (DAEMON, centre.sip_port))
            with suppress(TimeoutError):
                while branch.encode() not in (answer := udp.recv(65536)):
                    pass
                return answer.startswith(b"SIP/2.0 200")
    return False


def faults(centre: Centre) -> float:
    """How many faults of ours the daemon has caught."""
    text = httpx.get(f"{centre.url}/metrics").text
    return sum(float(value) for value in re.findall(r"^siaga_internal_errors_total\{[^}]*\} (\S+)$", text, re.M))


def test_every_message_of_rfc_4475_and_5118_over_udp(centre: Centre) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((TRUNK, 0))
        for vector in VECTORS:
            udp.sendto(vector.data, (DAEMON, centre.sip_port))
            assert alive(centre, TRUNK), vector.file
    assert faults(centre) == 0


def test_every_message_of_rfc_4475_and_5118_over_tcp(centre: Centre) -> None:
    for vector in VECTORS:
        with socket.create_connection((DAEMON, centre.sip_port), source_address=(TRUNK, 0)) as tcp:
            tcp.sendall(vector.data)
        assert alive(centre, TRUNK), vector.file
    assert faults(centre) == 0


def test_valid_messages_with_bytes_changed(centre: Centre) -> None:
    chance = random.Random(SEED)
    valid = [vector.data for vector in VECTORS]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((TRUNK, 0))
        for number in range(MUTATIONS):
            data = bytearray(chance.choice(valid))
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(data))
                match chance.randrange(3):
                    case 0:
                        data[at] = chance.randrange(256)
                    case 1:
                        del data[at : at + chance.randrange(20)]
                    case _:
                        data[at:at] = chance.randbytes(chance.randrange(8))
                if not data:
                    data = bytearray(b"\r")
            udp.sendto(bytes(data), (DAEMON, centre.sip_port))
            if number % 50 == 0:
                assert alive(centre, TRUNK), number
    assert alive(centre, TRUNK)
    assert faults(centre) == 0


def test_arbitrary_bytes_from_a_stranger_get_no_answer(centre: Centre) -> None:
    chance = random.Random(SEED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.9", 0))
        udp.settimeout(0.3)
        for _ in range(200):
            udp.sendto(chance.randbytes(chance.randrange(1, 1400)), (DAEMON, centre.sip_port))
        with pytest.raises(TimeoutError):
            udp.recv(65536)
    assert alive(centre, TRUNK)
    assert faults(centre) == 0


def test_the_log_of_all_that_is_text(centre: Centre) -> None:
    """It was written by the tests above: no traceback in it."""
    log = (Path(centre.folder) / "daemon.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
