"""How good the audio of a leg was: the E-model of ITU-T G.107 with all its defaults but loss and delay. Pure.

R = 93.2 - Id - Ie,eff                              93.2: Ro - Is with the defaults (G.107 table 2)
Id = 0.024 T + 0.11 (T - 177.3) where T > 177.3     the curve of 3.5 within 1 up to 300 ms (Cole and Rosenbluth, 2001)
Ie,eff = Ie + (95 - Ie) Ppl / (Ppl + Bpl)           G.107 3.6 with random loss; G.113 appendix I: G.711 has Ie 0, and
                                                    Bpl 4.3, as a relay hides no loss (with concealment: 25.1)
"""

from siaga_pbx.media.protocol import LegStats

NO_IMPAIRMENT = 93.2
ROBUSTNESS = 4.3
"""Bpl: packet loss, in percent, that halves what is left of R."""
PACKET_MS = 20.0
BUFFER_MS = 60.0
"""What a phone holds back to even out the network (`rtp.LATE`)."""


def r_factor(loss: float, delay_ms: float) -> float:
    """The transmission rating, 0 to 93.2, of G.711 that loses `loss` of its packets (0 to 1) with a delay one way."""
    percent = 100 * loss
    equipment = 95 * percent / (percent + ROBUSTNESS)
    delay = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - 177.3)
    return max(0.0, NO_IMPAIRMENT - delay - equipment)


def mos_of(r: float) -> float:
    """The mean opinion score of a rating, 1 (bad) to 4.5 (G.107 annex B)."""
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def heard_mos(stats: LegStats) -> float | None:
    """How the far side was heard; None if it never was. What came too late is as good as lost."""
    arrived = stats.received - stats.duplicate
    if arrived <= 0:
        return None
    return _mos((stats.lost + stats.late) / (stats.lost + arrived), stats)


def hearing_mos(stats: LegStats) -> float | None:
    """How the far side heard us, by its own account (RTCP); None without one."""
    if stats.remote_lost is None or not stats.sent:
        return None
    return _mos(stats.remote_lost / stats.sent, stats)


def _mos(loss: float, stats: LegStats) -> float:
    """Of this leg alone: the network (unknown: none), a packet, and a phone's buffer."""
    delay_ms = (stats.round_trip_ms or 0.0) / 2 + PACKET_MS + BUFFER_MS
    return round(mos_of(r_factor(min(1.0, max(0.0, loss)), delay_ms)), 2)
