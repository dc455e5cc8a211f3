"""Takes every event of the stack and of the media workers to whom it concerns; watches trunks, seats and bindings."""

import json
from collections.abc import Callable
from typing import Any

import structlog

from siaga_pbx.audiolog import OF_NO_CALL, AudioLog
from siaga_pbx.call import events as told
from siaga_pbx.call.features import KeySource, info_key
from siaga_pbx.config import Config
from siaga_pbx.legs import Leg, Role
from siaga_pbx.media import events as client
from siaga_pbx.media import protocol as media
from siaga_pbx.outbound import target_of
from siaga_pbx.records.changes import Delete, Upsert
from siaga_pbx.records.reader import Record
from siaga_pbx.records.store import Store
from siaga_pbx.records.times import parse_utc, utc_text
from siaga_pbx.seatlines import SeatLines
from siaga_pbx.sip import events as sip
from siaga_pbx.sip.access import Seat
from siaga_pbx.sip.binding import StoredBinding
from siaga_pbx.sip.uri import Uri
from siaga_pbx.switch import Switch
from siaga_pbx.tools import Tools
from siaga_pbx.voicedispatch import VoiceDispatch

log = structlog.get_logger(__name__)

TIMED_OUT = 'Q.850;cause=102;text="Recovery on timer expiry"'
NO_AUDIO_MS = 60_000.0
"""A leg that was never silent for as long clears the alarm of one that was."""
_TRUNK_ALARMS = ("trunk_down_", "no_route_", "no_common_codec_", "no_audio_", "no_srtp_")


class Hub:
    """A fault of ours in one call must not touch the others: what is raised is caught once, logged and counted."""

    def __init__(
        self, config: Config, tools: Tools, switch: Switch, lines: SeatLines, voice: VoiceDispatch, store: Store
    ) -> None:
        self.config = config
        self.trunks_up: dict[str, bool] = {}
        self._tools, self._switch, self._lines, self._store = tools, switch, lines, store
        self._voice = voice
        self.audio = audio = AudioLog(tools)
        self._sip: dict[type, Callable[[Any], None]] = {
            sip.IncomingCall: self._incoming,
            sip.Registered: self._registered,
            sip.Unregistered: self._unregistered,
            sip.OptionsOutcome: self._options_outcome,
            sip.Info: self._info,
            sip.SessionMissed: self._session_missed,
            sip.SessionRefreshed: self._session_refreshed,
        }
        self._media: dict[type, Callable[[Any], None]] = {
            media.OpenFailed: self._open_failed,
            media.FirstPacket: self._first_packet,
            media.Refused: self._refused,
            media.Dtmf: self._dtmf,
            media.Played: self._played,
            media.PromptMissing: self._prompt_missing,
            media.Silent: self._silent,
            media.Unheard: audio.unheard,
            media.HeardAgain: audio.heard_again,
            media.Closed: self._closed,
            media.Recorded: audio.recorded,
            media.RecordBegan: lambda _: None,
            media.RecordFailed: audio.record_failed,
            media.RecordGap: audio.record_gap,
            client.MediaDown: self._media_down,
            client.MediaUp: self._media_up,
            client.PortsExhausted: self._ports_exhausted,
            client.PortsAvailable: self._ports_available,
            client.StrayLegs: self._stray_legs,
        }

    # --- SIP ----------------------------------------------------------------------------------------------------------

    def on_sip(self, event: sip.Event) -> None:
        """The endpoint calls it, and catches and counts what it should raise."""
        handle = self._sip.get(type(event))
        if handle is not None:
            handle(event)
            return
        leg_id: str = getattr(event, "leg", "")
        leg = self._tools.legs.get(leg_id)
        if leg is None:
            return
        if leg.role in (Role.FEATURE, Role.CALLBACK):
            self._lines.on_sip(event, leg)
        elif leg.role is Role.DISPATCH:
            self._voice.on_sip(event, leg)
        else:
            self._switch.on_sip(event, leg)
        match event:
            case sip.Failed() | sip.Ended():
                self._lines.forget(leg)
            case sip.Confirmed() | sip.Unacknowledged():
                # On file at once: a 200 that waits for its ACK is sent again after a restart, and holds a BYE back.
                self._tools.legs.on_change(leg.call)

    def _incoming(self, event: sip.IncomingCall) -> None:
        if isinstance(event.peer, Seat):
            self._lines.incoming(event, event.peer.id)
        else:
            self._switch.callers.incoming(event, event.peer)

    def _info(self, event: sip.Info) -> None:
        leg, key = self._tools.legs.get(event.leg), info_key(event.content_type, event.body)
        if leg is not None and key is not None:
            self._key(leg, key, KeySource.INFO)

    def _session_missed(self, event: sip.SessionMissed) -> None:
        """Nobody refreshed the session (RFC 4028). It ends when its audio has stopped too, and not before."""
        leg = self._tools.legs.get(event.leg)
        if leg is None:
            return
        if not leg.doubted and leg.role not in OF_NO_CALL:
            self._tools.log.step(leg.call, "session_missed", {"leg": leg.role.value, "status": event.status})
        leg.doubted = True

    def _session_refreshed(self, event: sip.SessionRefreshed) -> None:
        leg = self._tools.legs.get(event.leg)
        if leg is not None:
            leg.doubted = False

    def _key(self, leg: Leg, key: str, source: KeySource) -> None:
        if leg.role is Role.DISPATCH:
            self._voice.key(leg, key)
        else:
            self._lines.key(leg, key, source)

    # --- seats and trunks ---------------------------------------------------------------------------------------------

    def restore_bindings(self, rows: list[Record]) -> None:
        """Take the stored registrations back, so that a restart loses no seat. A row that cannot be read is left."""
        stored = []
        for row in rows:
            try:
                stored.append(_binding_of(row, self._tools.epoch()))
            except (ValueError, TypeError, LookupError):
                log.exception("a stored registration cannot be read", seat=row.get("seat"))
        self._tools.perform(self._tools.stack.restore(stored, self._tools.now()))

    def restore_pauses(self, rows: list[Record]) -> None:
        """Take the seats' pauses back from their history (`rows`, oldest first), so that none ends by a restart."""
        last = {str(row["subject_id"]): row for row in rows if row["kind"] in ("paused", "ready")}
        for seat, row in last.items():
            if row["kind"] == "paused":
                data = row["data"]
                reason = data.get("reason") if isinstance(data, dict) else None
                self._switch.tell(told.SeatPaused(seat, str(reason) if reason is not None else None))

    def audit(self) -> None:
        """The watchdog: a leg that the stack has let go of is over, whatever kept the news from us. Then the queue."""
        for leg in self._tools.legs:
            if not self._tools.stack.lives(leg.id):
                self._tools.metrics.internal_errors.labels("leg_left").inc()
                log.error("a leg outlived its dialog", call_id=leg.call, leg=leg.role.value)
                self.on_sip(sip.Ended(leg.id, sip.By.FAULT, None, None))
        self._switch.audit()

    def _registered(self, event: sip.Registered) -> None:
        binding, now = event.binding, self._tools.now()
        left = max(0.0, binding.expires_at - now)
        contact = str(binding.contact)
        stored = [one for one in self._tools.stack.snapshot(now) if (one.seat, one.contact) == (event.seat, contact)]
        self._store.write([Upsert("seat_binding", _row_of(one, self._tools.epoch())) for one in stored])
        if event.fresh:
            log.info("seat registered", seat=event.seat, transport=binding.source.transport, expires_s=round(left))
            self._tools.log.seat(event.seat, "registered", {"transport": binding.source.transport})
        self._switch.tell(told.SeatRegistered(event.seat))

    def _unregistered(self, event: sip.Unregistered) -> None:
        log.info("seat unregistered", seat=event.seat, cause=event.cause.value)
        self._tools.log.seat(event.seat, "unregistered", {"cause": event.cause.value})
        self._store.write([Delete("seat_binding", event.seat)])
        self._switch.tell(told.SeatUnregistered(event.seat))

    def check_peers(self) -> None:
        """OPTIONS to every trunk that has a health_uri, and to every registered seat."""
        stack, now = self._tools.stack, self._tools.now()
        for trunk in self.config.trunks:
            if trunk.health_uri is not None:
                uri = Uri.parse(trunk.health_uri)
                self._tools.perform(stack.options(f"trunk:{trunk.id}", target_of(uri), uri, now))
        for binding in stack.bindings():
            self._tools.perform(stack.options_seat(f"seat:{binding.seat}", binding.seat, now))

    def _options_outcome(self, event: sip.OptionsOutcome) -> None:
        kind, _, name = event.token.partition(":")
        if kind == "seat":
            self._switch.tell(told.SeatTrusted(name) if event.alive else told.SeatSuspect(name))
            return
        trunk = self.config.trunk(name)
        if trunk is None or trunk.health_uri is None:
            return  # a reload came between
        if self.trunks_up.get(name) is not event.alive:
            self._tools.log.system("trunk_up" if event.alive else "trunk_down", {"trunk": name, "status": event.status})
        self.trunks_up[name] = event.alive
        self._tools.metrics.trunk_up.labels(name).set(event.alive)
        self._tools.alarms.set(f"trunk_down_{name}", not event.alive, f"trunk {name} does not answer OPTIONS")

    def configure(self, config: Config) -> None:
        """Forget what was found out about trunks that are no more, or are no longer checked."""
        self.config = config
        checked = {trunk.id for trunk in config.trunks if trunk.health_uri is not None}
        for name in self.trunks_up.keys() - checked:
            del self.trunks_up[name]
        kept = {trunk.id for trunk in config.trunks} | {seat.id for seat in config.seats}
        for alarm in tuple(self._tools.alarms.active):
            kind, trunk = _of_trunk(alarm)
            # What matched no route may match one of the new dialplan: the next call tells.
            if kind in ("no_route_", "no_srtp_") or (
                kind and trunk not in (checked if kind == "trunk_down_" else kept)
            ):
                self._tools.alarms.set(alarm, False)

    # --- media --------------------------------------------------------------------------------------------------------

    def on_media(self, event: client.MediaEvent) -> None:
        try:
            self._media[type(event)](event)
        except Exception:
            self._tools.metrics.internal_errors.labels("media").inc()
            log.exception("a media event was not carried out", media_event=type(event).__name__)

    def _dtmf(self, event: media.Dtmf) -> None:
        leg = self._tools.legs.get(event.leg)
        if leg is not None:
            self._key(leg, event.digit, KeySource.RTP)

    def _played(self, event: media.Played) -> None:
        leg = self._tools.legs.get(event.leg)
        if leg is None:
            return
        if leg.role is Role.FEATURE:
            self._lines.played(leg)
        elif leg.role is Role.DISPATCH:
            self._voice.played(leg)
        elif leg.role is Role.SEAT:
            self._switch.takers.played(leg)

    def _first_packet(self, event: media.FirstPacket) -> None:
        leg = self._tools.legs.get(event.leg)
        if leg is not None and not event.expected:
            where = {"leg": leg.role.value, "host": event.host, "port": event.port}
            self._tools.log.step(leg.call, "audio_from_elsewhere", where)

    def _refused(self, event: media.Refused) -> None:
        """Somebody else sends audio, or with the wrong key: who, and how much so far."""
        leg = self._tools.legs.get(event.leg)
        if leg is None:
            return
        what = {"leg": leg.role.value, "why": event.why, "host": event.host, "port": event.port}
        log.warning("audio refused", call_id=leg.call, packets=event.packets, **what)
        if leg.role not in OF_NO_CALL:
            self._tools.log.step(leg.call, "audio_refused", {**what, "packets": event.packets})

    def _silent(self, event: media.Silent) -> None:
        """No audio for a minute: ask the peer whether the call is still there; 481, 408 or silence ends the leg.

        Of one that is doubted anyway it is the end. While either side holds the other, silence is no fault.
        """
        leg, stack, now = self._tools.legs.get(event.leg), self._tools.stack, self._tools.now()
        if leg is None or not leg.answered:
            return
        if not leg.to_be_heard:
            self._tools.perform(stack.check(leg.id, now))
            return
        self._tools.log.step(leg.call, "no_audio", {"leg": leg.role.value, "seconds": event.seconds})
        log.warning("no audio", call_id=leg.call, leg=leg.role.value, seconds=event.seconds)
        self._tools.alarms.set(
            _no_audio(leg), True, f"no audio came from {leg.trunk or leg.seat} in a call for a minute"
        )
        self._tools.perform(stack.hang_up(leg.id, now, TIMED_OUT) if leg.doubted else stack.check(leg.id, now))

    def _closed(self, event: media.Closed) -> None:
        leg = self._tools.legs.counted(event.leg)
        if leg is None:
            return
        if event.stats.received and event.stats.longest_gap_ms < NO_AUDIO_MS:
            self._tools.alarms.set(_no_audio(leg), False)
        self.audio.closed(leg, event.stats)

    def _prompt_missing(self, event: media.PromptMissing) -> None:
        self._tools.alarms.set(f"prompt_missing_{event.name}", True, event.reason)

    def _media_down(self, event: client.MediaDown) -> None:
        self._tools.alarms.set(f"media_down_{event.worker}", True, f"media worker {event.worker}: {event.reason}")
        self._note_media(event.legs, "media_down")

    def _media_up(self, event: client.MediaUp) -> None:
        self._tools.alarms.set(f"media_down_{event.worker}", False)
        self._note_media(event.resumed, "media_resumed")
        self._switch.callers.media_is_back()

    def _open_failed(self, event: media.OpenFailed) -> None:
        """The port of a leg that a new worker was to go on with is taken: the call goes on, that leg mute.

        But for a caller of an earlier daemon, who was without audio long enough: the call ends, and is called back.
        """
        self._note_media((event.leg,), "media_lost")
        log.error("a leg's audio is lost", leg=event.leg, reason=event.reason)
        leg = self._tools.legs.get(event.leg)
        caller = self._switch.callers.live.get(leg.call) if leg is not None else None
        if caller is not None and caller.leg is leg and caller.taken_over:
            self._switch.callers.interrupt(caller)

    def _note_media(self, legs: tuple[str, ...], kind: str) -> None:
        for leg in (self._tools.legs.get(leg_id) for leg_id in legs):
            if leg is not None and leg.role not in OF_NO_CALL:
                self._tools.log.step(leg.call, kind, {"leg": leg.role.value})

    def _ports_exhausted(self, event: client.PortsExhausted) -> None:
        self._tools.alarms.set("media_ports_exhausted", True, f"no port free on {event.address}; see [media] ports")

    def _ports_available(self, event: client.PortsAvailable) -> None:
        self._tools.alarms.set("media_ports_exhausted", False)
        self._switch.callers.media_is_back()

    def _stray_legs(self, event: client.StrayLegs) -> None:
        calls = sorted({leg.open.call for leg in event.legs})
        self._tools.log.system("stray_legs_closed", {"worker": event.worker, "calls": calls})


def _no_audio(leg: Leg) -> str:
    return f"no_audio_{leg.trunk or leg.seat}"


def _of_trunk(alarm: str) -> tuple[str, str]:
    """The kind of an alarm and the trunk that it is about; of another alarm nothing."""
    return next(((kind, alarm.removeprefix(kind)) for kind in _TRUNK_ALARMS if alarm.startswith(kind)), ("", ""))


# A seat has one row: the contact that it registered last, which is the one that is called.


def _row_of(stored: StoredBinding, epoch: float) -> dict[str, object]:
    flow = {"transport": stored.transport, "local": stored.local, "remote": stored.remote}
    return {
        "id": stored.seat,
        "seat": stored.seat,
        "contact": stored.contact,
        "flow": json.dumps(flow),
        "via_is_source": stored.via_is_source,
        "expires_at": utc_text(epoch + stored.expires_in),
        "call_id": stored.call_id,
        "cseq": stored.cseq,
        "path": json.dumps(stored.path) if stored.path else None,
        "user_agent": stored.user_agent,
    }


def _binding_of(row: Record, epoch: float) -> StoredBinding:
    flow: Any = row["flow"]
    path = json.loads(str(row["path"])) if row["path"] else []
    return StoredBinding(
        seat=str(row["seat"]),
        contact=str(row["contact"]),
        transport=flow["transport"],
        local=(flow["local"][0], flow["local"][1]),
        remote=(flow["remote"][0], flow["remote"][1]),
        via_is_source=bool(row["via_is_source"]),
        expires_in=parse_utc(str(row["expires_at"])).timestamp() - epoch,
        call_id=str(row["call_id"]),
        cseq=int(str(row["cseq"])),
        path=tuple(path),
        user_agent=str(row["user_agent"]) if row["user_agent"] else None,
    )
