"""SRTP and SRTCP of one leg (RFC 3711), by libsrtp: what is sent is protected, what comes is checked and opened."""

import base64
import struct
from collections.abc import Callable

from pylibsrtp import Error, Policy, Session

from siaga_pbx.media.protocol import Srtp, SrtpSuite

WINDOW = 256
"""Packets that a late one may be behind and not count as a replay (RFC 3711 3.3.2): more than `rtp.MAX_DISORDER`."""
MAX_ROLLS = 4096
"""Rounds of the sequence numbers, of 22 minutes each: longer than any call."""
TRY_S = 0.01
"""Between two attempts to find the rollover counter: they cost more than a packet does."""

_PROFILES = {
    SrtpSuite.SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpSuite.SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
_STEP = 0x7000
"""As far as the index may leap without being taken for one of the round before (RFC 3711 3.3.1)."""
_HEADER = struct.Struct("!BBHII")


class Cipher:
    """Both directions. `rolls` is the rollover counter of the far side as far as it was known to another worker."""

    __slots__ = ("_inbound", "_keys", "_on_roll", "_outbound", "_sequence", "_ssrc", "_tried_at", "rolls")

    def __init__(self, keys: Srtp, rolls: int, on_roll: Callable[[int], None]) -> None:
        """`on_roll` is told of each new rollover counter. Raises ValueError for keys that are none."""
        self.rolls = rolls
        self._on_roll = on_roll
        self._keys = keys
        self._outbound = _session(keys.suite, keys.ours, Policy.SSRC_ANY_OUTBOUND)
        self._inbound = _session(keys.suite, keys.theirs, Policy.SSRC_ANY_INBOUND)
        self._ssrc: int | None = None
        self._sequence = 0
        self._tried_at = float("-inf")

    def rekey(self, keys: Srtp) -> bool:
        """As agreed anew; what did not change goes on. Whether what we send begins anew and needs a new SSRC: under one
        key no index of an SSRC may come twice (RFC 3711 9.1)."""
        before, self._keys = self._keys, keys
        if anew := (keys.suite, keys.ours) != (before.suite, before.ours):
            self._outbound = _session(keys.suite, keys.ours, Policy.SSRC_ANY_OUTBOUND)
        if (keys.suite, keys.theirs) != (before.suite, before.theirs):
            self._inbound = _session(keys.suite, keys.theirs, Policy.SSRC_ANY_INBOUND)
            self._ssrc = None
        return anew

    def protect(self, packet: bytes) -> bytes:
        """RTP to be sent. Raises OSError if it cannot be, as a socket would."""
        try:
            return bytes(self._outbound.protect(packet))
        except (Error, ValueError) as error:
            raise OSError(str(error)) from error

    def protect_report(self, packet: bytes) -> bytes:
        """RTCP to be sent. Raises OSError."""
        try:
            return bytes(self._outbound.protect_rtcp(packet))
        except (Error, ValueError) as error:
            raise OSError(str(error)) from error

    def opened(self, packet: bytes, now: float) -> bytes | None:
        """RTP that came; None if the far side did not make it with its key, or it came before."""
        try:
            opened: bytes | None = self._inbound.unprotect(packet)
        except ValueError:
            return None
        except Error:
            opened = self._found(packet, now) if self._ssrc is None else None
        if opened is not None:
            self._follow(opened)
        return opened

    def opened_report(self, packet: bytes) -> bytes | None:
        """RTCP that came, as `opened`."""
        try:
            return bytes(self._inbound.unprotect_rtcp(packet))
        except (Error, ValueError):
            return None

    def _follow(self, packet: bytes) -> None:
        """The rollover counter as libsrtp has it (RFC 3711 3.3.1), which does not tell it."""
        _, _, sequence, _, ssrc = _HEADER.unpack_from(packet)
        if ssrc != self._ssrc:
            self._roll_to(0)
            self._ssrc, self._sequence = ssrc, sequence
        elif (sequence - self._sequence) & 0xFFFF < 0x8000:
            if sequence < self._sequence:
                self._roll_to(self.rolls + 1)
            self._sequence = sequence

    def _roll_to(self, rolls: int) -> None:
        if rolls != self.rolls:
            self.rolls = rolls
            self._on_roll(rolls)

    def _found(self, packet: bytes, now: float) -> bytes | None:
        """The first packet of a stream that began long ago: it says neither in which round its number is, nor does
        libsrtp let us say it. We go the whole way in dummies of our own, to where the far side was last, or one on."""
        if now - self._tried_at < TRY_S or len(packet) < _HEADER.size:
            return None
        self._tried_at = now
        _, _, sequence, _, ssrc = _HEADER.unpack_from(packet)
        for rolls in (self.rolls, self.rolls + 1, self.rolls - 1):
            if not 0 < rolls <= MAX_ROLLS:
                continue
            wound = _wound(self._keys, ssrc, (rolls << 16) + sequence)
            try:
                clear = bytes(wound.unprotect(packet))
            except Error:
                continue
            self._inbound, self._ssrc, self._sequence = wound, ssrc, sequence
            self._roll_to(rolls)
            return clear
        return None


def _wound(keys: Srtp, ssrc: int, index: int) -> Session:
    """An inbound session that has come to just before this index of a stream."""
    there = _session(keys.suite, keys.theirs, Policy.SSRC_ANY_OUTBOUND)
    here = _session(keys.suite, keys.theirs, Policy.SSRC_ANY_INBOUND)
    for passed in range(0, index, _STEP):
        here.unprotect(there.protect(_HEADER.pack(0x80, 0, passed & 0xFFFF, 0, ssrc) + b"\0"))
    return here


def _session(suite: SrtpSuite, key: str, kind: int) -> Session:
    policy = Policy(base64.b64decode(key), kind, srtp_profile=_PROFILES[suite])
    policy.window_size = WINDOW
    return Session(policy)
