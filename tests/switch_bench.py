"""The daemon's parts from the stack to the record in virtual time: real stack, queue, switch, lines, hub and store.

Only the media worker is paper: its client answers as a worker with ports would, and writes down what it was asked.
"""

import asyncio
import os
import random
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from prometheus_client import CollectorRegistry

from siaga_pbx.alarms import Alarms
from siaga_pbx.call.queue import Queue
from siaga_pbx.calllog import CallLog
from siaga_pbx.config import Config, QueueSettings, load
from siaga_pbx.hub import Hub
from siaga_pbx.legs import LegBook
from siaga_pbx.livefile import LiveFile
from siaga_pbx.media import protocol as media
from siaga_pbx.media.book import Book
from siaga_pbx.media.client import MediaClient
from siaga_pbx.media.events import LocalMedia
from siaga_pbx.metrics import Metrics
from siaga_pbx.records.reader import Reader, Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import utc_text
from siaga_pbx.seatkeys import SeatKeys
from siaga_pbx.seatlines import Actions, SeatLines
from siaga_pbx.sip.digest import Challenge
from siaga_pbx.sip.events import Output, Resolve, Send
from siaga_pbx.sip.flow import Flow
from siaga_pbx.sip.message import Request, Response, parse
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer, make_offer
from siaga_pbx.sip.stack import Stack
from siaga_pbx.speech import NoVoice
from siaga_pbx.switch import Switch
from siaga_pbx.takeover import TakeOver
from siaga_pbx.tools import Tools
from siaga_pbx.voicedispatch import VoiceDispatch
from tests.flows.bench import SEAT, TRUNK, US, Bench, Peer, credentials, register

SEAT_2 = Flow("udp", US, ("203.0.113.6", 5062))
PASSWORDS = {"101": "rahasia", "102": "sangat-rahasia"}
EPOCH = 1_795_478_400.0

_FILE = """
[centre]
id = "cirebon"
dialplan = "dialplan.toml"
[sip]
listen = ["udp://192.0.2.10:5060"]
domain = "siaga.local"
[[trunk]]
id = "telkomsel"
addresses = ["198.51.100.0/25"]
outbound = "sip:198.51.100.1"
health_uri = "sip:198.51.100.1"
[queue]
wrap_up_s = 0
[[seat]]
id = "101"
password = "rahasia"
[[seat]]
id = "102"
password = "sangat-rahasia"
[records]
database = "sqlite:///siaga.db"
keep_calls_days = 1
keep_recordings_days = 1
[mqtt]
broker = "mqtt://127.0.0.1:1883"
"""
_DIALPLAN = """
[[route]]
match = ["112"]
action = "queue"
[[route]]
match = ["urn:service:test.sos"]
action = "test-call"
[[feature]]
dial = "*8"
action = "pause"
reason = "istirahat"
[[feature]]
dial = "*9"
action = "ready"
[[feature]]
dial = "*5"
action = "callback"
[[feature]]
dial = "*1"
action = "dispatch"
category = "fire"
[[category]]
id = "fire"
name = "Kebakaran"
agencies = ["damkar"]
"""
_AGENCY = '[[agency]]\nid = "damkar"\n'


@cache
def _template() -> Path:
    """A folder with a configuration and a migrated database, made once and copied."""
    folder = Path(mkdtemp(prefix="siaga-"))
    (folder / "siaga.toml").write_text(_FILE + _AGENCY)
    (folder / "dialplan.toml").write_text(_DIALPLAN)
    store = Store(f"sqlite:///{folder / 'siaga.db'}", node="cirebon")
    store.open()
    store.close()
    return folder


class PaperMedia(MediaClient):
    """`asked` has every command in order; `ports` is how many legs may still be opened.

    `book`: what the worker is to be. A worker that an earlier daemon had hands its own on.
    """

    def __init__(self, book: Book | None = None) -> None:
        self.book = book or Book()
        self.ports = 1000 - len(self.book.legs)
        self.opened: list[str] = []
        self.asked: list[tuple[object, ...]] = []
        self.remotes: dict[str, media.Remote] = {}

    def surviving(self) -> dict[str, tuple[media.LegState, ...]]:
        return {name: (leg,) for name, leg in self.book.legs.items() if name not in self.opened}

    def claim(self, leg: str) -> bool:
        if leg in self.book.legs and leg not in self.opened:
            self.opened.append(leg)
        return leg in self.book.legs

    def release_unclaimed(self) -> None:
        for leg in self.surviving():
            self.book.obey(media.Close(leg))
            self.ports += 1

    def state_of(self, leg: str) -> media.LegState | None:
        return self.book.legs.get(leg) if leg in self.opened else None

    def recording_of(self, call: str) -> media.Record | None:
        return self.book.recordings.get(call)

    def resume(self, legs: Sequence[media.LegState], recording: media.Record | None) -> None:
        self.opened += [leg.open.leg for leg in legs]
        self.ports -= len(legs)
        self.book.adopt(legs, [recording] if recording is not None else [])

    def open(self, call: str, leg: str, side: media.Side, peer: str | None = None) -> LocalMedia | None:
        if self.ports == 0:
            return None
        self.ports -= 1
        self.opened.append(leg)
        port = 30000 + 2 * self.ports
        self.book.obey(media.Open(leg, call, side, "192.0.2.10", port, 0))
        return LocalMedia("192.0.2.10", port)

    # What is asked of a leg that nobody has claimed is lost, as in the real client.

    def connect(self, leg: str, remote: media.Remote) -> None:
        if leg in self.opened:
            self.remotes[leg] = remote
            self.book.obey(media.Connect(leg, remote))

    def play(self, leg: str, once: tuple[str, ...], then_loop: tuple[str, ...] = (), *, after: bool = False) -> None:
        if leg in self.opened:
            self.asked.append(("play", leg, *once, *then_loop))
            self.book.obey(media.Play(leg, once, then_loop))

    def bridge(self, leg_a: str, leg_b: str) -> None:
        if leg_a in self.opened and leg_b in self.opened:
            self.asked.append(("bridge", leg_a, leg_b))
            self.book.obey(media.Bridge(leg_a, leg_b))

    def relay_events(self, leg: str, on: bool) -> None:
        self.asked.append(("relay_events", leg, on))

    def echo(self, leg: str) -> None:
        self.asked.append(("echo", leg))

    def record(self, call: str, path: Path) -> None:
        if any(leg.open.call == call for name, leg in self.book.legs.items() if name in self.opened):
            self.asked.append(("record", call))
            self.book.obey(media.Record(call, str(path)))

    def close(self, leg: str) -> None:
        if leg in self.surviving():  # nobody has claimed it yet
            return
        self.opened.remove(leg)  # fails for a leg that is closed twice
        self.ports += 1
        call = self.book.legs[leg].open.call
        self.book.obey(media.Close(leg))
        if all(other.open.call != call for other in self.book.legs.values()):
            self.book.forget_recording(call)


@dataclass
class _Later:
    at: float
    act: Callable[[], None]

    def cancel(self) -> None:
        self.act = _nothing


def _nothing() -> None:
    return


@dataclass
class Centre(Bench):
    """A centre in a folder of its own. `queue` changes its [queue]."""

    folder: Path = field(default_factory=lambda: Path(mkdtemp(prefix="siaga-")))
    queue: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._outputs: deque[Output] = deque()
        self._performing = False
        for file in _template().iterdir():
            if not (self.folder / file.name).exists():
                shutil.copy(file, self.folder)
        self.restarts = 0
        config = load(self.folder / "siaga.toml")
        settings = QueueSettings.model_validate(config.queue.model_dump() | self.queue)
        self.config: Config = config.model_copy(update={"queue": settings})
        self._build(PaperMedia())
        self._start()

    def _build(self, worker: PaperMedia) -> None:
        self.store = Store(self.config.records.database, node="cirebon", now=self.utc)
        self.reader = Reader(self.config.records.database)
        self.metrics = Metrics(CollectorRegistry())
        self.alarms = Alarms(self.store, self.utc, self.metrics.alarm_active)
        self.keys = SeatKeys(self.config, self.alarms)
        self.media = worker
        self.later: list[_Later] = []
        self.dispatched: list[tuple[str, str, str]] = []
        self.dispatch_works = True
        self.read: list[str] = []
        self.voice_works = True
        networks = {trunk.id: trunk.media_addresses or trunk.addresses for trunk in self.config.trunks}
        self.tools = Tools(
            stack=self.stack,
            perform=self.do,
            queue=Queue(self.config.queue, self.config.seats),
            media=self.media,
            legs=LegBook(self.media, lambda trunk: networks.get(trunk, ()), keys=self.keys),
            log=CallLog(self.store, self.utc, "cirebon"),
            alarms=self.alarms,
            metrics=self.metrics,
            now=lambda: self.now,
            epoch=lambda: EPOCH + self.now,
            later=self._later,
        )
        self.located: list[str] = []
        self.switch = Switch(self.config, self.tools, self.located.append)
        actions = Actions(self._dispatch, self.reader.callbacks, self.switch.tell, self.switch.takers.last_call)
        self.lines = SeatLines(self.config, self.tools, actions)
        self.voice = VoiceDispatch(self.config, self.tools, self.read_out)
        self.hub = Hub(self.config, self.tools, self.switch, self.lines, self.voice, self.store)
        self.file = LiveFile(
            self.folder / "calls", lambda failing, reason: self.alarms.set("live_file", failing, reason)
        )
        self.takeover = TakeOver(self.config, self.tools, self.switch, self.lines, self.file)

    def _start(self, meanwhile: Callable[[], object] = _nothing) -> None:
        """As the daemon starts; `meanwhile` is what comes by SIP before the media workers are there."""
        kept = self.takeover.resume()
        self.store.open(kept)
        meanwhile()
        self.takeover.claim()
        self.media.release_unclaimed()
        self.hub.restore_pauses(self.reader.seats())
        self.hub.restore_bindings(self.reader.bindings(self.utc()))
        self.switch.carry_out(self.tools.queue.start(self.now))

    def restart(self, down: float = 1.0, *, worker: bool = True, meanwhile: Callable[[], object] = _nothing) -> None:
        """Killed between two turns of its loop, and started again `down` seconds later; without the `worker` that had
        the audio, if that died too. `meanwhile`: see `_start`."""
        self.takeover.flush()
        drop(self.file)
        self.store.close()
        self.reader.close()
        self._outputs.clear()
        self.now += down
        self.restarts += 1
        self.stack = Stack(self.settings, random.Random(self.seed + self.restarts).randbytes)
        self._build(PaperMedia(self.media.book if worker else None))
        self._start(meanwhile)

    def read_out(self, text: str, path: Path) -> None:
        if not self.voice_works:
            raise NoVoice("espeak-ng is not installed")
        self.read.append(text)
        path.write_text(text)

    async def _dispatch(self, call: str, category: str, seat: str) -> bool:
        self.dispatched.append((call, category, seat))
        return self.dispatch_works

    def utc(self) -> str:
        return utc_text(EPOCH + self.now)

    def _later(self, delay: float, act: Callable[[], None]) -> _Later:
        later = _Later(self.now + delay, act)
        self.later.append(later)
        return later

    def do(self, outputs: list[Output]) -> None:
        """As the endpoint does it: what an event causes comes after what is being carried out."""
        self._outputs.extend(outputs)
        if self._performing:
            return
        self._performing = True
        while self._outputs:
            output = self._outputs.popleft()
            if isinstance(output, Send):
                self.sent.append((output.target, parse(output.data)))
            elif not isinstance(output, Resolve):  # no name is called here
                self.hub.on_sip(output)
        self._performing = False

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := min(self._deadlines(), default=until + 1)) <= until:
            self.now = max(self.now, at)
            due = [later for later in self.later if later.at <= self.now]
            self.later = [later for later in self.later if later.at > self.now]
            for later in due:
                later.act()
            self.do(self.stack.handle_timer(self.now))
        self.now = until

    def _deadlines(self) -> list[float]:
        deadline = self.stack.next_deadline()
        return [later.at for later in self.later] + ([deadline] if deadline is not None else [])

    # What came out

    def sent_request(self, method: str) -> Request:
        """The last request of that method; all that was sent before is forgotten."""
        found = [m for _, m in self.sent if isinstance(m, Request) and m.method == method]
        assert found, self.summary()
        self.sent.clear()
        return found[-1]

    def sent_response(self, status: int) -> Response:
        """The same of a response."""
        found = [m for _, m in self.sent if isinstance(m, Response) and m.status == status]
        assert found, self.summary()
        self.sent.clear()
        return found[-1]

    def row(self) -> Record:
        """The record of the call that came last."""
        assert self.store.flush()
        return self.reader.calls()[-1]

    def kinds(self) -> list[str]:
        """What happened in that call, in order."""
        return [str(event["kind"]) for event in self.reader.events(call_id=str(self.row()["id"]))]

    def seat_states(self) -> dict[str, str]:
        return {seat.seat: seat.state.value for seat in self.tools.queue.view().seats}

    def is_idle(self) -> bool:
        """No leg, no port and no caller is left anywhere."""
        core = self.stack._core
        left = len(core.legs) + len(core.dialogs) + len(core.table)
        return not (left or len(self.tools.legs) or self.media.opened or len(self.switch.callers))

    def close(self) -> None:
        self.takeover.close()
        self.store.close()
        self.reader.close()

    # Peers

    def seat(self, name: str = "101", flow: Flow = SEAT) -> "Phone":
        self.sent.clear()
        assert register(self, flow, name, PASSWORDS[name]).status == 200
        self.sent.clear()
        return Phone(self, flow, user=name, tag=f"seat-{name}")

    def caller(self, call_id: str = "call-1", user: str = "62811222333") -> "Phone":
        return Phone(self, TRUNK, user=user, call_id=call_id, tag=f"tag-{call_id}")


@dataclass
class Phone(Peer):
    """A peer that calls, answers and hangs up."""

    bench: Centre

    @property
    def audio(self) -> Sdp:
        return make_offer(LocalAudio(self.flow.remote[0], 40000, 1, 1))

    def call(self, uri: str = "sip:112@192.0.2.10", *, offer: bool = True, sdp: Sdp | None = None) -> None:
        self.invite = self.request("INVITE", uri, sdp=(sdp or self.audio) if offer else None)
        self.send(self.invite)

    def ok(self) -> Response:
        """Our 200, acknowledged."""
        response = self.bench.sent_response(200)
        self.our_tag = response.to.tag or ""
        self.ack()
        return response

    def dial(self, code: str) -> None:
        """A seat dials: our challenge, its answer."""
        uri = f"sip:{code}@siaga.local"
        self.send(self.request("INVITE", uri, sdp=self.audio))
        refusal = self.bench.sent_response(407)
        self.ack(branch=f"z9hG4bK-{self.call_id}-{self.tag}-{self.branches}")
        challenge = Challenge.parse(refusal.headers.get("Proxy-Authenticate") or "")
        answer = credentials(challenge, "INVITE", uri, self.user, PASSWORDS[self.user])
        self.send(self.request("INVITE", uri, sdp=self.audio, headers=(("Proxy-Authorization", str(answer)),)))

    def take(self) -> Request:
        """Takes the call that rings here."""
        invite = self.bench.sent_request("INVITE")
        self.answer(invite, 200, make_answer(Sdp.parse(invite.body), LocalAudio(self.flow.remote[0], 40000, 1, 1))[0])
        return invite

    def reinvite(self, sdp: Sdp | None) -> Sdp:
        """A re-INVITE; what we say to it."""
        self.send(self.request("INVITE", sdp=sdp))
        response = self.bench.sent_response(200)
        self.ack()
        return Sdp.parse(response.body)

    def bye(self) -> None:
        self.send(self.request("BYE"))

    def said_ok(self, request: Request) -> None:
        self.answer(request, 200)


def drop(file: LiveFile) -> None:
    """What the kernel does with the file of a process that is killed: its descriptors are closed, nothing else."""
    for fd in (file._fd, file._lock):
        if fd is not None:
            os.close(fd)
    file._fd = file._lock = None


def run(work: Callable[[], object]) -> None:
    """Run what starts tasks (feature codes) on a loop until the tasks are through."""

    async def main() -> None:
        work()
        for _ in range(3):
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*tasks)

    asyncio.run(main())
