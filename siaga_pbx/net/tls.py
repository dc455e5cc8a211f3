"""The TLS contexts of one certificate, TLS 1.2 and later, and the names that a peer proves by its own."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_NAMES = 32
"""Names of one certificate that are looked at."""


class TlsContexts:
    """Raises OSError (ssl.SSLError is one) when the files do not serve. Without a certificate: a client.

    `server` asks for the peer's certificate if there is a `ca` to verify it by: one that does not verify ends the
    handshake, none at all does not. `web` (for browsers) never asks. `client` verifies the server by the machine's
    certificate authorities ($SSL_CERT_FILE names others) and `ca`, and shows our certificate to who asks for it.
    """

    def __init__(self, certificate: Path | None = None, key: Path | None = None, ca: Path | None = None) -> None:
        self._files = certificate, key, ca
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.web = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.create_default_context()
        for context in (self.server, self.web, self.client):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        if ca is not None:
            self.server.verify_mode = ssl.CERT_OPTIONAL
            self.server.load_verify_locations(ca)
            self.client.load_verify_locations(ca)

    def renewed(self) -> "TlsContexts":
        """The same files, read again. Raises OSError if they do not serve."""
        return TlsContexts(*self._files)


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Whom a verified certificate (`SSLObject.getpeercert`) is for, in lower case (RFC 5922 7.1).

    Its SIP URIs without a user and its DNS names; the common name counts only where there are none of them. A wildcard
    is no name of anybody's (7.2).
    """
    names: list[str] = []
    for kind, value in (certificate or {}).get("subjectAltName", ()):
        if kind == "DNS":
            names.append(value)
        elif kind == "URI" and value.lower().startswith("sip:") and "@" not in value:
            names.append(value[4:].partition(";")[0])
    if not names:
        parts = (certificate or {}).get("subject", ())
        names = [value for part in parts for kind, value in part if kind == "commonName"]
    return frozenset(name.lower() for name in names[:MAX_NAMES] if "*" not in name)
