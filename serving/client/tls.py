"""Files of TLS: authorities that are trusted, and the certificate of this client."""

from __future__ import annotations

import ssl
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple, NoReturn

import httpx

File = str | PathLike[str]


class Pem(NamedTuple):
    """Contents of the files; `None` where there is none."""

    ca: bytes | None
    key: bytes | None
    certificate: bytes | None


class Tls:
    """How a client knows the server, and shows itself.

    Args:
        ca: PEM file of authorities that are trusted in the place of the usual ones.
        cert: PEM file of the client's certificate and its chain.
        key: PEM file of its key, which may also stand in `cert`.

    Raises:
        ValueError: a file cannot be read or is not what it should be; the message names the file.
    """

    def __init__(self, ca: File | None = None, cert: File | None = None, key: File | None = None) -> None:
        if key is not None and cert is None:
            raise ValueError("tls_key: its certificate is missing, tls_cert")
        self._ca, self._cert, self._key = ca, cert, cert if key is None else key
        self.pem = Pem(_read("tls_ca", ca), _read("tls_key", self._key), _read("tls_cert", cert))
        if cert is not None:
            _require("tls_cert", cert, self.pem.certificate, b"CERTIFICATE-----", "certificate")
            _require("tls_key", self._key, self.pem.key, b"PRIVATE KEY-----", "private key")
        self.given = ca is not None or cert is not None
        if self.given:
            self.context()  # to say now what is wrong

    @property
    def has_certificate(self) -> bool:
        return self._cert is not None

    def context(self) -> ssl.SSLContext:
        """For HTTPS."""
        if self._ca is None:
            context = httpx.create_ssl_context()
        else:
            try:
                context = ssl.create_default_context(cafile=self._ca)
            except ssl.SSLError as error:
                raise ValueError(f"tls_ca: {fspath(self._ca)} has no certificate in PEM form") from error
        if self._cert is not None and self._key is not None:
            try:
                context.load_cert_chain(self._cert, self._key, password=self._refuse_password)
            except ssl.SSLError as error:
                cert, key = fspath(self._cert), fspath(self._key)
                if error.reason == "KEY_VALUES_MISMATCH":
                    raise ValueError(f"tls_key: {key} is not the key of the certificate {cert}") from error
                raise ValueError(f"tls_cert: {cert} with the key {key} cannot be used: {error.reason}") from error
        return context

    def _refuse_password(self) -> NoReturn:
        # The library would ask on the terminal.
        raise ValueError(f"tls_key: {fspath(self._key or '')} is encrypted; give a key without a password")


def _read(name: str, file: File | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {fspath(file)} cannot be read: {error.strerror}") from error


def _require(name: str, file: File | None, content: bytes | None, mark: bytes, what: str) -> None:
    if mark not in (content or b""):
        raise ValueError(f"{name}: {fspath(file or '')} has no {what} in PEM form")
