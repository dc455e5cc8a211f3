"""The TLS contexts of one certificate: TLS 1.2 and later, as server and as client."""

import ssl
from pathlib import Path


class TlsContexts:
    """Raises OSError (ssl.SSLError is one) when certificate and key do not serve. Without them: a client.

    As client it verifies the server by the machine's certificate authorities ($SSL_CERT_FILE names others) and shows
    its own certificate to those who ask.
    """

    def __init__(self, certificate: Path | None = None, key: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.create_default_context()
        for context in (self.server, self.client):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load()

    def reload(self) -> None:
        """Read the files again, for handshakes from now on. Raises OSError and changes nothing if they do not serve."""
        TlsContexts(self._certificate, self._key)
        self._load()

    def _load(self) -> None:
        if self._certificate is not None:
            for context in (self.server, self.client):
                context.load_cert_chain(self._certificate, self._key)
