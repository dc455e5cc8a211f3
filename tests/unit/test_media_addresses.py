"""Which of our addresses a far side is told."""

import pytest

from siaga_pbx.media.addresses import bound_for, told_to


@pytest.mark.parametrize(
    ("bound", "peer", "chosen"),
    [
        (["192.0.2.1"], "198.51.100.1", "192.0.2.1"),
        (["192.0.2.1", "2001:db8::1"], None, "192.0.2.1"),
        (["192.0.2.1", "127.0.0.1"], "127.0.0.9", "127.0.0.1"),  # the route's own
        (["192.0.2.1", "2001:db8::1"], "2001:db8::9", "2001:db8::1"),  # no route from these: the family's
        (["2001:db8::1", "192.0.2.1"], "192.0.2.9", "192.0.2.1"),
        (["192.0.2.1", "2001:db8::1"], "pbx.example", "192.0.2.1"),
        (["192.0.2.1", "192.0.2.2"], "2001:db8::9", "192.0.2.1"),
    ],
)
def test_the_bound_address_for_a_peer(bound: list[str], peer: str | None, chosen: str) -> None:
    assert bound_for(bound, peer) == chosen


@pytest.mark.parametrize(
    ("bound", "peer", "told"),
    [
        ("192.0.2.1", "127.0.0.9", "192.0.2.1"),
        ("0.0.0.0", "127.0.0.9", "127.0.0.1"),
        ("0.0.0.0", None, "0.0.0.0"),
        ("0.0.0.0", "pbx.example", "0.0.0.0"),
    ],
)
def test_what_the_sdp_names(bound: str, peer: str | None, told: str) -> None:
    assert told_to(bound, peer) == told
