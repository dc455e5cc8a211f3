"""What becomes of one dispatch to one agency, from the order until it is cleared. Pure: `now` is monotonic seconds.

Two things are followed side by side. Delivery: the latest sequence is published, again and again, until the agency's
end says "received". The ladder: a person there accepts, goes, arrives, clears; each missed deadline and each rejection
takes the next step of the agency's `escalate`, and the last step is always an alarm. So a dispatch is never silent: it
is delivered and accepted, or something is due, or it stands in alarm.

Every input returns the outputs to carry out, in order; then ask `next_deadline`. Each `Publish` must be answered, once,
by `published` or `unpublished`; until then none follows.
"""

from siaga_pbx.dispatch.ladder import (
    CLOSED,
    LADDER,
    RANK,
    Alarm,
    Answer,
    Call,
    Delivered,
    Engage,
    Escalated,
    GivenUp,
    Lowered,
    Moved,
    Noted,
    Output,
    Publish,
    Raised,
    State,
)
from siaga_pbx.dispatch.plan import Past, Plan

RECEIPT_S = (5.0, 10.0, 20.0, 40.0, 60.0)
"""How long to wait for "received" after the first, second, ... publication; the last one for all that follow."""

RETRY_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""The same after a publication that failed. A connection that is back ends the wait."""

LIFETIME_S = 86_400.0
"""A dispatch that nobody received for a day is given up: it has failed, and its alarm stands."""

CALL_S = 150.0
"""How long a voice call may take, from its first ring to the last word. The next step waits for it, but no longer."""

_UNACCEPTED = (State.PENDING, State.PUBLISHED, State.RECEIVED, State.REJECTED)
_UNDER_WAY = (State.ACCEPTED, State.EN_ROUTE)


class FollowUp:
    """One dispatch. A new one: `FollowUp(plan, Past(now, now))`, else with its past; then `start(now)`.

    `alarms`: those it stands in, with their details. `ordered_at`, `sequence_at`: when it, and its latest sequence, was
    ordered. `publish_at`: when it is published again; None while that is under way, or no longer needed.
    """

    def __init__(self, plan: Plan, past: Past) -> None:
        self.plan = plan
        self.state = past.state
        self.sequence = past.sequence
        self.delivered = past.delivered
        self.relieved_by_other = past.relieved
        self.alarms = dict(past.alarms)
        self._round = past.round
        self._reached = set(past.reached)
        self._rejected = past.rejected
        self.ordered_at, self.sequence_at = past.ordered_at, past.sequence_at
        self._steps, self._step_at = plan.steps_after(past.steps_taken), past.step_at
        self._escalate_at: float | None = None
        self._calling: str | None = None
        self.publish_at: float | None = None
        self._in_flight = False
        self._again = False  # publish once more as soon as nothing is in flight
        self._given_up = past.state is State.FAILED
        self._publications = 0
        self._failures = 0

    # --- what is due --------------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether the latest sequence still has to get there."""
        return not self.delivered and not self._given_up

    @property
    def taken(self) -> bool:
        """Somebody at the agency has accepted."""
        return self.state in (*_UNDER_WAY, State.ON_SCENE, State.CLEARED)

    @property
    def settled(self) -> bool:
        """Nothing is due and nothing more is expected of anybody."""
        done = self.state in (State.CLEARED, State.CANCELLED, State.FAILED)
        return not self.wanted and (done or (self.relieved_by_other and not self.taken))

    @property
    def escalates(self) -> bool:
        """Whether the ladder still has something to wait for: somebody's word, or somebody on scene."""
        return not self.relieved_by_other and self.state in (*_UNACCEPTED, *_UNDER_WAY)

    @property
    def calling(self) -> str | None:
        """Whom a voice call is under way to. What was a `Call` and is no more is to be hung up."""
        return self._calling if self.escalates else None

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`."""
        return min(
            (at for at in (self.publish_at, self._escalate_at, self._give_up_at) if at is not None), default=None
        )

    def handle_timer(self, now: float) -> list[Output]:
        """Whatever is due by now."""
        if self._give_up_at is not None and now >= self._give_up_at:
            return self._give_up()
        outputs: list[Output] = []
        if self.publish_at is not None and now >= self.publish_at:
            outputs += self._publish()
        if self._escalate_at is not None and now >= self._escalate_at:
            outputs += self._escalate(self._missed(), now)
        return outputs

    def start(self, now: float) -> list[Output]:
        """The first input, for a new dispatch and for one with a past."""
        outputs = self._publish() if self.wanted else []
        self._await_person(now)
        if self._step_at is not None and self._escalate_at is not None:
            self._escalate_at = max(self._escalate_at, self._step_at + self.plan.accept_within_s)
        return outputs

    # --- the bus ------------------------------------------------------------------------------------------------------

    def published(self, sequence: int, now: float, *, no_subscriber: bool = False) -> list[Output]:
        """The broker took the message. That proves nothing about the agency."""
        self._in_flight = False
        self._failures = 0
        outputs = self._lower(Alarm.REFUSED)
        if self.state is State.PENDING and sequence >= self._round:
            outputs += self._move(State.PUBLISHED)
        if not self.wanted:
            return outputs + self._continue()
        if no_subscriber:
            outputs += self._raise(Alarm.NO_SUBSCRIBER, "the broker has no subscriber for it")
        if sequence == self.sequence:
            self.publish_at = now + _nth(RECEIPT_S, self._publications)
            self._publications += 1
        return outputs + self._continue()

    def unpublished(self, now: float, refusal: str | None = None) -> list[Output]:
        """The message did not get to the broker, or (`refusal`, its reason) the broker did not take it."""
        self._in_flight = False
        self._again = False
        outputs: list[Output] = []
        if self.wanted:
            outputs += [] if refusal is None else self._raise(Alarm.REFUSED, refusal)
            self.publish_at = now + _nth(RETRY_S, self._failures)
            self._failures += 1
        return outputs

    def connected(self, now: float) -> list[Output]:
        """The broker or the agency's end is there again: what is not received goes out now."""
        return self._publish() if self.wanted and not self._in_flight else []

    # --- the agency ---------------------------------------------------------------------------------------------------

    def knows(self, sequence: int | None) -> bool:
        """Whether there is such a sequence to answer to; None is the latest."""
        return sequence is None or 1 <= sequence <= self.sequence

    def answered(
        self, state: Answer, sequence: int | None, now: float, reason: str = "", *, kept: bool = True
    ) -> list[Output]:
        """The agency answers, to a sequence it `knows`. Repeating it changes nothing.

        Not `kept`: people there have said so, but a restart of their end would forget it. So it is published on.
        """
        sequence = self.sequence if sequence is None else sequence
        if sequence < self._round:
            return [Noted("late_answer", f"{state} to sequence {sequence}, which a new order has replaced")]
        outputs = self._receive(sequence) if kept else []
        match state:
            case State.RECEIVED if not kept:
                return []
            case State.RECEIVED if RANK[state] <= RANK[self.state]:
                return outputs
            case State.REJECTED if self._rejected:
                return outputs  # it is only said once more: what was accepted since, by telephone, stands
            case State.REJECTED if self.state in (State.EN_ROUTE, State.ON_SCENE):
                self._rejected = True
                return outputs + self._raise(Alarm.WITHDRAWN, reason or "no reason given")
            case State.REJECTED if RANK[self.state] <= RANK[State.REJECTED] and self.state is not State.REJECTED:
                self._rejected = True
                return outputs + self._move(state) + self._pass_on(reason, now)
            case State.ACCEPTED if self.state is State.REJECTED:
                outputs += self._move(state)
            case _ if RANK[state] > RANK[self.state]:
                outputs += self._move(state)
            case _:
                return outputs + self._confirmed(state)
        self._rejected = False
        return outputs + self._progressed(now)

    def _confirmed(self, state: Answer) -> list[Output]:
        """Their own end says now what is known already; on record if it takes a rejection back."""
        if not self._rejected or state is State.REJECTED:
            return []
        self._rejected = False
        return [Noted("confirmed", str(state))]

    def relieved(self, now: float) -> list[Output]:
        """An agency that the ladder engaged has accepted in this one's stead."""
        self.relieved_by_other = True
        self._await_person(now)
        return self._lower(Alarm.UNANSWERED, Alarm.STEP_FAILED)

    # --- the centre ---------------------------------------------------------------------------------------------------

    def update(self, now: float, *, anew: bool) -> list[Output]:
        """The message has changed: its sequence is raised and has to be received. `anew`: it was one of `CLOSED` when
        that was decided, and begins anew.
        """
        self._raise_sequence(now)
        outputs: list[Output] = self._lower(Alarm.FAILED)
        self._calling = None if anew else self._calling
        if anew and self.state in CLOSED:
            outputs += self._lower(*Alarm)
            outputs.append(Moved(self.state, State.PENDING, ()))
            self.state, self._round = State.PENDING, self.sequence
            self._reached.clear()
            self._rejected = False
            self._steps, self.ordered_at, self.relieved_by_other = list(self.plan.steps), now, False
            self._escalate_at = None
            self._await_person(now)
        return outputs + self._publish()

    def cancel(self, now: float) -> list[Output]:
        """Nobody is to go. The cancellation is a sequence like any other, and has to be received."""
        self._raise_sequence(now)
        outputs = self._move(State.CANCELLED)
        self._await_person(now)
        return outputs + self._lower(*Alarm) + self._publish()

    def spoken(self, now: float) -> list[Output]:
        """The people whom `calling` names have heard it and accept. Their machine may still have to receive it."""
        self._calling = None
        return self._move(State.ACCEPTED) + self._progressed(now) if self.state in _UNACCEPTED else []

    def not_carried_out(self, step: str, reason: str, now: float) -> list[Output]:
        """A `Call` or `Engage` came to nothing: an alarm, and the next step at once."""
        wanted = self.escalates and (self._calling is not None or not step.startswith("call:"))
        self._calling = None
        if not wanted:  # it was overtaken
            return []
        return self._raise(Alarm.STEP_FAILED, f"{step}: {reason}") + self._escalate(f"{step}: {reason}", now)

    # --- delivery -----------------------------------------------------------------------------------------------------

    @property
    def _give_up_at(self) -> float | None:
        return self.sequence_at + LIFETIME_S if self.wanted else None

    def _raise_sequence(self, now: float) -> None:
        self.sequence += 1
        self.sequence_at = now
        self.delivered = self._given_up = False
        self._publications = 0

    def _publish(self) -> list[Output]:
        if self._in_flight:
            self._again = True
            return []
        self._in_flight, self._again, self.publish_at = True, False, None
        return [Publish(self.sequence)]

    def _continue(self) -> list[Output]:
        """After a publication: the one that was asked for meanwhile."""
        return self._publish() if self._again else []

    def _receive(self, sequence: int) -> list[Output]:
        if self.delivered or sequence < self.sequence:
            return []
        self.delivered, self.publish_at, self._again = True, None, False
        return [Delivered(sequence), *self._lower(Alarm.NO_SUBSCRIBER, Alarm.REFUSED, Alarm.FAILED)]

    def _give_up(self) -> list[Output]:
        self._given_up, self.publish_at, self._again = True, None, False
        outputs: list[Output] = [GivenUp(self.sequence)]
        if RANK[self.state] < RANK[State.FAILED]:
            outputs += self._move(State.FAILED)
            self._escalate_at = None
        return outputs + self._raise(Alarm.FAILED, f"sequence {self.sequence} was not received")

    # --- the ladder ---------------------------------------------------------------------------------------------------

    def _move(self, new: State) -> list[Output]:
        implied = LADDER[: LADDER.index(new) + 1] if new in LADDER else ()
        implied = LADDER[:2] if new is State.REJECTED else implied
        reached = tuple(state for state in implied if state not in self._reached)
        self._reached.update(reached)
        old, self.state = self.state, new
        return [Moved(old, new, reached)]

    def _progressed(self, now: float) -> list[Output]:
        """After a step forward: the alarms it ends, and the next deadline."""
        self._await_person(now)
        if self.state in _UNACCEPTED:
            return []
        self._calling = None
        outputs = self._lower(Alarm.UNANSWERED, Alarm.STEP_FAILED)
        return outputs if self.state in _UNDER_WAY else outputs + self._lower(Alarm.WITHDRAWN)

    def _pass_on(self, reason: str, now: float) -> list[Output]:
        """To ask the same people once more would lose time: the next step that does something else, at once."""
        cause = f"rejected: {reason}" if reason else "rejected"
        outputs: list[Output] = []
        while self._steps[:1] == ["resend"]:
            outputs.append(Escalated(self._steps.pop(0), cause, skipped="the agency has rejected it"))
        return outputs + self._escalate(cause, now)

    def _missed(self) -> str:
        return "not on scene in time" if self.state in _UNDER_WAY else "not accepted in time"

    def _await_person(self, now: float) -> None:
        """Sets the deadline that the state owns."""
        if not self.escalates:
            self._escalate_at = None
        elif self.state in _UNDER_WAY:
            arrival = self.ordered_at + self.plan.arrive_within_s
            self._escalate_at = max(arrival, now + self.plan.accept_within_s)
        elif self._escalate_at is None and self._steps:
            self._escalate_at = self.ordered_at + self.plan.accept_within_s

    def _escalate(self, cause: str, now: float) -> list[Output]:
        """Takes the next step; past the last one, the alarm is all that is left."""
        self._calling = None
        if not self._steps:
            self._escalate_at = None
            return self._raise(Alarm.UNANSWERED, cause)
        step = self._steps.pop(0)
        more = self._steps and self.escalates
        self._escalate_at = now + self.plan.accept_within_s if more else None
        taken = Escalated(step, cause)
        kind, _, target = step.partition(":")
        match kind:
            case "resend":
                return [taken, *self._publish()]
            case "agency":
                return [Engage(target, cause)]
            case "call":
                self._calling = target
                if self._escalate_at is not None:
                    self._escalate_at = now + max(self.plan.accept_within_s, CALL_S)
                return [taken, Call(target)]
            case _:
                return [taken, *self._raise(Alarm.UNANSWERED, cause)]

    # --- alarms -------------------------------------------------------------------------------------------------------

    def _raise(self, alarm: Alarm, detail: str) -> list[Output]:
        if self.alarms.get(alarm) == detail:
            return []
        self.alarms[alarm] = detail
        return [Raised(alarm, detail)]

    def _lower(self, *alarms: Alarm) -> list[Output]:
        return [Lowered(alarm) for alarm in alarms if self.alarms.pop(alarm, None) is not None]


def _nth(waits: tuple[float, ...], n: int) -> float:
    return waits[min(n, len(waits) - 1)]
