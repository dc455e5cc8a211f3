"""What is said to the preconditions of an offer (RFC 3312), from the answerer's side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.sip.preconditions import answer_lines, waits


def lines(*values: str) -> list[tuple[str, str]]:
    return [("a", value) for value in values]


def answered(*values: str) -> list[str]:
    return [value for _, value in answer_lines(lines(*values))]


def test_an_offer_without_preconditions_gets_none() -> None:
    assert answered("rtpmap:8 PCMA/8000", "sendrecv") == []
    assert answered("curr:qos local none") == []


def test_local_and_remote_change_places() -> None:
    assert answered(
        "curr:qos local send", "curr:qos remote none", "des:qos mandatory local send", "des:qos optional remote recv"
    ) == [
        "curr:qos local sendrecv",
        "curr:qos remote recv",
        "des:qos mandatory remote recv",
        "des:qos optional local send",
    ]


def test_who_waits_is_asked_to_say_when_it_waits_no_more() -> None:
    offer = ("curr:qos local none", "des:qos mandatory local sendrecv")
    assert answered(*offer)[-1] == "conf:qos remote sendrecv"


def test_end_to_end() -> None:
    """RFC 3312 13.1."""
    assert answered("curr:qos e2e none", "des:qos mandatory e2e sendrecv") == [
        "curr:qos e2e none",
        "des:qos mandatory e2e sendrecv",
        "conf:qos e2e sendrecv",
    ]
    assert answered("curr:qos e2e sendrecv", "des:qos mandatory e2e sendrecv")[-1].startswith("des:")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("curr:qos local none", "des:qos mandatory local sendrecv"), True),
        (("des:qos mandatory local sendrecv",), True),
        (("curr:qos local send", "des:qos mandatory local sendrecv"), True),
        (("curr:qos local send", "des:qos mandatory local send"), False),
        (("curr:qos local sendrecv", "des:qos mandatory local recv"), False),
        (("curr:qos local none", "des:qos optional local sendrecv"), False),
        (("curr:qos local none", "des:qos mandatory local none"), False),
        (("curr:qos remote none", "des:qos mandatory remote sendrecv"), False),
        (("curr:sec local none", "des:sec mandatory local sendrecv"), False),
        (("curr:qos e2e recv", "des:qos mandatory e2e sendrecv"), True),
        (("des:qos mandatory local", "des:qos must local sendrecv", "des:", "curr:"), False),
    ],
)
def test_who_waits(values: tuple[str, ...], expected: bool) -> None:
    assert waits(lines(*values)) is expected


WORDS = st.sampled_from(["qos", "local", "remote", "e2e", "none", "send", "recv", "sendrecv", "mandatory", "x", ""])


@given(st.lists(st.tuples(st.sampled_from(["curr:", "des:", "conf:"]), st.lists(WORDS, max_size=5)), max_size=20))
def test_nothing_raises(rubbish: list[tuple[str, list[str]]]) -> None:
    text = lines(*(kind + " ".join(words) for kind, words in rubbish))
    waits(text)
    assert all(letter == "a" for letter, _ in answer_lines(text))
