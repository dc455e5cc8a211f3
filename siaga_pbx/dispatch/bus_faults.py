"""Why there is no connection to the broker, in words that tell a person what to mend."""

import re
import ssl
from pathlib import Path

_HINTS = (
    (r"IP address mismatch|Hostname mismatch", "the broker's certificate is not for this address: {where}"),
    (r"certificate has expired", "the broker's certificate has expired"),
    (r"certificate is not yet valid", "the broker's certificate is not valid yet; is this machine's clock right?"),
    (r"certificate verify failed", "the broker's certificate is not signed by the authority in [mqtt] ca"),
    (r"CERTIFICATE_REQUIRED", "the broker asks for a client certificate: set [mqtt] certificate and key"),
    (r"ALERT_UNKNOWN_CA|ALERT_BAD_CERTIFICATE|ALERT_CERTIFICATE", "the broker does not accept our [mqtt] certificate"),
    # With TLS 1.3 (RFC 8446 section 2) the client is done before its certificate is judged: the broker's alert can be
    # overtaken by the end of its connection, and then nothing says why.
    (
        r"EOF occurred in violation of protocol|UNEXPECTED_EOF",
        "the broker ended the connection during TLS: its log says why, often it does not accept our [mqtt] certificate",
    ),
    (
        r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE",
        "no TLS is spoken at {where}: is this the port of a mqtt:// broker?",
    ),
    (r"Not authorized|Bad user name or password", "the broker does not take [mqtt] username and password"),
    (r"Connection refused", "nothing listens at {where}"),
    (r"Name or service not known|No address associated", "no such host as {where}"),
)
_NOISE = re.compile(r"failed to \w+ on socket: |\[Errno -?\d+\] | \(_ssl\.c:\d+\)")


class UnusableFile(OSError):
    """A file of the TLS settings cannot be used; the message is one line for a person."""


def explain(error: str, where: str) -> str:
    """What a person can do about it, and the error itself. `where`: the broker's host and port."""
    plain = _NOISE.sub("", error)
    for pattern, hint in _HINTS:
        if re.search(pattern, error):
            return f"{hint.format(where=where)} ({plain})"
    return plain


def tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Reads the files. Raises UnusableFile, which the ssl module's own errors leave without their names."""
    _readable("ca", ca)
    _readable("certificate", certificate)
    _readable("key", key)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError:
        raise UnusableFile(f"[mqtt] ca {ca}: no certificates in PEM") from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            reason = "they do not belong together" if "MISMATCH" in str(error) else "no certificate and key in PEM"
            raise UnusableFile(f"[mqtt] certificate {certificate} and key {key or certificate}: {reason}") from None
    return context


def _readable(name: str, file: Path | None) -> None:
    if file is None:
        return
    try:
        file.open("rb").close()
    except OSError as error:
        raise UnusableFile(f"[mqtt] {name} {file}: {error.strerror}") from None
