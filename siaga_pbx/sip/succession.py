"""A leg goes on in another dialog: the user accepts or refuses an INVITE with Replaces (RFC 3891 3)."""

from siaga_pbx.sip.byes import Byes
from siaga_pbx.sip.core import Core
from siaga_pbx.sip.events import Answered, By, Noted
from siaga_pbx.sip.leg import Leg, Phase
from siaga_pbx.sip.sdp import Sdp
from siaga_pbx.sip.uac import Uac
from siaga_pbx.sip.uas import Uas

REPLACED = 'SIP;cause=200;text="Replaced"'


class Succession:
    __slots__ = ("_byes", "_core", "_uac", "_uas")

    def __init__(self, core: Core, uas: Uas, uac: Uac, byes: Byes) -> None:
        self._core = core
        self._uas = uas
        self._uac = uac
        self._byes = byes

    def accept(self, leg: Leg, heir: Leg, sdp: Sdp, now: float) -> None:
        """200 to the INVITE; the leg's id is the heir's from now on, and the old dialog ends by BYE or CANCEL."""
        core = self._core
        early = leg.phase is Phase.CALLING
        leg.heir = heir.heir_of = None
        core.close(leg)
        core.refuse_pending(leg, now)
        leg.id, heir.id = heir.id, leg.id
        core.legs[heir.id] = heir
        heir.confirmed = True  # to the user this is no new call
        self._uas.answer(heir, sdp, now)
        core.out.append(Noted(heir.id, "replaced", heir.dialog.call_id))
        leg.reason = REPLACED
        if early:
            core.out.append(Answered(heir.id, None, None))
            self._uac.abandon(leg, now)
        elif not leg.unacked:
            self._byes.send(leg, now)

    def refuse(self, heir: Leg, status: int, now: float) -> None:
        """The leg goes on as it was."""
        self._uas.finish(heir, status, By.LOCAL, None, now)
