"""The four transactions of RFC 3261 17 with RFC 6026. A state owns its deadlines: entering one drops the last one's.

Each machine returns what to do: Send and Counted for the shell, Deliver for the transaction's user. The 2xx
to an INVITE and its ACK are the dialog's, not a transaction's (RFC 3261 13.2.2.4, 13.3.1.4).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from siaga_pbx.sip.events import Counted, Send
from siaga_pbx.sip.flow import Way, reliable
from siaga_pbx.sip.message import Headers, Request, Response
from siaga_pbx.sip.options import Timers


class State(Enum):
    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


class Timer(Enum):
    """The timers of RFC 3261 and RFC 6026 by their letters; LIMIT is ours, see `limit`."""

    A = auto()
    B = auto()
    D = auto()
    E = auto()
    F = auto()
    G = auto()
    H = auto()
    I = auto()  # noqa: E741 (the RFC's letter)
    J = auto()
    K = auto()
    L = auto()
    M = auto()
    LIMIT = auto()


class Lost(Enum):
    """Why no final response will come, by the status that it counts as (RFC 3261 8.1.3.1)."""

    SILENCE = 408
    NO_WAY = 503


@dataclass(frozen=True, slots=True)
class Deliver:
    """A response, or the lack of one, for the transaction's user."""

    response: Response | Lost


ClientKey: TypeAlias = tuple[str, str]
"""Branch and method."""
ServerKey: TypeAlias = tuple[str, int, str, str, str, str, int]
"""Method, CSeq, Call-ID and From tag (what makes the request unique); branch, host and port of the top Via."""
Answer: TypeAlias = Callable[[Response | Lost, float], None]
"""The user of a client transaction: gets each response, or why no final one will come."""
Step: TypeAlias = Send | Counted | Deliver

SENT_AGAIN = Counted("retransmission", "sent")
RECEIVED_AGAIN = Counted("retransmission", "received")
NO_DEADLINES: Mapping[Timer, float] = {}


@dataclass(slots=True, eq=False)
class Transaction:
    """What the four have in common: a state with its deadlines, and the bytes that are sent again."""

    way: Way
    data: bytes
    timers: Timers
    state: State = field(init=False)
    deadlines: Mapping[Timer, float] = field(init=False)
    interval: float = field(init=False, default=0.0)
    scheduled: float | None = field(init=False, default=None)

    def next_at(self) -> float | None:
        return min(self.deadlines.values()) if self.deadlines else None

    def _enter(self, state: State, deadlines: Mapping[Timer, float] = NO_DEADLINES) -> None:
        self.state = state
        self.deadlines = deadlines

    def _linger(self, state: State, timer: Timer, now: float, seconds: float) -> None:
        """Enters a state that only absorbs retransmissions; on a reliable transport none come, so it is over."""
        if reliable(self.way):
            self._enter(State.TERMINATED)
        else:
            self._enter(state, {timer: now + seconds})

    def _due(self, now: float) -> Timer | None:
        """The timer that is due, the earliest first."""
        if not self.deadlines:
            return None
        timer = min(self.deadlines, key=self.deadlines.__getitem__)
        return timer if self.deadlines[timer] <= now else None

    def _send_again(self, timer: Timer, now: float, interval: float) -> list[Step]:
        self.interval = interval
        self.deadlines = {**self.deadlines, timer: now + interval}
        return [Send(self.way, self.data), SENT_AGAIN]


@dataclass(slots=True, eq=False)
class InviteClient(Transaction):
    """RFC 3261 17.1.1 and RFC 6026 8.4: CALLING, PROCEEDING, ACCEPTED or COMPLETED, TERMINATED."""

    key: ClientKey
    answer: Answer
    request: Request
    ack: bytes = field(init=False, default=b"")

    def start(self, now: float) -> list[Step]:
        self.interval = self.timers.t1
        deadlines = {Timer.B: now + self.timers.give_up}
        if not reliable(self.way):
            deadlines[Timer.A] = now + self.interval
        self._enter(State.CALLING, deadlines)
        return [Send(self.way, self.data)]

    def resume(self) -> None:
        """Instead of `start`: it was sent before a restart, and a provisional response has come."""
        self._enter(State.PROCEEDING)

    def receive(self, response: Response, now: float) -> list[Step]:
        status = response.status
        match self.state:
            case State.CALLING | State.PROCEEDING if status < 200:
                if self.state is State.CALLING:
                    self._enter(State.PROCEEDING)  # A and B stop: how long it may ring is the user's business
                return [Deliver(response)]
            case State.CALLING | State.PROCEEDING if status < 300:
                self._enter(State.ACCEPTED, {Timer.M: now + self.timers.give_up})
                return [Deliver(response)]
            case State.CALLING | State.PROCEEDING:
                self.ack = bytes(ack_for(self.request, response))
                self._linger(State.COMPLETED, Timer.D, now, self.timers.give_up)
                return [Send(self.way, self.ack), Deliver(response)]
            case State.ACCEPTED if 200 <= status < 300:
                return [Deliver(response)]  # sent again, or another fork's
            case State.COMPLETED if status >= 300:
                return [Send(self.way, self.ack), RECEIVED_AGAIN]
            case _:
                return []

    def lose(self) -> list[Step]:
        """There is no way to the peer. One that answered already is not given up: it may answer another way."""
        if self.state is not State.CALLING:
            return []
        self._enter(State.TERMINATED)
        return [Deliver(Lost.NO_WAY)]

    def rest(self) -> None:
        """It is not sent again: another target is tried. What the peer says yet is heard until timer B."""
        if self.state is State.CALLING:
            self.deadlines = {Timer.B: self.deadlines[Timer.B]}

    def limit(self, now: float) -> None:
        """PROCEEDING lasts no more than 64*T1 from now: a CANCEL is out (RFC 3261 9.1), or no person is waited for."""
        if self.state is State.PROCEEDING and not self.deadlines:
            self._enter(State.PROCEEDING, {Timer.LIMIT: now + self.timers.give_up})

    def expire(self, now: float) -> list[Step]:
        match self._due(now):
            case Timer.A:
                return self._send_again(Timer.A, now, 2 * self.interval)
            case Timer.B | Timer.LIMIT:
                self._enter(State.TERMINATED)
                return [Deliver(Lost.SILENCE)]
            case Timer.D | Timer.M:
                self._enter(State.TERMINATED)
        return []


@dataclass(slots=True, eq=False)
class Client(Transaction):
    """RFC 3261 17.1.2, any method but INVITE and ACK: TRYING, PROCEEDING, COMPLETED, TERMINATED."""

    key: ClientKey
    answer: Answer

    def start(self, now: float) -> list[Step]:
        self.interval = self.timers.t1
        deadlines = {Timer.F: now + self.timers.give_up}
        if not reliable(self.way):
            deadlines[Timer.E] = now + self.interval
        self._enter(State.TRYING, deadlines)
        return [Send(self.way, self.data)]

    def receive(self, response: Response, now: float) -> list[Step]:
        match self.state:
            case State.TRYING | State.PROCEEDING if response.status < 200:
                self._enter(State.PROCEEDING, self.deadlines)
                return [Deliver(response)]
            case State.TRYING | State.PROCEEDING:
                self._linger(State.COMPLETED, Timer.K, now, self.timers.t4)
                return [Deliver(response)]
            case _:
                return [RECEIVED_AGAIN]

    def lose(self) -> list[Step]:
        """There is no way to the peer."""
        if self.state not in (State.TRYING, State.PROCEEDING):
            return []
        self._enter(State.TERMINATED)
        return [Deliver(Lost.NO_WAY)]

    def expire(self, now: float) -> list[Step]:
        match self._due(now):
            case Timer.E if self.state is State.PROCEEDING:
                return self._send_again(Timer.E, now, self.timers.t2)
            case Timer.E:
                return self._send_again(Timer.E, now, min(2 * self.interval, self.timers.t2))
            case Timer.F:
                self._enter(State.TERMINATED)
                return [Deliver(Lost.SILENCE)]
            case Timer.K:
                self._enter(State.TERMINATED)
        return []


@dataclass(slots=True, eq=False)
class InviteServer(Transaction):
    """RFC 3261 17.2.1 and RFC 6026 8.5: PROCEEDING, ACCEPTED or COMPLETED, CONFIRMED, TERMINATED.

    `data` is the last response; the 100 is sent at once by whoever makes the transaction, through `respond`.
    `tag` is our tag in its dialog, for a CANCEL or ACK that is matched to this transaction.
    """

    key: ServerKey
    tag: str

    def __post_init__(self) -> None:
        self._enter(State.PROCEEDING)

    def receive_again(self) -> list[Step]:
        """A retransmission of the INVITE: the last response again, but a 2xx is sent again by its dialog only."""
        if self.state in (State.PROCEEDING, State.COMPLETED) and self.data:
            return [RECEIVED_AGAIN, Send(self.way, self.data)]
        return [RECEIVED_AGAIN]

    def respond(self, status: int, data: bytes, now: float) -> list[Step]:
        if self.state is not State.PROCEEDING:
            return []
        if status < 200:
            self.data = data
        elif status < 300:
            self.data = b""
            self._enter(State.ACCEPTED, {Timer.L: now + self.timers.give_up})
        else:
            self.data = data
            self.interval = self.timers.t1
            deadlines = {Timer.H: now + self.timers.give_up}
            if not reliable(self.way):
                deadlines[Timer.G] = now + self.interval
            self._enter(State.COMPLETED, deadlines)
        return [Send(self.way, data)]

    def acknowledge(self, now: float) -> None:
        """The ACK to a final response of 300 and up."""
        if self.state is State.COMPLETED:
            self.data = b""
            self._linger(State.CONFIRMED, Timer.I, now, self.timers.t4)

    def expire(self, now: float) -> list[Step]:
        match self._due(now):
            case Timer.G:
                return self._send_again(Timer.G, now, min(2 * self.interval, self.timers.t2))
            case Timer.H | Timer.I | Timer.L:
                self._enter(State.TERMINATED)
        return []


@dataclass(slots=True, eq=False)
class Server(Transaction):
    """RFC 3261 17.2.2, any method but INVITE and ACK: TRYING, COMPLETED, TERMINATED. We send no provisional here."""

    key: ServerKey

    def __post_init__(self) -> None:
        self._enter(State.TRYING)

    def receive_again(self) -> list[Step]:
        return [RECEIVED_AGAIN, Send(self.way, self.data)] if self.state is State.COMPLETED else [RECEIVED_AGAIN]

    def respond(self, data: bytes, now: float) -> list[Step]:
        if self.state is not State.TRYING:
            return []
        self.data = data
        self._linger(State.COMPLETED, Timer.J, now, self.timers.give_up)
        return [Send(self.way, data)]

    def expire(self, now: float) -> list[Step]:
        if self._due(now) is Timer.J:
            self._enter(State.TERMINATED)
        return []


def ack_for(request: Request, response: Response) -> Request:
    """The ACK to a final response of 300 and up: within the INVITE's transaction (RFC 3261 17.1.1.3)."""
    return _within(request, "ACK", response.headers.get("To") or "")


def cancel_for(request: Request) -> Request:
    """The CANCEL of an INVITE (RFC 3261 9.1)."""
    return _within(request, "CANCEL", request.headers.get("To") or "")


def _within(request: Request, method: str, to: str) -> Request:
    headers = Headers()
    get = request.headers.get
    headers.add("Via", request.headers.values("Via")[0])
    headers.add("Max-Forwards", "70")
    headers.add("From", get("From") or "")
    headers.add("To", to)
    headers.add("Call-ID", request.call_id)
    headers.add("CSeq", f"{request.cseq.number} {method}")
    for route in request.headers.get_all("Route"):
        headers.add("Route", route)
    return Request(method, request.uri, headers, b"")
