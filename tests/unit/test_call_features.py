"""Feature codes, keyed and dialled."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.features import INTER_DIGIT_S, FeatureKeys, KeySource, Known, Unknown, dialled, info_key
from siaga_pbx.sip.uri import Uri


@dataclass(frozen=True)
class Feature:
    dial: str


PLAN = tuple(Feature(dial) for dial in ("*1", "*2", "*60", "*61", "*7", "*71"))


def keys(pressed: str, plan: tuple[Feature, ...] = PLAN) -> list[str]:
    """The codes that come out of keys pressed half a second apart, an unknown one with a question mark."""
    collector = FeatureKeys(plan)
    found = [collector.press(key, number * 0.5) for number, key in enumerate(pressed)]
    found.append(collector.expire(len(pressed) * 0.5 + INTER_DIGIT_S))
    assert collector.deadline is None
    return [each.feature.dial if isinstance(each, Known) else each.dialled + "?" for each in found if each is not None]


@pytest.mark.parametrize(
    ("pressed", "expected"),
    [
        ("*1", ["*1"]),
        ("*60", ["*60"]),
        ("*1*2", ["*1", "*2"]),
        ("123*1", ["*1"]),
        ("*1999", ["*1"]),
        ("#", []),
        ("*", []),
        ("**1", ["*1"]),
        ("*6*1", ["*1"]),
        ("*9", ["*9?"]),
        ("*69", ["*69?"]),
        ("*6", ["*6?"]),
        ("*6#", ["*6?"]),
        ("*9*1", ["*9?", "*1"]),
        ("*7", ["*7"]),
        ("*7#", ["*7"]),
        ("*71", ["*71"]),
        ("*72", ["*72?"]),
        ("*7*1", ["*1"]),
        ("*A", ["*A?"]),
        ("", []),
    ],
)
def test_keys(pressed: str, expected: list[str]) -> None:
    assert keys(pressed) == expected


def test_a_code_is_known_at_its_last_key() -> None:
    collector = FeatureKeys(PLAN)
    assert collector.press("*", 0.0) is None
    assert collector.press("1", 0.1) == Known(Feature("*1"))
    assert collector.deadline is None


def test_a_code_that_could_be_longer_waits_for_the_next_key() -> None:
    collector = FeatureKeys(PLAN)
    collector.press("*", 0.0)
    assert collector.press("7", 1.0) is None
    assert collector.deadline == 1.0 + INTER_DIGIT_S
    assert collector.expire(1.0 + INTER_DIGIT_S - 0.001) is None
    assert collector.expire(1.0 + INTER_DIGIT_S) == Known(Feature("*7"))
    assert collector.expire(99.0) is None


def test_a_key_after_the_time_out_is_not_part_of_the_code_even_if_nobody_called_expire() -> None:
    collector = FeatureKeys(PLAN)
    collector.press("*", 0.0)
    collector.press("7", 1.0)
    assert collector.press("1", 60.0) == Known(Feature("*7"))
    assert collector.press("*", 61.0) is None
    assert collector.press("2", 61.1) == Known(Feature("*2"))


def test_a_lone_star_is_forgotten_after_the_time_out() -> None:
    collector = FeatureKeys(PLAN)
    collector.press("*", 0.0)
    assert collector.press("*", 60.0) is None
    assert collector.press("1", 60.5) == Known(Feature("*1"))


def test_a_code_may_hold_a_star() -> None:
    plan = (Feature("*1"), Feature("*9*1"), Feature("*9**"))
    assert keys("*9*1", plan) == ["*9*1"]
    assert keys("*9**", plan) == ["*9**"]
    assert keys("*9*2", plan) == ["*9*2?"]


def test_a_phone_that_sends_keys_both_ways_is_heard_once() -> None:
    collector = FeatureKeys((*PLAN, Feature("*11")))
    assert collector.press("*", 0.0, KeySource.INFO) is None
    assert collector.press("*", 0.01, KeySource.RTP) is None
    assert collector.press("1", 0.3, KeySource.INFO) is None
    assert collector.press("1", 0.31, KeySource.RTP) is None
    assert collector.expire(9.0) == Known(Feature("*1"))


@given(st.lists(st.tuples(st.sampled_from("0123456789*#ABCD"), st.floats(0, 5)), max_size=30))
def test_whatever_is_keyed_gives_codes_of_the_plan_or_unknown_ones(presses: list[tuple[str, float]]) -> None:
    collector, now = FeatureKeys(PLAN), 0.0
    for key, pause in presses:
        now += pause
        found = collector.press(key, now)
        if isinstance(found, Unknown):
            assert found.dialled.startswith("*")
            assert Feature(found.dialled) not in PLAN
        assert len(collector._keyed) <= 4
    collector.expire(now + INTER_DIGIT_S)
    assert collector.deadline is None


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("sip:*2@siaga.local", "*2"),
        ("sip:%2A2@siaga.local", "*2"),
        ("sip:%2a60@192.0.2.1:5060;transport=udp", "*60"),
        ("sip:*7%23@siaga.local", "*7"),
        ("sip:*7;x=1@siaga.local", "*7"),
        ("sip:*3@siaga.local", None),
        ("sip:2@siaga.local", None),
        ("sip:siaga.local", None),
        ("tel:*2;phone-context=siaga.local", "*2"),
    ],
)
def test_dialled_when_idle(uri: str, code: str | None) -> None:
    found = dialled(Uri.parse(uri), PLAN)
    assert (found.dial if found else None) == code


@pytest.mark.parametrize(
    ("content_type", "body", "key"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "5"),
        ("application/dtmf-relay", b"Signal= *\r\nDuration= 250", "*"),
        ("Application/DTMF-Relay; charset=x", b"signal=#", "#"),
        ("application/dtmf-relay", b"Duration=100\r\nSignal=10\r\n", "*"),
        ("application/dtmf-relay", b"Signal=11", "#"),
        ("application/dtmf-relay", b"Signal=a", "A"),
        ("application/dtmf", b"5", "5"),
        ("application/dtmf", b" * \r\n", "*"),
        ("application/dtmf-relay", b"Signal=12", None),
        ("application/dtmf-relay", b"\xff\x00", None),
        ("application/dtmf", b"", None),
        ("text/plain", b"5", None),
        ("", b"", None),
    ],
)
def test_keys_in_info(content_type: str, body: bytes, key: str | None) -> None:
    assert info_key(content_type, body) == key


@given(st.text(max_size=30), st.binary(max_size=60))
def test_no_info_raises(content_type: str, body: bytes) -> None:
    for kind in (content_type, "application/dtmf", "application/dtmf-relay"):
        info_key(kind, body)
