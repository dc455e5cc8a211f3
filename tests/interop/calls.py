"""The scripted phones of a test, and the call that most tests begin with."""

from collections.abc import Iterator
from contextlib import contextmanager

from siaga_pbx.demo.callers import ALIKE
from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from siaga_pbx.demo.compare import likeness
from tests.interop.audio import Rtp
from tests.interop.centres import seat_state, until
from tests.interop.uac import Dialog, Ua

SEAT = "127.0.0.3"
"""Where the seats' phones are: neither a trunk's address nor one of ours."""
PIECE = 32_000
"""Samples of a voice that are looked for: the first four seconds."""


@contextmanager
def registered(centre: Centre, seat: str) -> Iterator[Ua]:
    """A seat's phone, registered, and the seat ready; it leaves at the end."""
    with Ua((DAEMON, centre.sip_port), SEAT, seat) as ua:
        assert ua.register(seat, centre.password(seat)).status == 200
        until(lambda: seat_state(centre, seat) == "ready", "the seat")
        yield ua
        if centre.daemon is not None and centre.daemon.poll() is None:
            ua.register(seat, centre.password(seat), expires=0)


@contextmanager
def carrier(centre: Centre) -> Iterator[Ua]:
    """Somebody on the trunk."""
    with Ua((DAEMON, centre.sip_port), TRUNK) as ua:
        yield ua


def bridged(caller: Ua, seat: Ua, mouth: Rtp, ear: Rtp) -> tuple[Dialog, Dialog]:
    """A call that the seat has taken: the caller's end of it and the seat's."""
    call = caller.invite(mouth.sdp)
    return call, take(call, seat, mouth, ear)


def take(call: Dialog, seat: Ua, mouth: Rtp, ear: Rtp) -> Dialog:
    """The call is answered, offered to the seat and taken there; the seat's end of it."""
    answer = call.final()
    assert answer.status == 200, answer.start
    mouth.start(answer.body)
    return pick_up(seat, ear)


def pick_up(seat: Ua, ear: Rtp) -> Dialog:
    """The seat takes what it is offered."""
    offered = seat.offered()
    offered.ring()
    ear.start(offered.offer)
    offered.answer(ear.sdp)
    return offered


def hear_each_other(mouth: Rtp, ear: Rtp) -> None:
    until(lambda: likeness(mouth.said[:PIECE], ear.heard()) >= ALIKE, "the caller's voice at the seat")
    until(lambda: likeness(ear.said[:PIECE], mouth.heard()) >= ALIKE, "the seat's voice at the caller")
