"""net/endpoint: the stack's outputs in order, its time, its faults; datagrams of every kind."""

import asyncio
import gc

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from siaga_pbx.logs import call_logged
from siaga_pbx.sip.events import Counted, Output, Resolve, Send
from siaga_pbx.sip.flow import Flow, Hop, Target, Transport, Way
from siaga_pbx.sip.message import Message, Request, parse
from tests.net_peers import LOOPS, Core, Fixture, Run, UdpPeer, ok, on_uvloop, request

both = pytest.mark.parametrize("run", LOOPS)


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_request_is_answered_down_its_flow(run: Run, host: str) -> None:
    async def work() -> None:
        async with Fixture(f"udp://{host}") as fixture, UdpPeer(host) as peer:
            peer.send(request("INVITE"), fixture.address())
            data, source = await peer.receive()
            assert data.startswith(b"SIP/2.0 200 ")
            assert source == fixture.address()
            [(message, flow)] = fixture.core.received
            assert message.cseq.method == "INVITE"
            assert flow == Flow("udp", fixture.address(), peer.address)
            assert fixture.metric("siaga_sip_messages_total", direction="in", kind="INVITE") == 1
            assert fixture.metric("siaga_sip_messages_total", direction="out", kind="2xx") == 1

    run(work())


@both
def test_the_flow_names_the_socket_that_answers(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1", "udp://127.0.0.1") as fixture, UdpPeer() as peer:
            for number in (0, 1):
                peer.send(request(branch=f"z9hG4bK{number}"), fixture.address(number))
                assert (await peer.receive())[1] == fixture.address(number)
            # A request of ours goes by the flow of its target, else by the first socket.
            second = fixture.core.received[1][1]
            targets: list[Way] = [Target("udp", *peer.address), Target("udp", *peer.address, flow=second), second]
            fixture.endpoint.perform([Send(target, request("BYE")) for target in targets])
            sources = [(await peer.receive())[1] for _ in targets]
            assert sources == [fixture.address(0), fixture.address(1), fixture.address(1)]

    run(work())


def test_what_is_malformed_leaves_nothing_for_the_garbage_collector() -> None:
    """An exception that is kept holds the frame that keeps it: in a flood, garbage faster than it is found."""

    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture:
            [udp] = fixture.endpoint._udp.values()
            bad = request("INVITE").replace(b"CSeq: 1", b"CSeq: one")
            gc.collect()
            gc.disable()
            try:
                for _ in range(200):
                    fixture.endpoint._datagram(udp, bad, ("127.0.0.2", 5060))
                assert len(fixture.core.malformed) == 200
                fixture.core.malformed.clear()
                assert gc.collect() < 200
            finally:
                gc.enable()

    on_uvloop(work())


@both
def test_bytes_that_are_no_message_harm_nobody(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture, UdpPeer() as peer:
            stun = bytes.fromhex("000100002112a442") + bytes(12)  # a binding request (RFC 8489 5)
            for stray in (
                stun,
                b"",
                b"\r\n\r\n",
                b"\0",
                b"\0\0\0\0",
                b"\xff\xfe",
                b"\x80",
                bytes(65_507),
                b"A" * 65_507,
            ):
                peer.send(stray, fixture.address())
            peer.send(request(), fixture.address())
            assert (await peer.receive())[0].startswith(b"SIP/2.0 200 ")
            # Those that only keep a NAT open are no mistake.
            assert len(fixture.core.malformed) == 3
            assert fixture.metric("siaga_internal_errors_total", where="parse") == 0

    run(work())


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=30, deadline=None)
def test_no_datagram_raises(datagrams: list[bytes]) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture, UdpPeer() as peer:
            for data in datagrams:
                peer.send(data, fixture.address())
            peer.send(request(branch="z9hG4bKlast"), fixture.address())
            await fixture.core.until(lambda: any(m.call_id == "z9hG4bKlast" for m, _ in fixture.core.received))
            for where in ("parse", "sip", "event"):
                assert fixture.metric("siaga_internal_errors_total", where=where) == 0

    on_uvloop(work())


class Faulty(Core):
    """Raises at a message whose Call-ID says so, and once in its timer."""

    faults = 0

    def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
        if "poison" in message.call_id:
            raise KeyError("poison")
        return super().receive(message, flow, now)

    def handle_timer(self, now: float) -> list[Output]:
        if not self.faults:
            self.faults += 1
            raise ZeroDivisionError
        return super().handle_timer(now)


@both
def test_a_fault_of_the_stack_is_counted_and_the_next_message_served(run: Run) -> None:
    async def work() -> None:
        core = Faulty()
        async with Fixture("udp://127.0.0.1", "tcp://127.0.0.1", core=core) as fixture, UdpPeer() as peer:
            with structlog.testing.capture_logs() as lines:
                peer.send(request(branch="z9hG4bKpoison"), fixture.address())
                peer.send(request(branch="z9hG4bKgood"), fixture.address())
                assert b"z9hG4bKgood" in (await peer.receive())[0]
                reader, writer = await asyncio.open_connection(*fixture.address(1))
                writer.write(request(branch="z9hG4bKpoison") + request(branch="z9hG4bKgood"))
                assert b"z9hG4bKgood" in await reader.readuntil(b"\r\n\r\n")
                writer.close()
            assert fixture.metric("siaga_internal_errors_total", where="sip") == 2
            assert [(line["event"], line["where"]) for line in lines] == [("net.fault", "sip")] * 2

    run(work())


@both
def test_a_fault_in_the_timer_does_not_stop_time(run: Run) -> None:
    async def work() -> None:
        core = Faulty()
        async with Fixture("udp://127.0.0.1", core=core) as fixture:
            core.deadline = fixture.clock.now()
            with structlog.testing.capture_logs():
                fixture.endpoint.perform([])
                await core.until(lambda: core.turns)
            assert fixture.metric("siaga_internal_errors_total", where="sip") == 1

    run(work())


@both
def test_a_fault_of_the_switch_is_counted_and_the_rest_carried_out(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture, UdpPeer() as peer:
            told = []

            def on_event(event: object) -> None:
                told.append(event)
                if len(told) == 1:
                    raise RuntimeError("a bug")

            fixture.endpoint._on_event = on_event
            events = [Counted("dropped", "stranger"), Counted("dropped", "stranger")]
            flow = Flow("udp", fixture.address(), peer.address)
            with structlog.testing.capture_logs():
                fixture.endpoint.perform([*events, Send(flow, b"SIP/2.0 100 Trying\r\n\r\n")])
            assert await peer.receive()
            assert told == events
            assert fixture.metric("siaga_internal_errors_total", where="event") == 1
            assert fixture.metric("siaga_sip_dropped_total", reason="stranger") == 2

    run(work())


@both
def test_what_is_performed_within_an_event_comes_after_it(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture, UdpPeer() as peer:
            flow = Flow("udp", fixture.address(), peer.address)

            def on_event(event: object) -> None:
                assert isinstance(event, Counted)
                fixture.endpoint.perform([Send(flow, f"{event.reason} answered".encode())])

            fixture.endpoint._on_event = on_event
            fixture.endpoint.perform([Counted("dropped", "one"), Send(flow, b"one"), Counted("dropped", "two")])
            assert [(await peer.receive())[0] for _ in range(3)] == [b"one", b"one answered", b"two answered"]

    run(work())


@both
def test_the_stack_is_called_at_its_deadline_and_not_before(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture:
            core, endpoint, now = fixture.core, fixture.endpoint, fixture.clock.now
            core.deadline = far = now() + 60
            endpoint.perform([])
            core.deadline = near = now() + 0.05
            endpoint.perform([])
            await core.until(lambda: core.turns)
            assert near <= core.turns[0] < near + 0.1
            core.deadline = again = now() + 0.02
            endpoint.perform([])
            await core.until(lambda: len(core.turns) == 2)
            assert again <= core.turns[1] < far
            # A deadline that moved back costs one turn for nothing, no more.
            core.deadline = now() + 0.02
            endpoint.perform([])
            core.deadline = None
            await core.until(lambda: len(core.turns) == 3)

    run(work())


@both
def test_what_cannot_be_sent_is_told_after_the_outputs_and_never_in_a_circle(run: Run) -> None:
    class Stubborn(Core):
        """Answers every unreachable with another packet to the same place."""

        def unreachable(self, target: Flow | Target, now: float) -> list[Output]:
            super().unreachable(target, now)
            return [Send(target, bytes(70_000))]

    async def work() -> None:
        async with Fixture("udp://127.0.0.1", core=Stubborn()) as fixture, UdpPeer() as peer:
            gone: list[Way] = [
                Flow("udp", ("127.0.0.1", 1), peer.address),  # no socket of ours
                Flow("tcp", fixture.address(), peer.address, 77),  # a connection that is no more
                Target("udp", "::1", 5060),  # no socket of that family
            ]
            fixture.endpoint.perform([*(Send(way, b"x") for way in gone), Counted("dropped", "x")])
            assert len(fixture.events) == 1
            assert not fixture.core.gone
            await fixture.core.until(lambda: set(fixture.core.gone) == set(gone))
            peer.send(request(), fixture.address())
            assert await peer.receive()

    run(work())


@both
def test_a_dead_phone_is_told_by_the_way_it_was_sent_by(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as fixture:
            dead = UdpPeer()
            dead.close()
            ways: list[Way] = [Flow("udp", fixture.address(), dead.address), Target("udp", *dead.address)]
            for way in ways:
                fixture.endpoint.perform([Send(way, request("INVITE"))])
                await fixture.core.until(lambda: fixture.core.gone[-1:] == [way])  # noqa: B023 - looked at in this turn

    run(work())


@both
def test_a_name_is_resolved_before_a_packet_goes_there(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1", "tcp://127.0.0.1") as fixture, UdpPeer() as peer:
            wanted = [Resolve("a", Hop("localhost", peer.address[1])), Resolve("b", Hop("localhost", 5070, "tcp"))]
            fixture.endpoint.perform(wanted)
            await fixture.core.until(lambda: len(fixture.core.found) == 2)
            assert fixture.core.found == {
                "a": (Target("udp", *peer.address),),
                "b": (Target("tcp", "127.0.0.1", 5070),),
            }
            kinds: tuple[Transport, ...] = ("udp", "tcp")
            names: list[Way] = [Target(kind, "localhost", peer.address[1]) for kind in kinds]
            fixture.endpoint.perform([Send(name, b"x") for name in names])
            await fixture.core.until(lambda: fixture.core.gone == names)

    run(work())


@both
def test_an_address_that_is_taken_is_an_error_that_leaves_nothing_open(run: Run) -> None:
    async def work() -> None:
        async with Fixture("udp://127.0.0.1") as first:
            taken = first.endpoint.bound[0]
            fixture = Fixture("udp://127.0.0.1", "tcp://127.0.0.1")
            fixture.endpoint._listen = (*fixture.endpoint._listen, taken)
            with pytest.raises(OSError, match="in use"):
                await fixture.endpoint.start()
            assert fixture.endpoint.bound == ()
            assert not fixture.endpoint._udp

    run(work())


@both
def test_after_close_nothing_is_sent_or_told_to_the_stack(run: Run) -> None:
    async def work() -> None:
        fixture = Fixture("udp://127.0.0.1", "tcp://127.0.0.1")
        async with fixture:
            reader, writer = await asyncio.open_connection(*fixture.address(1))
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
        await fixture.endpoint.close()
        flow = fixture.core.received[0][1]
        fixture.endpoint.perform([Send(flow, b"x"), Counted("dropped", "late")])
        await asyncio.sleep(0)
        assert len(fixture.events) == 1
        assert not fixture.core.gone
        assert not fixture.core.closed
        writer.close()

    run(work())


@both
def test_the_id_of_a_call_stays_with_what_it_caused(run: Run) -> None:
    """Timers and connections made for one call serve others later."""

    async def work() -> None:
        seen: list[dict[str, object]] = []

        class Looking(Core):
            def receive(self, message: Message, flow: Flow, now: float) -> list[Output]:
                seen.append(structlog.contextvars.get_contextvars())
                return super().receive(message, flow, now)

            def handle_timer(self, now: float) -> list[Output]:
                seen.append(structlog.contextvars.get_contextvars())
                return super().handle_timer(now)

        async with (
            Fixture("udp://127.0.0.1", "tcp://127.0.0.1", core=Looking()) as ours,
            Fixture("tcp://127.0.0.1") as theirs,
        ):
            with call_logged("call-1"):
                ours.core.deadline = ours.clock.now()
                ours.endpoint.perform([Send(Target("tcp", *theirs.address()), request())])
            await ours.core.until(lambda: ours.core.turns and ours.core.received)
            assert seen == [{}, {}]

    run(work())


def test_every_kind_is_counted_and_none_is_made_up() -> None:
    fixture = Fixture()
    kinds = fixture.endpoint._kinds

    def both_ways(data: bytes) -> None:
        kinds.received(parse(data))
        kinds.sent(data)

    for method in ("INVITE", "BYE", "REGISTER", "XYZZY", "invite"):
        both_ways(request(method))
    message = parse(request())
    assert isinstance(message, Request)
    response = ok(message)
    for status in (100, 183, 200, 302, 404, 503, 603):
        both_ways(response.replace(b"SIP/2.0 200", b"SIP/2.0 %d" % status))
    kinds.sent(b"")
    expected = {"INVITE": 1, "BYE": 1, "REGISTER": 1, "1xx": 2, "2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1, "6xx": 1}
    for direction, others in (("in", 2), ("out", 3)):
        counted = {
            sample.labels["kind"]: sample.value
            for metric in fixture.registry.collect()
            for sample in metric.samples
            if sample.name == "siaga_sip_messages_total" and sample.labels["direction"] == direction and sample.value
        }
        assert counted == {**expected, "other": others}
