"""Every state of a leg against everything that can happen in it: what is sent, and what the user hears.

A leg is a dialog with the transactions that are open in it (RFC 3261 12 to 15, RFC 3311, RFC 3262). Rows are grouped by
state; a state or an input that has no row fails, and so does an answer that differs. Whatever the input, the leg then
ends by a BYE or a time-out and nothing of it is left: no timer, no transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from siaga_pbx.sip.events import Ended, Event, Failed, Resolve
from siaga_pbx.sip.flow import Target
from siaga_pbx.sip.headers import NameAddr
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import Invite
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer
from siaga_pbx.sip.uri import Uri
from tests.flows.bench import OUR_SDP, THEIR_SDP, TRUNK, Bench, Peer

CALLED = Uri.parse("sip:113@198.51.100.1")
FROM = NameAddr.parse("<sip:112@siaga.local>")
OUR_ANSWER = make_answer(THEIR_SDP, LocalAudio("192.0.2.10", 30000, 7, 1))[0]
THEIR_ANSWER = make_answer(OUR_SDP, LocalAudio("198.51.100.1", 40000, 1, 1))[0]


@dataclass
class Call:
    """One leg and its peer. `theirs` is the peer's INVITE, `ours` ours."""

    bench: Bench = field(default_factory=Bench)
    leg: str = "leg"
    theirs: Request | None = None
    ours: Request | None = None
    heard: list[Event | Resolve] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = Peer(self.bench, TRUNK)

    def do(self, command: str, *arguments: object) -> None:
        self.bench.do(getattr(self.bench.stack, command)(self.leg, *arguments, self.bench.now))

    def forget(self) -> None:
        self.heard += self.bench.events
        self.bench.sent.clear()
        self.bench.events.clear()

    # How a leg is brought into a state

    def come_in(self) -> None:
        self.theirs = self.peer.request("INVITE", sdp=THEIR_SDP)
        self.peer.send(self.theirs)
        [event] = self.bench.events
        self.leg = getattr(event, "leg", "")

    def told(self, command: str, *arguments: object) -> None:
        """A command on their INVITE; our tag comes with its response."""
        self.come_in()
        self.do(command, *arguments)
        self.peer.our_tag = self.bench.sent[-1][1].to.tag or ""

    def answered(self) -> None:
        self.told("answer", OUR_ANSWER)

    def confirmed(self) -> None:
        self.answered()
        self.peer.ack()

    def call(self) -> None:
        call = Invite(Target("udp", *TRUNK.remote), CALLED, NameAddr("", CALLED), FROM, OUR_SDP)
        self.bench.do(self.bench.stack.invite(self.leg, call, self.bench.now))
        message = self.bench.sent[-1][1]
        assert isinstance(message, Request)
        self.ours = message
        self.peer.call_id, self.peer.our_tag = message.call_id, message.from_.tag or ""

    def respond(self, status: int) -> None:
        """To our last INVITE of this leg."""
        assert self.ours is not None
        self.peer.answer(self.ours, status, THEIR_ANSWER if status == 200 else None)

    def established(self) -> None:
        self.call()
        self.respond(200)


def offering(call: Call) -> None:
    """Our re-INVITE is out."""
    call.confirmed()
    call.do("offer", OUR_SDP)
    message = call.bench.sent[-1][1]
    assert isinstance(message, Request)
    call.ours = message


def offered(call: Call) -> None:
    """Theirs waits for the user."""
    call.confirmed()
    call.peer.send(call.peer.request("INVITE", sdp=THEIR_SDP))


def rings(call: Call) -> None:
    call.respond(180)


def refuses(call: Call) -> None:
    call.respond(486)


def hang_up(call: Call) -> None:
    call.do("hang_up")


STATES: dict[str, tuple[Callable[[Call], None], ...]] = {
    "incoming, ringing": (lambda call: call.told("ring"),),
    "answered, no ACK yet": (Call.answered,),
    "talking, they called": (Call.confirmed,),
    "talking, their offer waits": (offered,),
    "talking, our offer is out": (offering,),
    "hung up, no ACK yet": (Call.answered, hang_up),
    "hung up, BYE is out": (Call.confirmed, hang_up),
    "refused": (lambda call: call.told("reject", 486),),
    "calling": (Call.call,),
    "calling, rings": (Call.call, rings),
    "given up, silent": (Call.call, hang_up),
    "given up, CANCEL is out": (Call.call, rings, hang_up),
    "talking, we called": (Call.established,),
    "failed": (Call.call, refuses),
}


def _their_invite(call: Call) -> Request:
    """Their INVITE once more; of a leg that we called there is none, but one may be made up."""
    return call.theirs or call.peer.request("INVITE", sdp=THEIR_SDP, cseq=1, branch="z9hG4bKmadeup")


def _cancel(call: Call) -> None:
    invite = _their_invite(call)
    cancel = call.peer.request("CANCEL", cseq=invite.cseq.number, branch=invite.via.branch)
    cancel.headers.set("To", invite.headers.get("To") or "")
    call.peer.send(cancel)


def _sends(method: str, sdp: Sdp | None = None) -> Callable[[Call], None]:
    return lambda call: call.peer.send(call.peer.request(method, sdp=sdp))


def _answers(status: int) -> Callable[[Call], None]:
    return lambda call: call.respond(status) if call.ours is not None else None


INPUTS: dict[str, Callable[[Call], object]] = {
    "INVITE again": lambda call: call.peer.send(_their_invite(call)) if call.theirs is not None else None,
    "re-INVITE": _sends("INVITE", THEIR_SDP),
    "re-INVITE without offer": _sends("INVITE"),
    "UPDATE": _sends("UPDATE"),
    "UPDATE with offer": _sends("UPDATE", THEIR_SDP),
    "old CSeq": lambda call: call.peer.send(call.peer.request("INFO", cseq=1)),
    "ACK": lambda call: call.peer.ack(cseq=100 if call.theirs is None else call.theirs.cseq.number),
    "CANCEL": _cancel,
    "BYE": _sends("BYE"),
    "PRACK": _sends("PRACK"),
    "INFO": _sends("INFO"),
    "OPTIONS": _sends("OPTIONS"),
    "REFER": _sends("REFER"),
    "100": _answers(100),
    "180": _answers(180),
    "200": _answers(200),
    "486": _answers(486),
    "no way": lambda call: call.bench.do(call.bench.stack.unreachable(Target("udp", *TRUNK.remote), call.bench.now)),
    "ring": lambda call: call.do("ring"),
    "answer": lambda call: call.do("answer", OUR_ANSWER),
    "reject": lambda call: call.do("reject", 480),
    "hang up": lambda call: call.do("hang_up"),
    "offer": lambda call: call.do("offer", OUR_SDP),
    "accept": lambda call: call.do("accept", OUR_ANSWER),
    "refuse": lambda call: call.do("refuse", 488),
    "check": lambda call: call.do("check"),
}


def happens(state: str, what: str) -> tuple[Call, str]:
    """What is sent, and the events, in a line."""
    call = Call()
    for step in STATES[state]:
        step(call)
    call.forget()
    INPUTS[what](call)
    sent = ", ".join(call.bench.summary())
    events = ", ".join(_word(event) for event in call.bench.events)
    return call, f"{sent} | {events}".strip(" |") if not events else f"{sent} | {events}".strip()


def _word(event: Event | Resolve) -> str:
    status = getattr(event, "status", None)
    return type(event).__name__ + (f" {status}" if status is not None else "")


TABLE = """
## incoming, ringing
INVITE again: 180 INVITE
re-INVITE: 500 INVITE
re-INVITE without offer: 500 INVITE
UPDATE: 200 UPDATE
UPDATE with offer: 500 UPDATE
old CSeq: 500 INFO
CANCEL: 200 CANCEL, 487 INVITE | Ended 487
BYE: 200 BYE, 487 INVITE | Ended 487
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
answer: 200 INVITE
reject: 480 INVITE | Ended 480
hang up: 480 INVITE | Ended 480
nothing: ACK, 100, 180, 200, 486, no way, ring, offer, accept, refuse, check
## answered, no ACK yet
re-INVITE: 100 INVITE | Offered
re-INVITE without offer: 100 INVITE | Offered
UPDATE: 200 UPDATE
UPDATE with offer: | Offered
old CSeq: 500 INFO
ACK: | Confirmed
CANCEL: 200 CANCEL
BYE: 200 BYE | Ended 200
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
hang up: | Ended
check: OPTIONS
nothing: INVITE again, 100, 180, 200, 486, no way, ring, answer, reject, offer, accept, refuse
## talking, they called
re-INVITE: 100 INVITE | Offered
re-INVITE without offer: 100 INVITE | Offered
UPDATE: 200 UPDATE
UPDATE with offer: | Offered
old CSeq: 500 INFO
CANCEL: 200 CANCEL
BYE: 200 BYE | Ended 200
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
hang up: BYE | Ended
offer: INVITE
check: OPTIONS
nothing: INVITE again, ACK, 100, 180, 200, 486, no way, ring, answer, reject, accept, refuse
## talking, their offer waits
re-INVITE: 500 INVITE
re-INVITE without offer: 500 INVITE
UPDATE: 200 UPDATE
UPDATE with offer: 500 UPDATE
old CSeq: 500 INFO
CANCEL: 200 CANCEL
BYE: 200 BYE, 487 INVITE | Ended 200
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
hang up: 487 INVITE, BYE | Ended
accept: 200 INVITE
refuse: 488 INVITE
check: OPTIONS
nothing: INVITE again, ACK, 100, 180, 200, 486, no way, ring, answer, reject, offer
## talking, our offer is out
re-INVITE: 491 INVITE
re-INVITE without offer: 491 INVITE
UPDATE: 200 UPDATE
UPDATE with offer: 491 UPDATE
old CSeq: 500 INFO
CANCEL: 200 CANCEL
BYE: 200 BYE | Ended 200
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
200: ACK | Reanswered
486: ACK | OfferRefused 486
hang up: BYE | Ended
check: OPTIONS
nothing: INVITE again, ACK, 100, 180, no way, ring, answer, reject, offer, accept, refuse
## hung up, no ACK yet
re-INVITE: 481 INVITE
re-INVITE without offer: 481 INVITE
UPDATE: 481 UPDATE
UPDATE with offer: 481 UPDATE
old CSeq: 481 INFO
ACK: BYE
CANCEL: 200 CANCEL
BYE: 200 BYE
PRACK: 481 PRACK
INFO: 481 INFO
OPTIONS: 481 OPTIONS
REFER: 481 REFER
nothing: INVITE again, 100, 180, 200, 486, no way, ring, answer, reject, hang up, offer, accept, refuse,
    check
## hung up, BYE is out
re-INVITE: 481 INVITE
re-INVITE without offer: 481 INVITE
UPDATE: 481 UPDATE
UPDATE with offer: 481 UPDATE
old CSeq: 481 INFO
CANCEL: 200 CANCEL
BYE: 200 BYE
PRACK: 481 PRACK
INFO: 481 INFO
OPTIONS: 481 OPTIONS
REFER: 481 REFER
nothing: INVITE again, ACK, 100, 180, 200, 486, no way, ring, answer, reject, hang up, offer, accept, refuse,
    check
## refused
INVITE again: 486 INVITE
re-INVITE: 481 INVITE
re-INVITE without offer: 481 INVITE
UPDATE: 481 UPDATE
UPDATE with offer: 481 UPDATE
old CSeq: 481 INFO
CANCEL: 200 CANCEL
BYE: 481 BYE
PRACK: 481 PRACK
INFO: 481 INFO
OPTIONS: 481 OPTIONS
REFER: 481 REFER
nothing: ACK, 100, 180, 200, 486, no way, ring, answer, reject, hang up, offer, accept, refuse, check
## calling
re-INVITE: 481 INVITE
re-INVITE without offer: 481 INVITE
UPDATE: 481 UPDATE
UPDATE with offer: 481 UPDATE
old CSeq: 481 INFO
CANCEL: 481 CANCEL
BYE: 481 BYE
PRACK: 481 PRACK
INFO: 481 INFO
OPTIONS: 481 OPTIONS
REFER: 481 REFER
180: | Ringing 180
200: ACK | Answered
486: ACK | Failed 486
no way: | Failed 503
nothing: INVITE again, ACK, 100, ring, answer, reject, hang up, offer, accept, refuse, check
## calling, rings
re-INVITE: 491 INVITE
re-INVITE without offer: 491 INVITE
UPDATE: 200 UPDATE
UPDATE with offer: 491 UPDATE
old CSeq: 200 INFO | Info
CANCEL: 481 CANCEL
BYE: 481 BYE
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
180: | Ringing 180
200: ACK | Answered
486: ACK | Failed 486
hang up: CANCEL
nothing: INVITE again, ACK, 100, no way, ring, answer, reject, offer, accept, refuse, check
## given up, silent
re-INVITE: 481 INVITE
re-INVITE without offer: 481 INVITE
UPDATE: 481 UPDATE
UPDATE with offer: 481 UPDATE
old CSeq: 481 INFO
CANCEL: 481 CANCEL
BYE: 481 BYE
PRACK: 481 PRACK
INFO: 481 INFO
OPTIONS: 481 OPTIONS
REFER: 481 REFER
100: CANCEL
180: CANCEL
200: ACK, BYE | Failed 487
486: ACK | Failed 486
no way: | Failed 487
nothing: INVITE again, ACK, ring, answer, reject, hang up, offer, accept, refuse, check
## given up, CANCEL is out
re-INVITE: 491 INVITE
re-INVITE without offer: 491 INVITE
UPDATE: 200 UPDATE
UPDATE with offer: 491 UPDATE
old CSeq: 200 INFO | Info
CANCEL: 481 CANCEL
BYE: 481 BYE
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
200: ACK, BYE | Failed 487
486: ACK | Failed 486
nothing: INVITE again, ACK, 100, 180, no way, ring, answer, reject, hang up, offer, accept, refuse, check
## talking, we called
re-INVITE: 100 INVITE | Offered
re-INVITE without offer: 100 INVITE | Offered
UPDATE: 200 UPDATE
UPDATE with offer: | Offered
old CSeq: 200 INFO | Info
CANCEL: 481 CANCEL
BYE: 200 BYE | Ended 200
PRACK: 200 PRACK
INFO: 200 INFO | Info
OPTIONS: 200 OPTIONS
REFER: 405 REFER
200: ACK
hang up: BYE | Ended
offer: INVITE
check: OPTIONS
nothing: INVITE again, ACK, 100, 180, 486, no way, ring, answer, reject, accept, refuse
## failed
re-INVITE: 481 INVITE
re-INVITE without offer: 481 INVITE
UPDATE: 481 UPDATE
UPDATE with offer: 481 UPDATE
old CSeq: 481 INFO
CANCEL: 481 CANCEL
BYE: 481 BYE
PRACK: 481 PRACK
INFO: 481 INFO
OPTIONS: 481 OPTIONS
REFER: 481 REFER
486: ACK
nothing: INVITE again, ACK, 100, 180, 200, no way, ring, answer, reject, hang up, offer, accept, refuse,
    check
"""


def _rows() -> dict[tuple[str, str], str]:
    """(state, input) to what is sent and heard; "" for nothing."""
    rows: dict[tuple[str, str], str] = {}
    state = ""
    for line in TABLE.replace("\n    ", " ").strip().splitlines():
        what, _, answer = line.partition(": ")
        if line.startswith("## "):
            state = line[3:]
        elif what == "nothing":
            rows |= {(state, each): "" for each in answer.split(", ")}
        else:
            rows[state, what] = answer
    return rows


ROWS = _rows()


def test_the_table_is_complete() -> None:
    assert set(ROWS) == {(state, what) for state in STATES for what in INPUTS}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("what", INPUTS)
def test_a_leg_in_any_state(state: str, what: str) -> None:
    call, answer = happens(state, what)
    assert answer == ROWS[state, what]
    call.do("hang_up")
    call.bench.advance(300)
    assert call.bench.is_empty()
    ends = [event for event in call.heard + call.bench.events if isinstance(event, Ended | Failed)]
    assert [event.leg for event in ends] == [call.leg]
