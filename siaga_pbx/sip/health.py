"""OPTIONS out of any dialog: is somebody there? (RFC 3261 11)"""

from collections.abc import Iterable
from functools import partial

from siaga_pbx.sip.attempts import Attempts
from siaga_pbx.sip.core import Core, contact_header
from siaga_pbx.sip.events import OptionsOutcome
from siaga_pbx.sip.extensions import ABILITIES
from siaga_pbx.sip.flow import Hop, Way
from siaga_pbx.sip.message import Headers, Request, Response
from siaga_pbx.sip.transaction import Lost
from siaga_pbx.sip.uri import Uri


class Health:
    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def check(self, token: str, where: Way | Hop, uri: Uri, now: float) -> None:
        """Of a name, one target that answers is enough."""
        self._core.find(where, partial(self._found, token, uri), now)

    def _found(self, token: str, uri: Uri, ways: Iterable[Way], now: float) -> None:
        attempts = Attempts(self._core, partial(self._request, uri), self._core.send, partial(self._answered, token))
        attempts.start(list(ways), now)

    def _request(self, uri: Uri, way: Way) -> Request:
        core = self._core
        headers = Headers()
        headers.add("Max-Forwards", "70")
        headers.add("From", f"<sip:siaga@{core.settings.domain}>;tag={core.token()}")
        headers.add("To", f"<{uri}>")
        headers.add("Call-ID", core.token())
        headers.add("CSeq", "1 OPTIONS")
        headers.add("Contact", contact_header(core.settings.contact_for(way), way))
        for name, value in ABILITIES:
            headers.add(name, value)
        headers.add("User-Agent", core.settings.user_agent)
        return Request("OPTIONS", uri, headers)

    def _answered(self, token: str, response: Response | Lost, now: float) -> None:
        """Any final response means alive: a phone that says 404 or 486 is there."""
        if isinstance(response, Lost):
            self._core.out.append(OptionsOutcome(token, False, response.value))
        elif response.status >= 200:
            self._core.out.append(OptionsOutcome(token, True, response.status))
