"""What the dispatcher tells the rest of the daemon."""

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(*_: object) -> None:
    """The default hook."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called on the event loop; they must neither block nor raise.

    `on_alarm(name, active, detail)`: see `alarms.Name`. `on_state(agency, state)`: a dispatch entered a state.
    `on_accepted(agency, seconds)`: a person accepted so long after the order. `on_connected(connected)`: the broker.
    `on_presence(agency, online)`: None when it is not known.
    """

    on_alarm: Callable[[str, bool, str], None] = _nothing
    on_state: Callable[[str, str], None] = _nothing
    on_accepted: Callable[[str, float], None] = _nothing
    on_connected: Callable[[bool], None] = _nothing
    on_presence: Callable[[str, bool | None], None] = _nothing
