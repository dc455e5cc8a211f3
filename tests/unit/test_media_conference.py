"""A conference's tick, without a worker: one that is broken costs the others nothing."""

import pytest
from structlog.testing import capture_logs

from siaga_pbx.media.conference import Conferences, Place
from siaga_pbx.media.g711 import FRAME
from siaga_pbx.media.pacer import Pacer
from siaga_pbx.media.playout import Playout
from siaga_pbx.media.protocol import Codec, Part
from siaga_pbx.media.sender import Address, Sender

LOUD = bytes(FRAME)


def party(conferences: Conferences, name: str, heard: list[bytes], pacer: Pacer) -> Place:
    def sendto(packet: bytes, _target: Address) -> int:
        if name == "broken":
            raise ArithmeticError
        heard.append(packet[12:])
        return len(packet)

    sender = Sender(sendto, lambda n: bytes(n), pacer.add, 0)
    sender.aim(("192.0.2.1", 4000))
    place = conferences.enter("call", name, sender)
    place.takes(Part.TALK, None)
    return place


def test_a_fault_of_one_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pacer = Pacer(lambda now: None)
    conferences = Conferences(pacer)
    heard: dict[str, list[bytes]] = {name: [] for name in ("broken", "a", "b", "deaf")}
    places = {name: party(conferences, name, heard[name], pacer) for name in heard}
    deaf, take = places["deaf"].playout, Playout.take
    monkeypatch.setattr(Playout, "take", lambda self, now: 1 // 0 if self is deaf else take(self, now))
    with capture_logs() as logs:
        for tick in range(10):
            now = 1000.0 + tick * 0.02
            places["a"].relay(1, 0, Codec.PCMA, tick, tick * FRAME, LOUD, now)
            pacer._tick(now)
    assert [len(heard[name]) for name in heard] == [0, 10, 10, 10]
    assert len(set(heard["a"])) == 1, "silence"
    for hearer in ("b", "deaf"):
        assert heard[hearer].count(LOUD) >= 7
    assert len(logs) == 2, "one for each that is broken"
