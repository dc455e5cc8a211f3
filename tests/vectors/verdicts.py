"""What the parser says to each test message of RFC 4475 and RFC 5118, as one datagram, and why.

A message that is `Read` may still be refused by whoever serves it: the parser only says what it can be read as.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Read:
    """It is a message, after these repairs. `unlike_rfc` says that the RFC would rather have it refused."""

    repairs: tuple[str, ...] = ()
    unlike_rfc: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """It is none. `answerable`: the sender can be told the status."""

    reason: str
    status: int = 400
    answerable: bool = True


Verdict: TypeAlias = Read | Refused


@dataclass(frozen=True, slots=True)
class Vector:
    """One message: its file, the section of its RFC, the verdict and the reason for it."""

    file: str
    section: str
    verdict: Verdict
    why: str

    @property
    def data(self) -> bytes:
        return (FOLDER / self.file).read_bytes()


RFC4475 = (
    Vector("rfc4475/valid/wsinv.dat", "3.1.1.1", Read(), "white space, folding and compact names wherever they may be"),
    Vector("rfc4475/valid/intmeth.dat", "3.1.1.2", Read(), "every character that a token, a user, a name may have"),
    Vector("rfc4475/valid/esc01.dat", "3.1.1.3", Read(), "escapes in users and parameters are kept as written"),
    Vector("rfc4475/valid/escnull.dat", "3.1.1.4", Read(), "an escaped NUL is a character like others"),
    Vector("rfc4475/valid/esc02.dat", "3.1.1.5", Read(), "in method and header names % is a character, no escape"),
    Vector("rfc4475/valid/lwsdisp.dat", "3.1.1.6", Read(), "no blank is needed between a name and <"),
    Vector("rfc4475/valid/longreq.dat", "3.1.1.7", Read(), "long values, 34 Via among them without a branch"),
    Vector("rfc4475/valid/dblreq.dat", "3.1.1.8", Read(), "what follows Content-Length in a datagram is dropped"),
    Vector("rfc4475/valid/semiuri.dat", "3.1.1.9", Read(), "a semicolon in the user begins no parameter"),
    Vector("rfc4475/valid/transports.dat", "3.1.1.10", Read(), "any transport may stand in a Via"),
    Vector("rfc4475/valid/mpart01.dat", "3.1.1.11", Read(), "a binary part: the body is bytes"),
    Vector("rfc4475/valid/unreason.dat", "3.1.1.12", Read(), "a reason phrase in UTF-8"),
    Vector("rfc4475/valid/noreason.dat", "3.1.1.13", Read(), "an empty reason phrase"),
    Vector("rfc4475/invalid/badinv01.dat", "3.1.2.1", Read((), True), "stray ; and , in Via and Contact carry nothing"),
    Vector(
        "rfc4475/invalid/clerr.dat",
        "3.1.2.2",
        Read(("content-length",), True),
        "a length beyond the datagram: the datagram has an end of its own; the SDP may have been rewritten on the way",
    ),
    Vector("rfc4475/invalid/ncl.dat", "3.1.2.3", Read(("content-length",), True), "a negative length: as clerr"),
    Vector("rfc4475/invalid/scalar02.dat", "3.1.2.4", Refused("cseq"), "CSeq beyond 32 bits"),
    Vector(
        "rfc4475/invalid/scalarlg.dat", "3.1.2.5", Refused("cseq", answerable=False), "the same in a response: dropped"
    ),
    Vector("rfc4475/invalid/quotbal.dat", "3.1.2.6", Read((), True), "an open quote in a name: the <> are believed"),
    Vector(
        "rfc4475/invalid/ltgtruri.dat", "3.1.2.7", Read(("request-line",), True), "<> around the Request-URI come off"
    ),
    Vector(
        "rfc4475/invalid/lwsruri.dat",
        "3.1.2.8",
        Read(("request-line",), True),
        "a blank in the Request-URI is taken out",
    ),
    Vector(
        "rfc4475/invalid/lwsstart.dat", "3.1.2.9", Read(("request-line",), True), "blanks too many in the request line"
    ),
    Vector("rfc4475/invalid/trws.dat", "3.1.2.10", Read(("request-line",), True), "blanks behind the version"),
    Vector(
        "rfc4475/invalid/escruri.dat", "3.1.2.11", Read((), True), "headers in the Request-URI: nobody acts on them"
    ),
    Vector("rfc4475/invalid/baddate.dat", "3.1.2.12", Read(), "a Date that is not GMT: nobody needs it"),
    Vector(
        "rfc4475/invalid/regbadct.dat",
        "3.1.2.13",
        Read(),
        "a Contact with ? outside <>: `contacts` refuses it when the registrar asks",
    ),
    Vector("rfc4475/invalid/badaspec.dat", "3.1.2.14", Read((), True), "blanks within <> come off"),
    Vector("rfc4475/invalid/baddn.dat", "3.1.2.15", Read(("no-blank-line",), True), "a comma in an unquoted name"),
    Vector("rfc4475/invalid/badvers.dat", "3.1.2.16", Refused("version", 505), "SIP/7.0"),
    Vector("rfc4475/invalid/mismatch01.dat", "3.1.2.17", Refused("cseq-method"), "OPTIONS with a CSeq of INVITE"),
    Vector("rfc4475/invalid/mismatch02.dat", "3.1.2.18", Refused("cseq-method"), "the same with an unknown method"),
    Vector(
        "rfc4475/invalid/bigcode.dat", "3.1.2.19", Refused("start-line", answerable=False), "no status has ten digits"
    ),
    Vector(
        "rfc4475/invalid/badbranch.dat", "3.2.1", Read(), "a branch of the cookie alone: the transactions' business"
    ),
    Vector(
        "rfc4475/invalid/insuf.dat",
        "3.3.1",
        Refused("no-from", answerable=False),
        "no From, To, Call-ID to answer with",
    ),
    Vector("rfc4475/invalid/unkscm.dat", "3.3.2", Read(), "an unknown scheme is the UAS's to refuse (416)"),
    Vector("rfc4475/invalid/novelsc.dat", "3.3.3", Read(), "a scheme that is none for SIP: as unkscm"),
    Vector("rfc4475/invalid/unksm2.dat", "3.3.4", Read(), "unknown schemes in From, To, Contact"),
    Vector("rfc4475/invalid/bext01.dat", "3.3.5", Read(), "unknown extensions are the UAS's to refuse (420)"),
    Vector("rfc4475/invalid/invut.dat", "3.3.6", Read(), "an unknown body is the UAS's to refuse (415)"),
    Vector("rfc4475/invalid/regaut01.dat", "3.3.7", Read(), "an unknown authorisation scheme is as good as none"),
    Vector(
        "rfc4475/invalid/multi01.dat", "3.3.8", Refused("two-from"), "two of From, Call-ID, CSeq: which call is it?"
    ),
    Vector(
        "rfc4475/invalid/mcl01.dat",
        "3.3.9",
        Read(("content-length",), True),
        "two lengths that differ: the datagram has an end of its own",
    ),
    Vector("rfc4475/invalid/bcast.dat", "3.3.10", Read(), "a response with two Via is not for us: the client drops it"),
    Vector("rfc4475/invalid/zeromf.dat", "3.3.11", Read(), "Max-Forwards 0 stops nothing that has arrived"),
    Vector("rfc4475/invalid/cparam01.dat", "3.3.12", Read(), "outside <> a parameter is the header's"),
    Vector("rfc4475/invalid/cparam02.dat", "3.3.13", Read(), "within <> a parameter is the URI's"),
    Vector("rfc4475/invalid/regescrt.dat", "3.3.14", Read(), "headers in a Contact's URI are part of it"),
    Vector("rfc4475/invalid/sdp01.dat", "3.3.15", Read(), "Accept without SDP is the UAS's to judge"),
    Vector("rfc4475/invalid/inv2543.dat", "3.4.1", Read(), "no tag, no branch, no length: RFC 2543 was so"),
    Vector(
        "rfc4475/invalid/test.dat",
        "drafts",
        Refused("start-line", answerable=False),
        "no version, Via or CSeq; not one of the RFC's",
    ),
)

RFC5118 = (
    Vector("rfc5118/ipv6-good", "4.1", Read(), "an IPv6 reference in brackets"),
    Vector("rfc5118/ipv6-bad", "4.2", Refused("uri"), "an IPv6 address without its brackets"),
    Vector("rfc5118/port-ambiguous", "4.3", Read(), "[2001:db8::10:5070] is an address without a port"),
    Vector("rfc5118/port-unambiguous", "4.4", Read(), "[2001:db8::10]:5070 is one with a port"),
    Vector("rfc5118/via-received-param-with-delim", "4.5", Read(), "received in brackets"),
    Vector("rfc5118/via-received-param-no-delim", "4.5", Read(), "received without brackets"),
    Vector("rfc5118/ipv6-in-sdp", "4.6", Read(), "IN IP6"),
    Vector("rfc5118/mult-ip-in-header", "4.7", Read(), "IPv4 and IPv6 in the Vias of one message"),
    Vector("rfc5118/mult-ip-in-sdp", "4.8", Read(), "IPv4 and IPv6 in the streams of one description"),
    Vector("rfc5118/ipv4-mapped-ipv6", "4.9", Read(), "an IPv4-mapped IPv6 address"),
    Vector("rfc5118/ipv6-bug-abnf-3-colons", "4.10", Read(), "three colons, the fault of RFC 3261's grammar"),
    Vector("rfc5118/ipv6-correct-abnf-2-colons", "4.10", Read(), "two colons before an embedded IPv4 address"),
)

VECTORS = RFC4475 + RFC5118

Told: TypeAlias = tuple[str, ...]
"""What a sender gets to hear of its message: statuses above 100, or the methods of requests."""

ANSWERED: Told = ("200",)
"""A call, or an OPTIONS that asks whether we live: odd as it is."""
CHALLENGED: Told = ("401",)
"""A REGISTER of nobody that we know: the same challenge as for a seat."""
NO_DIALOG: Told = ("481",)
"""Its To has a tag: it speaks of a call that there is not."""
NO_METHOD: Told = ("405",)
NO_AUDIO: Told = ("488",)
"""Its only audio is at an IPv6 address, and the centre under test has none."""
BAD: Told = ("400",)
SILENCE: Told = ()

AT_DAEMON: dict[str, tuple[Told, Told]] = {
    vector.file: (told, told)
    for told, sections in {
        ANSWERED: (
            "3.1.1.3 3.1.1.6 3.1.1.7 3.1.1.9 3.1.1.10 3.1.2.1 3.1.2.6 3.1.2.7 3.1.2.9 3.1.2.10 3.1.2.11 3.1.2.12 "
            "3.1.2.14 3.2.1 3.3.2 3.3.3 3.3.6 3.3.11 3.3.15 4.8 4.10"
        ),
        CHALLENGED: "3.1.1.4 3.1.2.13 3.3.4 3.3.7 3.3.12 3.3.13 3.3.14 4.1 4.3 4.4",
        NO_DIALOG: "3.1.1.1 3.1.2.8 4.7",
        NO_METHOD: "3.1.1.2 3.1.1.5 3.1.1.11",
        NO_AUDIO: "4.6 4.9",
        BAD: "3.1.2.4 3.1.2.17 3.1.2.18 3.3.8 4.2",
        ("505",): "3.1.2.16",
        ("420",): "3.3.5",
        # Responses: to no request of ours, so to nobody.
        SILENCE: "3.1.1.12 3.1.1.13 3.1.2.5 3.1.2.19 3.3.1 3.3.10 drafts",
    }.items()
    for vector in VECTORS
    if vector.section in sections.split()
} | {
    # Where a stream and a datagram differ.
    "rfc4475/valid/dblreq.dat": (CHALLENGED, CHALLENGED),  # what follows in a stream has a Call-ID of its own
    "rfc4475/invalid/clerr.dat": (ANSWERED, SILENCE),  # in a stream the rest of the body is waited for
    "rfc4475/invalid/ncl.dat": (ANSWERED, BAD),  # in a stream a length that says nothing is the end of it
    "rfc4475/invalid/mcl01.dat": (ANSWERED, BAD),
    "rfc4475/invalid/baddn.dat": (ANSWERED, SILENCE),  # without its blank line the head has no end in a stream
    "rfc4475/invalid/inv2543.dat": (ANSWERED, BAD),  # no length: RFC 3261 18.3 wants one in a stream
    "rfc5118/via-received-param-with-delim": (NO_DIALOG, NO_DIALOG),
    "rfc5118/via-received-param-no-delim": (ANSWERED, ANSWERED),
}
"""What the daemon tells a trunk that sends the message: over UDP, over TCP."""
