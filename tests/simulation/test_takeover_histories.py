"""Histories of a centre whose daemon is killed again and again, in virtual time: nobody on the line may notice more
than a pause. Phones answer by themselves what is asked of them; what they say while no daemon runs they say again."""

import random
from dataclasses import dataclass, field

import pytest

from siaga_pbx.sip.leg import Phase
from siaga_pbx.sip.message import Request, Response
from siaga_pbx.sip.sdp import LocalAudio, Sdp, make_answer
from tests.flows.bench import SEAT, US
from tests.switch_bench import SEAT_2, Centre, Phone

STEPS = 45
SEATS = {"101": SEAT, "102": SEAT_2}


@dataclass
class End:
    """One phone's end of one call. `invite`: ours to it; `pending`: its request that has no answer yet."""

    phone: Phone
    up: bool = False
    over: bool = False
    invite: Request | None = None
    pending: Request | None = None


@dataclass
class World:
    rng: random.Random
    centre: Centre
    callers: dict[str, End] = field(default_factory=dict)
    rings: dict[str, End] = field(default_factory=dict)
    """Seats' ends, by our Call-ID."""
    kills: int = 0
    talked: int = 0
    left: set[str] = field(default_factory=set)
    """Whose BYE was held back when the daemon was killed: they hear nothing, and hang up themselves."""

    # What comes to the phones

    def pump(self) -> None:
        """Phones answer until nothing more comes."""
        while self.centre.sent:
            sent, self.centre.sent = self.centre.sent, []
            for _, message in sent:
                self._hears(message)
        self.check()

    def _hears(self, message: Request | Response) -> None:
        if isinstance(message, Response):
            self._answered(message)
            return
        end = self.callers.get(message.call_id) or self.rings.get(message.call_id)
        match message.method:
            case "INVITE" if end is None:
                self._rings(message)
            case "INVITE" if end is not None and end.up:
                pass  # our 200 crossed it
            case "ACK":
                pass
            case "CANCEL" if end is not None and not end.up:
                end.phone.answer(message, 200)
                if not end.over and end.invite is not None:
                    end.over = True
                    end.phone.answer(end.invite, 487)
            case "BYE" if end is not None:
                end.phone.answer(message, 200)
                end.over, end.pending = True, None
            case "OPTIONS" if message.to.tag:
                known = end is not None and end.up and not end.over
                self._anyone(message).answer(message, 200 if known else 481)
            case "BYE":
                self._anyone(message).answer(message, 481)

    def _anyone(self, message: Request) -> Phone:
        end = self.callers.get(message.call_id) or self.rings.get(message.call_id)
        return end.phone if end is not None else self.centre.caller("nobody")

    def _rings(self, invite: Request) -> None:
        seat = invite.uri.user or ""
        phone = Phone(self.centre, SEATS[seat], user=seat, tag=f"tag-{invite.call_id[:8]}")
        busy = [end for end in self.rings.values() if end.phone.user == seat and not end.over]
        assert not busy, f"{seat} has a call and is called"
        self.rings[invite.call_id] = End(phone, invite=invite)
        if self.rng.random() < 0.8:
            phone.answer(invite, 180)

    def _answered(self, response: Response) -> None:
        end = self.callers.get(response.call_id) or self.rings.get(response.call_id)
        if end is None or response.status < 200:
            return
        method = response.cseq.method
        if method == "INVITE":
            if response.call_id in self.callers:
                end.phone.our_tag, end.up = response.to.tag or "", True
                if self.rng.random() < 0.1:
                    return  # the ACK is lost: the 200 comes again
            end.phone.ack(cseq=response.cseq.number)
        elif method == "BYE":
            end.over, end.pending = True, None

    # What people do

    def step(self) -> None:
        talking = [end for end in (*self.callers.values(), *self.rings.values()) if end.up and not end.over]
        ringing = [end for end in self.rings.values() if not end.up and not end.over]
        choices = [(2.0, self.arrive), (1.5, self.wait), (0.8, self.kill)]
        if ringing:
            choices += [(3.0, lambda: self.pick_up(self.rng.choice(ringing)))]
            choices += [(0.3, lambda: self.refuse(self.rng.choice(ringing)))]
        if talking:
            choices += [(1.0, lambda: self.hang_up(self.rng.choice(talking)))]
            choices += [(0.5, lambda: self.hold(self.rng.choice(talking)))]
        self.rng.choices([act for _, act in choices], [weight for weight, _ in choices])[0]()
        self.pump()

    def arrive(self) -> None:
        if sum(not end.over for end in self.callers.values()) < 5:
            call_id = f"call-{len(self.callers)}"
            self.callers[call_id] = End(self.centre.caller(call_id))
            self.callers[call_id].phone.call()

    def wait(self) -> None:
        self.centre.advance(self.rng.choice([0.0, 0.6, 2.0, 6.0]))

    def pick_up(self, end: End) -> None:
        assert end.invite is not None
        end.up = True
        self.talked += 1
        host = end.phone.flow.remote[0]
        end.phone.answer(end.invite, 200, make_answer(Sdp.parse(end.invite.body), LocalAudio(host, 40000, 1, 1))[0])

    def refuse(self, end: End) -> None:
        assert end.invite is not None
        end.over = True
        end.phone.answer(end.invite, self.rng.choice([486, 603]))

    def hang_up(self, end: End) -> None:
        if end.pending is None:
            end.pending = end.phone.request("BYE", f"sip:siaga@{US[0]}")
            end.phone.send(end.pending)

    def hold(self, end: End) -> None:
        end.phone.send(end.phone.request("INVITE", f"sip:siaga@{US[0]}", sdp=end.phone.audio))

    def kill(self) -> None:
        """While it is down some hang up, and are not heard; afterwards whoever has no answer says it again."""
        self.kills += 1
        ups = [end for end in (*self.callers.values(), *self.rings.values()) if end.up and not end.over]
        for end in ups:
            if end.pending is None and self.rng.random() < 0.15:
                end.pending = end.phone.request("BYE", f"sip:siaga@{US[0]}")
        self.left |= self.leaving()
        self.centre.restart(down=self.rng.choice([0.5, 2.0, 5.0]), worker=self.rng.random() < 0.7)
        self.pump()
        for end in (*self.callers.values(), *self.rings.values()):
            if end.pending is not None and not end.over:
                end.phone.send(end.pending)

    # What must be true

    def check(self) -> None:
        known = {self.centre.tools.log.row(call)["sip_call_id"] for call in self.centre.switch.callers.live}
        known |= self.leaving()
        for call_id, end in self.callers.items():
            if end.up and not end.over and end.pending is None:
                assert call_id in known | self.left, f"{call_id} is on the line and nobody knows"
        states = self.centre.seat_states()
        for seat in SEATS:
            talks = [end for end in self.rings.values() if end.phone.user == seat and end.up and not end.over]
            if talks and all(end.pending is None and end.phone.call_id not in self.left for end in talks):
                assert states[seat] == "talking", f"{seat} talks and is {states[seat]}"

    def leaving(self) -> set[str]:
        """Whose BYE waits for an ACK that was lost (RFC 3261 15): over for us, not yet for them."""
        return {leg.dialog.call_id for leg in self.centre.stack._core.dialogs.values() if leg.phase is Phase.LEAVING}

    def settle(self) -> None:
        """Everybody is served or hangs up; then nothing is left, and each call ended once."""
        for _ in range(60):
            for end in [one for one in self.rings.values() if not one.up and not one.over]:
                self.pick_up(end)
                self.pump()
            for end in [one for one in self.callers.values() if not one.over and one.up]:
                self.hang_up(end)
                self.pump()
            self.centre.advance(1.0)
            self.pump()
        self.centre.advance(100)
        self.pump()
        assert self.centre.is_idle(), "something was left"
        self.centre.takeover.flush()
        assert not self.centre.file.entries
        assert self.centre.store.flush()
        for row in self.centre.reader.calls():
            kinds = [event["kind"] for event in self.centre.reader.events(call_id=str(row["id"]))]
            assert kinds.count("ended") == 1, kinds
            assert row["outcome"] in ("answered", "abandoned", "failed")
            assert (row["outcome"] == "answered") is ("connected" in kinds)


def history(seed: int) -> World:
    centre = Centre(queue={"ring_s": 4, "rest_s": 1, "widen_s": 8})
    for seat, flow in SEATS.items():
        centre.seat(seat, flow)
    world = World(random.Random(seed), centre)
    try:
        for _ in range(STEPS):
            world.step()
        world.settle()
    finally:
        centre.close()
    return world


def tried(seeds: range) -> None:
    kills = talked = 0
    for seed in seeds:
        try:
            world = history(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        kills, talked = kills + world.kills, talked + world.talked
    assert kills > len(seeds)
    assert talked > len(seeds)


@pytest.mark.parametrize("part", range(2))
def test_histories(part: int) -> None:
    tried(range(part, 12, 2))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
def test_many_histories(part: int) -> None:
    tried(range(1000 + part, 1400, 4))
