"""Who a seat's phone is: digest challenges and what comes back (RFC 3261 22, RFC 7616), judged as DESIGN 3 says."""

from enum import Enum, auto

from siaga_pbx.sip.core import Core, Extra
from siaga_pbx.sip.digest import Challenge, Credentials, Nonce, Nonces, verify
from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.events import Counted
from siaga_pbx.sip.failures import Failures
from siaga_pbx.sip.message import Request
from siaga_pbx.sip.options import SeatOptions, StackSettings

NONCE_LIFETIME_S = 300.0
"""As long as the longest registration, so that a phone's refresh may use the nonce it has."""


class Verdict(Enum):
    PASSED = auto()
    CHALLENGE = auto()
    STALE = auto()
    """The nonce is not good (any more): a challenge with stale=true, so that the phone asks nobody for the password."""
    SILENCE = auto()


class Gate:
    """An unknown user has the challenges, the answers and the silence of a known one with a wrong password."""

    __slots__ = ("_core", "_hosts", "_known", "_nobody", "_nonces", "_seats", "_unknown")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._nonces = Nonces(core.token(32).encode(), NONCE_LIFETIME_S)
        self._nobody = SeatOptions("", core.token(32))
        self._known = Failures()
        self._unknown = Failures()
        self.configure(core.settings)

    def configure(self, settings: StackSettings) -> None:
        self._seats = {seat.id: seat for seat in settings.seats}
        self._hosts = frozenset(host.lower() for host in (settings.domain, *settings.own_hosts))

    def is_ours(self, host: str) -> bool:
        """Whether a seat may name us so."""
        return host.lower() in self._hosts

    def judge(self, request: Request, user: str, host: str, trusted: bool, now: float) -> Verdict:
        """Judges a request that says to be from `user`, come from address `host`.

        `trusted`: from a phone that is registered as the user now. That is never met with silence: one who guesses from
        behind the same NAT must not lock the phone out.

        The nonce is looked at before the password (RFC 7616 3.3: stale says that it was the nonce). So who was not
        asked at this very address is neither told whether he was right nor counted: by a forged source nobody can
        guess, nor make us silent towards who is really there.
        """
        failures = self._known if user in self._seats else self._unknown
        if not trusted and failures.is_silent(user, host, now):
            self._core.out.append(Counted("auth_failed", "silenced"))
            return Verdict.SILENCE
        credentials = self._credentials(request)
        if credentials is None:
            return Verdict.CHALLENGE
        if self._nonces.check(credentials.nonce, credentials.nc, host, now) is not Nonce.FRESH:
            return Verdict.STALE
        if self._is_right(credentials, request.method, user):
            failures.passed(user, host)
            self._nonces.use(credentials.nonce, credentials.nc)
            return Verdict.PASSED
        failures.failed(user, host, now)
        self._core.out.append(Counted("auth_failed", "wrong_password" if user in self._seats else "unknown_user"))
        return Verdict.SILENCE if not trusted and failures.is_silent(user, host, now) else Verdict.CHALLENGE

    def _credentials(self, request: Request) -> Credentials | None:
        """Those for our realm; phones put them in either header, whichever asked."""
        for name in ("Authorization", "Proxy-Authorization"):
            for line in request.headers.get_all(name):
                try:
                    credentials = Credentials.parse(line)
                except RemoteError:
                    continue
                if credentials.realm == self._core.settings.domain:
                    return credentials
        return None

    def _is_right(self, credentials: Credentials, method: str, user: str) -> bool:
        seat = self._seats.get(user, self._nobody)
        settings = self._core.settings
        # Only what was offered counts: a phone that answers SHA-256 with MD5 (pyVoIP) would weaken its seat.
        right = verify(credentials, method, seat.password, settings.domain, self._hosts, seat.digest or settings.digest)
        # A phone may write its name with our domain behind it.
        return right and credentials.username.partition("@")[0] == seat.id

    def challenge(self, user: str, host: str, stale: bool, name: str, now: float) -> Extra:
        """The challenges for a user at an address, one header each, the stronger algorithm first (RFC 8760 2.4)."""
        settings = self._core.settings
        algorithms = self._seats.get(user, self._nobody).digest or settings.digest
        nonce = self._nonces.make(host, now)
        # SHA-256 sorts before MD5 for a phone that takes the first it knows.
        return tuple(
            (name, str(Challenge(settings.domain, nonce, algorithm, stale=stale)))
            for algorithm in sorted(algorithms, reverse=True)
        )
