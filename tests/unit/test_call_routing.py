"""What was dialled, and where it goes."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.call.routing import Action, Routed, route
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.uri import Uri


@dataclass(frozen=True)
class Route:
    match: tuple[str, ...]
    action: str = "queue"
    skills: frozenset[str] = frozenset()
    language: str | None = None


EMERGENCY = Route(("112", "+62112", "urn:service:sos", "urn:service:sos.*"), skills=frozenset({"id"}))
TEST = Route(("urn:service:test.sos",), "test-call")
ROUTES = (EMERGENCY, TEST)


@pytest.mark.parametrize(
    "dialled",
    [
        "sip:112@192.0.2.9",
        "sip:112@anything.example;user=phone",
        "sips:112@192.0.2.9:5061;transport=tcp",
        "sip:1-1-2@192.0.2.9",
        "sip:%31%31%32@192.0.2.9",
        "sip:+62112@192.0.2.9;user=phone",
        "sip:62112@192.0.2.9",
        "sip:+62-112@192.0.2.9",
        "sip:112;phone-context=+62@192.0.2.9;user=phone",
        "tel:112",
        "tel:112;phone-context=+62",
        "tel:+62112",
        "tel:+62-1-1-2",
        "TEL:1.1.2",
        "urn:service:sos",
        "URN:SERVICE:SOS",
        "urn:Service:Sos.Fire",
        "urn:service:sos.police.something",
        "urn:service:sos?x=1",
    ],
)
def test_every_spelling_of_112_is_an_emergency(dialled: str) -> None:
    assert route(Uri.parse(dialled), ROUTES) == Routed(Action.QUEUE, frozenset({"id"}), True)


@pytest.mark.parametrize("dialled", ["urn:service:test.sos", "URN:service:TEST.SOS"])
def test_a_test_call_is_told_apart(dialled: str) -> None:
    assert route(Uri.parse(dialled), ROUTES) == Routed(Action.TEST_CALL, frozenset(), True)


@pytest.mark.parametrize(
    "dialled",
    [
        "sip:1112@192.0.2.9",
        "sip:112112@192.0.2.9",
        "sip:192.0.2.9",
        "tel:110",
        "urn:service:sosx",
        "urn:service:counseling",
        "urn:service:test.sos.fire",
        "mailto:112@x",
    ],
)
def test_what_no_route_knows_goes_to_the_queue(dialled: str) -> None:
    assert route(Uri.parse(dialled), ROUTES) == Routed(Action.QUEUE, frozenset(), False)


def test_the_first_route_that_matches_is_taken() -> None:
    routes = (Route(("urn:service:sos.fire",), skills=frozenset({"fire"})), *ROUTES)
    assert route(Uri.parse("urn:service:sos.fire"), routes).skills == {"fire"}
    assert route(Uri.parse("urn:service:sos.police"), routes).skills == {"id"}


def test_a_pattern_may_be_written_like_a_number() -> None:
    assert route(Uri.parse("tel:0231112"), (Route(("0231-112",)),)).matched
    assert route(Uri.parse("tel:0231112"), (Route(("0231*",)),)).matched


@given(st.text(max_size=40))
def test_any_uri_goes_somewhere(text: str) -> None:
    for scheme in ("sip:", "tel:", "urn:", ""):
        try:
            uri = Uri.parse(scheme + text)
        except RemoteError:
            continue
        assert route(uri, ROUTES).action in Action
