"""SRTP at the seats: who is offered it, who is missed for want of it, and what of it outlives a daemon."""

import stat
from collections.abc import Iterator
from dataclasses import replace

import pytest

from siaga_pbx.call import events as told
from siaga_pbx.media.protocol import Remote, Srtp, SrtpSuite
from siaga_pbx.seatkeys import SeatKeys
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.sdes import Security, Suite, read, text_of
from siaga_pbx.sip.sdp import LocalAudio, NoSecurity, Sdp, make_answer
from tests.flows.bench import US
from tests.switch_bench import SEAT_2, Centre, Phone

THEIRS = text_of(bytes(30))
TLS = Flow("tls", US, ("203.0.113.5", 5061), 7)


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def set_to(centre: Centre, mode: str) -> None:
    sip = centre.config.sip.model_copy(update={"srtp": mode})
    centre.config = centre.keys.config = centre.config.model_copy(update={"sip": sip})


def offer_to(centre: Centre, flow: Flow = TLS) -> tuple[Phone, Request, Sdp]:
    """A seat that a caller's call rings at."""
    seat = centre.seat(flow=flow)
    centre.caller().call()
    invite = centre.sent_request("INVITE")
    return seat, invite, Sdp.parse(invite.body)


def answer(seat: Phone, invite: Request, offer: Sdp, *, keyed: bool) -> None:
    security = Security(THEIRS, required=True) if keyed else None
    if not keyed:  # as phones do that do not know what it is
        offer = Sdp(offer.lines, (replace(offer.media[0], profile="RTP/AVP"),))
    ours, _ = make_answer(offer, LocalAudio(seat.flow.remote[0], 40000, 1, 1, security))
    seat.answer(invite, 200, ours)


def connected(centre: Centre) -> Remote:
    """What the worker was told of the seat."""
    return next(centre.media.remotes[leg.id] for leg in centre.tools.legs if leg.seat == "101")


@pytest.mark.parametrize(("mode", "profile"), [("offered", "RTP/AVP"), ("required", "RTP/SAVP")])
def test_the_keys_reach_the_worker_and_the_file(centre: Centre, mode: str, profile: str) -> None:
    set_to(centre, mode)
    seat, invite, offer = offer_to(centre)
    (ours,) = read(offer.media[0].lines)
    assert offer.media[0].profile == profile
    answer(seat, invite, offer, keyed=True)
    assert connected(centre).srtp == Srtp(SrtpSuite.SHA1_80, ours.key, THEIRS)
    centre.takeover.flush()
    file = centre.folder / "calls"
    assert ours.key in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    centre.restart()
    leg = next(leg for leg in centre.tools.legs if leg.seat == "101")
    assert leg.local is not None
    assert leg.local.security == Security(ours.key, mode == "required")
    assert leg.remote is not None
    assert leg.remote.keys is not None
    assert (leg.remote.keys.suite, leg.remote.keys.ours, leg.remote.keys.theirs) == (Suite.SHA1_80, ours.key, THEIRS)


def test_without_keys_where_they_are_only_offered(centre: Centre) -> None:
    set_to(centre, "offered")
    seat, invite, offer = offer_to(centre)
    answer(seat, invite, offer, keyed=False)
    assert connected(centre).srtp is None
    assert centre.seat_states()["101"] == "talking"


def test_a_seat_that_answers_without_is_a_miss_and_the_caller_waits(centre: Centre) -> None:
    set_to(centre, "required")
    seat, invite, offer = offer_to(centre)
    answer(seat, invite, offer, keyed=False)
    seat.said_ok(centre.sent_request("BYE"))
    assert centre.seat_states()["101"] == "resting"
    assert "no_srtp_101" in centre.alarms.active
    (caller,) = centre.switch.callers.live.values()
    assert caller.connected is None
    centre.sent.clear()
    centre.advance(3)  # there is no other seat, so its rest is short
    invite = centre.sent_request("INVITE")
    answer(seat, invite, Sdp.parse(invite.body), keyed=True)
    assert "no_srtp_101" not in centre.alarms.active
    assert centre.seat_states()["101"] == "talking"


def test_a_seat_that_can_be_overheard_is_not_even_asked(centre: Centre) -> None:
    set_to(centre, "required")
    centre.seat()
    centre.caller().call()
    centre.advance(1.5)
    assert not any(isinstance(message, Request) and message.method == "INVITE" for _, message in centre.sent)
    assert "over udp" in centre.alarms.active["no_srtp_101"].detail
    assert centre.seat_states()["101"] == "resting"


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_phone_that_takes_srtp_alone_is_offered_it_alone(centre: Centre, restarts: int) -> None:
    """At once, and at its next calls; and should it refuse that, beside RTP again."""
    set_to(centre, "offered")
    seat, invite, offer = offer_to(centre)
    assert offer.media[0].profile == "RTP/AVP"
    for _ in range(restarts):
        centre.restart()
    centre.sent.clear()
    seat.answer(invite, 488)
    assert centre.seat_states()["101"] == "offered", "no miss"
    again = centre.sent_request("INVITE")
    assert Sdp.parse(again.body).media[0].profile == "RTP/SAVP"
    centre.sent.clear()
    seat.answer(again, 488)
    assert centre.seat_states()["101"] == "resting"
    assert centre.alarms.active == {} or "no_srtp_101" not in centre.alarms.active
    centre.advance(30)
    assert Sdp.parse(centre.sent_request("INVITE").body).media[0].profile == "RTP/AVP"


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_phone_that_refuses_what_was_withdrawn_is_offered_nothing(centre: Centre, restarts: int) -> None:
    """Its 488 and our CANCEL cross: another seat has the call."""
    set_to(centre, "offered")
    seat, invite, _ = offer_to(centre)
    seat.answer(invite, 180)
    other = centre.seat("102", SEAT_2)
    centre.switch.tell(told.SeatPaused("101", None))
    assert "CANCEL" in centre.summary()
    other.take()
    for _ in range(restarts):
        centre.restart()
    centre.sent.clear()
    seat.answer(invite, 488)
    assert "INVITE" not in centre.summary()
    assert centre.seat_states() == {"101": "paused", "102": "talking"}


@pytest.mark.parametrize(
    ("general", "own", "transport", "expected"),
    [
        ("off", None, "tls", None),
        ("offered", None, "tls", False),
        ("required", None, "wss", True),
        ("required", "off", "udp", None),
        ("off", "required", "tls", True),
        ("offered", None, "udp", None),
        ("offered", None, "ws", None),
        ("required", None, "tcp", "refused"),
        ("required", None, None, "refused"),
    ],
)
def test_who_has_what(
    centre: Centre, general: str, own: str | None, transport: str | None, expected: bool | str | None
) -> None:
    seats = tuple(seat.model_copy(update={"srtp": own}) for seat in centre.config.seats)
    sip = centre.config.sip.model_copy(update={"srtp": general})
    keys = SeatKeys(centre.config.model_copy(update={"sip": sip, "seats": seats}), centre.alarms)
    if expected == "refused":
        with pytest.raises(NoSecurity):
            keys.security("101", transport)
        return
    security = keys.security("101", transport)
    assert (None if security is None else security.required) == expected
    if security is not None:
        assert security.key != (keys.security("101", transport) or security).key, "each leg has its own"
