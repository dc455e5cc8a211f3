"""Our SIP core beside sipmessage, sippy and aiosipua: messages a second, of the same work, in one run.

    .venv/bin/python -m benchmarks.sip_libraries [--seconds 1.0] [--rounds 3]

Work on a message: from the bytes of a datagram to a message object; what every one of them is matched and routed by
read as values: Request-URI, top Via, From, To, Call-ID, CSeq and every Contact; back to bytes. What each has read is
compared with what we have before anything is timed; a message that another library does not read, or reads otherwise,
is told and not timed with it. All four keep a header's text until it is asked for (aiosipua splits lists at once): this
asks. sippy takes and gives text, so its decoding and encoding are counted with it, as with the others.

A transaction is an INVITE that is answered 100 and 486, and its ACK: two messages in, two out, no sockets. sipmessage
has none. aiosipua's keeps no timers for it and sends nothing again; sippy's does both, as ours does.

Libraries take turns, and the best of their rounds counts: CPU time of this process.
"""

import argparse
import contextlib
import io
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from siaga_pbx.sip.events import IncomingCall
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.message import Request, parse
from siaga_pbx.sip.options import StackSettings, TrunkOptions
from siaga_pbx.sip.stack import Stack

VECTORS = Path(__file__).parent.parent / "tests" / "vectors" / "rfc4475" / "valid"
US, PEER = ("192.0.2.10", 5060), ("198.51.100.1", 5060)

SDP = (
    "v=0\r\no=- 3913200 3913200 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
    "m=audio 41000 RTP/AVP 104 9 8 0 101\r\nb=AS:41\r\na=rtpmap:104 AMR-WB/16000/1\r\n"
    "a=fmtp:104 mode-change-capability=2\r\n"
    "a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:40\r\na=sendrecv\r\n"
)
INVITE = (
    "INVITE sip:112@192.0.2.10:5060;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{n}mgcf;rport\r\n"
    "Via: SIP/2.0/TCP 10.20.30.41:5060;branch=z9hG4bK{n}ecscf;received=10.20.30.41\r\n"
    "Via: SIP/2.0/TCP [2001:db8::5]:5060;branch=z9hG4bK{n}pcscf\r\n"
    "Record-Route: <sip:198.51.100.1;lr>, <sip:ecscf.ims.mnc010.mcc510.3gppnetwork.org;lr>\r\n"
    "Max-Forwards: 66\r\n"
    'From: "+628121234567" <sip:+628121234567@ims.mnc010.mcc510.3gppnetwork.org;user=phone>;tag={n}a73kszlfl\r\n'
    "To: <sip:112@ims.mnc010.mcc510.3gppnetwork.org;user=phone>\r\n"
    "Call-ID: {n}-f81d4fae7dec11d0a76500a0c91e6bf6@10.20.30.41\r\n"
    "CSeq: 1 INVITE\r\n"
    "Contact: <sip:+628121234567@198.51.100.1:5060;transport=udp>;"
    '+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"\r\n'
    "P-Asserted-Identity: <sip:+628121234567@ims.mnc010.mcc510.3gppnetwork.org>, <tel:+628121234567>\r\n"
    "P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=5101012340abcdef0;network-provided\r\n"
    "P-Charging-Vector: icid-value={n}1234bc9876e;icid-generated-at=10.20.30.41;orig-ioi=home.example\r\n"
    "P-Early-Media: supported\r\n"
    "Privacy: none\r\n"
    "Resource-Priority: esnet.1\r\n"
    "Geolocation-Routing: no\r\n"
    "Session-Expires: 1800;refresher=uac\r\n"
    "Min-SE: 90\r\n"
    "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, INFO\r\n"
    "Supported: timer, replaces, histinfo\r\n"
    "Accept: application/sdp, application/3gpp-ims+xml\r\n"
    "User-Agent: IMS-MGCF/7.2\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: {length}\r\n\r\n{sdp}"
)
ACK = (
    "ACK sip:112@192.0.2.10:5060;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{n}mgcf;rport\r\n"
    "Max-Forwards: 70\r\n"
    'From: "+628121234567" <sip:+628121234567@ims.mnc010.mcc510.3gppnetwork.org;user=phone>;tag={n}a73kszlfl\r\n'
    "To: <sip:112@ims.mnc010.mcc510.3gppnetwork.org;user=phone>;tag={tag}\r\n"
    "Call-ID: {n}-f81d4fae7dec11d0a76500a0c91e6bf6@10.20.30.41\r\n"
    "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
)
OK = (
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK4f1c;rport=5060;received=192.0.2.10\r\n"
    "From: <sip:+628121234567@siaga.local>;tag=9fxced76sl\r\nTo: <sip:101@203.0.113.5:5062>;tag=314159\r\n"
    "Call-ID: 3848276298220188511\r\nCSeq: 1 INVITE\r\nContact: <sip:101@203.0.113.5:5062;transport=udp>\r\n"
    "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nSupported: replaces\r\nUser-Agent: Softphone/5.1\r\n"
    "Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}"
)
BYE = (
    "BYE sip:112@192.0.2.10:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKbye;rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:+628121234567@home.example>;tag=a73kszlfl\r\nTo: <sip:112@home.example>;tag=1\r\n"
    "Call-ID: 3848276298220188511\r\nCSeq: 2 BYE\r\nReason: Q.850;cause=16\r\nContent-Length: 0\r\n\r\n"
)

Values: TypeAlias = tuple[object, ...]
Work: TypeAlias = Callable[[bytes], tuple[Values, bytes]]


def invite(number: object) -> bytes:
    return INVITE.format(n=number, sdp=SDP, length=len(SDP)).encode()


def messages() -> dict[str, bytes]:
    """What is parsed: four of a call, and the valid ones of RFC 4475."""
    made = {
        "INVITE of an IMS, with SDP": invite(776),
        "200 to an INVITE, with SDP": OK.format(sdp=SDP, length=len(SDP)).encode(),
        "ACK": ACK.format(n=776, tag=1).encode(),
        "BYE": BYE.encode(),
    }
    return made | {f"RFC 4475 {file.stem}": file.read_bytes() for file in sorted(VECTORS.glob("*.dat"))}


def ours(data: bytes) -> tuple[Values, bytes]:
    message = parse(data)
    contacts, uri = message.contacts, message.uri.host if isinstance(message, Request) else ""
    via, from_, to, cseq = message.via, message.from_, message.to, message.cseq
    ends = (from_.uri.host, from_.tag, to.uri.host, to.tag)
    hosts = tuple(one.uri.host for one in contacts)
    values = uri, via.host, via.branch, ends, message.call_id, cseq.number, cseq.method, hosts
    return values, bytes(message)


def with_sipmessage() -> Work:
    from sipmessage import Message, Via
    from sipmessage import Request as TheirRequest

    def work(data: bytes) -> tuple[Values, bytes]:
        message = Message.parse(data)
        uri = message.uri.host if isinstance(message, TheirRequest) else ""
        via = Via.parse_many(message.headers["Via"])[0]
        host, branch = via.host.strip("[]"), via.parameters.get("branch")
        from_, to, cseq = message.from_address, message.to_address, message.cseq
        ends = (from_.uri.host, from_.parameters.get("tag"), to.uri.host, to.parameters.get("tag"))
        contacts = tuple(one.uri.host for one in message.contact)
        return (uri, host, branch, ends, message.call_id, cseq.sequence, cseq.method, contacts), bytes(message)

    return work


def with_aiosipua() -> Work:
    from aiosipua.headers import parse_uri, parse_via
    from aiosipua.message import SipMessage, SipRequest

    def work(data: bytes) -> tuple[Values, bytes]:
        message = SipMessage.parse(data)
        uri = parse_uri(message.uri).host if isinstance(message, SipRequest) else ""
        via = parse_via(message.headers.get("via")[0])
        from_, to, cseq = message.from_addr, message.to_addr, message.cseq
        assert from_ is not None
        assert to is not None
        assert cseq is not None
        host = via.host.strip("[]")
        ends = (from_.uri.host, from_.tag, to.uri.host, to.tag)
        contacts = tuple(one.uri.host for one in message.contact)
        return (uri, host, via.branch, ends, message.call_id, cseq.seq, cseq.method, contacts), bytes(message)

    return work


def with_sippy() -> Work:
    from sippy.SipRequest import SipRequest
    from sippy.SipResponse import SipResponse

    def work(data: bytes) -> tuple[Values, bytes]:
        text = data.decode()
        message: Any = SipResponse(text) if text.startswith("SIP/") else SipRequest(text)
        uri = message.getRURI().host if isinstance(message, SipRequest) else ""
        via = message.getHFBody("via")
        host, branch = via.hostname.strip("[]"), via.getBranch()
        from_, to = message.getHFBody("from"), message.getHFBody("to")
        number, method = message.getHFBody("cseq").getCSeq()
        ends = (from_.getUrl().host, from_.getTag(), to.getUrl().host, to.getTag())
        contacts = tuple(one.getUrl().host for one in message.getHFBodys("contact"))
        values = uri, host, branch, ends, str(message.getHFBody("call-id")), number, method, contacts
        return values, str(message).encode()

    return work


OTHERS: dict[str, Callable[[], Work]] = {
    "sipmessage": with_sipmessage,
    "aiosipua": with_aiosipua,
    "sippy": with_sippy,
}


# A transaction: each is given a number, and returns how many messages it sent


def our_transaction() -> Callable[[int], int]:
    trunk = TrunkOptions("carrier", (ip_network("198.51.100.0/25"),))
    settings = StackSettings("siaga.local", frozenset({US[0]}), (trunk,), (), lambda _: US)
    stack, flow = Stack(settings, os.urandom), Flow("udp", US, PEER)

    def work(number: int) -> int:
        now = number / 500  # so that transactions end and are cleared away, as at 500 calls a second
        out = stack.receive(parse(invite(number)), flow, now)
        leg = next(one.leg for one in out if isinstance(one, IncomingCall))
        refusal = stack.reject(leg, 486, now)
        tag = parse(refusal[0].data).to.tag  # type: ignore[union-attr]  # a Send
        stack.receive(parse(ACK.format(n=number, tag=tag).encode()), flow, now)
        stack.handle_timer(now)
        return len(out)

    return work


def aiosipua_transaction() -> Callable[[int], int]:
    from aiosipua.transport import SipTransport
    from aiosipua.uas import SipUAS

    class Nowhere(SipTransport):
        """`sent` has the bytes that would go out."""

        def __init__(self) -> None:
            super().__init__(US)
            self.sent: list[bytes] = []

        def send(self, message: Any, addr: object) -> None:
            self.sent.append(bytes(message))

        def take(self, data: bytes) -> None:
            self._dispatch(data, PEER)

    transport = Nowhere()
    uas = SipUAS(transport)
    transport.on_message = uas._on_message  # start() would bind a socket
    uas.on_invite = lambda call: call.reject(486)

    def work(number: int) -> int:
        transport.sent.clear()
        transport.take(invite(number))
        sent = len(transport.sent)
        transport.take(ACK.format(n=number, tag=tag_of(transport.sent[-1])).encode())
        return sent

    return work


def sippy_transaction() -> Callable[[int], int]:
    from sippy.Network_server import Remote_address
    from sippy.SipTransactionManager import SipTransactionManager
    from sippy.Time.MonoTime import MonoTime

    class Options:
        def __init__(self, _laddress: object, _callback: object) -> None:
            self.flags = 0

        def isWildCard(self) -> bool:  # noqa: N802 - sippy's name
            return False

    class Nowhere:
        sent: list[str] = []  # noqa: RUF012 - one for all, as one socket would be

        def __init__(self, _config: object, options: Options) -> None:
            self.uopts = options

        def send_to(self, data: str, _address: object) -> None:
            self.sent.append(data)

        def addr2str(self, address: object) -> str:
            return str(address)

        def getSIPaddr(self) -> tuple[tuple[str, int], str]:  # noqa: N802 - sippy's name
            return US, "udp"

        def shutdown(self) -> None:
            """Nothing is open."""

    class Silent:
        def write(self, *_: object, **__: object) -> None:
            """No log."""

    class Manager(SipTransactionManager):
        model_udp_server = (Nowhere, Options)

    def refuse(request: Any, transaction: Any) -> tuple[object, None, None]:
        manager.sendResponse(request.genResponse(100, "Trying"), transaction)
        return request.genResponse(486, "Busy Here"), None, None

    manager = Manager({"_sip_address": US[0], "_sip_port": US[1], "_sip_logger": Silent()}, refuse)
    server = Nowhere({}, Options(None, None))
    peer = Remote_address(PEER, "udp")

    def work(number: int) -> int:
        Nowhere.sent.clear()
        manager.handleIncoming(invite(number), peer, server, MonoTime())
        sent = len(Nowhere.sent)
        ack = ACK.format(n=number, tag=tag_of(Nowhere.sent[-1].encode()))
        manager.handleIncoming(ack.encode(), peer, server, MonoTime())
        if number % 4096 == 0:
            manager.rCachePurge()  # its timer would do it every 32 s
        return sent

    return work


def tag_of(data: bytes) -> str:
    line = next(line for line in data.split(b"\r\n") if line[:3] == b"To:")
    return line.rpartition(b";tag=")[2].decode()


# Measuring


@dataclass(slots=True)
class Rate:
    """The best of the rounds, in units a second."""

    best: float = 0.0

    def measure(self, work: Callable[[], object], seconds: float) -> None:
        done, began = 0, time.process_time()
        while (spent := time.process_time() - began) < seconds:
            for _ in range(50):
                work()
            done += 50
        self.best = max(self.best, done / spent)


def compare(name: str, make: Callable[[], Work]) -> tuple[Work, list[str]]:
    """A library's work, and the messages that it reads as we do."""
    work, same = make(), []
    for label, data in messages().items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                values = work(data)[0]
        except Exception as error:  # noqa: BLE001 - whatever a library raises
            print(f"  {name} does not read {label}: {type(error).__name__} {str(error)[:60]}")
            continue
        if values == ours(data)[0]:
            same.append(label)
        else:
            differ = [(theirs, us) for theirs, us in zip(values, ours(data)[0], strict=True) if theirs != us]
            print(f"  {name} reads {label} otherwise: {str(differ[0])[:90]}")
    return work, same


def race(
    title: str, pairs: Iterable[tuple[str, Callable[[], object]]], seconds: float, rounds: int
) -> dict[str, float]:
    rates = {name: (Rate(), work) for name, work in pairs}
    for _ in range(rounds):
        for rate, work in rates.values():
            rate.measure(work, seconds)
    best = {name: rate.best for name, (rate, _) in rates.items()}
    others = "   ".join(
        f"{name} {value:9.0f} ({best['ours'] / value:4.1f}x)" for name, value in best.items() if name != "ours"
    )
    print(f"{title:34} ours {best['ours']:9.0f}   {others}", flush=True)
    return best


def each_in_turn(work: Work, labels: list[str]) -> Callable[[], object]:
    data, turn = [messages()[label] for label in labels], count()
    return lambda: work(data[next(turn) % len(data)])


def numbered(work: Callable[[int], int]) -> Callable[[], object]:
    turn = count(1)
    return lambda: work(next(turn))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    logging.disable()  # what a library thinks of a message is not its work
    print("Parse, read and serialise: what is not compared")
    works = {name: compare(name, make) for name, make in OTHERS.items()}
    print("\nMessages a second; in brackets how many times as fast we are")
    for label in list(messages())[:4]:
        here = [(name, each_in_turn(work, [label])) for name, (work, same) in works.items() if label in same]
        race(label, [("ours", each_in_turn(ours, [label])), *here], given.seconds, given.rounds)
    for name, (work, same) in works.items():
        pairs = [("ours", each_in_turn(ours, same)), (name, each_in_turn(work, same))]
        race(f"all {len(same)} that {name} reads", pairs, given.seconds, given.rounds)
    print("\nTransactions a second (INVITE, 100, 486, ACK)")
    made = {"ours": our_transaction(), "aiosipua": aiosipua_transaction(), "sippy": sippy_transaction()}
    for name, transact in made.items():
        assert transact(0) == 2, f"{name} sent something else than 100 and 486"
    race(
        "INVITE transaction",
        [(name, numbered(transact)) for name, transact in made.items()],
        given.seconds,
        given.rounds,
    )


if __name__ == "__main__":
    main()
