"""A leg's offer/answer, and whose packets its audio may come from."""

from ipaddress import ip_network

import pytest

from siaga_pbx.legs import Leg, LegBook, Role
from siaga_pbx.media.protocol import Network, Remote
from siaga_pbx.sip.sdp import LocalAudio, NoCommonCodec, Sdp, make_answer, make_offer
from tests.switch_bench import PaperMedia

NETWORK = ip_network("198.51.100.0/24")


def networks_of(trunk: str) -> tuple[Network, ...]:
    return (NETWORK,) if trunk == "telkomsel" else ()


def connected(leg: Leg, host: str) -> Remote:
    """What the media worker is told of a leg whose far side names `host` in its SDP."""
    client = PaperMedia()
    book = LegBook(client, networks_of)
    assert book.open(leg)
    leg.reply(make_offer(LocalAudio(host, 4000, 1, 1)))
    book.connect(leg)
    return client.remotes[leg.id]


def test_a_trunk_may_send_from_its_networks() -> None:
    remote = connected(Leg("a", Role.CALLER, "call", trunk="telkomsel", peer="198.51.100.1"), "198.51.100.7")
    assert (remote.accept, remote.strict) == ((NETWORK,), False)


def test_a_seat_sends_from_where_its_sdp_says_and_nowhere_else() -> None:
    remote = connected(Leg("a", Role.SEAT, "call", seat="101", peer="203.0.113.5"), "203.0.113.5")
    assert (remote.accept, remote.strict) == ((), True)


@pytest.mark.parametrize("role", [Role.SEAT, Role.FEATURE])
def test_a_seat_behind_nat_sends_from_where_its_sip_comes_from(role: Role) -> None:
    remote = connected(Leg("a", role, "call", seat="101", peer="203.0.113.5"), "10.0.0.7")
    assert (remote.accept, remote.strict) == ((ip_network("203.0.113.5/32"),), True)


def test_an_offer_of_ours_is_answered_once() -> None:
    leg = Leg("a", Role.SEAT, "call", local=LocalAudio("192.0.2.10", 30000, 1, 1))
    answer = make_answer(leg.offer(), LocalAudio("203.0.113.5", 4000, 1, 1))[0]
    assert not leg.agree(None)
    assert leg.agree(answer)
    assert not leg.agree(answer)


def test_their_offer_takes_the_place_of_ours() -> None:
    """An answer that comes later is to nothing."""
    leg = Leg("a", Role.SEAT, "call", local=LocalAudio("192.0.2.10", 30000, 1, 1))
    ours = leg.offer()
    leg.reply(make_offer(LocalAudio("203.0.113.5", 4000, 1, 1)))
    assert not leg.agree(make_answer(ours, LocalAudio("203.0.113.5", 4002, 1, 1))[0])
    assert leg.remote is not None
    assert leg.remote.port == 4000


def test_an_offer_that_cannot_be_answered_changes_nothing() -> None:
    leg = Leg("a", Role.SEAT, "call", local=LocalAudio("192.0.2.10", 30000, 1, 1))
    leg.reply(make_offer(LocalAudio("203.0.113.5", 4000, 1, 1)))
    agreed, local = leg.remote, leg.local
    with pytest.raises(NoCommonCodec):
        leg.reply(Sdp.parse("v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio 4000 RTP/AVP 18\r\n"))
    assert (leg.remote, leg.local) == (agreed, local)


def test_a_closed_leg_gives_its_ports_back_once_and_its_account_once() -> None:
    client = PaperMedia()
    book = LegBook(client, networks_of)
    leg = Leg("a", Role.SEAT, "call", seat="101")
    assert book.open(leg)
    book.add(leg)
    book.close(leg)
    book.close(leg)
    assert client.opened == []
    assert book.counted("a") is leg
    assert book.counted("a") is None
