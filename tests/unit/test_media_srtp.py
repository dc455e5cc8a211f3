"""A leg's cipher against libsrtp as a peer has it: both suites, replays, wrong keys, and rounds of the numbers."""

import base64
import os
import struct

import pytest
from pylibsrtp import Error, Policy, Session

from siaga_pbx.media.protocol import Srtp, SrtpSuite
from siaga_pbx.media.srtp import TRY_S, Cipher

PROFILES = {
    SrtpSuite.SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpSuite.SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
TAGS = {SrtpSuite.SHA1_80: 10, SrtpSuite.SHA1_32: 4}


def new_keys(suite: SrtpSuite = SrtpSuite.SHA1_80) -> Srtp:
    ours, theirs = (base64.b64encode(os.urandom(30)).decode() for _ in range(2))
    return Srtp(suite, ours, theirs)


class Peer:
    """The other end of the same keys."""

    def __init__(self, keys: Srtp) -> None:
        self.out = self._session(keys.suite, keys.theirs, Policy.SSRC_ANY_OUTBOUND)
        self.inward = self._session(keys.suite, keys.ours, Policy.SSRC_ANY_INBOUND)

    def _session(self, suite: SrtpSuite, key: str, kind: int) -> Session:
        return Session(Policy(base64.b64decode(key), kind, srtp_profile=PROFILES[suite]))

    def says(self, index: int, ssrc: int = 7) -> bytes:
        """The packet of this index, and all that have to come before so that libsrtp gives it this one."""
        return bytes(self.out.protect(rtp(index, ssrc)))


def rtp(index: int, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, 8, index & 0xFFFF, index * 160 & 0xFFFFFFFF, ssrc) + bytes([index & 0xFF]) * 160


def rtcp(ssrc: int = 7) -> bytes:
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc)


def cipher(keys: Srtp, rolls: int = 0) -> tuple[Cipher, list[int]]:
    told: list[int] = []
    return Cipher(keys, rolls, told.append), told


@pytest.mark.parametrize("suite", list(SrtpSuite))
def test_both_ways(suite: SrtpSuite) -> None:
    keys = new_keys(suite)
    (ours, told), peer = cipher(keys), Peer(keys)
    for index in range(65530, 65545):
        sent = ours.protect(rtp(index))
        assert len(sent) == len(rtp(index)) + TAGS[suite]
        assert rtp(index)[12:] not in sent
        assert peer.inward.unprotect(sent) == rtp(index)
        assert ours.opened(peer.says(index), 0.0) == rtp(index)
    assert (ours.rolls, told) == (1, [1])
    assert peer.inward.unprotect_rtcp(ours.protect_report(rtcp())) == rtcp()
    assert ours.opened_report(bytes(peer.out.protect_rtcp(rtcp()))) == rtcp()


def test_what_is_not_opened() -> None:
    keys = new_keys()
    (ours, told), peer, stranger = cipher(keys), Peer(keys), Peer(new_keys())
    good = peer.says(1)
    assert ours.opened(good, 0.0) == rtp(1)
    bad = [
        good,  # again
        rtp(2),  # in the clear
        stranger.says(2),
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:20] + b"\0" + good[21:],
        b"",
        b"\x80",
        rtp(2)[:12],
        bytes(4000),
    ]
    for number, packet in enumerate(bad):
        assert ours.opened(packet, number * 1.0) is None
        assert ours.opened_report(packet) is None
    report = bytes(peer.out.protect_rtcp(rtcp()))
    assert ours.opened_report(report) is not None
    assert ours.opened_report(report) is None, "again"
    assert ours.opened(peer.says(2), 99.0) == rtp(2)
    assert told == []


def test_late_packets_are_no_replays() -> None:
    keys = new_keys()
    (ours, _), peer = cipher(keys), Peer(keys)
    packets = [peer.says(index) for index in range(65400, 65600)]
    for at in (0, 199, 100, 1):
        assert ours.opened(packets[at], 0.0) == rtp(65400 + at)
    assert ours.opened(packets[100], 0.0) is None


def far_on(peer: Peer, index: int) -> bytes:
    """The packet of a stream that has been going on for hours."""
    for passed in range(0, index, 0x7000):
        peer.says(passed)
    return peer.says(index)


@pytest.mark.parametrize(
    ("known", "index"),
    [(0, 70_000), (2, (2 << 16) + 5), (2, (3 << 16) + 5), (2, (2 << 16) - 5), (9, (9 << 16) + 65_535)],
)
def test_a_stream_that_another_worker_followed(known: int, index: int) -> None:
    """Its round is found: the one that was told last, the next (it was killed before it told), or the one before."""
    keys = new_keys()
    (ours, told), peer = cipher(keys, known), Peer(keys)
    assert ours.opened(far_on(peer, index), 0.0) == rtp(index)
    assert ours.rolls == index >> 16
    assert told == ([] if known == index >> 16 else [index >> 16])
    for later in range(index + 1, index + 20):
        assert ours.opened(peer.says(later), 0.0) == rtp(later)
    again = far_on(Peer(keys), index)
    assert ours.opened(again, 1.0) is None, "a replay of what came since"


def test_a_new_stream_of_a_new_phone_begins_at_nought() -> None:
    keys = new_keys()
    (ours, told), peer = cipher(keys, rolls=3), Peer(keys)
    assert ours.opened(peer.says(100), 0.0) == rtp(100)
    assert (ours.rolls, told) == (0, [0])
    assert ours.opened(peer.says(5, ssrc=8), 0.0) == rtp(5, ssrc=8)


def test_who_has_no_key_costs_little() -> None:
    """Rounds are looked for a hundred times a second at most."""
    keys = new_keys()
    (ours, _), peer, stranger = cipher(keys, rolls=5), Peer(keys), Peer(new_keys())
    wanted = far_on(peer, 5 << 16)
    assert ours.opened(stranger.says(1), 1.0) is None
    assert ours.opened(wanted, 1.0 + TRY_S / 2) is None
    assert ours.opened(wanted, 1.0 + 1.1 * TRY_S) is not None


def test_rekeyed() -> None:
    """They change their key, which is all that changes; then we do. What is old is not taken any more."""
    keys = new_keys()
    (ours, _), peer = cipher(keys), Peer(keys)
    for index in range(10):
        ours.opened(peer.says(index), 0.0)
        peer.inward.unprotect(ours.protect(rtp(index)))
    theirs = Srtp(keys.suite, keys.ours, new_keys().theirs)
    ours.rekey(theirs)
    anew = Peer(theirs)
    assert ours.opened(peer.says(10), 0.0) is None
    assert ours.opened(anew.says(10), 1.0) == rtp(10)
    assert peer.inward.unprotect(ours.protect(rtp(10))) == rtp(10), "our stream is the same"
    with pytest.raises(OSError, match="replay"):
        ours.protect(rtp(10))
    other = new_keys(SrtpSuite.SHA1_32)
    ours.rekey(other)
    last = Peer(other)
    with pytest.raises(Error):
        peer.inward.unprotect(ours.protect(rtp(11)))
    assert last.inward.unprotect(ours.protect(rtp(12))) == rtp(12)
    assert ours.opened(last.says(11), 2.0) == rtp(11)


def test_a_key_kept_at_a_rekeying_in_a_later_round() -> None:
    """By RFC 3711 3.3.1 the counter goes on under a new key; many phones begin anew. Either is understood."""
    keys, anew = new_keys(), new_keys()
    for goes_on in (True, False):
        (ours, _), peer = cipher(keys), Peer(keys)
        for index in range(60_000, 70_000, 1000):
            ours.opened(peer.says(index), 0.0)
        assert ours.rolls == 1
        ours.rekey(Srtp(keys.suite, keys.ours, anew.theirs))
        new = Peer(anew)
        packet = far_on(new, 70_001) if goes_on else new.says(70_001 & 0xFFFF)
        assert ours.opened(packet, 1.0) is not None
        assert ours.rolls == int(goes_on)


def test_keys_are_not_shown() -> None:
    keys = new_keys()
    assert keys.ours not in repr(keys)
    assert keys.theirs not in repr(keys)
