"""What the queue needs of the configuration. The models of config.py fit these as they are."""

from typing import Protocol

from siaga_pbx.call.events import SeatId


class QueueSettings(Protocol):
    """Times in seconds, and the overflow target (None: there is none)."""

    @property
    def ring_s(self) -> float:
        """How long one seat rings."""

    @property
    def rest_s(self) -> float:
        """How long a seat that missed is offered only when no other is free."""

    @property
    def wrap_up_s(self) -> float:
        """How long a seat is left alone after a call."""

    @property
    def widen_s(self) -> float:
        """After how long a wait every free seat rings, whatever its skills."""

    @property
    def overflow_s(self) -> float:
        """After how long a wait the overflow target rings too."""

    @property
    def overflow(self) -> str | None: ...

    @property
    def announce_every_s(self) -> float:
        """How often a waiting caller is told its place; 0: never."""


class SeatSettings(Protocol):
    @property
    def id(self) -> SeatId: ...

    @property
    def skills(self) -> frozenset[str]: ...
