"""What is counted of a leg. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class LegStats:
    """A leg's account. Loss and jitter as RFC 3550 A.3 and A.8 count them; times in milliseconds."""

    received: int = 0
    sent: int = 0
    lost: int = 0
    """Packets of the far side that never came."""
    duplicate: int = 0
    reordered: int = 0
    late: int = 0
    """Packets that came so much later than others that a phone has no use for them (see `rtp.LATE`)."""
    jitter_ms: float = 0.0
    longest_gap_ms: float = 0.0
    """The longest time between two packets from the far side, but for holds."""
    rejected: int = 0
    """Packets dropped because they came from somewhere else."""
    malformed: int = 0
    events: int = 0
    """Keys pressed."""
    remote_lost: int | None = None
    """What the far side says it missed of ours (RTCP); None if it never said."""
    remote_jitter_ms: float | None = None
    round_trip_ms: float | None = None
    """To the far side and back (RFC 3550 6.4.1), as its last report tells; None if none does."""


def together(before: LegStats, now: LegStats) -> LegStats:
    """The account of a leg that one worker began and another went on with: the sum; of what is no sum, the worst or the
    latest."""
    return replace(
        now,
        received=before.received + now.received,
        sent=before.sent + now.sent,
        lost=before.lost + now.lost,
        duplicate=before.duplicate + now.duplicate,
        reordered=before.reordered + now.reordered,
        late=before.late + now.late,
        jitter_ms=now.jitter_ms if now.received else before.jitter_ms,
        longest_gap_ms=max(before.longest_gap_ms, now.longest_gap_ms),
        rejected=before.rejected + now.rejected,
        malformed=before.malformed + now.malformed,
        events=before.events + now.events,
        remote_lost=_sum(before.remote_lost, now.remote_lost),
        remote_jitter_ms=before.remote_jitter_ms if now.remote_jitter_ms is None else now.remote_jitter_ms,
        round_trip_ms=before.round_trip_ms if now.round_trip_ms is None else now.round_trip_ms,
    )


def _sum(before: int | None, now: int | None) -> int | None:
    """Each worker's stream is another to the far side, which counts it by itself."""
    return now if before is None else before if now is None else before + now
