"""The E-model: values worked out by hand from ITU-T G.107 and G.113, and G.107's whole delay beside our curve."""

from math import cbrt, exp, log2, log10, sqrt

import pytest

from siaga_pbx.media.protocol import LegStats
from siaga_pbx.media.quality import heard_mos, hearing_mos, mos_of, r_factor


@pytest.mark.parametrize(
    ("loss", "delay_ms", "r", "mos"),
    [
        (0.0, 0.0, 93.2, 4.409),  # G.107's best: R 93.2, MOS 4.41
        (0.01, 0.0, 75.275, 3.833),  # 95 * 1 / (1 + 4.3) = 17.925
        (0.05, 0.0, 42.125, 2.169),  # 95 * 5 / 9.3 = 51.075
        (0.0, 150.0, 89.6, 4.329),  # 0.024 * 150 = 3.6
        (0.0, 300.0, 72.503, 3.712),  # 7.2 + 0.11 * 122.7 = 20.697
        (0.02, 200.0, 55.743, 2.878),  # 190 / 6.3 = 30.159; 4.8 + 0.11 * 22.7 = 7.297
        (0.5, 400.0, 0.0, 1.0),
    ],
)
def test_by_hand(loss: float, delay_ms: float, r: float, mos: float) -> None:
    assert r_factor(loss, delay_ms) == pytest.approx(r, abs=2e-3)
    assert mos_of(r_factor(loss, delay_ms)) == pytest.approx(mos, abs=2e-3)


@pytest.mark.parametrize(("r", "mos"), [(100, 4.5), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_the_standards_own_table(r: float, mos: float) -> None:
    """G.107 annex B, table B.1, which rounds."""
    assert mos_of(r) == pytest.approx(mos, abs=7e-3)


def test_never_below_one() -> None:
    """The formula dips below 1 for small ratings."""
    assert min(mos_of(r / 10) for r in range(1000)) == 1.0


def delay_impairment(t: float) -> float:
    """Id of G.107 3.5 in full: talker's echo, listener's echo, the delay itself, all else at the defaults."""
    no, rlr, telr, wepl = -61.18, 2.0, 65.0, 110.0
    ro = 15 - 1.5 * (8 + no)
    terv = telr - 40 * log10((1 + t / 10) / (1 + t / 150)) + 6 * exp(-0.3 * t * t)
    roe, re = -1.5 * (no - rlr), 80 + 2.5 * (terv - 14)
    idte = ((roe - re) / 2 + sqrt((roe - re) ** 2 / 4 + 100) - 1) * (1 - exp(-t))
    rle = 10.5 * (wepl + 7) / sqrt(sqrt(2 * t + 1))
    idle = (ro - rle) / 2 + sqrt((ro - rle) ** 2 / 4 + 169)
    if t <= 100:
        return idte + idle
    x = log2(t / 100)
    return idte + idle + 25 * (sqrt(cbrt(1 + x**6)) - 3 * sqrt(cbrt(1 + (x / 3) ** 6)) + 2)


@pytest.mark.parametrize("delay_ms", range(0, 301, 10))
def test_our_curve_is_the_standards(delay_ms: int) -> None:
    assert 93.2 - r_factor(0.0, delay_ms) == pytest.approx(delay_impairment(delay_ms), abs=1.0)


def test_of_a_leg() -> None:
    """A packet in fifty lost, another one too late: 4 %. Way 40 ms, packet 20, buffer 60: 120 ms."""
    stats = LegStats(received=1000, duplicate=20, lost=20, late=20, sent=800, remote_lost=8, round_trip_ms=80.0)
    # 95 * 4 / 8.3 = 45.783; 0.024 * 120 = 2.88: R 44.537
    assert heard_mos(stats) == pytest.approx(2.29, abs=0.01)
    # 95 * 1 / 5.3 = 17.925; R 72.395
    assert hearing_mos(stats) == pytest.approx(3.71, abs=0.015)


def test_of_a_leg_that_said_nothing() -> None:
    assert heard_mos(LegStats(sent=100)) is None
    assert hearing_mos(LegStats(sent=100)) is None


def test_more_missed_than_there_is() -> None:
    """What a far side says may be anything."""
    assert hearing_mos(LegStats(sent=10, remote_lost=10_000)) == 1.0
    assert hearing_mos(LegStats(sent=10, remote_lost=-5)) == pytest.approx(4.37, abs=0.01)
