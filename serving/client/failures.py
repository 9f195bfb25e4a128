"""Why a server cannot be reached, in words that say what to change."""

from __future__ import annotations

# What httpx, OpenSSL and gRPC's library say, and what it means; the first that fits.
_MEANINGS = (
    ("certificate has expired", "the server's certificate has expired"),
    ("certificate is not yet valid", "the server's certificate is not yet valid; the clock may be wrong"),
    ("Hostname mismatch", "the server's certificate is for another host"),
    ("IP address mismatch", "the server's certificate is for another host"),
    ("Hostname Verification Check failed", "the server's certificate is for another host"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "no authority that is trusted has signed the server's certificate; tls_ca names another authority",
    ),
    ("CERTIFICATE_REQUIRED", "the server requires a certificate of the client (tls_cert and tls_key)"),
    ("ALERT_UNKNOWN_CA", "the server does not know the authority of the client's certificate"),
    ("ALERT_BAD_CERTIFICATE", "the server does not accept the client's certificate"),
    ("ALERT_CERTIFICATE_EXPIRED", "the client's certificate has expired"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS at this port; the address has to begin with http://"),
    ("RECORD_LAYER_FAILURE", "the server does not speak TLS at this port; the address has to begin with http://"),
    ("\\x15\\x03", "the server speaks TLS at this port; the address has to begin with https://"),
    ("http1.x server", "this port speaks HTTP and no gRPC; gRPC has a port of its own, usually 8500"),
    ("missing selected ALPN", "this port speaks HTTP and no gRPC; gRPC has a port of its own, usually 8500"),
    ("illegal request line", "this port does not speak HTTP; it may be that of gRPC"),
    ("HTTP proxy returned response code 407", "the proxy wants a user and a password (407)"),
)
ENDED = ("disconnected without sending a response", "Socket closed", "Connection reset", "Broken pipe")
"""What they say of a connection that ended."""


def meaning(text: str, *, secure: bool, certificate: bool) -> str:
    """`text` is what a library says of a connection that failed.

    Args:
        secure: whether the client spoke TLS.
        certificate: whether it has a certificate of its own.
    """
    for words, found in _MEANINGS:
        if words in text:
            return found
    if not any(words in text for words in ENDED):
        return text
    if not secure:
        return "it ended the connection without an answer; if it speaks TLS, the address has to begin with https://"
    ended = "it ended the connection after the TLS handshake"
    if certificate:
        return f"{ended}; it may not accept the client's certificate"
    return f"{ended}; it may require a certificate of the client (tls_cert and tls_key)"
