"""What IMS cores send, through stack, switch, queue and record: the audio goes on, and what was said is on record."""

from collections.abc import Iterator

import pytest

from siaga_pbx.call import events as told
from siaga_pbx.media import protocol as media
from siaga_pbx.records.reader import Record
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer, make_offer
from tests.flows.bench import US
from tests.flows.test_reliable import READY, WAITING, prack
from tests.switch_bench import Centre, Phone, run
from tests.unit.test_switch import talking

GATEWAY = Flow("udp", US, ("198.51.100.9", 5060))
TIMER = (("Supported", "timer"), ("Session-Expires", "90;refresher=uac"))


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def calls(caller: Phone, *headers: tuple[str, str], sdp: Sdp | None = None) -> None:
    caller.invite = caller.request("INVITE", sdp=sdp or caller.audio, headers=headers)
    caller.send(caller.invite)


def event(centre: Centre, kind: str) -> Record:
    """The data of the one step of that kind in the last call."""
    row = centre.row()
    (found,) = [one for one in centre.reader.events(call_id=str(row["id"])) if one["kind"] == kind]
    data = found["data"]
    assert isinstance(data, dict)
    return data


def silent(centre: Centre, leg: str, seconds: float = 60.0) -> None:
    centre.hub.on_media(media.Silent(leg, seconds))


def the_caller(centre: Centre) -> str:
    (caller,) = centre.switch.callers.live.values()
    return caller.leg.id


# A call that SIP doubts ends with its audio, and not before (DESIGN 3.7)


def test_a_missed_refresh_ends_a_call_when_its_audio_stops(centre: Centre) -> None:
    seat, caller = centre.seat(), centre.caller()
    calls(caller, *TIMER)
    caller.our_tag = next(m.to.tag or "" for _, m in centre.sent if isinstance(m, Response) and m.status == 200)
    seat.take()
    caller.ack()
    centre.advance(91)
    assert "session_missed" in centre.kinds()
    centre.advance(200)
    assert centre.kinds().count("session_missed") == 1
    assert len(centre.switch.callers) == 1, "its audio comes"
    centre.sent.clear()
    silent(centre, the_caller(centre))
    byes = {m.call_id: m for _, m in centre.sent if isinstance(m, Request)}
    assert byes[caller.call_id].headers.get("Reason") == 'Q.850;cause=102;text="Recovery on timer expiry"'
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("answered", "system")
    assert "cause=102" in str(centre.row()["reason"])


def test_a_refresh_that_comes_after_all_is_believed(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller, *TIMER)
    caller.ok()
    centre.advance(91)
    caller.send(caller.request("UPDATE", headers=TIMER))
    centre.sent.clear()
    silent(centre, the_caller(centre))
    centre.sent_request("OPTIONS")
    assert len(centre.switch.callers) == 1


def test_silence_without_a_doubt_is_asked_about(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller, *TIMER)
    caller.ok()
    silent(centre, the_caller(centre))
    caller.answer(centre.sent_request("OPTIONS"), 200)
    assert len(centre.switch.callers) == 1


def test_a_call_whose_ack_never_came_ends_when_its_audio_stops(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller)
    centre.advance(40)
    assert len(centre.switch.callers) == 1
    centre.sent.clear()
    silent(centre, the_caller(centre))
    centre.sent_request("BYE")
    centre.advance(40)
    assert centre.row()["ended_by"] == "system"
    assert centre.is_idle()


def test_a_caller_on_hold_may_be_silent_and_in_doubt(centre: Centre) -> None:
    """They send nothing because they said so: silence proves nothing, the peer is asked."""
    caller = centre.caller()
    calls(caller, *TIMER)
    caller.ok()
    held = Sdp.parse(str(caller.audio).replace("sendrecv", "inactive"))
    caller.reinvite(held)
    centre.advance(91)
    centre.sent.clear()
    silent(centre, the_caller(centre))
    centre.sent_request("OPTIONS")


def test_a_doubt_outlives_a_restart(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller, *TIMER)
    caller.ok()
    centre.advance(91)
    centre.tools.legs.on_change(next(iter(centre.switch.callers.live)))
    centre.restart()
    centre.sent.clear()
    silent(centre, the_caller(centre))
    centre.sent_request("BYE")


# Early answers


def test_a_caller_is_greeted_when_its_bearer_is_there(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller, ("Require", "100rel, precondition"), sdp=WAITING)
    progress = centre.sent_response(183)
    assert centre.media.asked == []
    assert centre.row()["answered_at"] is None
    prack(caller, progress)
    centre.sent.clear()
    caller.send(caller.request("UPDATE", sdp=READY))
    assert {m.cseq.method for _, m in centre.sent if isinstance(m, Response) and m.status == 200} == {
        "UPDATE",
        "INVITE",
    }
    assert [asked[0] for asked in centre.media.asked] == ["record", "play"]
    assert centre.row()["answered_at"] is not None
    caller.ack(cseq=caller.invite.cseq.number)
    caller.bye()
    centre.advance(40)
    assert centre.row()["outcome"] == "abandoned"
    assert centre.is_idle()


def test_a_seat_that_is_faster_than_the_bearer_is_not_talked_over(centre: Centre) -> None:
    seat, caller = centre.seat(), centre.caller()
    calls(caller, ("Require", "100rel, precondition"), sdp=WAITING)
    progress = next(m for _, m in centre.sent if isinstance(m, Response) and m.status == 183)
    seat.take()
    prack(caller, progress)
    caller.send(caller.request("UPDATE", sdp=READY))
    asked = [what[0] for what in centre.media.asked]
    assert asked.index("bridge") < asked.index("record")
    assert "play" not in asked
    assert centre.row()["connected_at"] is not None


def test_a_caller_with_100rel_is_rung_and_answered_by_the_seat() -> None:
    centre = Centre(queue={"answer": "by-seat"})
    seat, caller = centre.seat(), centre.caller()
    calls(caller, ("Require", "100rel"))
    ringing = next(m for _, m in centre.sent if isinstance(m, Response) and m.status == 180)
    prack(caller, ringing)
    seat.take()
    answer = [m for _, m in centre.sent if isinstance(m, Response) and m.cseq.method == "INVITE"]
    assert [m.status for m in answer] == [200]
    assert answer[0].body
    caller.ack(cseq=caller.invite.cseq.number)
    centre.sent.clear()
    caller.bye()
    seat.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert centre.row()["outcome"] == "answered"
    assert centre.is_idle()
    centre.close()


def agree_early(centre: Centre, caller: Phone) -> None:
    """A call without an offer that requires 100rel: ours is in the 180, their answer in the PRACK."""
    caller.invite = caller.request("INVITE", headers=(("Require", "100rel"),))
    caller.send(caller.invite)
    ringing = next(m for _, m in centre.sent if isinstance(m, Response) and m.status == 180)
    prack(caller, ringing, make_answer(Sdp.parse(ringing.body), LocalAudio("198.51.100.1", 41000, 1, 1))[0])


def test_what_was_agreed_while_it_rang_stands_when_the_seat_answers() -> None:
    """Late offer, 100rel and an UPDATE with another address, all before the 200."""
    centre = Centre(queue={"answer": "by-seat"})
    seat, caller = centre.seat(), centre.caller()
    agree_early(centre, caller)
    (leg,) = [caller_.leg for caller_ in centre.switch.callers.live.values()]
    assert centre.media.remotes[leg.id].port == 41000
    caller.send(caller.request("UPDATE", sdp=make_offer(LocalAudio("198.51.100.2", 42000, 1, 2))))
    seat.take()
    caller.ack(cseq=caller.invite.cseq.number)
    assert (centre.media.remotes[leg.id].host, centre.media.remotes[leg.id].port) == ("198.51.100.2", 42000)
    assert "no_common_codec" not in centre.kinds()
    centre.close()


# A call that moves


def test_the_audio_follows_a_call_that_a_carrier_moves(centre: Centre) -> None:
    caller, seat = talking(centre)
    leg = the_caller(centre)
    heir = Phone(centre, GATEWAY, user=caller.user, call_id="moved", tag="heir")
    replaces = f"{caller.call_id};to-tag={caller.our_tag};from-tag={caller.tag}"
    offer = make_offer(LocalAudio("198.51.100.9", 43000, 9, 1))
    heir.send(heir.request("INVITE", sdp=offer, headers=(("Replaces", replaces),)))
    ok, bye = [m for _, m in centre.sent if not (isinstance(m, Response) and m.status == 100)]
    assert isinstance(bye, Request)
    assert bye.call_id == caller.call_id
    heir.our_tag = ok.to.tag or ""
    heir.ack()
    caller.said_ok(bye)
    remote = centre.media.remotes[leg]
    assert (remote.host, remote.port) == ("198.51.100.9", 43000)
    assert "replaced" in centre.kinds()
    assert len(centre.switch.callers) == 1
    assert len(centre.reader.calls()) == 1, "it is no second call"
    centre.sent.clear()
    heir.bye()
    seat.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("answered", "caller")
    assert centre.is_idle()


def test_a_refresh_by_reinvite_follows_an_answer_from_elsewhere(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller, ("Supported", "timer"), ("Session-Expires", "90;refresher=uas"))
    caller.ok()
    centre.advance(45.1)
    reinvite = centre.sent_request("INVITE")
    answer = make_answer(Sdp.parse(reinvite.body), LocalAudio("198.51.100.3", 44000, 1, 2))[0]
    caller.answer(reinvite, 200, answer, headers=(("Session-Expires", "90;refresher=uac"),))
    remote = centre.media.remotes[the_caller(centre)]
    assert (remote.host, remote.port) == ("198.51.100.3", 44000)
    assert "no_common_codec" not in centre.kinds()


# What they say of the call


def test_the_ids_of_a_call_are_kept_and_told_to_the_seat(centre: Centre) -> None:
    centre.seat()
    urn = "urn:emergency:uid:callid:a56e556d871:bcf.example.id"
    calls(centre.caller(), ("Call-Info", f"<{urn}>;purpose=emergency-CallId, <http://x.example/y>;purpose=icon"))
    data = event(centre, "received")
    assert data["emergency_call"] == urn
    incident = str(data["emergency_incident"])
    assert incident.startswith("urn:emergency:uid:incidentid:")
    assert incident.endswith(":siaga.local")
    told_seat = centre.sent_request("INVITE").headers.values("Call-Info")
    assert told_seat == [f"<{urn}>;purpose=emergency-CallId", f"<{incident}>;purpose=emergency-IncidentId"]


def test_the_ids_of_a_call_outlive_a_restart(centre: Centre) -> None:
    caller = centre.caller()
    calls(caller)
    caller.ok()
    urn = str(event(centre, "received")["emergency_call"])
    centre.restart()
    (kept,) = centre.switch.callers.live.values()
    assert f"<{urn}>;purpose=emergency-CallId" in dict([*reversed(kept.headers)]).values()


def test_a_cell_is_on_record(centre: Centre) -> None:
    access = "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=51010ABCD1234567;network-provided"
    calls(centre.caller(), ("P-Access-Network-Info", access))
    cell = {"access": "3GPP-E-UTRAN-FDD", "mcc": "510", "mnc": "10", "area": 0xABCD, "number": 0x1234567}
    assert event(centre, "received")["cell"] == cell
    assert centre.row()["location_method"] == "cell"


@pytest.mark.parametrize(("value", "priority"), [("esnet.1", 0), ("ets.0, esnet.3", 2), ("wps.4", 0)])
def test_the_priority_is_on_record(centre: Centre, value: str, priority: int) -> None:
    calls(centre.caller(), ("Resource-Priority", value))
    assert centre.row()["priority"] == priority
    headers = event(centre, "received")["headers"]
    assert isinstance(headers, dict)
    assert headers["Resource-Priority"] == [value]


def test_responders_are_served_first(centre: Centre) -> None:
    seat = centre.seat()
    centre.switch.tell(told.SeatPaused("101", None))
    calls(centre.caller("public"))
    calls(centre.caller("responder"), ("Resource-Priority", "esnet.2"))
    centre.switch.tell(told.SeatReady("101"))
    seat.take()
    assert centre.store.flush()
    first, second = centre.reader.calls()
    assert (first["connected_at"], second["priority"]) == (None, 1)
    assert second["connected_at"] is not None


# Reasons (RFC 3326)


def test_the_callers_reasons_are_on_record_and_passed_on(centre: Centre) -> None:
    caller, _ = talking(centre)
    reasons = (("Reason", 'SIP;cause=200;text="Released"'), ("Reason", "Q.850;cause=16"))
    caller.send(caller.request("BYE", headers=reasons))
    both = 'SIP;cause=200;text="Released", Q.850;cause=16'
    assert centre.sent_request("BYE").headers.get("Reason") == both
    assert (centre.row()["reason"], centre.row()["ended_by"]) == (both, "caller")


def test_the_seats_reason_is_on_record_and_passed_on(centre: Centre) -> None:
    _, seat = talking(centre)
    seat.send(seat.request("BYE", headers=(("Reason", "Q.850;cause=27"),)))
    assert centre.sent_request("BYE").headers.get("Reason") == "Q.850;cause=27"
    assert (centre.row()["reason"], centre.row()["ended_by"]) == ("Q.850;cause=27", "seat")


def test_who_gives_no_reason_has_cleared_normally(centre: Centre) -> None:
    caller, _ = talking(centre)
    caller.bye()
    assert centre.sent_request("BYE").headers.get("Reason") == 'Q.850;cause=16;text="Normal call clearing"'
    assert centre.row()["reason"] is None


# Calls out


def test_another_centre_learns_who_calls() -> None:
    centre = Centre(queue={"overflow": "sip:113@198.51.100.1", "overflow_s": 5})
    calls(centre.caller(), ("Privacy", "id"), ("P-Asserted-Identity", "<tel:+62811222333>"))
    centre.advance(6)
    invite = centre.sent_request("INVITE")
    assert invite.headers.get("P-Asserted-Identity") == "<tel:+62811222333>"
    assert invite.headers.get("Privacy") == "id"
    assert invite.headers.get("Session-Expires") == "1800"
    assert len(invite.headers.values("Call-Info")) == 2
    centre.close()


def test_a_call_back_has_its_priority_and_may_be_agreed_early(centre: Centre) -> None:
    """RFC 7090, RFC 4412; the carrier answers in a reliable 183 and moves the audio by UPDATE before the 200."""
    caller = centre.caller()
    calls(caller)
    caller.ok()
    caller.bye()
    centre.advance(40)
    assert centre.row()["callable"]
    seat = centre.seat()
    run(lambda: seat.dial("*5"))
    invite = centre.sent_request("INVITE")
    assert invite.headers.get("Priority") == "psap-callback"
    assert invite.headers.get("Resource-Priority") == "esnet.0"
    far = centre.caller("call-back")
    answer = make_answer(Sdp.parse(invite.body), LocalAudio("198.51.100.1", 45000, 1, 1))[0]
    far.answer(invite, 183, answer, headers=(("Require", "100rel"), ("RSeq", "1")))
    far.answer(centre.sent_request("PRACK"), 200)
    far.send(far.request("UPDATE", sdp=make_offer(LocalAudio("198.51.100.1", 45002, 1, 2))))
    far.answer(invite, 200)
    (leg,) = [leg for leg in centre.tools.legs if leg.role.value == "callback"]
    assert centre.media.remotes[leg.id].port == 45002
    assert ("bridge", seat_leg(centre), leg.id) in centre.media.asked


def seat_leg(centre: Centre) -> str:
    return next(leg.id for leg in centre.tools.legs if leg.role.value == "feature")


def test_a_test_call_says_why_it_ends(centre: Centre) -> None:
    caller = centre.caller()
    caller.call("urn:service:test.sos")
    caller.ok()
    centre.advance(10)
    assert "cause=16" in (centre.sent_request("BYE").headers.get("Reason") or "")
