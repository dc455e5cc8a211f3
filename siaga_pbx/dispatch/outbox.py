"""Drives what is followed: one timer for all, publications, alarms, and every step on record."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from siaga_pbx.dispatch.followed import RELIEVED, Followed, changes_of, event_of
from siaga_pbx.dispatch.hooks import Hooks, Spoken
from siaga_pbx.dispatch.ladder import Alarm, Call, Engage, Lowered, Moved, Output, Publish, Raised, State
from siaga_pbx.dispatch.mqtt import NO_MATCHING_SUBSCRIBERS, NotPublished, Outgoing, Refused
from siaga_pbx.dispatch.ports import Clock
from siaga_pbx.dispatch.standing import Standing
from siaga_pbx.dispatch.topics import Topics
from siaga_pbx.records.changes import Change, Event, Update
from siaga_pbx.records.reader import Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import later

log = structlog.get_logger(__name__)

COPY_EXPIRY_S = 600
"""How long the broker keeps a copy for an agency that is away. It is published anew every minute at least."""

_AT_ONCE = 20  # publications under way; the broker's PUBACKs come in some milliseconds


@dataclass(slots=True)
class Incident:
    """An incident as its row says, and all of its dispatches."""

    row: Record
    dispatches: dict[str, Followed] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.row["id"])


class Outbox:
    """The incidents whose dispatches are followed. On the event loop only.

    `publish(message)` is the bus's. `topics()` are those of now. `engage` dispatches another agency.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        hooks: Hooks,
        publish: Callable[[Outgoing], Awaitable[int]],
        topics: Callable[[], Topics],
        engage: Callable[[Followed, Engage], Coroutine[None, None, None]],
    ) -> None:
        self._store, self._clock, self._hooks = store, clock, hooks
        self._publish, self._topics, self._engage = publish, topics, engage
        self._incidents: dict[str, Incident] = {}
        self._dispatches: dict[str, Followed] = {}
        self._standing = Standing(hooks.on_alarm)
        self._due: list[tuple[float, str]] = []  # a heap; an entry that is not its dispatch's own any more is void
        self._timer: asyncio.TimerHandle | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._open = False

    def __iter__(self) -> Iterator[Followed]:
        return iter(tuple(self._dispatches.values()))

    def get(self, dispatch_id: str) -> Followed | None:
        return self._dispatches.get(dispatch_id)

    def incident(self, incident_id: str) -> Incident | None:
        return self._incidents.get(incident_id)

    def incidents_of(self, calls: Collection[str]) -> list[Incident]:
        """Those that one of these calls has opened."""
        return [incident for incident in self._incidents.values() if incident.row["call_id"] in calls]

    def follow(self, incident: Incident, *fresh: Followed) -> None:
        """Follows the `fresh` dispatches of an incident; without any, all that it has: they are resumed."""
        self._incidents[incident.id] = incident
        incident.dispatches |= {followed.id: followed for followed in fresh}
        self._dispatches |= incident.dispatches
        for followed in fresh:
            self._hooks.on_state(followed.agency, str(State.PENDING))
        for followed in fresh or tuple(incident.dispatches.values()):
            for alarm, detail in followed.followup.alarms.items():  # those that stood when it was followed last
                self._raise(followed, alarm, detail)
            self.carry_out(followed, followed.followup.start(self._clock.now()))

    def connected(self, agency: str | None = None) -> None:
        """The broker is there again, or an agency's end."""
        for followed in self:
            if agency in (None, followed.agency):
                self.carry_out(followed, followed.followup.connected(self._clock.now()))

    def carry_out(
        self,
        followed: Followed,
        outputs: Sequence[Output],
        answer: Mapping[str, object] | None = None,
        values: Mapping[str, object] | None = None,
    ) -> None:
        """Records the outputs of its follow-up, then does what they ask for."""
        if changes := changes_of(followed, outputs, self._clock.utc(), answer, values):
            self._store.write(changes)
        for output in outputs:
            self._do(followed, output)
        if followed.followup.calling is None:
            self._hang_up(followed)
        if followed.followup.taken:
            self._relieve(followed)
        self._schedule(followed)
        if outputs:
            self.settle(followed)

    def not_carried_out(self, followed: Followed, step: str, reason: str) -> None:
        """A step of its ladder came to nothing."""
        self.carry_out(followed, followed.followup.not_carried_out(step, reason, self._clock.now()))

    def settle(self, followed: Followed) -> None:
        """Its incident is closed once nothing more is expected of any of its agencies, and opened again if it is.

        What is closed, and stands in no alarm, is forgotten here: it is read again should an agency answer late.
        """
        incident = self._incidents.get(followed.message.incident_id)
        if incident is None:
            return
        settled = all(one.followup.settled for one in incident.dispatches.values())
        if settled != (incident.row["status"] == "closed"):
            utc = self._clock.utc()
            values: Record = {"status": "closed" if settled else "open", "closed_at": utc if settled else None}
            incident.row |= values
            kind = "incident_closed" if settled else "incident_reopened"
            call_id = str(incident.row["call_id"])
            changes: list[Change] = [Update("incident", incident.id, values)]
            self._store.write([*changes, Event(utc, "call", call_id, call_id, kind, {"incident": incident.id})])
        if settled and not any(one.followup.alarms for one in incident.dispatches.values()):
            self._forget(incident)

    def renew(self, incident: Incident, fresh: Incident | None) -> None:
        """Its record has lost content, and `fresh` is what there is now. Of what is erased nothing is followed."""
        if fresh is None or not fresh.dispatches:
            for followed in incident.dispatches.values():
                self._hang_up(followed)
                for alarm in followed.followup.alarms:
                    self._standing.lower(alarm, followed.id)
            self._forget(incident)
            return
        incident.row = fresh.row | {column: incident.row[column] for column in ("status", "closed_at")}
        for id, renewed in fresh.dispatches.items():
            incident.dispatches[id].message = renewed.message

    def open(self) -> None:
        """From now on it publishes, calls, and keeps deadlines. Until then orders are committed, and that is all."""
        self._open = True

    async def close(self) -> None:
        """Nothing more is published or escalated; what is under way is awaited. Close the bus first."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            if task.get_name() in ("engage", "speak"):
                task.cancel()
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    # --- outputs ------------------------------------------------------------------------------------------------------

    def _do(self, followed: Followed, output: Output) -> None:
        match output:
            case Publish():
                self._spawn(self._publish_now(followed))
            case Engage():
                self._spawn(self._engage(followed, output))
            case Call(target):
                self._hang_up(followed)
                if (call := self._spawn(self._speak(followed, target))) is not None:
                    self._calls[followed.id] = call
            case Raised(alarm, detail):
                log.warning("dispatch alarm", dispatch=followed.id, alarm=str(alarm), detail=detail)
                self._raise(followed, alarm, detail)
            case Lowered(alarm):
                self._standing.lower(alarm, followed.id)
            case Moved():
                self._moved(followed, output)
            case _:
                pass

    def _raise(self, followed: Followed, alarm: Alarm, detail: str) -> None:
        self._standing.raise_(alarm, followed.id, f"{followed.agency}: {detail} (dispatch {followed.id})")

    # --- voice calls --------------------------------------------------------------------------------------------------

    async def _speak(self, followed: Followed, target: str) -> None:
        """A step of its ladder: whoever accepts by key has accepted, else the next step follows."""
        step = f"call:{target}"

        def tell(kind: str, data: Mapping[str, object]) -> None:
            self._store.write([event_of(followed, self._clock.utc(), kind, {"step": step, **data})])

        try:
            spoken = await self._hooks.speak(target, followed.message, tell)
        except Exception as error:  # a fault of the switch must not end the ladder
            log.exception("a voice call failed", dispatch=followed.id)
            spoken = Spoken(False, repr(error))
        del self._calls[followed.id]
        if spoken.accepted:
            self.carry_out(followed, followed.followup.spoken(self._clock.now()), {"by": step})
        else:
            self.not_carried_out(followed, step, spoken.detail)

    def _hang_up(self, followed: Followed) -> None:
        """Its voice call, if there is one, is no longer wanted."""
        if (call := self._calls.pop(followed.id, None)) is not None:
            call.cancel()

    # --- publications -------------------------------------------------------------------------------------------------

    async def _publish_now(self, followed: Followed) -> None:
        followup = followed.followup
        async with self._slots:
            message = followed.message  # the latest, whatever it was when this was asked for
            topics = self._topics()
            try:
                code = await self._publish(
                    Outgoing(
                        topic=topics.dispatch(message.agency),
                        payload=message.encode(),
                        expiry_s=COPY_EXPIRY_S,
                        response_topic=topics.ack(message.agency),
                        correlation=f"{message.dispatch_id}:{message.sequence}".encode(),
                    )
                )
            except NotPublished as error:
                refusal = str(error) if isinstance(error, Refused) else None
                outputs = followup.unpublished(self._clock.now(), refusal)
            else:
                none_there = code == NO_MATCHING_SUBSCRIBERS
                outputs = followup.published(message.sequence, self._clock.now(), no_subscriber=none_there)
        values = {} if followup.publish_at is None else {"next_attempt_at": self._utc_at(followup.publish_at)}
        self.carry_out(followed, outputs, values=values)

    def _utc_at(self, at: float) -> str:
        return later(self._clock.utc(), max(0.0, at - self._clock.now()))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None] | None:
        if not self._open:
            work.close()
            return None
        task = asyncio.create_task(work, name=getattr(work, "__name__", "dispatch").lstrip("_"))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatch task failed", exc_info=error)

    # --- consequences -------------------------------------------------------------------------------------------------

    def _moved(self, followed: Followed, moved: Moved) -> None:
        log.info("dispatch moved", dispatch=followed.id, agency=followed.agency, old=moved.old, new=moved.new)
        for state in dict.fromkeys((*moved.reached, moved.new)):
            self._hooks.on_state(followed.agency, str(state))
        if State.ACCEPTED in moved.reached:
            self._hooks.on_accepted(followed.agency, self._clock.now() - followed.followup.ordered_at)

    def _relieve(self, followed: Followed) -> None:
        """Those in whose stead it was engaged need nobody else; and those in whose stead they were, in turn."""
        for relieved_id in followed.relieves:
            relieved = self.get(relieved_id)
            if relieved is None or relieved.followup.relieved_by_other or relieved.followup.taken:
                continue
            outputs = relieved.followup.relieved(self._clock.now())
            self._store.write([event_of(relieved, self._clock.utc(), RELIEVED, {"by": followed.id})])
            self.carry_out(relieved, outputs)
            self._relieve(relieved)

    def _forget(self, incident: Incident) -> None:
        del self._incidents[incident.id]
        for dispatch_id in incident.dispatches:
            del self._dispatches[dispatch_id]

    # --- the timer ----------------------------------------------------------------------------------------------------

    def _schedule(self, followed: Followed) -> None:
        due = followed.followup.next_deadline() if followed.id in self._dispatches else None
        if due != followed.due:
            followed.due = due
            if due is not None:
                heapq.heappush(self._due, (due, followed.id))
            self._set_timer()

    def _set_timer(self) -> None:
        while self._due and not self._is_due(*self._due[0]):
            heapq.heappop(self._due)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self._open:
            delay_s = max(0.0, self._due[0][0] - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _is_due(self, due: float, dispatch_id: str) -> bool:
        followed = self._dispatches.get(dispatch_id)
        return followed is not None and followed.due == due

    def _ring(self) -> None:
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            due, dispatch_id = heapq.heappop(self._due)
            followed = self._dispatches.get(dispatch_id)
            if followed is not None and followed.due == due:
                followed.due = None
                self.carry_out(followed, followed.followup.handle_timer(now))
        self._set_timer()
