"""What an agency is given to keep to, and what is on record of a dispatch to it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from siaga_pbx.dispatch.ladder import Alarm, State


@dataclass(frozen=True, slots=True)
class Plan:
    """What the agency is given, in seconds from the order, and the steps for when it does not keep to it.

    A step is "resend", "agency:ID", "call:TARGET" or "alarm"; after each the next has `accept_within_s` to wait.
    """

    accept_within_s: float
    arrive_within_s: float
    escalate: tuple[str, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps, with the alarm that every ladder ends in."""
        return self.escalate if self.escalate[-1:] == ("alarm",) else (*self.escalate, "alarm")

    def steps_after(self, taken: tuple[str, ...]) -> list[str]:
        """Those that are left. An engagement is recorded when it is committed, and a step after it may come first."""
        left = list(self.steps)
        for step in taken:
            if step in left:
                left.remove(step)
        return left


@dataclass(frozen=True, slots=True)
class Past:
    """What is on record of a dispatch that was followed before. Times are monotonic and may lie before this boot.

    `sequence_at`: when the latest sequence was made. `round`: the sequence that the latest order began anew with.
    `steps_taken`, `step_at`: which steps of the ladder were taken in this round, and the last of them when.
    `alarms`: those it stood in, with their details. `rejected`: the last word of the agency's own end.
    """

    ordered_at: float
    sequence_at: float
    state: State = State.PENDING
    sequence: int = 1
    round: int = 1
    delivered: bool = False
    reached: frozenset[State] = frozenset()
    steps_taken: tuple[str, ...] = ()
    step_at: float | None = None
    relieved: bool = False
    alarms: Mapping[Alarm, str] = field(default_factory=dict)
    rejected: bool = False
