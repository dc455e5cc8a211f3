"""Digest authentication, both ends (RFC 7616 in SIP: RFC 3261 22 and RFC 8760; RFC 2617 for peers without qop)."""

import hashlib
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from siaga_pbx.sip.errors import RemoteError
from siaga_pbx.sip.params import quote, split_commas, unquote
from siaga_pbx.sip.uri import Uri

MD5 = "md5"
SHA_256 = "sha-256"
ALGORITHMS = (MD5, SHA_256)
"""As the configuration spells them; on the wire in upper case."""

MAX_NONCES = 10_000
"""Used nonces that are remembered: a hundred phones that each register every second would need fewer in a lifetime."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a WWW-Authenticate or Proxy-Authenticate asks. `algorithm` is lower-case;

    `qop` () is a challenge of RFC 2069.
    """

    realm: str
    nonce: str
    algorithm: str = MD5
    qop: tuple[str, ...] = ("auth",)
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> "Challenge":
        """Raises RemoteError with the reason `auth`."""
        values = _parse(text)
        if "realm" not in values or "nonce" not in values:
            raise RemoteError("auth", "no realm or nonce")
        return cls(
            values["realm"],
            values["nonce"],
            values.get("algorithm", MD5).lower(),
            tuple([qop.lower() for qop in split_commas(values.get("qop", ""))]),
            values.get("opaque"),
            values.get("stale", "").lower() == "true",
        )

    def __str__(self) -> str:
        parts = [f"realm={quote(self.realm)}", f"nonce={quote(self.nonce)}"]
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        parts.append(f"algorithm={self.algorithm.upper()}")
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        if self.stale:
            parts.append("stale=true")
        return "Digest " + ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an Authorization or Proxy-Authorization says. `algorithm` is lower-case;

    `qop` and `nc` are None without qop.
    """

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = MD5
    qop: str | None = None
    nc: int | None = None
    cnonce: str | None = None
    opaque: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Credentials":
        """Raises RemoteError with the reason `auth`."""
        values = _parse(text)
        try:
            qop = values.get("qop", "").lower() or None
            return cls(
                values["username"],
                values["realm"],
                values["nonce"],
                values["uri"],
                values["response"],
                values.get("algorithm", MD5).lower(),
                qop,
                int(values["nc"][:8], 16) if qop else None,
                values.get("cnonce"),
                values.get("opaque"),
            )
        except (KeyError, ValueError):
            raise RemoteError("auth", "a field is missing or unreadable") from None

    def __str__(self) -> str:
        parts = [
            f"username={quote(self.username)}",
            f"realm={quote(self.realm)}",
            f"nonce={quote(self.nonce)}",
            f"uri={quote(self.uri)}",
            f'response="{self.response}"',
            f"algorithm={self.algorithm.upper()}",
        ]
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        if self.qop is not None:
            parts += [f"qop={self.qop}", f"nc={self.nc or 0:08x}", f"cnonce={quote(self.cnonce or '')}"]
        return "Digest " + ", ".join(parts)


def _parse(text: str) -> dict[str, str]:
    """The fields of a Digest header, unquoted, names in lower case."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        raise RemoteError("auth", f"scheme {scheme[:20]!r}")
    pairs = [part.partition("=") for part in split_commas(rest)]
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def verify(
    credentials: Credentials,
    method: str,
    password: str,
    realm: str,
    hosts: Collection[str],
    algorithms: Collection[str] = ALGORITHMS,
) -> bool:
    """Whether the credentials were made with that password, for that method, here; the nonce is `Nonces.check`'s
    business.

    Of the digest-uri only the host is compared, with `hosts` (lower-case: all that name us): phones put other things
    there than the Request-URI, and proxies rewrite that (RFC 3261 22.4). A URI without a host (tel, urn) passes.
    """
    if credentials.realm != realm or credentials.algorithm not in algorithms or credentials.algorithm not in _HASHES:
        return False
    if credentials.qop not in (None, "auth") or not _is_for(credentials.uri, hosts):
        return False
    expected = _response(credentials, method, password)
    return hmac.compare_digest(expected.encode(), credentials.response.lower().encode())


def supported_challenge(lines: Iterable[str]) -> Challenge | None:
    """The first of the challenges (one a header line) that `authorise` can answer, None if none is (RFC 8760 2.4)."""
    for line in lines:
        try:
            challenge = Challenge.parse(line)
        except RemoteError:
            continue
        if challenge.algorithm in _HASHES and (not challenge.qop or "auth" in challenge.qop):
            return challenge
    return None


def authorise(
    challenge: Challenge, method: str, uri: str, user: str, password: str, cnonce: str, nc: int = 1
) -> Credentials:
    """The credentials that answer a `supported_challenge`, for the request with that Request-URI.

    `cnonce` is random text of ours; `nc` counts the requests sent with this nonce.
    """
    qop = "auth" if "auth" in challenge.qop else None
    blank = Credentials(
        user,
        challenge.realm,
        challenge.nonce,
        uri,
        "",
        challenge.algorithm,
        qop,
        nc if qop else None,
        cnonce if qop else None,
        challenge.opaque,
    )
    return replace(blank, response=_response(blank, method, password))


class Nonce(Enum):
    """What `Nonces.check` says of a nonce."""

    FRESH = auto()
    STALE = auto()
    FORGED = auto()


class Nonces:
    """Makes nonces and knows them again without keeping them: each carries its time, its number and a code over both.

    The code is over the address too that it was made for: what one is given is no good in another's name.

    Only the used ones are remembered, for the highest count seen with each; at most MAX_NONCES. What is forgotten is
    stale, and with it all that were made before.
    """

    def __init__(self, secret: bytes, lifetime_s: float) -> None:
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._made = 0
        self._counts: dict[int, int] = {}
        self._forgotten = 0
        """Nonces up to this number are stale, used or not."""

    def make(self, host: str, now: float) -> str:
        """A new nonce for whoever is at that address, good for `lifetime_s` from `now`."""
        self._made += 1
        body = f"{int(now * 1000):012x}{self._made:010x}"
        return body + self._code(body, host)

    def check(self, nonce: str, nc: int | None, host: str, now: float) -> Nonce:
        """Whether the nonce may be used with this count (None: without qop) from that address; `use` uses it.

        STALE was ours and has expired or been used as far: challenge again, with stale=true. FORGED is not ours, an
        earlier run's, or another's.
        """
        body, code = nonce[:22], nonce[22:]
        if not hmac.compare_digest(self._code(body, host).encode(), code.encode()):
            return Nonce.FORGED
        made_at, number = int(body[:12], 16) / 1000, int(body[12:], 16)
        if now - made_at > self._lifetime_s or number <= self._forgotten:
            return Nonce.STALE
        return Nonce.FRESH if _count(nc) > self._counts.get(number, 0) else Nonce.STALE

    def use(self, nonce: str, nc: int | None) -> None:
        """Uses a FRESH nonce up to `nc`; without a count, which could rise, for good."""
        self._counts[int(nonce[12:22], 16)] = _count(nc)
        self._forget()

    def _code(self, body: str, host: str) -> str:
        return hmac.digest(self._secret, f"{body}{host}".encode(), "sha256").hex()[:32]

    def _forget(self) -> None:
        if len(self._counts) > MAX_NONCES:
            first = next(iter(self._counts))
            del self._counts[first]
            self._forgotten = max(self._forgotten, first)


_WITHOUT_COUNT = 2**32
"""Above every count: a nonce used without one is used up."""


def _count(nc: int | None) -> int:
    return _WITHOUT_COUNT if nc is None else nc


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _sha_256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_HASHES = {MD5: _md5, SHA_256: _sha_256}


def _response(credentials: Credentials, method: str, password: str) -> str:
    """RFC 7616 3.4.1; without qop RFC 2617 3.2.2.1."""
    digest = _HASHES[credentials.algorithm]
    secret = digest(f"{credentials.username}:{credentials.realm}:{password}")
    request = digest(f"{method}:{credentials.uri}")
    if credentials.qop is None:
        return digest(f"{secret}:{credentials.nonce}:{request}")
    count = f"{credentials.nc or 0:08x}"
    return digest(f"{secret}:{credentials.nonce}:{count}:{credentials.cnonce or ''}:{credentials.qop}:{request}")


def _is_for(uri: str, hosts: Collection[str]) -> bool:
    try:
        host = Uri.parse(uri).host
    except RemoteError:
        return False
    return not host or host.lower() in hosts
