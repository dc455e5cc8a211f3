"""Hold, from the re-INVITE of whoever holds to what the other side hears and what is on record."""

from collections.abc import Iterator

import pytest

from siaga_pbx.legs import Leg, Role
from siaga_pbx.media.protocol import Bridge, Echo, Play, Played, Silent
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.sdp import Direction, LocalAudio, Sdp, make_offer
from tests.switch_bench import Centre, Phone
from tests.unit.test_seatlines import dial


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def talking(centre: Centre) -> tuple[Phone, Phone]:
    """A caller and seat 101 who hear each other."""
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    invites = list(centre.sent)
    caller.ok()
    centre.sent[:] = invites
    seat.take()
    centre.sent.clear()
    assert centre.row()["connected_at"] is not None
    return caller, seat


def leg_of(centre: Centre, role: Role) -> Leg:
    return next(leg for leg in centre.tools.legs if leg.role is role)


def hears(centre: Centre, role: Role) -> str:
    """`hold`, `talk`, or the names of what is played."""
    state = centre.media.state_of(leg_of(centre, role).id)
    assert state is not None
    match state.feed:
        case Play(once=once, loop=loop):
            return " ".join((*once, *loop))
        case Bridge():
            return "talk"
    return "echo" if isinstance(state.feed, Echo) else "nothing"


def described(phone: Phone, version: int, direction: Direction = Direction.SENDRECV, host: str = "") -> Sdp:
    return make_offer(LocalAudio(host or phone.flow.remote[0], 40000, 1, version), direction)


def direction_of(sdp: Sdp) -> Direction:
    return sdp.direction_of(sdp.media[0])


def on_record(centre: Centre) -> list[tuple[str, object]]:
    """Holds and their ends."""
    events = centre.reader.events(call_id=str(centre.row()["id"]))
    return [(str(event["kind"]), event["data"]) for event in events if event["kind"] in ("on_hold", "resumed")]


def hold(phone: Phone) -> Sdp:
    return phone.reinvite(described(phone, 2, Direction.SENDONLY))


def resume(phone: Phone) -> Sdp:
    return phone.reinvite(described(phone, 3))


@pytest.mark.parametrize(
    ("direction", "host", "answer"),
    [
        (Direction.SENDONLY, "", Direction.RECVONLY),
        (Direction.INACTIVE, "", Direction.INACTIVE),
        (Direction.SENDRECV, "0.0.0.0", Direction.RECVONLY),  # the old form
    ],
)
def test_a_held_caller_hears_hold_audio_until_the_talk_goes_on(
    centre: Centre, direction: Direction, host: str, answer: Direction
) -> None:
    """And is told nothing: its own leg stays as it is."""
    _, seat = talking(centre)
    assert direction_of(seat.reinvite(described(seat, 2, direction, host))) is answer
    assert (hears(centre, Role.CALLER), hears(centre, Role.SEAT)) == ("hold", "")
    assert not centre.media.remotes[leg_of(centre, Role.SEAT).id].sending
    centre.advance(12.0)
    assert direction_of(seat.reinvite(described(seat, 3))) is Direction.SENDRECV
    assert (hears(centre, Role.CALLER), hears(centre, Role.SEAT)) == ("talk", "talk")
    assert centre.media.remotes[leg_of(centre, Role.SEAT).id].sending
    whose = {"leg": "seat", "seat": "101"}
    assert on_record(centre) == [("on_hold", whose), ("resumed", {**whose, "seconds": 12.0})]
    assert [m for way, m in centre.sent if isinstance(m, Request)] == []


def test_a_refresh_while_on_hold_changes_nothing(centre: Centre) -> None:
    _, seat = talking(centre)
    hold(seat)
    asked = list(centre.media.asked)
    hold(seat)
    assert centre.media.asked == asked
    assert len(on_record(centre)) == 1


def test_an_update_holds_as_a_re_invite_does(centre: Centre) -> None:
    _, seat = talking(centre)
    seat.send(seat.request("UPDATE", sdp=described(seat, 2, Direction.SENDONLY)))
    assert direction_of(Sdp.parse(centre.sent_response(200).body)) is Direction.RECVONLY
    assert hears(centre, Role.CALLER) == "hold"


def test_when_both_hold_the_talk_goes_on_once_neither_does(centre: Centre) -> None:
    caller, seat = talking(centre)
    hold(seat)
    hold(caller)
    assert not centre.media.remotes[leg_of(centre, Role.CALLER).id].sending
    resume(caller)
    assert hears(centre, Role.CALLER) == "hold"
    hold(caller)
    resume(seat)
    assert hears(centre, Role.CALLER) == "talk"
    resume(caller)
    assert all(remote.sending for remote in centre.media.remotes.values())
    kinds = ["on_hold", "on_hold", "resumed", "on_hold", "resumed", "resumed"]
    assert [kind for kind, _ in on_record(centre)] == kinds


def test_a_phone_that_says_how_it_holds_in_its_ack_holds_too(centre: Centre) -> None:
    """A re-INVITE without an offer: ours is in the 200, their answer in the ACK."""
    _, seat = talking(centre)
    seat.send(seat.request("INVITE"))
    offer = centre.sent_response(200)
    assert direction_of(Sdp.parse(offer.body)) is Direction.SENDRECV
    seat.ack(sdp=described(seat, 2, Direction.SENDONLY))
    assert hears(centre, Role.CALLER) == "hold"


def test_a_seat_that_answers_on_hold_lets_the_caller_hear_it(centre: Centre) -> None:
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    invite = next(m for _, m in centre.sent if isinstance(m, Request) and m.method == "INVITE")
    caller.ok()
    seat.answer(invite, 200, described(seat, 1, Direction.INACTIVE))
    assert hears(centre, Role.CALLER) == "hold"
    resume(seat)
    assert hears(centre, Role.CALLER) == "talk"


def test_a_caller_who_holds_is_heard_as_before(centre: Centre) -> None:
    """What its network sends meanwhile, or silence: nobody is to miss a word that comes."""
    caller, _ = talking(centre)
    assert direction_of(hold(caller)) is Direction.RECVONLY
    assert (hears(centre, Role.CALLER), hears(centre, Role.SEAT)) == ("talk", "talk")
    centre.advance(3.0)
    assert direction_of(resume(caller)) is Direction.SENDRECV
    assert on_record(centre) == [("on_hold", {"leg": "caller"}), ("resumed", {"leg": "caller", "seconds": 3.0})]
    assert centre.media.remotes[leg_of(centre, Role.CALLER).id].sending


def test_who_hangs_up_while_on_hold_ends_the_call_as_ever(centre: Centre) -> None:
    _, seat = talking(centre)
    hold(seat)
    seat.bye()
    assert [m.method for _, m in centre.sent if isinstance(m, Request)] == ["BYE"]
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("answered", "seat")
    assert "seat_leg_ended" in centre.kinds()


def test_a_caller_whose_seat_is_lost_on_hold_hears_the_queue(centre: Centre) -> None:
    _, seat = talking(centre)
    hold(seat)
    centre.hub.on_media(Silent(leg_of(centre, Role.SEAT).id, 60.0))
    seat.answer(centre.sent_request("OPTIONS"), 481)
    assert hears(centre, Role.CALLER) == "waiting"


@pytest.mark.parametrize("host", ["", "0.0.0.0"])  # the old form of hold
def test_a_held_leg_may_be_silent_for_ever(centre: Centre, host: str) -> None:
    """It is asked whether it is still there, and no more."""
    _, seat = talking(centre)
    seat.reinvite(described(seat, 2, Direction.SENDRECV if host else Direction.SENDONLY, host))
    for minute in range(1, 4):
        centre.hub.on_media(Silent(leg_of(centre, Role.SEAT).id, 60.0 * minute))
        seat.said_ok(centre.sent_request("OPTIONS"))
    assert not [name for name in centre.alarms.active if name.startswith("no_audio")]
    assert "no_audio" not in centre.kinds()
    resume(seat)
    centre.hub.on_media(Silent(leg_of(centre, Role.SEAT).id, 60.0))
    assert "no_audio_101" in centre.alarms.active


def test_a_prompt_for_the_call_taker_does_not_end_the_hold(centre: Centre) -> None:
    _, seat = talking(centre)
    hold(seat)
    leg = leg_of(centre, Role.SEAT)
    centre.media.play(leg.id, ("not-known",))
    centre.hub.on_media(Played(leg.id))
    assert hears(centre, Role.CALLER) == "hold"
    resume(seat)
    assert hears(centre, Role.CALLER) == "talk"


@pytest.mark.parametrize("worker", [True, False])
def test_the_next_daemon_knows_who_is_on_hold(centre: Centre, worker: bool) -> None:
    """Whether the audio went on meanwhile or not."""
    _, seat = talking(centre)
    hold(seat)
    centre.restart(5.0, worker=worker)
    assert hears(centre, Role.CALLER) == "hold"
    assert centre.media.asked == []  # it was not begun anew
    centre.sent.clear()
    resume(seat)
    assert (hears(centre, Role.CALLER), hears(centre, Role.SEAT)) == ("talk", "talk")
    assert on_record(centre)[-1] == ("resumed", {"leg": "seat", "seat": "101", "seconds": 5.0})


def test_who_was_called_back_hears_hold_audio_too(centre: Centre) -> None:
    lost = centre.caller("lost")
    lost.call()
    lost.ok()
    lost.bye()
    row = str(centre.row()["id"])
    seat = centre.seat()
    call_back(centre, seat)
    hold(seat)
    assert hears(centre, Role.CALLBACK) == "hold"
    centre.advance(2.0)
    resume(seat)
    assert hears(centre, Role.CALLBACK) == "talk"
    assert centre.store.flush()
    kinds = [event["kind"] for event in centre.reader.events(call_id=row)]
    assert kinds[-2:] == ["on_hold", "resumed"]


def call_back(centre: Centre, seat: Phone) -> None:
    """Seat 101 dials the code, and who is called takes it."""
    dial(seat, "*5")
    centre.caller("far").take()
    centre.sent.clear()
