"""What becomes known of a call's audio: whether it is heard, how good it was, whether it is recorded."""

import structlog

from siaga_pbx.legs import Leg, Role
from siaga_pbx.media import protocol as media
from siaga_pbx.media.quality import heard_mos, hearing_mos
from siaga_pbx.tools import Tools

log = structlog.get_logger(__name__)

REMEMBERED = 1000
"""Calls; more are not live at once."""
OF_NO_CALL = (Role.FEATURE, Role.CALLBACK, Role.DISPATCH)
"""Legs that belong to no 112 call: their audio is nobody's record."""


class AudioLog:
    """Into the call's record, the metrics and the alarms."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._unheard: dict[str, Leg] = {}
        """By id, the live legs that nothing comes from though it should."""
        self._one_way: dict[str, None] = {}
        """Calls counted as such, oldest first: the account of their legs comes later, and one after the other."""

    def unheard_in(self, call: str) -> tuple[str, ...]:
        """Who of the call is not heard now: the roles of the legs."""
        return tuple(sorted(leg.role.value for leg in self._unheard.values() if leg.call == call))

    def unheard(self, event: media.Unheard) -> None:
        leg = self._tools.legs.get(event.leg)
        if leg is None or not leg.answered:
            return
        log.warning("audio missing", call_id=leg.call, leg=leg.role.value, one_way=event.one_way)
        if leg.role not in OF_NO_CALL:
            self._unheard[leg.id] = leg
            data = {"leg": leg.role.value, "seconds": event.seconds, "one_way": event.one_way}
            self._tools.log.step(leg.call, "audio_missing", data)
            if event.one_way:
                self._count_one_way(leg)

    def heard_again(self, event: media.HeardAgain) -> None:
        leg = self._unheard.pop(event.leg, None)
        if leg is not None:
            self._tools.log.step(leg.call, "audio_back", {"leg": leg.role.value, "seconds": event.seconds})

    def closed(self, leg: Leg, stats: media.LegStats) -> None:
        """The leg's account; in the call's row is how the caller was heard."""
        self._unheard.pop(leg.id, None)
        self._tools.metrics.rtp_lost_packets.inc(max(0, stats.lost))
        if leg.role in OF_NO_CALL:
            return
        if leg.bridged and stats.received == 0 < stats.sent:
            self._count_one_way(leg)
        data: dict[str, object] = {
            "leg": leg.role.value,
            "received": stats.received,
            "sent": stats.sent,
            "lost": stats.lost,
            "late": stats.late,
            "out_of_order": stats.reordered,
            "duplicate": stats.duplicate,
            "rejected": stats.rejected,
            "jitter_ms": round(stats.jitter_ms, 3),
            "longest_gap_ms": round(stats.longest_gap_ms, 1),
            "mos": heard_mos(stats),
            "remote_lost": stats.remote_lost,
            "remote_mos": hearing_mos(stats),
            "round_trip_ms": None if stats.round_trip_ms is None else round(stats.round_trip_ms, 1),
        }
        columns: dict[str, object] = {}
        if leg.role in (Role.CALLER, Role.TEST):
            columns = {"rtp_lost": stats.lost, "rtp_jitter_ms": data["jitter_ms"], "rtp_mos": data["mos"]}
        self._tools.log.step(leg.call, "quality", data, columns)

    def recorded(self, event: media.Recorded) -> None:
        data = {"seconds": round(event.seconds, 3), "sha256": event.sha256, "lost_ms": event.lost_ms}
        self._tools.log.step(event.call, "recorded", data, {"recording_sha256": event.sha256})
        if not event.lost_ms:
            self._tools.alarms.set("recording_failed", False)

    def record_failed(self, event: media.RecordFailed) -> None:
        """If no file was made, the row names none. One that was made it names: erasure has to find it."""
        columns = {"recording": None} if event.final and not event.made else {}
        self._tools.log.step(event.call, "record_failed", {"reason": event.reason, "final": event.final}, columns)
        self._tools.alarms.set("recording_failed", True, f"a call is not recorded: {event.reason}")

    def record_gap(self, event: media.RecordGap) -> None:
        """That much of the recording is silence: from where, how long, why."""
        gap = {"start_s": round(event.start_s, 3), "seconds": round(event.seconds, 3), "reason": event.reason}
        self._tools.log.step(event.call, "recording_gap", gap)
        self._tools.alarms.set("recording_failed", True, f"a recording has a gap: {event.reason}")

    def _count_one_way(self, leg: Leg) -> None:
        if leg.call not in self._one_way:
            self._one_way[leg.call] = None
            if len(self._one_way) > REMEMBERED:
                del self._one_way[next(iter(self._one_way))]
            self._tools.metrics.rtp_one_way_calls.inc()
