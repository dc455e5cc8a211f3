"""What the dispatcher tells the rest of the daemon, and the one thing that it asks of it: a voice call."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from siaga_pbx.dispatch.message import Dispatch


def _nothing(*_: object) -> None:
    """The default hook."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a voice call came to. `detail`: why nobody accepted, in a line for a person."""

    accepted: bool
    detail: str = ""


Tell: TypeAlias = Callable[[str, Mapping[str, object]], None]
"""Puts a step of the call on the dispatch's record: its kind and what there is to know."""

Speak: TypeAlias = Callable[[str, Dispatch, Tell], Awaitable[Spoken]]
"""Calls a target (sip:, sips:, tel:), speaks the dispatch, waits for the key that accepts it. Cancel it to hang up."""


async def _no_voice(target: str, message: Dispatch, tell: Tell) -> Spoken:
    """The default for a dispatcher without a switch."""
    return Spoken(False, "no voice calls can be made here")


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called on the event loop; they must neither block nor raise.

    `on_alarm(name, active, detail)`: see `alarms.Name`. `on_state(agency, state)`: a dispatch entered a state.
    `on_accepted(agency, seconds)`: a person accepted so long after the order. `on_connected(connected)`: the broker.
    `on_presence(agency, online)`: None when it is not known. `speak` makes a voice call.
    """

    on_alarm: Callable[[str, bool, str], None] = _nothing
    on_state: Callable[[str, str], None] = _nothing
    on_accepted: Callable[[str, float], None] = _nothing
    on_connected: Callable[[bool], None] = _nothing
    on_presence: Callable[[str, bool | None], None] = _nothing
    speak: Speak = _no_voice
