"""Conferences in the worker: each leg of a call that takes part is sent the sum of what it is to hear of the others."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from siaga_pbx.media.faults import Faults
from siaga_pbx.media.g711 import Samples
from siaga_pbx.media.mixer import encoded, mix, who_hears
from siaga_pbx.media.pacer import Paced
from siaga_pbx.media.playout import Playout
from siaga_pbx.media.protocol import Codec, Part
from siaga_pbx.media.sender import Sender


class Timer(Protocol):
    """A `Pacer`."""

    faults: Faults

    def add(self, sender: Paced) -> None: ...
    def remove(self, sender: Paced) -> None: ...


class Place:
    """One leg in a conference: hears for the conference what the leg's far side says, and has what that is sent."""

    __slots__ = ("_conference", "frame", "heard_at", "law", "name", "part", "playout", "sender", "to")

    def __init__(self, conference: "Conference", name: str, sender: Sender) -> None:
        self._conference = conference
        self.name = name
        self.sender = sender
        self.part = Part.LISTEN
        self.to: str | None = None
        self.playout = Playout()
        self.law = sender.law
        self.heard_at: float | None = None
        """When audio came from its leg last."""
        self.frame = b""
        """The 20 ms to be sent next."""

    def takes(self, part: Part, to: str | None) -> None:
        """Its part from now on."""
        self.part, self.to = part, to
        self._conference.changed()

    def leave(self) -> None:
        self._conference.leave(self)

    @property
    def others_heard_at(self) -> float | None:
        """When audio came last from somebody else."""
        return self._conference.heard_at(self)

    def frames(self) -> Iterator[bytes]:
        """For the sender: it asks at each tick of the conference, but for those at which it has nowhere to send to."""
        while True:
            yield self.frame

    # What a leg tells who hears it (as `Sender` has it):

    def relay(
        self, epoch: int, _marker: int, law: Codec, _sequence: int, timestamp: int, codes: bytes, now: float
    ) -> None:
        """Audio of the leg."""
        self.heard_at = now
        self.playout.put(epoch, timestamp, codes, law, now)

    def relay_event(
        self, epoch: int, _marker: int, _sequence: int, _timestamp: int, _event: bytes, _now: float
    ) -> None:
        """A key: it is read, and not passed on. Whose would it be, of several who press at once?"""

    def relay_noise(self, _epoch: int, _sequence: int, _timestamp: int, _payload: bytes, _now: float) -> None:
        """Comfort noise: nothing, in a sum of others' voices."""

    def skip(self, epoch: int) -> None:
        """A key that was not to be passed on anyway."""


class Conference:
    """On the worker's timer in place of its senders: first all is mixed, then all is sent, so nothing waits a tick."""

    def __init__(self, timer: Timer, over: Callable[[], None]) -> None:
        """`over` is called when the last has left."""
        self._timer = timer
        self._over = over
        self._places: list[Place] = []
        self.changed()

    @property
    def paced(self) -> bool:
        return bool(self._places)

    def enter(self, name: str, sender: Sender) -> Place:
        """A place, heard by nobody as yet. Whatever fed the sender does so no more."""
        place = Place(self, name, sender)
        sender.play(place.frames(), place.law)
        self._timer.remove(sender)
        self._places.append(place)
        self.changed()
        self._timer.add(self)
        return place

    def leave(self, place: Place) -> None:
        self._places.remove(place)
        self.changed()
        self._timer.add(place.sender)
        if not self._places:
            self._timer.remove(self)
            self._over()

    def changed(self) -> None:
        """Somebody came, left, or has another part."""
        self._hears = who_hears([(place.name, place.part, place.to) for place in self._places])

    def heard_at(self, but: Place) -> float | None:
        """When audio came last from anybody but this one."""
        times = [place.heard_at for place in self._places if place is not but and place.heard_at is not None]
        return max(times, default=None)

    def tick(self, now: float) -> None:
        """20 ms of everybody to everybody. A fault of ours with one costs nobody else."""
        mixed = mix(self._hears, [self._said(place, now) for place in self._places])
        for place, samples in zip(self._places, mixed, strict=True):
            try:
                place.frame = encoded(samples, place.law)
                place.sender.tick(now)
            except Exception:  # noqa: BLE001
                self._timer.faults.add(place.sender)

    def _said(self, place: Place, now: float) -> Samples | None:
        try:
            return place.playout.take(now)
        except Exception:  # noqa: BLE001
            self._timer.faults.add(place.sender)
            return None

    def stumble(self) -> None:
        for place in self._places:
            place.sender.stumble()


class Conferences:
    """One for each call that has one."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._of: dict[str, Conference] = {}

    def enter(self, call: str, name: str, sender: Sender) -> Place:
        """A place for a leg in its call's conference. The leg gives it up by `Place.leave`."""
        if call not in self._of:
            self._of[call] = Conference(self._timer, partial(self._forget, call))
        return self._of[call].enter(name, sender)

    def _forget(self, call: str) -> None:
        del self._of[call]
