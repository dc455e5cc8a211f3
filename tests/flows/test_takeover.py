"""A daemon killed at any moment, and the one that follows: real stack, queue, record and file, in virtual time."""

from collections.abc import Iterator

import pytest

from siaga_pbx.call import events as told
from siaga_pbx.call.features import KeySource
from siaga_pbx.media.protocol import Bridge, LegState, OpenFailed, Play
from siaga_pbx.sip.flow import Flow, Target
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer, make_offer
from tests.flows.bench import SEAT, US, where
from tests.switch_bench import SEAT_2, Centre, Phone, run
from tests.unit.test_switch_ims import agree_early

REFRESHED_BY_US = (("Supported", "timer"), ("Session-Expires", "90;refresher=uas"))


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def waits(centre: Centre, call_id: str = "call-1") -> Phone:
    """A caller who is answered and acknowledged it."""
    caller = centre.caller(call_id)
    caller.call()
    answers = [m for _, m in centre.sent if isinstance(m, Response) and m.status == 200 and m.call_id == call_id]
    caller.our_tag = answers[-1].to.tag or ""
    caller.ack()
    return caller


def talks(centre: Centre, name: str = "101", flow: Flow = SEAT, call_id: str = "call-1") -> tuple[Phone, Phone]:
    """A caller and the seat that has taken the call."""
    seat = centre.seat(name, flow)
    caller = waits(centre, call_id)
    seat.take()
    centre.sent.clear()
    return caller, seat


def calls_back(centre: Centre) -> tuple[Phone, Phone]:
    """A seat that has dialled a call-back, and its far end."""
    seat = centre.seat()

    def dialled() -> None:
        seat.dial("*5")
        seat.ok()

    run(dialled)
    return seat, centre.caller("far")


def seat_bye(seat: Phone) -> None:
    seat.send(seat.request("BYE", f"sip:siaga@{US[0]}"))


def rings_at(centre: Centre) -> list[tuple[str, int]]:
    """Where INVITEs went since they were looked at last."""
    found = [where(way) for way, m in centre.sent if isinstance(m, Request) and m.method == "INVITE"]
    centre.sent.clear()
    return found


def is_over(centre: Centre) -> bool:
    centre.advance(40)
    return centre.is_idle() and not centre.file.entries


# Calls that are bridged


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("by", ["caller", "seat"])
def test_a_bridged_call_goes_on_and_ends_by_either_side(centre: Centre, by: str, restarts: int) -> None:
    caller, seat = talks(centre)
    for _ in range(restarts):
        centre.restart()
        centre.advance(10)
    centre.sent.clear()
    assert centre.seat_states()["101"] == "talking"
    assert centre.row()["outcome"] is None
    caller.bye() if by == "caller" else seat_bye(seat)
    other = seat if by == "caller" else caller
    other.said_ok(centre.sent_request("BYE"))
    row = centre.row()
    assert (row["outcome"], row["ended_by"], row["seat_id"]) == ("answered", by, "101")
    assert centre.kinds().count("taken_over") == restarts
    assert is_over(centre)
    assert centre.reader.callbacks() == []
    assert centre.seat_states()["101"] == "ready"


def test_its_audio_is_not_touched(centre: Centre) -> None:
    talks(centre)
    before = dict(centre.media.book.legs)
    centre.restart()
    assert centre.media.book.legs == before
    assert centre.media.asked == []


def test_a_reinvite_is_answered_in_the_next_version_of_the_session(centre: Centre) -> None:
    caller, seat = talks(centre)
    versions = [_version(caller.reinvite(caller.audio))]
    centre.restart()
    centre.sent.clear()
    versions.append(_version(caller.reinvite(caller.audio)))
    hold = Sdp.parse(str(caller.audio).replace("sendrecv", "sendonly"))
    versions.append(_version(caller.reinvite(hold)))
    assert versions == sorted(set(versions))
    leg = next(leg for leg in centre.tools.legs if leg.trunk == "telkomsel")
    assert centre.media.remotes[leg.id].sending is False
    seat.send(seat.request("INVITE", f"sip:siaga@{US[0]}", sdp=seat.audio))
    centre.sent_response(200)


def _version(sdp: Sdp) -> int:
    return int(next(value for letter, value in sdp.lines if letter == "o").split()[2])


def test_the_answer_to_a_refresh_of_ours_is_understood(centre: Centre) -> None:
    caller = centre.caller()
    caller.send(caller.request("INVITE", sdp=caller.audio, headers=REFRESHED_BY_US))
    caller.ok()
    centre.restart(meanwhile=lambda: centre.advance(45))
    reinvite = centre.sent_request("INVITE")
    caller.answer(reinvite, 200, make_answer(Sdp.parse(reinvite.body), LocalAudio("198.51.100.3", 44000, 1, 2))[0])
    (leg,) = centre.tools.legs
    assert (centre.media.remotes[leg.id].host, centre.media.remotes[leg.id].port) == ("198.51.100.3", 44000)


def test_what_was_agreed_while_it_rang_is_what_the_answer_says() -> None:
    centre = Centre(queue={"answer": "by-seat"})
    seat, caller = centre.seat(), centre.caller()
    agree_early(centre, caller)
    caller.send(caller.request("UPDATE", sdp=make_offer(LocalAudio("198.51.100.2", 42000, 1, 2))))
    agreed = next(m.body for _, m in centre.sent if isinstance(m, Response) and m.cseq.method == "UPDATE")
    centre.restart()
    seat.take()
    assert next(m.body for _, m in centre.sent if isinstance(m, Response) and m.cseq.method == "INVITE") == agreed
    caller.ack(cseq=caller.invite.cseq.number)
    leg = next(leg for leg in centre.tools.legs if leg.trunk)
    assert leg.remote is not None
    assert (leg.remote.host, leg.remote.port) == ("198.51.100.2", 42000)
    assert "no_common_codec" not in centre.kinds()
    centre.close()


def test_a_new_call_has_another_session_id(centre: Centre) -> None:
    caller, _ = talks(centre)
    first = _session(caller.reinvite(caller.audio))
    centre.restart()
    other = centre.caller("call-2")
    other.call()
    assert _session(Sdp.parse(centre.sent_response(200).body)) != first


def _session(sdp: Sdp) -> str:
    return next(value for letter, value in sdp.lines if letter == "o").split()[1]


def test_the_seat_is_free_after_it_and_gets_the_next_call(centre: Centre) -> None:
    caller, seat = talks(centre)
    centre.restart()
    waits(centre, "call-2")
    assert rings_at(centre) == []
    caller.bye()
    seat.said_ok(next(m for _, m in centre.sent if isinstance(m, Request) and m.method == "BYE"))
    assert rings_at(centre) == [("203.0.113.5", 5062)]


def test_keys_in_a_call_are_for_that_call(centre: Centre) -> None:
    talks(centre)
    centre.restart()
    leg = next(leg for leg in centre.tools.legs if leg.seat == "101")

    def pressed() -> None:
        for digit in "*1":
            centre.lines.key(leg, digit, KeySource.RTP)
        centre.advance(5)

    run(pressed)
    assert centre.dispatched == [(str(centre.row()["id"]), "fire", "101")]


def test_who_hung_up_and_was_not_heard_is_asked_and_says_so(centre: Centre) -> None:
    caller, seat = talks(centre)
    centre.restart(down=100)
    asked = [(way, m) for way, m in centre.sent if isinstance(m, Request) and m.method == "OPTIONS"]
    assert sorted(where(way)[0] for way, _ in asked) == ["198.51.100.1", "203.0.113.5"]
    caller.answer(next(m for way, m in asked if where(way)[0] == "198.51.100.1"), 481)
    seat.said_ok(centre.sent_request("BYE"))
    assert centre.row()["outcome"] == "answered"
    assert is_over(centre)


def test_who_answers_no_options_is_left_alone(centre: Centre) -> None:
    caller, _ = talks(centre)
    centre.restart()
    centre.advance(100)
    assert centre.seat_states()["101"] == "talking"
    caller.bye()
    assert centre.row()["outcome"] == "answered"


def test_a_seat_that_is_gone_gives_its_caller_back_to_the_queue(centre: Centre) -> None:
    caller, seat = talks(centre)
    second = centre.seat("102", SEAT_2)
    centre.restart()
    options = next(m for way, m in centre.sent if isinstance(m, Request) and where(way)[0] == "203.0.113.5")
    centre.sent.clear()
    seat.answer(options, 481)
    second.take()
    assert centre.seat_states()["102"] == "talking"
    caller.bye()
    assert centre.row()["seat_id"] == "102"


# Callers who wait


def test_waiting_callers_are_offered_in_their_order(centre: Centre) -> None:
    seat = centre.seat()
    centre.switch.tell(told.SeatPaused("101", None))
    callers = {call_id: waits(centre, call_id) for call_id in ("call-1", "call-2", "call-3", "call-4")}
    centre.restart()
    centre.sent.clear()
    centre.switch.tell(told.SeatReady("101"))
    served = []
    for _ in callers:
        seat.take()
        talking = next(leg.call for leg in centre.tools.legs if leg.seat == "101" and leg.answered)
        served.append(next(str(row["sip_call_id"]) for row in centre.reader.calls() if row["id"] == talking))
        seat_bye(seat)  # the next one rings as soon as its line is free
        callers[served[-1]].said_ok(next(m for _, m in centre.sent if isinstance(m, Request) and m.method == "BYE"))
    assert served == list(callers)
    assert is_over(centre)


def test_seats_that_talk_or_ring_are_offered_nobody_else(centre: Centre) -> None:
    talks(centre)
    centre.seat("102", SEAT_2)
    waits(centre, "call-2")  # rings at 102
    waits(centre, "call-3")
    centre.takeover.flush()
    centre.sent.clear()
    centre.restart()
    assert centre.seat_states() == {"101": "talking", "102": "offered"}
    invites = [m for _, m in centre.sent if isinstance(m, Request) and m.method == "INVITE"]
    assert len(invites) == 1, "102's own, again, as it has said nothing yet"


def test_the_wait_counts_from_its_begin(centre: Centre) -> None:
    waits(centre)
    centre.advance(20)
    since = centre.tools.queue.view().waiting[0].since
    centre.restart(down=5)
    assert centre.tools.queue.view().waiting[0].since == since


def test_a_phone_that_rings_is_picked_up_after_the_restart(centre: Centre) -> None:
    seat = centre.seat()
    caller = waits(centre)
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)
    centre.restart()
    assert centre.seat_states()["101"] == "offered"
    assert rings_at(centre) == []
    seat.answer(invite, 200, seat.audio)
    assert ("bridge") in [asked[0] for asked in centre.media.asked]
    assert centre.seat_states()["101"] == "talking"
    caller.bye()
    seat.said_ok(centre.sent_request("BYE"))
    assert centre.row()["outcome"] == "answered"
    assert is_over(centre)


def test_a_phone_that_rings_does_so_no_longer_than_without_a_restart(centre: Centre) -> None:
    seat = centre.seat()
    waits(centre)
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)
    centre.advance(8)
    centre.restart(down=2)
    centre.sent.clear()
    centre.advance(3)
    assert "CANCEL" in centre.summary()


def test_a_phone_that_was_being_cancelled_gets_its_next_call_only_after_that(centre: Centre) -> None:
    seat = centre.seat()
    caller = waits(centre)
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)
    caller.bye()
    waits(centre, "call-2")
    centre.restart()
    cancel = next(m for _, m in centre.sent if isinstance(m, Request) and m.method == "CANCEL")
    assert rings_at(centre) == []
    seat.answer(cancel, 200)
    seat.answer(invite, 487)
    assert rings_at(centre) == [("203.0.113.5", 5062)]


def test_a_caller_whose_answer_is_not_acknowledged_gets_it_again(centre: Centre) -> None:
    caller = centre.caller()
    caller.call()
    centre.sent.clear()
    centre.restart()
    caller.ok()
    centre.sent.clear()
    centre.advance(40)
    assert "200 INVITE" not in centre.summary()
    caller.bye()
    assert centre.row()["outcome"] == "abandoned"
    assert [row["id"] for row in centre.reader.callbacks()] == [centre.row()["id"]]


def test_an_answer_that_was_acknowledged_is_not_sent_again(centre: Centre) -> None:
    caller = centre.caller()
    caller.call()
    centre.advance(0)
    caller.ok()
    centre.restart()
    assert "200 INVITE" not in centre.summary()


def test_a_caller_who_hears_ringing_is_served() -> None:
    centre = Centre(queue={"answer": "by-seat"})
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)
    centre.restart()
    assert "180 INVITE" in centre.summary()
    seat.answer(invite, 200, seat.audio)
    caller.ok()
    caller.bye()
    assert centre.row()["outcome"] == "answered"
    assert centre.row()["answered_at"] is not None
    centre.close()


def test_a_caller_who_hears_ringing_for_want_of_a_worker_is_answered_when_there_is_one(centre: Centre) -> None:
    centre.media.ports = 0
    caller = centre.caller()
    caller.call()
    assert "180 INVITE" in centre.summary()
    centre.restart(worker=False)
    centre.switch.callers.media_is_back()
    caller.ok()
    caller.bye()
    assert centre.row()["outcome"] == "abandoned"
    assert is_over(centre)


# The overflow target, the seats' own calls, the test call


def test_the_overflow_target_has_the_caller_still() -> None:
    centre = Centre(queue={"overflow_s": 5, "overflow": "sip:112@192.0.2.9"})
    caller = waits(centre)
    centre.advance(5)
    target = centre.caller("overflow")
    target.take()
    centre.restart()
    centre.sent.clear()
    caller.bye()
    target.said_ok(centre.sent_request("BYE"))
    assert centre.row()["outcome"] == "overflowed"
    assert is_over(centre)
    centre.close()


def test_the_overflow_target_that_rings_answers_after_the_restart() -> None:
    centre = Centre(queue={"overflow_s": 5, "overflow": "sip:112@192.0.2.9"})
    caller = waits(centre)
    centre.advance(5)
    target = centre.caller("overflow")
    invite = centre.sent_request("INVITE")
    target.answer(invite, 180)
    centre.restart()
    centre.advance(5)
    again = [m for _, m in centre.sent if isinstance(m, Request) and m.method == "INVITE"]
    assert all(m.via.branch == invite.via.branch for m in again), "the same transaction"
    target.answer(invite, 200, target.audio)
    caller.bye()
    assert centre.row()["outcome"] == "overflowed"
    centre.close()


def test_a_call_back_goes_on(centre: Centre) -> None:
    lost = waits(centre, "lost")
    lost.bye()
    lost_id = centre.row()["id"]
    seat, far = calls_back(centre)
    far.take()
    centre.restart()
    assert centre.seat_states()["101"] == "talking"
    assert centre.lines.calling_back == {"101": lost_id}
    centre.sent.clear()
    far.send(far.request("BYE"))
    seat.said_ok(centre.sent_request("BYE"))
    assert centre.seat_states()["101"] == "ready"
    assert is_over(centre)


def test_a_code_that_was_being_answered_ends(centre: Centre) -> None:
    seat = centre.seat()

    def dialled() -> None:
        seat.dial("*8")
        seat.ok()

    run(dialled)
    centre.restart()
    seat.said_ok(next(m for _, m in centre.sent if isinstance(m, Request) and m.method == "BYE"))
    assert centre.seat_states()["101"] == "paused"
    assert is_over(centre)


def test_a_test_call_ends_as_a_test(centre: Centre) -> None:
    caller = centre.caller()
    caller.call("urn:service:test.sos")
    caller.ok()
    centre.restart()
    centre.sent.clear()
    centre.advance(1)
    caller.said_ok(centre.sent_request("BYE"))
    assert centre.row()["outcome"] == "test"
    assert is_over(centre)


# Audio


def test_a_worker_that_died_too_is_made_what_it_was(centre: Centre) -> None:
    talks(centre)
    waits(centre, "call-2")
    book = centre.media.book
    centre.restart(worker=False)
    assert centre.media.book.legs == book.legs
    assert centre.media.book.recordings == book.recordings
    assert sum(isinstance(leg.feed, Bridge) for leg in centre.media.book.legs.values()) == 2


def test_a_caller_whose_port_is_taken_is_called_back(centre: Centre) -> None:
    caller, seat = talks(centre)
    centre.restart(worker=False)
    centre.sent.clear()
    leg = next(leg for leg in centre.tools.legs if leg.trunk == "telkomsel")
    centre.hub.on_media(OpenFailed(leg.id, "in use"))
    byes = [m for _, m in centre.sent if isinstance(m, Request) and m.method == "BYE"]
    assert len(byes) == 2
    assert centre.row()["outcome"] == "interrupted"
    assert [row["id"] for row in centre.reader.callbacks()] == [centre.row()["id"]]
    caller.said_ok(next(m for m in byes if m.call_id == caller.call_id))
    seat.said_ok(next(m for m in byes if m.call_id == seat.call_id))
    assert is_over(centre)


def test_a_caller_who_lost_the_seat_in_the_last_moment_hears_the_queue(centre: Centre) -> None:
    """The worker has the legs bridged still, but the seat's leg cannot be read."""
    caller, _ = talks(centre)
    seat_leg = next(leg for leg in centre.tools.legs if leg.seat == "101")
    centre.takeover.flush()
    [(call, text)] = centre.file.entries.items()
    spoilt = text.replace(f'"id":"{seat_leg.id}","stage":"talking"'.encode(), b'"id":"gone","stage":"incoming"')
    assert spoilt != text
    centre.file.write({call: spoilt})
    centre.restart()
    caller_leg = next(leg for leg in centre.tools.legs if leg.trunk == "telkomsel")
    state = centre.media.state_of(caller_leg.id)
    assert state is not None
    assert state.feed == Play(caller_leg.id, (), ("waiting",))
    assert [(one.call, one.offered) for one in centre.tools.queue.view().waiting] == [(call, ("101",))]
    caller.bye()
    assert centre.row()["outcome"] == "answered"


# What is agreed while the media workers are not there yet


def test_a_new_address_is_the_workers_too(centre: Centre) -> None:
    caller, _ = talks(centre)
    at = Sdp.parse(str(caller.audio).replace("m=audio 40000", "m=audio 40100"))
    centre.restart(meanwhile=lambda: caller.reinvite(at))
    remotes = {leg.connect.leg: leg.connect.remote for leg in _media_legs(centre) if leg.connect is not None}
    assert {leg.trunk: remotes[leg.id].port for leg in centre.tools.legs} == {"telkomsel": 40100, None: 40000}
    assert list(centre.media.remotes) == [leg.id for leg in centre.tools.legs if leg.trunk], "nothing new of the seat's"


@pytest.mark.parametrize("worker", [True, False])
def test_a_seat_that_takes_the_call_then_is_heard(centre: Centre, worker: bool) -> None:
    seat = centre.seat()
    caller = waits(centre)
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)

    def picked_up() -> None:
        seat.answer(invite, 200, seat.audio)

    centre.restart(worker=worker, meanwhile=picked_up)
    legs = _media_legs(centre)
    assert {leg.connect.remote.host for leg in legs if leg.connect} == {"198.51.100.1", "203.0.113.5"}
    assert all(isinstance(leg.feed, Bridge) for leg in legs)
    caller.bye()
    assert centre.row()["outcome"] == "answered"


def test_a_caller_who_is_answered_then_is_recorded() -> None:
    centre = Centre(queue={"answer": "by-seat"})
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)
    centre.restart(meanwhile=lambda: seat.answer(invite, 200, seat.audio))
    caller.ok()
    call = str(centre.row()["id"])
    recording = centre.media.recording_of(call)
    assert recording is not None
    assert recording.path.endswith(str(centre.row()["recording"]))
    assert all(isinstance(leg.feed, Bridge) and leg.connect is not None for leg in _media_legs(centre))
    caller.bye()
    assert is_over(centre)
    centre.close()


def test_a_call_back_that_is_answered_then_is_heard(centre: Centre) -> None:
    waits(centre, "lost").bye()
    assert centre.store.flush()
    seat, far = calls_back(centre)
    invite = centre.sent_request("INVITE")
    far.answer(invite, 180)
    centre.restart(meanwhile=lambda: far.answer(invite, 200, far.audio))
    assert all(isinstance(leg.feed, Bridge) and leg.connect is not None for leg in _media_legs(centre))
    far.send(far.request("BYE"))
    seat.said_ok(centre.sent_request("BYE"))
    assert is_over(centre)


def _media_legs(centre: Centre) -> list[LegState]:
    return [state for leg in centre.tools.legs if (state := centre.media.state_of(leg.id)) is not None]


# Record and file


def test_a_call_that_cannot_be_read_is_interrupted_and_the_others_go_on(centre: Centre) -> None:
    talks(centre)
    waits(centre, "call-2")
    centre.takeover.flush()
    first, second = list(centre.file.entries)
    centre.file.write({first: b'{"id": 3}'})
    centre.restart()
    assert centre.store.flush()
    rows = {str(row["id"]): row["outcome"] for row in centre.reader.calls()}
    assert rows == {first: "interrupted", second: None}
    assert [row["id"] for row in centre.reader.callbacks()] == [first]
    assert list(centre.switch.callers.live) == [second]
    centre.takeover.look_over()
    assert list(centre.file.entries) == [second]


def test_a_row_that_was_lost_with_the_daemon_is_written(centre: Centre) -> None:
    talks(centre)
    assert centre.store.flush()
    row = centre.row()
    written, centre.store.write = centre.store.write, lambda changes: None  # type: ignore[method-assign]
    waits(centre, "call-2")
    centre.store.write = written  # type: ignore[method-assign]
    centre.restart()
    assert centre.store.flush()
    first, second = centre.reader.calls()
    assert first == row
    assert (second["sip_call_id"], second["caller_number"], second["trunk"]) == (
        "call-2",
        first["caller_number"],
        "telkomsel",
    )
    assert second["answered_at"] is not None
    assert second["recording"] is not None


def test_columns_that_were_lost_with_the_daemon_are_written(centre: Centre) -> None:
    seat = centre.seat()
    waits(centre)
    assert centre.store.flush()
    written, centre.store.write = centre.store.write, lambda changes: None  # type: ignore[method-assign]
    seat.take()
    centre.store.write = written  # type: ignore[method-assign]
    centre.restart()
    assert centre.row()["connected_at"] is not None
    assert centre.row()["seat_id"] == "101"


def test_columns_that_changed_after_the_legs_did_are_not_set_back(centre: Centre) -> None:
    _, seat = talks(centre)
    for disposition in ("prank", "real"):
        centre.takeover.look_over()
        leg = next(leg for leg in centre.tools.legs if leg.seat == seat.user)
        centre.tools.log.step(leg.call, "disposition", columns={"disposition": disposition})
    assert centre.row()["disposition"] == "real"
    centre.restart()
    assert centre.row()["disposition"] == "real"


def test_the_start_notes_what_it_took_over(centre: Centre) -> None:
    talks(centre)
    waits(centre, "call-2")
    centre.restart(down=2)
    assert centre.store.flush()
    [noted] = [event for event in centre.reader.events(subject="system") if event["kind"] == "taken_over"]
    data = noted["data"]
    assert isinstance(data, dict)
    assert (data["calls"], data["waiting"], data["ended"]) == (2, 1, 0)


def test_nothing_is_left_of_calls_that_a_stop_ended(centre: Centre) -> None:
    talks(centre)
    waits(centre, "call-2")
    centre.switch.hang_up_all()
    centre.takeover.flush()
    assert centre.file.entries == {}
    centre.takeover.close()
    assert not (centre.folder / "calls").exists()


def test_a_session_that_was_refreshed_without_a_word_is_looked_over(centre: Centre) -> None:
    caller, _ = talks(centre)
    centre.takeover.flush()
    before = dict(centre.file.entries)
    caller.send(caller.request("UPDATE"))
    centre.takeover.look_over()
    assert centre.file.entries != before


# Connections


def test_a_seat_on_tcp_comes_by_a_new_connection(centre: Centre) -> None:
    flow = Flow("tcp", US, ("203.0.113.5", 40001), 7)
    caller, seat = talks(centre, flow=flow)
    centre.restart()
    centre.sent.clear()
    again = Flow("tcp", US, ("203.0.113.5", 40002), 1)
    centre.seat("101", again)
    caller.bye()
    [way] = [way for way, m in centre.sent if isinstance(m, Request) and m.method == "BYE"]
    assert isinstance(way, Target)
    assert way.flow == again
    seat.flow = again
    seat.said_ok(centre.sent_request("BYE"))
    assert is_over(centre)


def test_a_seat_on_tcp_hangs_up_by_a_new_connection(centre: Centre) -> None:
    caller, seat = talks(centre, flow=Flow("tcp", US, ("203.0.113.5", 40001), 7))
    centre.restart()
    centre.sent.clear()
    seat.flow = Flow("tcp", US, ("203.0.113.5", 40002), 1)
    seat_bye(seat)
    caller.said_ok(centre.sent_request("BYE"))
    assert centre.row()["ended_by"] == "seat"
    assert is_over(centre)
