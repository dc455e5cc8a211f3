"""`siaga-pbx demo`: a whole centre on loopback, with phones that call it and agencies that answer.

Everything is real: the daemon and its media worker, mosquitto, the agencies' ends, and pyVoIP softphones that register
as seats or call through a trunk. It succeeds only if each call was answered, bridged with the same audio at both ends,
recorded, dispatched and accepted.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import sleep

from rich.console import Console

from siaga_pbx.demo.callers import Report, call_112, report
from siaga_pbx.demo.centre import DAEMON, SEATS, Centre, DemoFailed, free_port
from siaga_pbx.demo.phones import Seat, exact_audio
from siaga_pbx.demo.show import Show, summary

__all__ = ["run"]

APART_S = 1.5
"""Between two callers: closer than a call is long, so that some wait."""
STARTING = "starting the daemon, its media worker, the broker, two agencies and two seats"


def run(calls: int, keep: bool) -> int:
    """0 if every call went all the way, else 1. With `keep` the centre stays until Ctrl-C."""
    console = Console()
    centre = Centre(Path(tempfile.mkdtemp(prefix="siaga-demo-")))
    seats: list[Seat] = []
    try:
        with exact_audio():
            if not console.is_terminal:
                console.print(STARTING)
            with console.status(STARTING):
                centre.start()
                seats = _seats(centre)
            good = summary(console, _calls(console, centre, calls, seats), centre.folder)
            if keep:
                _stay(console, centre)
    except DemoFailed as error:
        sys.stderr.write(f"siaga-pbx: demo: {error}\nits files are in {centre.folder}\n")
        return 1
    except KeyboardInterrupt:
        return 1
    finally:
        for seat in seats:
            seat.stop()
        centre.stop()
    return 0 if good else 1


def _seats(centre: Centre) -> list[Seat]:
    seats = [
        Seat(seat, centre.password(seat), (DAEMON, centre.sip_port), free_port(), 25000 + 100 * i, 50 + i)
        for i, seat in enumerate(SEATS)
    ]
    for seat in seats:
        seat.start()
    centre.wait_for_seats()
    return seats


def _calls(console: Console, centre: Centre, calls: int, seats: list[Seat]) -> list[Report]:
    reports = [report(index) for index in range(calls)]
    with Show(console, centre, reports), ThreadPoolExecutor(calls) as callers:
        for index, one in enumerate(reports):
            callers.submit(call_112, centre, index, one, seats)
            sleep(APART_S)
    return reports


def _stay(console: Console, centre: Centre) -> None:
    console.print(f"The centre stays: {centre.url} (token: {centre.folder / 'siaga.token'}). Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):
        Event().wait()
