"""A live call as it stands in the file for the next daemon: what SIP, queue and media keep of it, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from siaga_pbx.call.standing import Standing
from siaga_pbx.legs import Caller, Leg, Role
from siaga_pbx.media.commands import Record
from siaga_pbx.media.protocol import LegState
from siaga_pbx.sip.sdp import Audio, LocalAudio, Sdp
from siaga_pbx.sip.snapshot import Stage, StoredLeg


@dataclass(frozen=True, slots=True)
class KeptLeg:
    """A leg: its dialog, its audio as it is to be, and what we know of it."""

    role: Role
    sip: StoredLeg
    media: LegState | None
    trunk: str | None
    seat: str | None
    peer: str | None
    local: LocalAudio | None
    ours: str | None
    remote: Audio | None
    answered: bool
    bridged: bool
    doubted: bool = False
    held_since: float | None = None
    told: str | None = None
    srtp: bool | None = None

    @classmethod
    def of(cls, leg: Leg, sip: StoredLeg, media: LegState | None) -> "KeptLeg":
        ours = str(leg.ours) if leg.ours is not None else None
        told = str(leg.told) if leg.told is not None else None
        whose = leg.trunk, leg.seat, leg.peer
        state = leg.answered, leg.bridged, leg.doubted
        return cls(leg.role, sip, media, *whose, leg.local, ours, leg.remote, *state, leg.held_since, told, leg.srtp)

    def leg(self, call: str) -> Leg:
        """The leg again. Raises RemoteError for a description of ours that cannot be read."""
        # They may have been told more at the very end: the next description has the next version, news or not.
        local = replace(self.local, version=self.local.version + 1) if self.local is not None else None
        ours = Sdp.parse(self.ours) if self.ours is not None else None
        whose = self.trunk, self.seat, self.peer
        state = self.answered, self.bridged, self.doubted
        told = Sdp.parse(self.told) if self.told is not None else None
        leg = Leg(self.sip.id, self.role, call, *whose, local, ours, self.remote, *state, told, self.held_since)
        leg.srtp, leg.withdrawn = self.srtp, self.sip.stage is Stage.CANCELLING
        return leg


@dataclass(frozen=True, slots=True)
class KeptCaller:
    """Who calls. `row`: the columns of the record so far; `standing` None: not queued."""

    leg: str
    row: Mapping[str, object]
    skills: tuple[str, ...]
    priority: int
    arrived: float
    connected: str | None
    standing: Standing | None
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, caller: Caller, row: Mapping[str, object], standing: Standing | None) -> "KeptCaller":
        skills, since, headers = tuple(sorted(caller.skills)), caller.arrived, caller.headers
        return cls(caller.leg.id, row, skills, caller.priority, since, caller.connected, standing, headers)

    def caller(self, id: str, leg: Leg, offer: Sdp | None) -> Caller:
        """The caller again, without the legs of the other sides."""
        number, language = self.row.get("caller_number"), self.row.get("language")
        return Caller(
            id=id,
            leg=leg,
            offer=offer,
            number=str(number) if number is not None else None,
            identity_class=str(self.row.get("identity_class")),
            callable=bool(self.row.get("callable")),
            skills=frozenset(self.skills),
            priority=self.priority,
            arrived=self.arrived,
            received_at=str(self.row.get("received_at")),
            queued=self.standing is not None,
            offered=self.row.get("offered_at") is not None,
            headers=self.headers,
            language=str(language) if language is not None else None,
            connected=self.connected,
            taken_over=True,
        )


@dataclass(frozen=True, slots=True)
class KeptLine:
    """A seat's own call: `far` is its other leg, `row` the lost call that it calls back for, with the `others`."""

    seat: str
    leg: str
    far: str | None
    row: str | None
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptCall:
    """All legs of one call, and whose they are. Neither caller nor line: legs that are being hung up."""

    id: str
    legs: tuple[KeptLeg, ...]
    caller: KeptCaller | None = None
    line: KeptLine | None = None
    recording: Record | None = None


_WIRE = TypeAdapter(KeptCall)


def written(call: KeptCall) -> bytes:
    """One line of JSON."""
    return _WIRE.dump_json(call)


def read(text: bytes) -> KeptCall | None:
    """The call of a line; None if it is none of this version's."""
    try:
        return _WIRE.validate_json(text)
    except ValidationError:
        return None
