"""A daemon killed in the middle of its calls, and the one that takes them over."""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic

import numpy as np
import pytest

from siaga_pbx.demo.centre import DAEMON, TRUNK, Centre
from tests.interop.audio import Rtp
from tests.interop.calls import SEAT, bridged, carrier, pick_up
from tests.interop.centres import ended, kinds, log_of, row, running, seat_state, siaga, until
from tests.interop.uac import Dialog, Message, Ua, new_branch

pytestmark = pytest.mark.quiet


QUEUE = "ring_s = 60\nrest_s = 1\nwrap_up_s = 0\nwiden_s = 300\noverflow_s = 600"
SEATS = {"101": "Meja 1", "102": "Meja 2", "103": "Meja 3"}
VOICES = count(1)
LOUD = 500.0
"""The mean of a voice's samples is far above it, that of silence or a soft tone below."""


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with running(Centre(tmp_path_factory.mktemp("takeover"), seats=SEATS, agencies={}, queue=QUEUE)) as made:
        yield made


@contextmanager
def phones(centre: Centre, seats: Sequence[str]) -> Iterator[list[Ua]]:
    """The seats' phones, registered in this order."""
    with ExitStack() as stack:
        uas = [stack.enter_context(Ua((DAEMON, centre.sip_port), SEAT, seat)) for seat in seats]
        for ua, seat in zip(uas, seats, strict=True):
            until(lambda ua=ua, seat=seat: _registers(ua, seat, centre.password(seat)), f"seat {seat}")  # type: ignore[misc]
        until(lambda: all(seat_state(centre, seat) == "ready" for seat in seats), "the seats")
        yield uas
        for ua, seat in zip(uas, seats, strict=True):
            ua.register(seat, centre.password(seat), expires=0)


def _registers(ua: Ua, seat: str, password: str) -> bool:
    """One attempt. Of fifty phones at one address some are told nothing at first; they ask again, as phones do."""
    asked = ua.try_register(seat, within=2)
    final = ua.try_register(seat, asked, password, within=2) if asked is not None else None
    return final is not None and final.status == 200


def audio(stack: ExitStack) -> tuple[Rtp, Rtp]:
    """A caller's mouth and a seat's ear."""
    mouth = stack.enter_context(Rtp(TRUNK, next(VOICES)))
    return mouth, stack.enter_context(Rtp(SEAT, next(VOICES)))


def kill(centre: Centre, *calls: Dialog) -> None:
    """SIGKILL, once these calls are on file: that is a moment after their last message."""
    file = centre.folder / "media.sock.calls"
    until(lambda: all(call.call_id.encode() in file.read_bytes() for call in calls), "the calls on file")
    assert centre.daemon is not None
    centre.daemon.kill()
    centre.daemon.wait()


def still_hears(ear: Rtp, seconds: float = 1.0) -> bool:
    """Whether a voice comes from now on."""
    before = len(ear.heard())
    until(lambda: len(ear.heard()) - before >= 8000 * seconds, "audio")
    return bool(np.abs(ear.heard()[before:].astype(float)).mean() > LOUD)


def waits(caller: Ua, mouth: Rtp) -> Dialog:
    """A caller who is answered and hears the queue."""
    call = caller.invite(mouth.sdp)
    assert call.final().status == 200
    return call


def insists(dialog: Dialog, method: str, within: float = 20.0) -> Message:
    """A request as RFC 3261 has it sent: again and again until its answer comes."""
    dialog.number += 1
    branch, cseq, deadline = new_branch(), f"{dialog.number} {method}", monotonic() + within
    while True:
        dialog._send(method, (), branch=branch)
        answer = dialog.ua._find(lambda message: message.status >= 200 and message["CSeq"] == cseq, 0.5)
        if answer is not None:
            dialog.ua.drop(dialog)
            return answer
        assert monotonic() < deadline, f"no answer to {method}"


def test_a_daemon_killed_with_calls_bridged_ringing_and_waiting(centre: Centre) -> None:
    with ExitStack() as stack:
        one, two, three = stack.enter_context(phones(centre, list(SEATS)))
        caller = stack.enter_context(carrier(centre))
        lines = [audio(stack) for _ in range(3)]
        (first, first_at_seat), (second, second_at_seat) = (
            bridged(caller, seat, *line) for seat, line in zip((one, two), lines[:2], strict=True)
        )
        third = waits(caller, lines[2][0])
        third_at_seat = three.offered()
        third_at_seat.ring()
        queue = [waits(caller, lines[2][0]) for _ in range(3)]
        assert still_hears(lines[0][1])
        until(lambda: "seat_ringing" in kinds(centre, third.call_id), "the record")
        kill(centre, first, second, third, *queue)
        centre.start_daemon()
        assert [row(centre, call.call_id)["outcome"] for call in (first, second, third, *queue)] == [None] * 6
        assert [seat_state(centre, seat) for seat in SEATS] == ["talking", "talking", "offered"]
        assert "taken_over" in kinds(centre, queue[0].call_id)
        assert still_hears(lines[0][0])
        assert still_hears(lines[0][1])

        # The phone that rings is picked up; who hung up meanwhile has insisted until he is heard.
        lines[2][1].start(third_at_seat.offer)
        third_at_seat.answer(lines[2][1].sdp)
        until(lambda: row(centre, third.call_id)["connected_at"], "the third at the seat")
        assert insists(queue[1], "BYE").status == 200
        assert ended(centre, queue[1].call_id)["outcome"] == "abandoned"

        # A caller hangs up: the seat is told, and gets who waits longest.
        assert first.bye().status == 200
        first_at_seat.hung_up()
        pick_up(one, lines[0][1])
        until(lambda: row(centre, queue[0].call_id)["connected_at"], "the longest waiting caller at the seat")

        # Either side holds and refreshes; a seat hangs up: the caller is told, and the seat gets the next one.
        hold = lines[1][0].sdp + "a=sendonly\r\n"
        answer = second.ask("INVITE", [("Contact", caller.contact)], hold)
        assert (answer.status, "recvonly" in answer.body) == (200, True)
        second._send("ACK", ())
        assert second_at_seat.ask("INVITE", [("Contact", two.contact)], lines[1][1].sdp).status == 200
        second_at_seat._send("ACK", ())
        assert second_at_seat.bye().status == 200
        second.hung_up()
        assert ended(centre, second.call_id)["ended_by"] == "seat"
        pick_up(two, lines[1][1])
        until(lambda: row(centre, queue[2].call_id)["connected_at"], "the last")
        for call in (third, queue[0], queue[2]):
            assert call.bye().status == 200
            assert ended(centre, call.call_id)["outcome"] == "answered"
        assert ended(centre, first.call_id)["outcome"] == "answered"
        assert recorded(centre, first.call_id) > 3.0
        until(lambda: (centre.folder / "media.sock.calls").read_bytes().splitlines()[-1][:1] == b"-", "an empty file")
    verified = siaga(centre, "verify-records")
    assert verified.returncode == 0, verified.stdout


def recorded(centre: Centre, call_id: str) -> float:
    """Seconds of the call's recording."""
    events = until(
        lambda: [
            event
            for event in centre.get(f"/api/v1/calls/{row(centre, call_id)['id']}")["events"]
            if event["kind"] == "recorded"
        ],
        "the recording",
    )
    return float(events[0]["data"]["seconds"])


def test_daemon_and_worker_killed(centre: Centre) -> None:
    """The same ports, so that nobody has to be told anything; whose port is taken by now is called back."""
    with ExitStack() as stack:
        [seat] = stack.enter_context(phones(centre, ["101"]))
        caller = stack.enter_context(carrier(centre))
        mouth, ear = audio(stack)
        call, at_seat = bridged(caller, seat, mouth, ear)
        waiting, unlucky = waits(caller, mouth), caller.invite(mouth.sdp)
        port = re.search(r"m=audio (\d+)", unlucky.final().body)
        assert port is not None
        kill(centre, call, waiting, unlucky)
        for pid in media_pids(centre):
            os.kill(pid, signal.SIGKILL)
        stack.callback(until(lambda: _bound(int(port[1])), "the port").close)  # type: ignore[union-attr]
        centre.start_daemon()
        assert still_hears(ear)
        assert still_hears(mouth)
        unlucky.hung_up()
        lost = ended(centre, unlucky.call_id)
        assert lost["outcome"] == "interrupted"
        assert lost["id"] in {one["id"] for one in centre.get("/api/v1/callbacks")}
        assert call.bye().status == 200
        at_seat.hung_up()
        pick_up(seat, ear)
        assert waiting.bye().status == 200
        assert ended(centre, waiting.call_id)["outcome"] == "answered"


def media_pids(centre: Centre) -> list[int]:
    """The worker that runs, and before it the process that keeps it, which would put another in its place."""
    started = [json.loads(line)["pid"] for line in log_of(centre).splitlines() if "media.started" in line]
    status = Path(f"/proc/{started[-1]}/status").read_text()
    keeper = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
    assert keeper is not None
    return [int(keeper[1]), started[-1]]


def _bound(port: int) -> socket.socket | None:
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        taken.bind((DAEMON, port))
    except OSError:
        taken.close()
        return None
    return taken


@pytest.mark.soak
def test_fifty_bridged_and_twenty_waiting(tmp_path: Path) -> None:
    """Those that talk are asked from either side, those that wait are offered in their order, within 3 s."""
    seats = {str(number): f"Meja {number}" for number in range(101, 151)}
    made = Centre(tmp_path, seats=seats, agencies={}, queue=QUEUE, ports=800)
    with ExitStack() as stack:
        centre = stack.enter_context(running(made))
        phone = dict(zip(seats, stack.enter_context(phones(centre, list(seats))), strict=True))
        caller = stack.enter_context(carrier(centre))
        mouth, ear = audio(stack)
        calls = [bridged(caller, ua, mouth, ear) for ua in phone.values()]
        queue = [waits(caller, mouth) for _ in range(20)]
        killed = monotonic()
        kill(centre, *queue, *(call for call, _ in calls))
        starting = Thread(target=centre.start_daemon)
        starting.start()
        assert insists(calls[0][0], "BYE").status == 200
        calls[0][1].hung_up()
        offered = phone["101"].offered()
        print(f"killed to a BYE passed on and who waits longest offered: {monotonic() - killed:.2f} s")
        starting.join()
        print(f"killed to ready: {monotonic() - killed:.2f} s")
        assert len(centre.get("/api/v1/calls?limit=1000")) == 70
        offered.answer(ear.sdp)
        order: list[str] = []
        connected(centre, queue, order)
        for number, (call, at_seat) in enumerate(calls[1:20]):
            if number % 2:
                assert call.bye().status == 200
                at_seat.hung_up()
            else:
                assert at_seat.bye().status == 200
                call.hung_up()
            pick_up(at_seat.ua, ear)
            connected(centre, queue, order)
        assert order == [call.call_id for call in queue]
        for number, (call, at_seat) in enumerate(calls[20:]):
            dialog = call if number % 2 else at_seat
            assert dialog.ask("INVITE", [("Contact", dialog.ua.contact)], mouth.sdp).status == 200
            dialog._send("ACK", ())
            assert dialog.bye().status == 200
        for call in queue:
            assert call.bye().status == 200
        until(lambda: all(one["outcome"] for one in centre.get("/api/v1/calls?limit=1000")), "the end")
        assert {one["outcome"] for one in centre.get("/api/v1/calls?limit=1000")} == {"answered"}
        assert siaga(centre, "verify-records").returncode == 0


def connected(centre: Centre, queue: list[Dialog], order: list[str]) -> None:
    """Adds the caller of the queue who was connected since to `order`."""
    mine = {call.call_id for call in queue} - set(order)

    def ask() -> list[str]:
        rows = centre.get("/api/v1/calls?limit=1000")
        return [one["sip_call_id"] for one in rows if one["connected_at"] and one["sip_call_id"] in mine]

    [found] = until(ask, "the next caller at a seat")
    order.append(found)
