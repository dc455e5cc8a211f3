"""The four machines of RFC 3261 17 and RFC 6026, in virtual time."""

import pytest

from siaga_pbx.sip.events import Counted, Send
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.message import Request, Response, make_response, parse
from siaga_pbx.sip.options import Timers
from siaga_pbx.sip.transaction import (
    Client,
    Deliver,
    InviteClient,
    InviteServer,
    Lost,
    Server,
    State,
    Step,
    Transaction,
    ack_for,
    cancel_for,
)

UDP = Flow("udp", ("192.0.2.10", 5060), ("192.0.2.1", 5060))
TCP = Flow("tcp", ("192.0.2.10", 5060), ("192.0.2.1", 40000), 7)
SENT_AGAIN = Counted("retransmission", "sent")
RECEIVED_AGAIN = Counted("retransmission", "received")


def _request(method: str) -> Request:
    text = (
        f"{method} sip:112@192.0.2.1 SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKabc;rport\r\n"
        "From: <sip:a@siaga.local>;tag=ours\r\n"
        "To: <sip:112@192.0.2.1>\r\n"
        "Call-ID: call-1\r\n"
        f"CSeq: 7 {method}\r\n"
        "Route: <sip:edge.example;lr>\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    message = parse(text.encode())
    assert isinstance(message, Request)
    return message


def _response(status: int, method: str = "INVITE") -> Response:
    return make_response(_request(method), status, to_tag="theirs")


def _ignore(response: Response | Lost, now: float) -> None:
    raise AssertionError("the table calls the user, not the machine")


def _invite_client(way: Flow = UDP) -> InviteClient:
    request = _request("INVITE")
    machine = InviteClient(way, bytes(request), Timers(), ("z9hG4bKabc", "INVITE"), _ignore, request)
    assert machine.start(0.0) == [Send(way, machine.data)]
    return machine


def _client(way: Flow = UDP) -> Client:
    machine = Client(way, b"BYE", Timers(), ("z9hG4bKabc", "BYE"), _ignore)
    assert machine.start(0.0) == [Send(way, b"BYE")]
    return machine


def _invite_server(way: Flow = UDP) -> InviteServer:
    return InviteServer(way, b"", Timers(), ("INVITE", 7, "call-1", "ours", "z9hG4bKabc", "192.0.2.10", 5060), "tag")


def _server(way: Flow = UDP) -> Server:
    return Server(way, b"", Timers(), ("BYE", 7, "call-1", "ours", "z9hG4bKabc", "192.0.2.10", 5060))


def _run(machine: InviteClient | Client | InviteServer | Server, until: float) -> list[tuple[float, Step]]:
    """What the machine does by itself, with its times."""
    done: list[tuple[float, Step]] = []
    while (at := machine.next_at()) is not None and at <= until:
        steps = machine.expire(at)
        done += [(at, step) for step in steps if not isinstance(step, Counted)]
    return done


def _sends(done: list[tuple[float, Step]]) -> list[float]:
    return [at for at, step in done if isinstance(step, Send)]


def _is(machine: Transaction, state: State) -> bool:
    return machine.state is state


# INVITE client: RFC 3261 17.1.1, RFC 6026 8.4


def test_an_invite_is_sent_again_in_doubling_intervals_and_given_up_after_64_t1() -> None:
    machine = _invite_client()
    done = _run(machine, 100)
    assert _sends(done) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert done[-1] == (32.0, Deliver(Lost.SILENCE))
    assert _is(machine, State.TERMINATED)


def test_on_a_reliable_transport_an_invite_is_sent_once_and_given_up_all_the_same() -> None:
    machine = _invite_client(TCP)
    assert _run(machine, 100) == [(32.0, Deliver(Lost.SILENCE))]


def test_ringing_has_no_limit() -> None:
    machine = _invite_client()
    ringing = _response(180)
    assert machine.receive(ringing, 0.4) == [Deliver(ringing)]
    assert machine.next_at() is None
    assert machine.receive(ringing, 1000.0) == [Deliver(ringing)]
    assert _is(machine, State.PROCEEDING)


@pytest.mark.parametrize("status", [100, 180, 183, 199])
def test_the_first_provisional_stops_the_retransmission(status: int) -> None:
    machine = _invite_client()
    machine.receive(_response(status), 0.1)
    assert _run(machine, 100) == []


def test_a_2xx_leads_to_accepted_where_more_of_them_go_to_the_user() -> None:
    machine = _invite_client()
    first, fork = _response(200), _response(200)
    assert machine.receive(first, 1.0) == [Deliver(first)]
    assert _is(machine, State.ACCEPTED)
    assert machine.receive(fork, 20.0) == [Deliver(fork)]
    assert machine.receive(_response(486), 20.0) == []
    assert _run(machine, 100) == []
    assert _is(machine, State.TERMINATED)


def test_a_refusal_is_acknowledged_at_once_and_again_whenever_it_comes_again() -> None:
    machine = _invite_client()
    refusal = _response(486)
    ack, deliver = machine.receive(refusal, 1.0)
    assert deliver == Deliver(refusal)
    assert isinstance(ack, Send)
    assert machine.receive(refusal, 2.0) == [ack, RECEIVED_AGAIN]
    assert machine.receive(_response(200), 2.0) == []
    assert machine.next_at() == 33.0
    _run(machine, 100)
    assert _is(machine, State.TERMINATED)


def test_on_a_reliable_transport_a_refusal_ends_the_transaction_at_once() -> None:
    machine = _invite_client(TCP)
    machine.receive(_response(486), 1.0)
    assert _is(machine, State.TERMINATED)
    assert machine.next_at() is None


def test_the_ack_of_a_refusal_repeats_the_invite_but_for_method_and_to() -> None:
    ack = ack_for(_request("INVITE"), _response(486))
    assert ack.method == "ACK"
    assert str(ack.uri) == "sip:112@192.0.2.1"
    assert ack.via.branch == "z9hG4bKabc"
    assert ack.to.tag == "theirs"
    assert ack.from_.tag == "ours"
    assert str(ack.cseq) == "7 ACK"
    assert ack.headers.get_all("Route") == ["<sip:edge.example;lr>"]
    assert len(ack.headers.get_all("Via")) == 1


def test_a_cancel_repeats_the_invite_without_a_to_tag() -> None:
    cancel = cancel_for(_request("INVITE"))
    assert str(cancel.cseq) == "7 CANCEL"
    assert cancel.via.branch == "z9hG4bKabc"
    assert cancel.to.tag is None
    assert cancel.headers.get_all("Route") == ["<sip:edge.example;lr>"]


def test_a_cancelled_invite_without_a_final_response_is_over_after_64_t1() -> None:
    machine = _invite_client()
    machine.receive(_response(180), 1.0)
    machine.limit(5.0)
    machine.receive(_response(180), 6.0)
    assert _run(machine, 100) == [(37.0, Deliver(Lost.SILENCE))]


def test_an_invite_that_cannot_be_sent_is_lost_but_not_once_it_was_heard() -> None:
    machine = _invite_client()
    assert machine.lose() == [Deliver(Lost.NO_WAY)]
    assert _is(machine, State.TERMINATED)
    heard = _invite_client()
    heard.receive(_response(180), 0.1)
    assert heard.lose() == []
    assert _is(heard, State.PROCEEDING)


# Non-INVITE client: RFC 3261 17.1.2


def test_a_request_is_sent_again_up_to_every_t2_and_given_up_after_64_t1() -> None:
    machine = _client()
    done = _run(machine, 100)
    assert _sends(done) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert done[-1] == (32.0, Deliver(Lost.SILENCE))


def test_a_provisional_makes_it_every_t2_and_the_limit_stays() -> None:
    machine = _client()
    machine.receive(_response(100, "BYE"), 0.2)
    done = _run(machine, 100)
    assert _sends(done) == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert done[-1] == (32.0, Deliver(Lost.SILENCE))


def test_a_final_response_is_delivered_once_and_its_copies_are_absorbed_for_t4() -> None:
    machine = _client()
    final = _response(200, "BYE")
    assert machine.receive(final, 1.0) == [Deliver(final)]
    assert machine.receive(final, 2.0) == [RECEIVED_AGAIN]
    assert machine.next_at() == 6.0
    _run(machine, 100)
    assert _is(machine, State.TERMINATED)


def test_on_a_reliable_transport_a_request_is_sent_once_and_over_at_its_answer() -> None:
    machine = _client(TCP)
    assert machine.next_at() == 32.0
    machine.receive(_response(481, "BYE"), 1.0)
    assert _is(machine, State.TERMINATED)


# INVITE server: RFC 3261 17.2.1, RFC 6026 8.5


def test_an_invite_that_comes_again_gets_the_last_response() -> None:
    machine = _invite_server()
    assert machine.respond(100, b"100", 0.0) == [Send(UDP, b"100")]
    assert machine.receive_again() == [RECEIVED_AGAIN, Send(UDP, b"100")]
    machine.respond(180, b"180", 1.0)
    assert machine.receive_again() == [RECEIVED_AGAIN, Send(UDP, b"180")]
    machine.respond(486, b"486", 2.0)
    assert machine.receive_again() == [RECEIVED_AGAIN, Send(UDP, b"486")]


def test_proceeding_waits_for_the_user_as_long_as_it_takes() -> None:
    machine = _invite_server()
    machine.respond(100, b"100", 0.0)
    assert machine.next_at() is None


def test_a_refusal_is_sent_again_until_it_is_acknowledged() -> None:
    machine = _invite_server()
    machine.respond(486, b"486", 0.0)
    assert _sends(_run(machine, 8)) == [0.5, 1.5, 3.5, 7.5]
    machine.acknowledge(8.0)
    assert _is(machine, State.CONFIRMED)
    assert machine.receive_again() == [RECEIVED_AGAIN]
    assert _run(machine, 100) == []
    assert _is(machine, State.TERMINATED)


def test_a_refusal_that_nobody_acknowledges_is_given_up_after_64_t1() -> None:
    machine = _invite_server()
    machine.respond(486, b"486", 0.0)
    assert _sends(_run(machine, 100)) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert _is(machine, State.TERMINATED)


def test_on_a_reliable_transport_a_refusal_is_sent_once_and_waits_for_its_ack() -> None:
    machine = _invite_server(TCP)
    machine.respond(486, b"486", 0.0)
    assert machine.next_at() == 32.0
    machine.acknowledge(1.0)
    assert _is(machine, State.TERMINATED)


def test_a_2xx_is_not_sent_again_here_and_the_invite_is_absorbed() -> None:
    machine = _invite_server()
    assert machine.respond(200, b"200", 0.0) == [Send(UDP, b"200")]
    assert _is(machine, State.ACCEPTED)
    assert machine.receive_again() == [RECEIVED_AGAIN]
    machine.acknowledge(1.0)
    assert _is(machine, State.ACCEPTED)
    assert _run(machine, 100) == []
    assert _is(machine, State.TERMINATED)


def test_after_a_final_response_there_is_no_other() -> None:
    for final in (200, 486):
        machine = _invite_server()
        machine.respond(final, b"first", 0.0)
        assert machine.respond(180, b"180", 0.1) == []
        assert machine.respond(500, b"500", 0.1) == []


# Non-INVITE server: RFC 3261 17.2.2


def test_a_request_that_comes_again_gets_its_response_again() -> None:
    machine = _server()
    assert machine.receive_again() == [RECEIVED_AGAIN]
    assert machine.respond(b"200", 1.0) == [Send(UDP, b"200")]
    assert machine.receive_again() == [RECEIVED_AGAIN, Send(UDP, b"200")]
    assert machine.respond(b"500", 2.0) == []
    assert machine.next_at() == 33.0
    _run(machine, 100)
    assert _is(machine, State.TERMINATED)


def test_on_a_reliable_transport_a_response_ends_the_transaction() -> None:
    machine = _server(TCP)
    machine.respond(b"200", 1.0)
    assert _is(machine, State.TERMINATED)


# All of them


def _machines() -> list[Transaction]:
    return [make(way) for make in (_invite_client, _client, _invite_server, _server) for way in (UDP, TCP)]


def test_a_state_owns_its_deadlines() -> None:
    """Whatever comes, a terminated machine waits for nothing, and no deadline of an earlier state is left."""
    for machine in _machines():
        if isinstance(machine, InviteClient | Client):
            for status in (100, 180, 200, 486):
                machine.receive(_response(status), 1.0)
        elif isinstance(machine, InviteServer):
            machine.respond(486, b"", 1.0)
            machine.acknowledge(1.0)
        elif isinstance(machine, Server):
            machine.respond(b"", 1.0)
        assert len(machine.deadlines) <= 1
        while (at := machine.next_at()) is not None:
            assert isinstance(machine, InviteClient | Client | InviteServer | Server)
            assert not [step for step in machine.expire(at) if not isinstance(step, Counted)]
        assert _is(machine, State.TERMINATED)
