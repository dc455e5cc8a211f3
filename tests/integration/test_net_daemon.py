"""The running daemon with everything at once that [sip] listen can have: both families, TLS, a browser's WebSocket,
a trunk known by its certificate (openssl as the carrier), and a carrier given by name."""

import asyncio
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from siaga_pbx.demo.centre import DAEMON, Centre, free_port
from siaga_pbx.sip.digest import Challenge, authorise
from siaga_pbx.sip.message import Response, parse
from tests.authority import Authority
from tests.interop.audio import Rtp
from tests.interop.calls import bridged, carrier, hear_each_other
from tests.interop.centres import ended, log_of, metric, row, running, seat_state, until
from tests.interop.uac import Ua
from tests.name_server import NameServer

ELSEWHERE = "127.0.0.77"
"""An address that is no trunk's and no seat's."""


@dataclass
class Site:
    centre: Centre
    authority: Authority
    tls: int
    ws: int
    six: int
    roaming: int
    """The port of a trunk that is known by its certificate alone and has a socket for itself."""


@contextmanager
def _names(server: NameServer) -> Iterator[NameServer]:
    """A name server in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(5)
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _six() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
        free.bind(("::1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("transports")
    authority = Authority(folder)
    certificate, key = authority.pair("centre", DAEMON)
    with Ua((DAEMON, 9), "127.0.0.4") as answering:  # OPTIONS is answered by itself
        records = {
            ("_sip._udp.carrier.example.", "SRV"): [
                f"1 0 {free_port(host='127.0.0.5')} dead.carrier.example.",
                f"2 0 {answering.port} alive.carrier.example.",
            ],
            ("dead.carrier.example.", "A"): ["127.0.0.5"],
            ("alive.carrier.example.", "A"): ["127.0.0.4"],
        }
        with _names(NameServer(records)) as names:
            tls, ws, six, roaming = free_port(), free_port(), _six(), free_port()
            centre = Centre(
                folder,
                agencies={},
                queue="wrap_up_s = 0",
                listen=(f"tls://{DAEMON}:{tls}", f"ws://{DAEMON}:{ws}", f"udp://[::1]:{six}"),
                sip=f'certificate = "{certificate}"\nkey = "{key}"\nca = "{authority.certificate}"\n'
                f'resolver = "{names.address[0]}:{names.address[1]}"',
                trunk='certificate_names = ["sbc.carrier.example"]\nhealth_uri = "sip:carrier.example"\n\n'
                '[[trunk]]\nid = "roaming"\ncertificate_names = ["roaming.example"]\nadvertise = "198.51.100.9"\n'
                f'listen = "tls://{DAEMON}:{roaming}"',
                media=f'address = ["{DAEMON}", "::1"]',
            )
            answering.server = (DAEMON, centre.sip_port)
            with running(centre):
                yield Site(centre, authority, tls, ws, six, roaming)


def test_a_call_over_ipv4_is_taken_by_a_seat_on_ipv6(site: Site) -> None:
    centre = site.centre
    with carrier(centre) as caller, Ua(("::1", site.six), "::1", "101") as seat:
        assert seat.register("101", centre.password("101")).status == 200
        until(lambda: seat_state(centre, "101") == "ready", "the seat")
        with Rtp("127.0.0.2", 70) as mouth, Rtp("::1", 71) as ear:
            call, taken = bridged(caller, seat, mouth, ear)
            assert "c=IN IP6 ::1" in taken.offer
            hear_each_other(mouth, ear)
            call.bye()
            assert ended(centre, call.call_id)["outcome"] == "answered"
        seat.register("101", centre.password("101"), expires=0)
    until(lambda: seat_state(centre, "101") == "offline", "its farewell")


def test_a_carrier_given_by_name_is_well_by_its_second_server(site: Site) -> None:
    until(lambda: metric(site.centre, 'siaga_trunk_up{trunk="carrier"}') == 1, "the trunk's answer")


def test_openssl_calls_with_the_trunk_s_certificate_from_anywhere(site: Site) -> None:
    def say(text: str, *certificate: str) -> bytes:
        """What comes back within two seconds."""
        command = [
            "openssl",
            "s_client",
            "-quiet",
            "-no_ign_eof",
            "-connect",
            f"{DAEMON}:{site.tls}",
            "-bind",
            ELSEWHERE,
        ]
        command += ["-CAfile", str(site.authority.certificate), "-verify_return_error", *certificate]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as openssl:
            assert openssl.stdin is not None
            assert openssl.stdout is not None
            openssl.stdin.write(text.encode())
            openssl.stdin.flush()
            timer = threading.Timer(2.0, openssl.kill)
            timer.start()
            data = openssl.stdout.read(12)
            timer.cancel()
            openssl.kill()
        return data

    options = (
        "OPTIONS sip:112@x SIP/2.0\r\nVia: SIP/2.0/TLS sbc.carrier.example:5061;branch=z9hG4bK{0}\r\n"
        "From: <sip:c@carrier.example>;tag=1\r\nTo: <sip:112@x>\r\nCall-ID: {0}\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    certificate, key = site.authority.pair("sbc", "sbc.carrier.example")
    shown = ("-cert", str(certificate), "-key", str(key))
    assert say(options.format("a"), *shown) == b"SIP/2.0 200 "
    assert say(options.format("b")) == b""


def test_a_trunk_known_by_its_certificate_has_a_socket_and_an_address_of_its_own(site: Site) -> None:
    foreign = 'siaga_sip_dropped_total{reason="foreign_trunk"}'
    before = metric(site.centre, foreign)
    for name in ("sbc.carrier.example", "stranger.example", None):
        with _dialled(site, name) as connection, suppress(ConnectionError):
            assert connection.recv(1) == b"", "nobody else, with a good certificate or none"
    assert metric(site.centre, foreign) == before + 3
    with _dialled(site, "roaming.example") as connection, Rtp(ELSEWHERE, 72) as mouth:
        connection.sendall(_request("INVITE", mouth.sdp))
        answer = b""
        while b"SIP/2.0 200 " not in answer:
            answer += connection.recv(4096)
        assert re.search(rb"Contact: <sip:[^>]*@198\.51\.100\.9:%d;" % site.roaming, answer), answer
        assert row(site.centre, "roaming-1")["trunk"] == "roaming"
        tag = re.search(rb"\r\nTo: [^\r]*;tag=([^\r;]+)", answer)
        assert tag is not None
        for method in ("ACK", "BYE"):
            connection.sendall(_request(method, tag=tag[1].decode()))
        assert ended(site.centre, "roaming-1")["ended_by"] == "caller"


@contextmanager
def _dialled(site: Site, name: str | None) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=site.authority.certificate)
    if name is not None:
        context.load_cert_chain(*site.authority.pair(f"own-{name}", name))
    plain = socket.create_connection((DAEMON, site.roaming), 10, source_address=(ELSEWHERE, 0))
    with plain, context.wrap_socket(plain, server_hostname=DAEMON) as connection:
        yield connection


def _request(method: str, sdp: str = "", tag: str = "") -> bytes:
    """INVITE, or with our tag the ACK and the BYE that belong to it."""
    return (
        f"{method} sip:112@x SIP/2.0\r\nVia: SIP/2.0/TLS roaming.example:5061;branch=z9hG4bK{method};rport\r\n"
        f"From: <sip:+62811@carrier.example>;tag=1\r\nTo: <sip:112@x>{tag and f';tag={tag}'}\r\nCall-ID: roaming-1\r\n"
        f"CSeq: {2 if method == 'BYE' else 1} {method}\r\nContact: <sip:c@roaming.example;transport=tls>\r\n"
        f"Max-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"
    ).encode()


def test_a_browser_is_a_seat(site: Site) -> None:
    centre = site.centre
    lines = [
        "REGISTER sip:siaga.local SIP/2.0",
        "Via: SIP/2.0/WS abc.invalid;branch=z9hG4bK{0}",
        "From: <sip:102@siaga.local>;tag=b",
        "To: <sip:102@siaga.local>",
        "Call-ID: browser",
        "CSeq: {0} REGISTER",
        "Contact: <sip:102@abc.invalid;transport=ws>",
        "Content-Length: 0",
    ]
    with connect(f"ws://{DAEMON}:{site.ws}/ws", subprotocols=[Subprotocol("sip")], compression=None) as browser:
        browser.send("\r\n".join([*lines, "", ""]).format(1))
        challenge = parse(str(browser.recv(5)).encode())
        assert isinstance(challenge, Response)
        asked = Challenge.parse(challenge.headers.get("WWW-Authenticate") or "")
        answer = authorise(asked, "REGISTER", "sip:siaga.local", "102", centre.password("102"), "c0ffee")
        browser.send("\r\n".join([*lines, f"Authorization: {answer}", "", ""]).format(2))
        assert str(browser.recv(5)).startswith("SIP/2.0 200 ")
        until(lambda: seat_state(centre, "102") == "ready", "the seat")


def test_a_renewed_certificate_is_taken_at_sighup(site: Site) -> None:
    def serial() -> int:
        context = ssl.create_default_context(cafile=site.authority.certificate)
        with (
            socket.create_connection((DAEMON, site.tls)) as plain,
            context.wrap_socket(plain, server_hostname=DAEMON) as secure,
        ):
            shown = secure.getpeercert()
            assert shown is not None
            return int(str(shown["serialNumber"]), 16)

    before = serial()
    site.authority.pair("centre", DAEMON)  # the same files
    assert site.centre.daemon is not None
    site.centre.daemon.send_signal(signal.SIGHUP)
    until(lambda: serial() != before, "the new certificate")
    Path(site.centre.folder / "centre.key").write_text("spoilt")
    site.centre.daemon.send_signal(signal.SIGHUP)
    until(lambda: "the certificate or its key" in log_of(site.centre), "the refusal")
    assert serial()
