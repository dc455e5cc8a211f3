"""What the media worker tells, and what comes of it: alarms that come and go, what is counted, who is asked."""

from collections.abc import Iterator

import pytest

from siaga_pbx.legs import Leg
from siaga_pbx.media.protocol import Closed, HeardAgain, LegStats, Recorded, RecordFailed, Refused, Silent, Unheard, Why
from siaga_pbx.sip.sdp import Direction, LocalAudio, make_offer
from tests.switch_bench import Centre, Phone


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def talking(centre: Centre, call_id: str = "call-1") -> tuple[Phone, Leg]:
    """A caller who talks to seat 101, and the caller's leg."""
    seat, caller = centre.seat(), centre.caller(call_id)
    caller.call()
    invites = list(centre.sent)
    caller.ok()
    centre.sent[:] = invites
    seat.take()
    centre.sent.clear()
    return caller, next(iter(centre.switch.callers.live.values())).leg


def one_way(centre: Centre) -> float:
    return centre.metrics.registry.get_sample_value("siaga_rtp_one_way_calls_total") or 0.0


@pytest.mark.parametrize(
    ("stats", "counted"),
    [
        (LegStats(received=0, sent=500), 1),
        (LegStats(received=500, sent=500), 0),
        (LegStats(), 0),  # the worker died: nothing is known
    ],
)
def test_a_bridged_leg_that_was_only_talked_to_is_one_way(centre: Centre, stats: LegStats, counted: int) -> None:
    caller, leg = talking(centre)
    caller.bye()
    centre.hub.on_media(Closed(leg.id, stats))
    assert one_way(centre) == counted
    centre.hub.on_media(Closed(leg.id, stats))
    assert one_way(centre) == counted, "each leg once"


def test_who_is_not_heard_is_noted_and_a_one_way_call_counted_once(centre: Centre) -> None:
    caller, leg = talking(centre)
    seat = next(one for one in centre.tools.legs if one is not leg)
    centre.hub.on_media(Unheard(leg.id, 2.1, one_way=False))
    assert one_way(centre) == 0
    assert centre.hub.audio.unheard_in(leg.call) == ("caller",)
    for told in (leg, seat):
        centre.hub.on_media(Unheard(told.id, 4.0, one_way=True))
    assert one_way(centre) == 1
    assert centre.hub.audio.unheard_in(leg.call) == ("caller", "seat")
    centre.hub.on_media(HeardAgain(seat.id, 6.0))
    caller.bye()
    for closed in (leg, seat):
        centre.hub.on_media(Closed(closed.id, LegStats(received=0, sent=500)))
    assert one_way(centre) == 1
    assert centre.hub.audio.unheard_in(leg.call) == ()
    assert [kind for kind in centre.kinds() if kind.startswith("audio_")] == ["audio_missing"] * 3 + ["audio_back"]


@pytest.mark.parametrize("made", [True, False])
def test_a_recording_that_failed_is_named_if_there_is_a_file(centre: Centre, made: bool) -> None:
    _, leg = talking(centre)
    name = centre.row()["recording"]
    assert name
    centre.hub.on_media(RecordFailed(leg.call, "call.wav", "Input/output error", made=made))
    assert centre.row()["recording"] == (name if made else None)


def test_how_the_caller_was_heard_is_in_the_row(centre: Centre) -> None:
    caller, leg = talking(centre)
    caller.bye()
    centre.hub.on_media(Closed(leg.id, LegStats(received=990, lost=10, sent=1000, jitter_ms=3.5)))
    row = centre.row()
    assert (row["rtp_lost"], row["rtp_jitter_ms"]) == (10, 3.5)
    assert row["rtp_mos"] == pytest.approx(3.75, abs=0.01)  # 1 % lost, 80 ms: R 93.2 - 1.92 - 17.92 = 73.36


def test_the_digest_of_a_recording_is_in_the_row(centre: Centre) -> None:
    _, leg = talking(centre)
    centre.hub.on_media(Recorded(leg.call, "call.wav", 5.0, "ab" * 32, 0))
    assert centre.row()["recording_sha256"] == "ab" * 32


def test_a_silent_leg_is_asked_for_and_alarms_until_a_call_there_has_audio(centre: Centre) -> None:
    caller, leg = talking(centre)
    centre.hub.on_media(Silent(leg.id, 60.0))
    caller.said_ok(centre.sent_request("OPTIONS"))
    assert "no_audio_telkomsel" in centre.alarms.active
    assert len(centre.switch.callers) == 1
    caller.bye()
    centre.hub.on_media(Closed(leg.id, LegStats(received=500, sent=500, longest_gap_ms=61_000.0)))
    assert "no_audio_telkomsel" in centre.alarms.active
    caller, leg = talking(centre, "call-2")
    caller.bye()
    centre.hub.on_media(Closed(leg.id, LegStats(received=500, sent=500, longest_gap_ms=40.0)))
    assert "no_audio_telkomsel" not in centre.alarms.active


def test_audio_of_somebody_else_is_on_record(centre: Centre) -> None:
    _, leg = talking(centre)
    centre.hub.on_media(Refused(leg.id, Why.STRANGER, "203.0.113.66", 4000, 7))
    centre.hub.on_media(Refused("gone", Why.STRANGER, "203.0.113.66", 4000, 7))
    events = centre.reader.events(call_id=str(centre.row()["id"]))
    (event,) = [event for event in events if event["kind"] == "audio_refused"]
    assert event["data"] == {"leg": "caller", "why": "stranger", "host": "203.0.113.66", "port": 4000, "packets": 7}


def test_a_silent_leg_whose_peer_knows_no_such_call_is_over(centre: Centre) -> None:
    caller, leg = talking(centre)
    centre.hub.on_media(Silent(leg.id, 60.0))
    caller.answer(centre.sent_request("OPTIONS"), 481)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("answered", "fault")
    assert "BYE" in centre.take()


def test_who_holds_the_call_may_be_silent(centre: Centre) -> None:
    caller, leg = talking(centre)
    caller.reinvite(make_offer(LocalAudio("198.51.100.1", 40000, 1, 2), Direction.INACTIVE))
    centre.hub.on_media(Silent(leg.id, 60.0))
    centre.sent_request("OPTIONS")
    assert "no_audio_telkomsel" not in centre.alarms.active


def test_a_recording_that_fails_alarms_until_one_is_whole(centre: Centre) -> None:
    _, leg = talking(centre)
    centre.hub.on_media(RecordFailed(leg.call, "call.wav", "the disk is full", False))
    centre.hub.on_media(Recorded(leg.call, "call.wav", 5.0, "00", 900))
    assert "recording_failed" in centre.alarms.active
    centre.hub.on_media(Recorded("another", "another.wav", 5.0, "00", 0))
    assert "recording_failed" not in centre.alarms.active
