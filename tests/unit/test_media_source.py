"""Whose packets are taken, and where to send."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from siaga_pbx.media.protocol import Remote
from siaga_pbx.media.source import FALLBACK_S, HANDED_OVER_S, SourceGate, SourceLock

TRUNK = Remote(host="192.0.2.10", port=4000, accept=(ip_network("192.0.2.0/24"),))
SEAT = Remote(host="198.51.100.7", port=4000, strict=True)
NAT = Remote(host="10.0.0.5", port=4000, accept=(ip_network("203.0.113.9/32"),), strict=True)
SIX = Remote(host="2001:DB8:0:0::1", port=4000)


@pytest.mark.parametrize(
    ("remote", "source", "after_s", "admitted"),
    [
        (TRUNK, ("192.0.2.10", 4000), 0.0, True),
        (TRUNK, ("192.0.2.10", 9999), 0.0, True),
        (TRUNK, ("192.0.2.11", 4000), 0.0, False),
        (TRUNK, ("192.0.2.11", 4000), FALLBACK_S - 0.1, False),
        (TRUNK, ("192.0.2.11", 4000), FALLBACK_S, True),
        (TRUNK, ("198.51.100.7", 4000), 60.0, False),
        (SEAT, ("198.51.100.7", 4000), 0.0, True),
        (SEAT, ("198.51.100.7", 4002), 60.0, False),
        (SEAT, ("198.51.100.8", 4000), 60.0, False),
        (NAT, ("203.0.113.9", 61000), 0.0, True),
        (NAT, ("10.0.0.5", 4000), 0.0, True),
        (NAT, ("203.0.113.8", 61000), 60.0, False),
        (SIX, ("2001:db8::1", 5), 0.0, True),
    ],
)
def test_who_is_admitted(remote: Remote, source: tuple[str, int], after_s: float, admitted: bool) -> None:
    assert SourceGate(remote, 100.0).admits(source, 100.0 + after_s) is admitted


@pytest.mark.parametrize(
    ("remote", "source", "target"),
    [
        (TRUNK, ("192.0.2.10", 9999), ("192.0.2.10", 4000)),  # asymmetric: the SDP's port stands
        (TRUNK, ("192.0.2.11", 9999), ("192.0.2.10", 4000)),  # another gateway of the carrier sends: listens elsewhere
        (NAT, ("203.0.113.9", 61000), ("203.0.113.9", 61000)),
        (SEAT, ("198.51.100.7", 4000), ("198.51.100.7", 4000)),
        (SIX, ("2001:db8::1", 5), ("2001:db8::1", 4000)),
    ],
)
def test_where_to_send_once_the_source_is_known(
    remote: Remote, source: tuple[str, int], target: tuple[str, int]
) -> None:
    assert SourceGate(remote, 0.0).target_for(source) == target


def test_a_trunk_behind_nat_is_answered_at_its_source() -> None:
    remote = Remote(host="10.1.1.1", port=4000, accept=(ip_network("192.0.2.0/24"),))
    assert SourceGate(remote, 0.0).target_for(("192.0.2.5", 7000)) == ("192.0.2.5", 7000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "media.example", ""])
def test_no_target_in_the_sdp(host: str) -> None:
    gate = SourceGate(Remote(host=host, port=4000, accept=(ip_network("192.0.2.0/24"),)), 0.0)
    assert gate.target is None
    assert gate.target_for(("192.0.2.5", 7000)) == ("192.0.2.5", 7000)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port_to_send_to(port: int) -> None:
    assert SourceGate(Remote(host="192.0.2.1", port=port), 0.0).target is None


def test_nothing_goes_to_who_holds_us() -> None:
    gate = SourceGate(Remote(host="10.0.0.5", port=4000, accept=NAT.accept, strict=True, sending=False), 0.0)
    assert gate.target is None
    assert gate.target_for(("203.0.113.9", 61000)) is None


def test_which_re_offers_keep_the_source() -> None:
    assert TRUNK.same_source(
        Remote(host="192.0.2.10", port=4000, accept=TRUNK.accept, sending=False, telephone_event=96)
    )
    assert not TRUNK.same_source(Remote(host="192.0.2.10", port=4002, accept=TRUNK.accept))
    assert not TRUNK.same_source(Remote(host="192.0.2.11", port=4000, accept=TRUNK.accept))


def locked(remote: Remote, source: tuple[str, int]) -> SourceLock:
    lock = SourceLock()
    assert lock.connect(remote, 100.0)
    assert lock.admits(source, 0.0, 100.0 + FALLBACK_S)
    lock.take(source)
    return lock


MOVED = Remote(host="192.0.2.20", port=5000, accept=TRUNK.accept)
SAME_HOST = Remote(host="192.0.2.10", port=5000, accept=TRUNK.accept)
SEAT_MOVED = Remote(host="198.51.100.7", port=4002, strict=True)
NAT_MOVED = Remote(host="10.0.0.5", port=4002, accept=NAT.accept, strict=True)


def test_once_found_it_is_the_only_one() -> None:
    lock = locked(TRUNK, ("192.0.2.10", 9999))
    for other in (("192.0.2.10", 4000), ("192.0.2.11", 4000), ("198.51.100.7", 4000)):
        assert not lock.admits(other, 0.0, 1000.0)
    assert not lock.connect(Remote(host="192.0.2.10", port=4000, accept=TRUNK.accept, sending=False), 200.0)
    assert (lock.source, lock.former) == (("192.0.2.10", 9999), False)
    assert not lock.admits(("192.0.2.10", 4000), 0.0, 1000.0)


@pytest.mark.parametrize(
    ("before", "source", "after", "other", "silent_s", "admitted"),
    [
        (TRUNK, ("192.0.2.10", 4000), MOVED, ("192.0.2.20", 5000), 0.0, True),
        (TRUNK, ("192.0.2.10", 4000), MOVED, ("192.0.2.20", 7777), 0.0, True),  # any one port of the SDP's address
        (TRUNK, ("192.0.2.10", 4000), MOVED, ("192.0.2.10", 4002), 0.0, False),
        (TRUNK, ("192.0.2.10", 4000), MOVED, ("192.0.2.30", 5000), 0.0, False),
        (TRUNK, ("192.0.2.10", 4000), MOVED, ("192.0.2.30", 5000), FALLBACK_S, True),  # both are dead: as at first
        (TRUNK, ("192.0.2.10", 4000), MOVED, ("198.51.100.7", 5000), 60.0, False),
        (TRUNK, ("192.0.2.10", 4000), SAME_HOST, ("192.0.2.10", 5000), 0.0, True),
        (TRUNK, ("192.0.2.10", 4000), SAME_HOST, ("192.0.2.10", 6666), 0.0, False),  # beside one that still talks
        (TRUNK, ("192.0.2.10", 4000), SAME_HOST, ("192.0.2.10", 6666), HANDED_OVER_S, True),
        (SEAT, ("198.51.100.7", 4000), SEAT_MOVED, ("198.51.100.7", 4002), 0.0, True),
        (SEAT, ("198.51.100.7", 4000), SEAT_MOVED, ("198.51.100.7", 4004), 60.0, False),
        (NAT, ("203.0.113.9", 61000), NAT_MOVED, ("203.0.113.9", 61002), 0.0, False),
        (NAT, ("203.0.113.9", 61000), NAT_MOVED, ("203.0.113.9", 61002), HANDED_OVER_S, True),
        (NAT, ("203.0.113.9", 61000), NAT_MOVED, ("203.0.113.8", 61002), 60.0, False),
    ],
)
def test_who_takes_the_place_after_a_re_invite(
    before: Remote, source: tuple[str, int], after: Remote, other: tuple[str, int], silent_s: float, admitted: bool
) -> None:
    lock = locked(before, source)
    assert lock.connect(after, 200.0)
    assert (lock.source, lock.former) == (source, True), "heard until the new one is"
    assert lock.admits(other, 299.99 - silent_s, 300.0) is admitted
    if admitted:
        lock.take(other)
        assert not lock.admits(source, 0.0, 1000.0), "the old one is a stranger now"


def test_where_to_send_while_the_new_far_side_is_silent() -> None:
    lock = locked(TRUNK, ("192.0.2.10", 4000))
    lock.connect(MOVED, 200.0)
    assert lock.target == ("192.0.2.20", 5000)
    hidden = locked(NAT, ("203.0.113.9", 61000))
    hidden.connect(NAT_MOVED, 200.0)
    assert hidden.target == ("203.0.113.9", 61000), "its new address is behind the NAT"
    hidden.take(("203.0.113.9", 61002))
    assert hidden.target == ("203.0.113.9", 61002)


def test_a_trunk_is_sent_to_where_its_sdp_says_also_outside_its_addresses() -> None:
    """It may have moved, and its new gateway may wait for us to speak first."""
    lock = locked(TRUNK, ("192.0.2.10", 4000))
    lock.connect(replace(TRUNK, host="198.51.100.20"), 200.0)
    assert lock.target == ("198.51.100.20", 4000)
    assert not lock.watch(200.0 + FALLBACK_S - 0.1)
    assert lock.target == ("198.51.100.20", 4000)
    assert lock.watch(200.0 + FALLBACK_S), "it speaks as before: it is behind NAT"
    assert lock.target == ("192.0.2.10", 4000)
    assert lock.admits(("198.51.100.20", 4000), 210.0, 210.0), "but if it comes, it is the one"


def nowhere(remote: Remote, host: str = "0.0.0.0") -> Remote:
    """The far side holds us, as RFC 2543 had it: then a seat's SDP names another address than it registered from."""
    accept = remote.accept or (ip_network(remote.host),)
    return replace(remote, host=host, accept=accept, sending=False, receiving=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "held.invalid"])
@pytest.mark.parametrize(
    ("remote", "source"),
    [(TRUNK, ("192.0.2.10", 9999)), (SEAT, ("198.51.100.7", 4000)), (NAT, ("203.0.113.9", 61000))],
)
def test_a_hold_without_an_address_is_no_other_far_side(remote: Remote, source: tuple[str, int], host: str) -> None:
    lock = locked(remote, source)
    before = lock.target
    for agreed, target in ((nowhere(remote, host), None), (remote, before)):
        assert not lock.connect(agreed, 200.0)
        assert (lock.source, lock.former, lock.target) == (source, False, target)
        for other in ((source[0], 4444), ("192.0.2.11", 4000)):
            assert not lock.admits(other, 100.0, 1000.0)


def test_who_holds_without_an_address_is_sent_no_reports() -> None:
    lock = locked(TRUNK, ("192.0.2.10", 4000))
    lock.connect(nowhere(TRUNK), 200.0)
    assert lock.reports_to is None
    lock.connect(TRUNK, 210.0)
    assert lock.reports_to == ("192.0.2.10", 4001)


def test_who_is_named_again_is_not_the_former() -> None:
    """A to B and back, and nothing has come from B."""
    lock = locked(NAT, ("10.0.0.5", 4000))
    lock.connect(NAT_MOVED, 200.0)
    lock.connect(NAT, 201.0)
    assert (lock.source, lock.former) == (("10.0.0.5", 4000), False)
    assert not lock.admits(("203.0.113.9", 61002), 201.0, 260.0)


def test_the_former_that_goes_on_is_followed_no_more() -> None:
    """After two seconds a pause is a pause; only who is named to the port is let in still."""
    lock = locked(NAT, ("203.0.113.9", 61000))
    lock.connect(NAT_MOVED, 200.0)
    assert not lock.watch(200.0 + FALLBACK_S - 0.1)
    assert lock.admits(("203.0.113.9", 61002), 201.9, 202.2)
    lock.watch(200.0 + FALLBACK_S)
    assert not lock.admits(("203.0.113.9", 61002), 202.0, 260.0)
    assert not lock.connect(replace(NAT_MOVED, ptime_ms=30), 300.0), "nor is the time given anew"
    assert not lock.admits(("203.0.113.9", 61002), 299.0, 301.0)
    assert lock.admits(("10.0.0.5", 4002), 300.0, 300.0)
    lock.connect(NAT, 400.0)
    assert lock.admits(("203.0.113.9", 61004), 399.0, 401.0), "another re-INVITE, another port of the NAT"


def test_the_former_that_was_silent_is_followed_still() -> None:
    """A phone behind NAT held us with a new port, and nothing had to come until now."""
    lock = locked(NAT, ("203.0.113.9", 61000))
    lock.connect(replace(NAT_MOVED, sending=False), 200.0)
    lock.watch(199.0)
    lock.connect(NAT_MOVED, 300.0)
    assert lock.admits(("203.0.113.9", 61002), 199.0, 300.1)


def test_another_worker_gives_the_former_its_time() -> None:
    """It has heard nothing yet: that is no pause."""
    lock = SourceLock()
    lock.connect(NAT_MOVED, 300.0, ("203.0.113.9", 61000), former=True)
    assert not lock.admits(("203.0.113.9", 61002), 0.0, 300.1)
    assert lock.admits(("203.0.113.9", 61002), 0.0, 300.1 + HANDED_OVER_S)


def test_what_another_worker_found() -> None:
    lock = SourceLock()
    lock.connect(SAME_HOST, 200.0, ("192.0.2.10", 4000), former=True)
    assert not lock.admits(("192.0.2.10", 6666), 200.0, 200.1)
    assert lock.admits(("192.0.2.10", 5000), 200.0, 200.1)
    six = SourceLock()
    six.connect(SIX, 0.0, ("2001:db8::1", 5))
    whole: tuple[str, int] = ("2001:db8::1", 5, 0, 0)  # type: ignore[assignment]  # as the socket gives it
    assert six.knows(whole)
    assert six.source == whole
    assert not six.knows(("2001:db8::1", 6))


def test_whose_reports_are_taken() -> None:
    lock = SourceLock()
    lock.connect(TRUNK, 0.0)
    assert not lock.admits_report(("192.0.2.10", 4001), True), "nothing is known of its audio"
    lock.take(("192.0.2.10", 4000))
    assert lock.allowed_reports == ((ip_network("192.0.2.10"), 4001),)
    assert not lock.admits_report(("192.0.2.11", 4001), True)
    assert not lock.admits_report(("192.0.2.10", 7001), False)
    assert lock.admits_report(("192.0.2.10", 7001), True)
    assert lock.allowed_reports == ((ip_network("192.0.2.10"), 7001),)
    assert lock.admits_report(("192.0.2.10", 7001), False), "it is the far side's, whatever it is"
    assert not lock.admits_report(("192.0.2.10", 7003), True), "one port"
    assert lock.admits_report(("192.0.2.10", 4001), True), "but the usual one before any other"
    assert not lock.admits_report(("192.0.2.10", 7001), True)


@pytest.mark.parametrize("rtcp", [("media.example", 4009), ("0.0.0.0", 4009), ("192.0.2.10", 0)])
def test_reports_go_nowhere_that_is_no_address(rtcp: tuple[str, int]) -> None:
    """A name would be looked up while all other legs wait; 0.0.0.0 is this machine."""
    lock = locked(replace(TRUNK, rtcp=rtcp), ("192.0.2.10", 4000))
    assert lock.reports_to == ("192.0.2.10", 4001)
    assert lock.allowed_reports == ((ip_network("192.0.2.10"), 4001),)
    lock = locked(replace(TRUNK, host="media.example", rtcp=rtcp), ("192.0.2.10", 4000))
    assert lock.reports_to is None


def test_reports_go_to_an_address_however_it_is_written() -> None:
    lock = locked(replace(SIX, rtcp=("2001:DB8:0::2", 9)), ("2001:db8::1", 5))
    assert lock.reports_to == ("2001:db8::2", 9)
    assert lock.admits_report(("2001:db8::2", 9), True)


def test_what_the_kernel_is_told() -> None:
    lock = SourceLock()
    lock.connect(TRUNK, 0.0)
    assert list(lock.allowed) == [(ip_network("192.0.2.0/24"), None), (ip_network("192.0.2.10"), None)]
    lock.take(("192.0.2.10", 4000))
    assert list(lock.allowed) == [(ip_network("192.0.2.10"), 4000)]
    lock.connect(MOVED, 1.0)
    assert (ip_network("192.0.2.10"), None) in lock.allowed
    assert (ip_network("192.0.2.20"), None) in lock.allowed
