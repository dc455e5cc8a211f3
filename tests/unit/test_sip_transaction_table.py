"""Every state of the four machines against everything that can happen in it: what it becomes, what it does.

RFC 3261 figures 5 to 8, with RFC 6026 figures 3 and 5. A row that the machines do not have, or a state or an input that
has no row, fails.
"""

from collections.abc import Callable
from typing import TypeAlias

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
)

UDP = Flow("udp", ("192.0.2.10", 5060), ("192.0.2.1", 5060))
TCP = Flow("tcp", ("192.0.2.10", 5060), ("192.0.2.1", 40000), 7)
NOW = 100.0
"""When the input comes. The machines are made at 0, so that their first timers are long due or, on TCP, not there."""

Machine: TypeAlias = InviteClient | Client | InviteServer | Server
Row: TypeAlias = tuple[str, str, str, str]
"""The state, the input, the state after it, and what the machine does, in order and in the words of `said`."""


def request(method: str) -> Request:
    message = parse(
        (
            f"{method} sip:112@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKabc\r\n"
            f"From: <sip:a@siaga.local>;tag=ours\r\nTo: <sip:112@192.0.2.1>\r\nCall-ID: c\r\nCSeq: 7 {method}\r\n\r\n"
        ).encode()
    )
    assert isinstance(message, Request)
    return message


def response(status: int, method: str) -> Response:
    return make_response(request(method), status, to_tag="theirs")


def said(steps: list[Step]) -> str:
    """`ack`, `data`: what was sent; `2xx` or the like: what the user heard; `again`: a retransmission was counted."""
    return " ".join(_word(step) for step in steps)


def _word(step: Step) -> str:
    match step:
        case Send(_, data):
            return "ack" if data.startswith(b"ACK ") else "data"
        case Counted():
            return "again"
        case Deliver(Lost() as lost):
            return lost.name.lower()
        case Deliver(Response() as got):
            return f"{got.status // 100}xx"
    raise AssertionError(step)


# How a machine is brought into each of its states, on either transport.


def invite_client(state: str, way: Flow) -> InviteClient:
    invite = request("INVITE")
    machine = InviteClient(way, bytes(invite), Timers(), ("z9hG4bKabc", "INVITE"), lambda *_: None, invite)
    machine.start(NOW - 1)
    statuses = {"CALLING": (), "PROCEEDING": (180,), "PROCEEDING limited": (180,), "ACCEPTED": (200,)}
    for status in statuses.get(state, (486,)):
        machine.receive(response(status, "INVITE"), NOW - 1)
    if state == "PROCEEDING limited":
        machine.limit(NOW - 1)
    if state == "TERMINATED":
        while (at := machine.next_at()) is not None:
            machine.expire(at)
    return machine


def client(state: str, way: Flow) -> Client:
    machine = Client(way, b"BYE", Timers(), ("z9hG4bKabc", "BYE"), lambda *_: None)
    machine.start(NOW - 1)
    statuses = {"TRYING": (), "PROCEEDING": (100,)}
    for status in statuses.get(state, (200,)):
        machine.receive(response(status, "BYE"), NOW - 1)
    if state == "TERMINATED":
        while (at := machine.next_at()) is not None:
            machine.expire(at)
    return machine


def invite_server(state: str, way: Flow) -> InviteServer:
    machine = InviteServer(way, b"", Timers(), ("INVITE", 7, "c", "ours", "z9hG4bKabc", "192.0.2.10", 5060), "tag")
    if state in ("PROCEEDING", "PROCEEDING answered"):
        return machine if state == "PROCEEDING" else _responded(machine, 100)
    _responded(machine, 200 if state == "ACCEPTED" else 486)
    if state in ("CONFIRMED", "TERMINATED"):
        machine.acknowledge(NOW - 1)
    if state == "TERMINATED":
        while (at := machine.next_at()) is not None:
            machine.expire(at)
    return machine


def _responded(machine: InviteServer, status: int) -> InviteServer:
    machine.respond(status, b"first", NOW - 1)
    return machine


def server(state: str, way: Flow) -> Server:
    machine = Server(way, b"", Timers(), ("BYE", 7, "c", "ours", "z9hG4bKabc", "192.0.2.10", 5060))
    if state != "TRYING":
        machine.respond(b"first", NOW - 1)
    if state == "TERMINATED":
        while (at := machine.next_at()) is not None:
            machine.expire(at)
    return machine


# What can happen to each.

CLIENT_INPUTS: dict[str, Callable[[InviteClient | Client, str], list[Step]]] = {
    "1xx": lambda machine, method: machine.receive(response(183, method), NOW),
    "2xx": lambda machine, method: machine.receive(response(200, method), NOW),
    "3xx": lambda machine, method: machine.receive(response(302, method), NOW),
    "6xx": lambda machine, method: machine.receive(response(603, method), NOW),
    "no way": lambda machine, _: machine.lose(),
    "first timer": lambda machine, _: machine.expire(machine.next_at() or NOW),
    "last timer": lambda machine, _: machine.expire(_last_only(machine)),
}


def _last_only(machine: Transaction) -> float:
    """Drops every timer of the state but the one that ends it."""
    if not machine.deadlines:
        return NOW
    timer, at = max(machine.deadlines.items(), key=lambda item: item[1])
    machine.deadlines = {timer: at}
    return at


def _acknowledge(machine: InviteServer) -> list[Step]:
    machine.acknowledge(NOW)
    return []


INVITE_SERVER_INPUTS: dict[str, Callable[[InviteServer], list[Step]]] = {
    "INVITE": lambda machine: machine.receive_again(),
    "ACK": lambda machine: _acknowledge(machine),
    "1xx": lambda machine: machine.respond(180, b"later", NOW),
    "2xx": lambda machine: machine.respond(200, b"later", NOW),
    "4xx": lambda machine: machine.respond(486, b"later", NOW),
    "first timer": lambda machine: machine.expire(machine.next_at() or NOW),
    "last timer": lambda machine: machine.expire(_last_only(machine)),
}
SERVER_INPUTS: dict[str, Callable[[Server], list[Step]]] = {
    "request": lambda machine: machine.receive_again(),
    "final": lambda machine: machine.respond(b"later", NOW),
    "first timer": lambda machine: machine.expire(machine.next_at() or NOW),
    "last timer": lambda machine: machine.expire(_last_only(machine)),
}

# The tables, for UDP. On TCP a state that only absorbs retransmissions is over at once, and nothing is sent again.

INVITE_CLIENT: tuple[Row, ...] = (
    ("CALLING", "1xx", "PROCEEDING", "1xx"),
    ("CALLING", "2xx", "ACCEPTED", "2xx"),
    ("CALLING", "3xx", "COMPLETED", "ack 3xx"),
    ("CALLING", "6xx", "COMPLETED", "ack 6xx"),
    ("CALLING", "no way", "TERMINATED", "no_way"),
    ("CALLING", "first timer", "CALLING", "data again"),
    ("CALLING", "last timer", "TERMINATED", "silence"),
    ("PROCEEDING", "1xx", "PROCEEDING", "1xx"),
    ("PROCEEDING", "2xx", "ACCEPTED", "2xx"),
    ("PROCEEDING", "3xx", "COMPLETED", "ack 3xx"),
    ("PROCEEDING", "6xx", "COMPLETED", "ack 6xx"),
    ("PROCEEDING", "no way", "PROCEEDING", ""),
    ("PROCEEDING", "first timer", "PROCEEDING", ""),
    ("PROCEEDING", "last timer", "PROCEEDING", ""),
    ("PROCEEDING limited", "1xx", "PROCEEDING", "1xx"),
    ("PROCEEDING limited", "2xx", "ACCEPTED", "2xx"),
    ("PROCEEDING limited", "3xx", "COMPLETED", "ack 3xx"),
    ("PROCEEDING limited", "6xx", "COMPLETED", "ack 6xx"),
    ("PROCEEDING limited", "no way", "PROCEEDING", ""),
    ("PROCEEDING limited", "first timer", "TERMINATED", "silence"),
    ("PROCEEDING limited", "last timer", "TERMINATED", "silence"),
    ("ACCEPTED", "1xx", "ACCEPTED", ""),
    ("ACCEPTED", "2xx", "ACCEPTED", "2xx"),
    ("ACCEPTED", "3xx", "ACCEPTED", ""),
    ("ACCEPTED", "6xx", "ACCEPTED", ""),
    ("ACCEPTED", "no way", "ACCEPTED", ""),
    ("ACCEPTED", "first timer", "TERMINATED", ""),
    ("ACCEPTED", "last timer", "TERMINATED", ""),
    ("COMPLETED", "1xx", "COMPLETED", ""),
    ("COMPLETED", "2xx", "COMPLETED", ""),
    ("COMPLETED", "3xx", "COMPLETED", "ack again"),
    ("COMPLETED", "6xx", "COMPLETED", "ack again"),
    ("COMPLETED", "no way", "COMPLETED", ""),
    ("COMPLETED", "first timer", "TERMINATED", ""),
    ("COMPLETED", "last timer", "TERMINATED", ""),
    ("TERMINATED", "1xx", "TERMINATED", ""),
    ("TERMINATED", "2xx", "TERMINATED", ""),
    ("TERMINATED", "3xx", "TERMINATED", ""),
    ("TERMINATED", "6xx", "TERMINATED", ""),
    ("TERMINATED", "no way", "TERMINATED", ""),
    ("TERMINATED", "first timer", "TERMINATED", ""),
    ("TERMINATED", "last timer", "TERMINATED", ""),
)
CLIENT: tuple[Row, ...] = (
    ("TRYING", "1xx", "PROCEEDING", "1xx"),
    ("TRYING", "2xx", "COMPLETED", "2xx"),
    ("TRYING", "3xx", "COMPLETED", "3xx"),
    ("TRYING", "6xx", "COMPLETED", "6xx"),
    ("TRYING", "no way", "TERMINATED", "no_way"),
    ("TRYING", "first timer", "TRYING", "data again"),
    ("TRYING", "last timer", "TERMINATED", "silence"),
    ("PROCEEDING", "1xx", "PROCEEDING", "1xx"),
    ("PROCEEDING", "2xx", "COMPLETED", "2xx"),
    ("PROCEEDING", "3xx", "COMPLETED", "3xx"),
    ("PROCEEDING", "6xx", "COMPLETED", "6xx"),
    ("PROCEEDING", "no way", "TERMINATED", "no_way"),
    ("PROCEEDING", "first timer", "PROCEEDING", "data again"),
    ("PROCEEDING", "last timer", "TERMINATED", "silence"),
    ("COMPLETED", "1xx", "COMPLETED", "again"),
    ("COMPLETED", "2xx", "COMPLETED", "again"),
    ("COMPLETED", "3xx", "COMPLETED", "again"),
    ("COMPLETED", "6xx", "COMPLETED", "again"),
    ("COMPLETED", "no way", "COMPLETED", ""),
    ("COMPLETED", "first timer", "TERMINATED", ""),
    ("COMPLETED", "last timer", "TERMINATED", ""),
    ("TERMINATED", "1xx", "TERMINATED", "again"),
    ("TERMINATED", "2xx", "TERMINATED", "again"),
    ("TERMINATED", "3xx", "TERMINATED", "again"),
    ("TERMINATED", "6xx", "TERMINATED", "again"),
    ("TERMINATED", "no way", "TERMINATED", ""),
    ("TERMINATED", "first timer", "TERMINATED", ""),
    ("TERMINATED", "last timer", "TERMINATED", ""),
)
INVITE_SERVER: tuple[Row, ...] = (
    ("PROCEEDING", "INVITE", "PROCEEDING", "again"),
    ("PROCEEDING", "ACK", "PROCEEDING", ""),
    ("PROCEEDING", "1xx", "PROCEEDING", "data"),
    ("PROCEEDING", "2xx", "ACCEPTED", "data"),
    ("PROCEEDING", "4xx", "COMPLETED", "data"),
    ("PROCEEDING", "first timer", "PROCEEDING", ""),
    ("PROCEEDING", "last timer", "PROCEEDING", ""),
    ("PROCEEDING answered", "INVITE", "PROCEEDING", "again data"),
    ("PROCEEDING answered", "ACK", "PROCEEDING", ""),
    ("PROCEEDING answered", "1xx", "PROCEEDING", "data"),
    ("PROCEEDING answered", "2xx", "ACCEPTED", "data"),
    ("PROCEEDING answered", "4xx", "COMPLETED", "data"),
    ("PROCEEDING answered", "first timer", "PROCEEDING", ""),
    ("PROCEEDING answered", "last timer", "PROCEEDING", ""),
    ("ACCEPTED", "INVITE", "ACCEPTED", "again"),
    ("ACCEPTED", "ACK", "ACCEPTED", ""),
    ("ACCEPTED", "1xx", "ACCEPTED", ""),
    ("ACCEPTED", "2xx", "ACCEPTED", ""),
    ("ACCEPTED", "4xx", "ACCEPTED", ""),
    ("ACCEPTED", "first timer", "TERMINATED", ""),
    ("ACCEPTED", "last timer", "TERMINATED", ""),
    ("COMPLETED", "INVITE", "COMPLETED", "again data"),
    ("COMPLETED", "ACK", "CONFIRMED", ""),
    ("COMPLETED", "1xx", "COMPLETED", ""),
    ("COMPLETED", "2xx", "COMPLETED", ""),
    ("COMPLETED", "4xx", "COMPLETED", ""),
    ("COMPLETED", "first timer", "COMPLETED", "data again"),
    ("COMPLETED", "last timer", "TERMINATED", ""),
    ("CONFIRMED", "INVITE", "CONFIRMED", "again"),
    ("CONFIRMED", "ACK", "CONFIRMED", ""),
    ("CONFIRMED", "1xx", "CONFIRMED", ""),
    ("CONFIRMED", "2xx", "CONFIRMED", ""),
    ("CONFIRMED", "4xx", "CONFIRMED", ""),
    ("CONFIRMED", "first timer", "TERMINATED", ""),
    ("CONFIRMED", "last timer", "TERMINATED", ""),
    ("TERMINATED", "INVITE", "TERMINATED", "again"),
    ("TERMINATED", "ACK", "TERMINATED", ""),
    ("TERMINATED", "1xx", "TERMINATED", ""),
    ("TERMINATED", "2xx", "TERMINATED", ""),
    ("TERMINATED", "4xx", "TERMINATED", ""),
    ("TERMINATED", "first timer", "TERMINATED", ""),
    ("TERMINATED", "last timer", "TERMINATED", ""),
)
SERVER: tuple[Row, ...] = (
    ("TRYING", "request", "TRYING", "again"),
    ("TRYING", "final", "COMPLETED", "data"),
    ("TRYING", "first timer", "TRYING", ""),
    ("TRYING", "last timer", "TRYING", ""),
    ("COMPLETED", "request", "COMPLETED", "again data"),
    ("COMPLETED", "final", "COMPLETED", ""),
    ("COMPLETED", "first timer", "TERMINATED", ""),
    ("COMPLETED", "last timer", "TERMINATED", ""),
    ("TERMINATED", "request", "TERMINATED", "again"),
    ("TERMINATED", "final", "TERMINATED", ""),
    ("TERMINATED", "first timer", "TERMINATED", ""),
    ("TERMINATED", "last timer", "TERMINATED", ""),
)
LINGERING = {
    "INVITE client": {"COMPLETED"},
    "client": {"COMPLETED"},
    "INVITE server": {"CONFIRMED"},
    "server": {"COMPLETED"},
}
"""The states that do nothing but absorb retransmissions: on a reliable transport there are none (timers D, K, I, J)."""


def play(kind: str, state: str, given: str, way: Flow) -> tuple[Machine, str]:
    """The machine after the input, and what it did."""
    machine: Machine
    if kind == "INVITE client":
        machine = invite_client(state, way)
        _is_in(machine, state, way, kind)
        return machine, said(CLIENT_INPUTS[given](machine, "INVITE"))
    if kind == "client":
        machine = client(state, way)
        _is_in(machine, state, way, kind)
        return machine, said(CLIENT_INPUTS[given](machine, "BYE"))
    if kind == "INVITE server":
        machine = invite_server(state, way)
        _is_in(machine, state, way, kind)
        return machine, said(INVITE_SERVER_INPUTS[given](machine))
    machine = server(state, way)
    _is_in(machine, state, way, kind)
    return machine, said(SERVER_INPUTS[given](machine))


def _is_in(machine: Machine, state: str, way: Flow, kind: str) -> None:
    name = state.split()[0]
    assert machine.state is State["TERMINATED" if way is TCP and name in LINGERING[kind] else name]


TABLES = {"INVITE client": INVITE_CLIENT, "client": CLIENT, "INVITE server": INVITE_SERVER, "server": SERVER}
INPUTS: dict[str, set[str]] = {
    "INVITE client": set(CLIENT_INPUTS),
    "client": set(CLIENT_INPUTS),
    "INVITE server": set(INVITE_SERVER_INPUTS),
    "server": set(SERVER_INPUTS),
}
ROWS = [(kind, *row) for kind, table in TABLES.items() for row in table]


@pytest.mark.parametrize(("kind", "state", "given", "after", "does"), ROWS)
def test_over_udp(kind: str, state: str, given: str, after: str, does: str) -> None:
    machine, done = play(kind, state, given, UDP)
    assert (machine.state.name, done) == (after, does)


@pytest.mark.parametrize(("kind", "state", "given", "after", "does"), ROWS)
def test_over_tcp(kind: str, state: str, given: str, after: str, does: str) -> None:
    """As over UDP, but what only absorbs retransmissions is over, and no timer sends anything again."""
    lingering = LINGERING[kind]
    if state.split()[0] in lingering:
        state = "TERMINATED"
        after, does = next(row[2:] for row in TABLES[kind] if row[:2] == (state, given))
    elif given == "first timer" and "again" in does:
        after, does = next(row[2:] for row in TABLES[kind] if row[:2] == (state, "last timer"))
    machine, done = play(kind, state, given, TCP)
    assert (machine.state.name, done) == ("TERMINATED" if after in lingering else after, does)


@pytest.mark.parametrize("kind", TABLES)
def test_no_pair_is_without_a_row(kind: str) -> None:
    rows = [row[:2] for row in TABLES[kind]]
    states = {state for state, _ in rows}
    assert {state.split()[0] for state in states} >= STATES[kind]
    assert sorted(rows) == sorted((state, given) for state in states for given in INPUTS[kind])


STATES = {
    "INVITE client": {"CALLING", "PROCEEDING", "ACCEPTED", "COMPLETED", "TERMINATED"},
    "client": {"TRYING", "PROCEEDING", "COMPLETED", "TERMINATED"},
    "INVITE server": {"PROCEEDING", "ACCEPTED", "COMPLETED", "CONFIRMED", "TERMINATED"},
    "server": {"TRYING", "COMPLETED", "TERMINATED"},
}
