"""SRTP at the seats: which seat is to have it, the keys of each leg, and the alarm of a seat that does not give it."""

import secrets

from siaga_pbx.alarms import Alarms
from siaga_pbx.config import Config
from siaga_pbx.sip.sdes import KEY_BYTES, Security, text_of
from siaga_pbx.sip.sdp import NoSecurity

SECURE_TRANSPORTS = ("tls", "wss")
"""What keys may travel over."""


class SeatKeys:
    """`security` makes the key of a new leg."""

    def __init__(self, config: Config, alarms: Alarms) -> None:
        self.config = config
        self._alarms = alarms
        self._insisting: set[str] = set()
        """Seats whose phones refused SRTP beside RTP: they may take SRTP alone."""

    def security(self, seat: str, transport: str | None) -> Security | None:
        """What a leg to or from the seat is to have, by the transport of its SIP; None: plain RTP. Raises NoSecurity
        when the seat must have SRTP and its SIP can be read by others."""
        wanted = self._wanted(seat)
        if wanted != "off" and transport in SECURE_TRANSPORTS:
            alone = wanted == "required" or seat in self._insisting
            return Security(text_of(secrets.token_bytes(KEY_BYTES)), alone)
        if wanted == "required":
            raise NoSecurity(f"it registers over {transport}")
        return None

    def insists(self, seat: str) -> bool:
        """The seat's phone has refused an offer of SRTP beside RTP; whether the next is one of SRTP alone."""
        if self._wanted(seat) != "offered" or seat in self._insisting:
            return False
        self._insisting.add(seat)
        return True

    def missing(self, seat: str, why: str) -> None:
        """A call to the seat came to nothing for want of SRTP."""
        self._insisting.discard(seat)
        if self._wanted(seat) == "required":
            self._alarms.set(f"no_srtp_{seat}", True, f"seat {seat} gets no call, as it must have SRTP: {why}")

    def agreed(self, seat: str) -> None:
        """The seat has SRTP."""
        self._alarms.set(f"no_srtp_{seat}", False)

    def _wanted(self, seat: str) -> str:
        own = next((one.srtp for one in self.config.seats if one.id == seat), None)
        return own or self.config.sip.srtp
