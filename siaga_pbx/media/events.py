"""What the media client tells the switch: the worker's events of legs and calls, and its own of workers and ports."""

from dataclasses import dataclass
from typing import TypeAlias

from siaga_pbx.media.protocol import CallEvent, LegEvent, LegState


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """Where a leg receives: what its SDP names. RTCP is on `port + 1`."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class MediaDown:
    """A worker is gone or does not answer. An alarm. Its legs have no audio until `MediaUp`."""

    worker: int
    reason: str
    legs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MediaUp:
    """A worker is there (the first time too). `legs`: ours that it carried through; `resumed`: ours that a new worker
    goes on with (`OpenFailed` for those that it cannot: they have no audio any more, and are still to be closed)."""

    worker: int
    legs: tuple[str, ...]
    resumed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortsExhausted:
    """`open` found no port although a worker is there, and none is free. An alarm, told once until `PortsAvailable`."""

    address: str


@dataclass(frozen=True, slots=True)
class PortsAvailable:
    """There is a port again, after `open` found none: whoever waits for one may try. The end of `PortsExhausted`."""

    address: str


@dataclass(frozen=True, slots=True)
class StrayLegs:
    """A worker carried legs of an earlier daemon that nobody claimed; they are closed. Belongs in the record."""

    worker: int
    legs: tuple[LegState, ...]


ClientEvent: TypeAlias = MediaDown | MediaUp | PortsExhausted | PortsAvailable | StrayLegs
MediaEvent: TypeAlias = LegEvent | CallEvent | ClientEvent
