"""The legs of live calls: whose they are, their offer/answer (RFC 3264), and their end in the media worker."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_network

from siaga_pbx.media import protocol as media
from siaga_pbx.media.client import MediaClient
from siaga_pbx.seatkeys import SeatKeys
from siaga_pbx.sip.events import LegId
from siaga_pbx.sip.sdes import Keys
from siaga_pbx.sip.sdp import Audio, LocalAudio, NoSecurity, Sdp, make_answer, make_offer, read_answer


class Role(StrEnum):
    """What a leg is for."""

    CALLER = "caller"
    SEAT = "seat"
    OVERFLOW = "overflow"
    FEATURE = "feature"
    CALLBACK = "callback"
    TEST = "test"
    DISPATCH = "dispatch"


_SIDES = {Role.SEAT: media.Side.SEAT, Role.FEATURE: media.Side.SEAT}


@dataclass(slots=True)
class Leg:
    """One leg. `local` is our own end of its audio; `ours` an offer of ours that waits for its answer; `told` what they
    were told last.

    `trunk` or `seat` says whose it is; `peer` is the address that its SIP comes from, or goes to, over `transport`.
    `doubted`: its SIP says that nobody may be there (no ACK, no refresh); its audio decides. `held_since`: monotonic
    seconds. `lacks`: what it came to nothing for, if offer and answer did not fit. `srtp`: whether that is required;
    None: not even offered. `withdrawn`: we have hung up, whatever they say to our INVITE.
    """

    id: LegId
    role: Role
    call: str
    trunk: str | None = None
    seat: str | None = None
    peer: str | None = None
    local: LocalAudio | None = None
    ours: Sdp | None = None
    remote: Audio | None = None
    answered: bool = False
    bridged: bool = False
    doubted: bool = False
    told: Sdp | None = None
    held_since: float | None = None
    transport: str | None = None
    lacks: str = "no_common_codec"
    srtp: bool | None = None
    withdrawn: bool = False

    def offer(self) -> Sdp:
        """Our offer, to be sent; `agree` takes the answer."""
        self.ours = make_offer(self._own())
        if self._is_news(self.ours):
            self.ours = make_offer(self._own())
        self.told = self.ours
        return self.ours

    def reply(self, offer: Sdp | None) -> Sdp:
        """What our 200 carries: the answer to their offer, or our offer when they made none. Raises NoCommonCodec."""
        if offer is None:
            return self.offer()
        answer, self.remote = make_answer(offer, self._own())
        if self._is_news(answer):
            answer, _ = make_answer(offer, self._own())
        self.told, self.ours = answer, None
        return answer

    def agree(self, answer: Sdp | None) -> bool:
        """Takes the answer to our offer; False when none is owed or none came. Raises NoCommonCodec."""
        if self.ours is None or answer is None:
            return False
        self.remote, self.ours = read_answer(self.ours, answer), None
        return True

    @property
    def holds(self) -> bool:
        """Whether they hold the other side: they want to hear nothing (RFC 3264 8.4), and may well say nothing."""
        return self.remote is not None and not self.remote.direction.sends

    @property
    def to_be_heard(self) -> bool:
        """Whether their audio is to come now: neither side holds the other."""
        return self.remote is None or (self.remote.direction.receives and not self.holds)

    def hold_changed(self, now: float) -> tuple[str, dict[str, object]] | None:
        """`on_hold` or `resumed`, with what goes on record, if they began or ended to hold since last asked."""
        if not self.answered or self.holds is (self.held_since is not None):
            return None
        data: dict[str, object] = {"leg": self.role.value}
        if self.seat is not None:
            data["seat"] = self.seat
        if self.held_since is None:
            self.held_since = now
            return "on_hold", data
        seconds, self.held_since = now - self.held_since, None
        return "resumed", {**data, "seconds": round(seconds, 1)}

    def _is_news(self, described: Sdp) -> bool:
        """Whether they were told something else before: then the session is at its next version (RFC 3264 8)."""
        if self.told is None or self.told == described:
            return False
        own = self._own()
        self.local = replace(own, version=own.version + 1)
        return True

    def _own(self) -> LocalAudio:
        assert self.local is not None, "a leg negotiates after its media is open"
        return self.local


@dataclass(slots=True)
class Caller:
    """A live 112 call. `arrived` is monotonic seconds, `received_at` UTC text; `seats` are its seats' live legs."""

    id: str
    leg: Leg
    offer: Sdp | None
    number: str | None
    identity_class: str
    callable: bool
    skills: frozenset[str]
    priority: int
    arrived: float
    received_at: str
    seats: dict[str, Leg] = field(default_factory=dict)
    overflow: Leg | None = None
    queued: bool = False
    offered: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    """What goes along to whoever takes the call."""
    language: str | None = None
    """What prompts are in; None: the centre's own."""
    connected: str | None = None
    """The seat, or "overflow", that it was bridged to last."""
    status: int | None = None
    reason: str | None = None
    taken_over: bool = False
    """It called an earlier daemon."""
    interrupted: bool = False
    """It ends for want of audio."""

    @property
    def other(self) -> Leg | None:
        """The leg of whoever has the caller."""
        return self.overflow if self.connected == "overflow" else self.seats.get(self.connected or "")

    def prompts(self, *names: str) -> tuple[str, ...]:
        """These prompts in the caller's language; who has none in it plays its own."""
        return names if self.language is None else tuple(f"{self.language}/{name}" for name in names)


def _no_matter(_call: str, _sip_call_id: str) -> None:
    """Nobody asks which dialogs a call has."""


def _no_news(_call: str) -> None:
    """Nobody asks what changes."""


class LegBook:
    """The legs that live, by id, each with its ports in the media worker."""

    def __init__(
        self,
        client: MediaClient,
        networks_of: Callable[[str], tuple[media.Network, ...]],
        joined: Callable[[str, str], None] = _no_matter,
        keys: SeatKeys | None = None,
    ) -> None:
        """`networks_of` gives where a trunk's audio may come from; `joined` is told of each call's SIP Call-IDs; `keys`
        says which seats have SRTP."""
        self._client, self._networks_of, self._joined, self._keys = client, networks_of, joined, keys
        self._legs: dict[LegId, Leg] = {}
        self._counting: dict[LegId, Leg] = {}
        self._empty = asyncio.Event()
        self._sessions = 0
        self.on_change: Callable[[str], None] = _no_news
        """Told of a call when one of its legs begins, agrees on its audio, or is over."""

    def __iter__(self) -> Iterator[Leg]:
        return iter(tuple(self._legs.values()))

    def __len__(self) -> int:
        return len(self._legs)

    def get(self, leg_id: LegId) -> Leg | None:
        return self._legs.get(leg_id)

    def add(self, leg: Leg, sip_call_id: str | None = None) -> None:
        """A leg lives. `sip_call_id` is that of a peer's INVITE; of our own the leg's id is the Call-ID."""
        self._legs[leg.id] = leg
        if leg.local is not None:  # of an earlier daemon
            self._sessions = max(self._sessions, leg.local.session_id)
        self._joined(leg.call, sip_call_id or leg.id)
        self.on_change(leg.call)

    def open(self, leg: Leg) -> bool:
        """Give the leg a pair of ports; False when there is no worker or no port, or the seat must have SRTP and cannot
        (the alarm is raised)."""
        try:
            security = self._keys.security(leg.seat, leg.transport) if self._keys and leg.seat is not None else None
        except NoSecurity as error:
            self.unprotected(leg, error.detail)
            return False
        side = _SIDES.get(leg.role, media.Side.CALLER)
        place = self._client.open(leg.call, leg.id, side, leg.peer)
        if place is None:
            return False
        self._sessions += 1
        leg.local = LocalAudio(place.address, place.port, self._sessions, 1, security)
        leg.srtp = None if security is None else security.required
        return True

    def unprotected(self, leg: Leg, why: str) -> None:
        """A seat's leg comes to nothing, as it must have SRTP."""
        leg.lacks = "no_srtp"
        if self._keys is not None and leg.seat is not None:
            self._keys.missing(leg.seat, why)

    def insists_on_srtp(self, leg: Leg) -> bool:
        """A seat's phone has refused our offer: whether it may take nothing but SRTP, which is offered next."""
        return self._keys is not None and leg.seat is not None and leg.srtp is False and self._keys.insists(leg.seat)

    def connect(self, leg: Leg) -> None:
        """Tell the worker the far side that was agreed, and whose packets to take for its own."""
        self.on_change(leg.call)
        far = leg.remote
        if far is None:
            return
        strict = leg.seat is not None
        if self._keys is not None and leg.seat is not None and far.keys is not None:
            self._keys.agreed(leg.seat)
        accept: tuple[media.Network, ...] = ()
        if leg.trunk is not None:
            accept = self._networks_of(leg.trunk)
        elif leg.peer is not None and leg.peer != far.host:
            accept = (ip_network(leg.peer),)  # behind NAT: its SDP names an address that we never see
        self._client.connect(
            leg.id,
            media.Remote(
                host=far.host,
                port=far.port,
                codec=media.Codec(far.codec),
                payload_type=far.payload,
                telephone_event=far.telephone_event,
                ptime_ms=far.ptime_ms,
                max_ptime_ms=far.max_ptime_ms,
                comfort_noise=far.comfort_noise,
                rtcp_mux=far.rtcp_mux,
                rtcp=far.rtcp,
                accept=accept,
                strict=strict,
                sending=far.direction.sends,
                receiving=far.direction.receives,
                srtp=_srtp(far.keys),
            ),
        )

    def close(self, leg: Leg) -> None:
        """The leg is over: its ports go back, and its id means nothing any more."""
        self._legs.pop(leg.id, None)
        self.on_change(leg.call)
        if not self._legs:
            self._empty.set()
        if leg.local is not None:
            leg.local = None
            self._counting[leg.id] = leg
            self._client.close(leg.id)

    async def none_left(self) -> None:
        """Returns when no leg lives."""
        while self._legs:
            self._empty.clear()
            await self._empty.wait()

    def counted(self, leg_id: LegId) -> Leg | None:
        """The closed leg that the worker now gives the account of; once."""
        return self._counting.pop(leg_id, None)


def _srtp(keys: Keys | None) -> media.Srtp | None:
    return None if keys is None else media.Srtp(media.SrtpSuite(keys.suite), keys.ours, keys.theirs)
