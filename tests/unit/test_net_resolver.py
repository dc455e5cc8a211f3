"""net/resolver: RFC 3263 against a real name server on loopback."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaga_pbx.clock import Clock
from siaga_pbx.net import dns as dns_module
from siaga_pbx.net.dns import NameServer as Asked
from siaga_pbx.net.resolver import MAX_NAMES, MAX_TARGETS, Resolver, Service, chosen
from siaga_pbx.settings import Listen
from siaga_pbx.sip.flow import Hop, Target
from tests.name_server import NameServer
from tests.net_peers import LOOPS, Run, on_uvloop

both = pytest.mark.parametrize("run", LOOPS)

V4 = (Listen("udp", "127.0.0.1", 5060), Listen("tcp", "127.0.0.1", 5060), Listen("tls", "127.0.0.1", 5061))
DUAL = (Listen("udp", "::1", 5060), Listen("udp", "127.0.0.1", 5060))
UDP_ONLY = V4[:1]

CARRIER = {
    ("carrier.example.", "NAPTR"): [
        '20 10 "s" "SIP+D2U" "" _sip._udp.carrier.example.',
        '10 10 "s" "SIP+D2T" "" _sip._tcp.carrier.example.',
        '5 10 "s" "SIPS+D2S" "" _sips._sctp.carrier.example.',
        '6 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .',
    ],
    ("_sip._udp.carrier.example.", "SRV"): ["2 0 5080 b.carrier.example.", "1 0 5070 a.carrier.example."],
    ("_sip._tcp.carrier.example.", "SRV"): ["1 0 5090 a.carrier.example."],
    ("_sips._tcp.carrier.example.", "SRV"): ["1 0 5091 a.carrier.example."],
    ("a.carrier.example.", "A"): ["127.0.0.2"],
    ("b.carrier.example.", "A"): ["127.0.0.3", "127.0.0.4"],
    ("carrier.example.", "A"): ["127.0.0.9"],
}


async def located(
    hop: Hop, records: dict[tuple[str, str], list[str]], listens: tuple[Listen, ...] = V4
) -> list[Target]:
    async with NameServer(records) as names:
        resolver = Resolver(Clock(), lambda: listens, names.address)
        return list(await resolver.locate(hop))


@both
def test_naptr_says_the_transport_srv_the_servers(run: Run) -> None:
    async def work() -> None:
        first, second, *others = await located(Hop("carrier.example"), CARRIER)
        assert first == Target("tcp", "127.0.0.2", 5090)
        assert second == Target("udp", "127.0.0.2", 5070)
        assert set(others) == {Target("udp", "127.0.0.3", 5080), Target("udp", "127.0.0.4", 5080)}
        # What we do not listen to is not ours to use.
        assert [each.port for each in await located(Hop("carrier.example"), CARRIER, UDP_ONLY)] == [5070, 5080, 5080]

    run(work())


@both
def test_without_naptr_all_transports_are_looked_for(run: Run) -> None:
    async def work() -> None:
        records = {key: value for key, value in CARRIER.items() if key[1] != "NAPTR"}
        found = await located(Hop("carrier.example"), records)
        assert [(each.transport, each.port) for each in found] == [
            ("udp", 5070),
            ("udp", 5080),
            ("udp", 5080),
            ("tcp", 5090),
            ("tls", 5091),
        ]
        # RFC 5922 4: the certificate is to be for the name that was asked for.
        assert [each.name for each in found] == ["", "", "", "", "carrier.example"]

    run(work())


@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        (Hop("carrier.example", 5075), [Target("udp", "127.0.0.9", 5075)]),
        (Hop("carrier.example", 5075, "tcp"), [Target("tcp", "127.0.0.9", 5075)]),
        (Hop("carrier.example", None, "tcp"), [Target("tcp", "127.0.0.2", 5090)]),
        (Hop("carrier.example", None, "tls", True), [Target("tls", "127.0.0.2", 5091, name="carrier.example")]),
        (Hop("a.carrier.example"), [Target("udp", "127.0.0.2", 5060)]),
        (Hop("a.carrier.example", None, "tls", True), [Target("tls", "127.0.0.2", 5061, name="a.carrier.example")]),
        (Hop("nowhere.example"), []),
        (Hop("x" * 64 + ".example"), []),  # no name at all
    ],
)
def test_port_and_transport_of_the_uri_come_first(hop: Hop, expected: list[Target]) -> None:
    async def work() -> None:
        assert await located(hop, CARRIER) == expected

    on_uvloop(work())


def test_a_service_that_is_decidedly_not_there() -> None:
    async def work() -> None:
        records = {("no.example.", "A"): ["127.0.0.2"], ("_sip._udp.no.example.", "SRV"): ["0 0 0 ."]}
        [target] = await located(Hop("no.example", None, "udp"), records)
        assert target.port == 5060  # as if there were no record: a caller is better tried than turned away

    on_uvloop(work())


def test_both_families_in_the_order_that_we_listen_in() -> None:
    async def work() -> None:
        records = {("dual.example.", "A"): ["127.0.0.2"], ("dual.example.", "AAAA"): ["::1"]}
        assert [each.host for each in await located(Hop("dual.example"), records, DUAL)] == ["::1", "127.0.0.2"]
        assert [each.host for each in await located(Hop("dual.example"), records, DUAL[::-1])] == ["127.0.0.2", "::1"]
        assert [each.host for each in await located(Hop("dual.example"), records, V4)] == ["127.0.0.2"]

    on_uvloop(work())


def test_a_name_is_asked_for_once_in_its_ttl_and_again_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with NameServer({("a.example.", "A"): ["127.0.0.2"]}, ttl=30) as names:
            clock = Clock()
            resolver = Resolver(clock, lambda: UDP_ONLY, names.address)
            hop = Hop("a.example", 5060)
            answers = await asyncio.gather(*(resolver.locate(hop) for _ in range(20)))
            assert set(answers) == {(Target("udp", "127.0.0.2", 5060),)}
            await resolver.locate(hop)
            assert names.asked["a.example.", "A"] == 1
            now = clock.now
            monkeypatch.setattr(clock, "now", lambda: now() + 29)
            await resolver.locate(hop)
            assert names.asked["a.example.", "A"] == 1
            monkeypatch.setattr(clock, "now", lambda: now() + 31)
            names.records["a.example.", "A"] = ["127.0.0.3"]
            assert await resolver.locate(hop) == (Target("udp", "127.0.0.3", 5060),)
            assert names.asked["a.example.", "A"] == 2

    on_uvloop(work())


def test_a_name_server_that_hangs_is_not_waited_for_when_there_is_an_old_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siaga_pbx.net.resolver.PATIENCE_S", 0.05)

    async def work() -> None:
        async with NameServer({("a.example.", "A"): ["127.0.0.2"], ("b.example.", "A"): ["127.0.0.3"]}) as names:
            clock = Clock()
            resolver = Resolver(clock, lambda: UDP_ONLY, names.address)
            target = Target("udp", "127.0.0.2", 5060)
            assert await resolver.locate(Hop("a.example", 5060)) == (target,)
            now = clock.now
            monkeypatch.setattr(clock, "now", lambda: now() + 3600)
            names.silent = True
            # Many at once: one question is under way, none of them waits for its end.
            answers = await asyncio.gather(*(resolver.locate(Hop("a.example", 5060)) for _ in range(50)))
            assert set(answers) == {(target,)}
            assert names.asked["a.example.", "A"] == 2
            names.silent = False
            assert await resolver.locate(Hop("b.example", 5060))  # another name is not held up
            await resolver.close()

    on_uvloop(work())


def test_what_fails_is_not_taken_for_what_is_not_there() -> None:
    """A name server that cannot do NAPTR: what the others say is used, and asked for again soon."""

    async def work() -> None:
        async with NameServer(dict(CARRIER), ttl=3000) as names:
            names.broken = {"NAPTR"}
            resolver = Resolver(clock := Clock(), lambda: UDP_ONLY, names.address)
            assert [each.port for each in await resolver.locate(Hop("carrier.example"))] == [5070, 5080, 5080]
            now = clock.now
            clock.now = lambda: now() + 10  # type: ignore[method-assign]
            names.broken = set()
            await resolver.locate(Hop("carrier.example"))
            assert names.asked["carrier.example.", "NAPTR"] > 1

    on_uvloop(work())


def test_no_more_is_kept_or_tried_than_is_bounded() -> None:
    async def work() -> None:
        many = [f"127.0.1.{number}" for number in range(1, 100)]
        assert len(await located(Hop("many.example", 5060), {("many.example.", "A"): many})) == MAX_TARGETS
        async with NameServer({}) as names:
            resolver = Resolver(Clock(), lambda: UDP_ONLY, names.address)
            for number in range(MAX_NAMES + 10):
                await resolver.locate(Hop(f"n{number}.example", 5060))
            assert len(resolver._known) == MAX_NAMES

    on_uvloop(work())


def test_the_hosts_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hosts"
    file.write_text(
        "# comment\n127.0.0.7 sbc.example SBC\nfe80::1%eth0 sbc.example\n::1 six.example # and so on\nbad\n"
    )
    monkeypatch.setattr(dns_module, "HOSTS", file)

    async def work() -> None:
        async with NameServer({("sbc.example.", "A"): ["127.0.0.2"]}) as names:
            asked = Asked(names.address)
            assert (await asked.addresses("sbc.example")).records == ["127.0.0.7"]
            assert (await asked.addresses("sbc")).records == ["127.0.0.7"]
            assert (await asked.addresses("six.example")).records == ["::1"]
            assert not names.asked

    on_uvloop(work())


# RFC 2782


def test_weights_are_shares() -> None:
    random = Random(112)
    services = [Service(0, "udp", "heavy", 1, 1, 90), Service(0, "udp", "light", 1, 1, 10)]
    first = Counter(next(chosen(services, random.randrange)).host for _ in range(2000))
    assert 1700 < first["heavy"] < 1900
    weightless = [*services, Service(0, "udp", "none", 1, 1, 0)]
    first = Counter(next(chosen(weightless, random.randrange)).host for _ in range(2000))
    assert 0 < first["none"] < 100


@given(
    st.lists(
        st.builds(
            Service,
            st.integers(0, 2),
            st.just("udp"),
            st.ip_addresses(v=4).map(str),
            st.just(5060),
            st.integers(0, 2),
            st.integers(0, 65_535),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_all_are_tried_once_and_no_priority_before_a_better_one(services: list[Service], random: Random) -> None:
    services.sort(key=lambda service: (service.order, service.priority))
    order = list(chosen(services, random.randrange))
    assert Counter(order) == Counter(services)
    ranks = [(service.order, service.priority) for service in order]
    assert ranks == sorted(ranks)
