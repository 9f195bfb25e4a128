"""TLS over HTTP and gRPC: what works, and what is said where it does not, by the client and the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from serving.cli import main
from serving.client import Predictor, UnreachableError
from serving.commands import exits
from tests.client.models import make_models
from tests.client.server import Address, serve
from tests.pki import Authority

ROWS = [[5.1, 3.5, 1.4, 0.2]]
TRANSPORTS: list[Any] = ["rest", "grpc"]


class Servers(NamedTuple):
    good: Address
    expired: Address
    elsewhere: Address
    mutual: Address
    plain: Address
    authority: Authority
    directory: Path


@pytest.fixture(scope="module")
def servers(any_models: Address, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("pki")
    authority = Authority(directory)
    good = authority.issue("server", "localhost", "127.0.0.1")
    expired = authority.issue("expired", "127.0.0.1", days=(-3, -1))
    elsewhere = authority.issue("elsewhere", "example.test")
    stored = [each for each in make_models(tmp_path_factory.mktemp("models")) if each.tag == "flowers:1"]
    with (
        serve(stored, tls=good) as one,
        serve(stored, tls=expired) as two,
        serve(stored, tls=elsewhere) as three,
        serve(stored, tls=good, ca=authority.ca) as four,
    ):
        yield Servers(one, two, three, four, any_models, authority, directory)


def target(address: Address, transport: str) -> str:
    return address.url if transport == "rest" else address.grpc


def ask(address: str, transport: Any, **tls: Any) -> Any:
    with Predictor(address, protocol="v2", transport=transport, timeout=60, **tls) as predictor:
        return predictor.predict("flowers", rows=ROWS)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_of_the_authority_is_asked(
    servers: Servers, transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = servers.authority.ca
    expected = ask(target(servers.plain, transport), transport)
    assert ask(target(servers.good, transport), transport, tls_ca=ca) == expected
    # Files of TLS mean TLS where the address says nothing.
    assert ask(target(servers.good, transport).removeprefix("https://"), transport, tls_ca=ca) == expected
    certificate, key = servers.authority.issue("client")
    mutual = target(servers.mutual, transport)
    assert ask(mutual, transport, tls_ca=ca, tls_cert=certificate, tls_key=key) == expected
    files = ["--tls-ca", str(ca), "--tls-cert", str(certificate), "--tls-key", str(key)]
    options = ["--transport", transport, "--target", mutual, "--timeout", "60", *files]
    assert main(["predict", "flowers", "--row", "5.1,3.5,1.4,0.2", *options]) == exits.DONE
    assert expected[0].label in capsys.readouterr().out


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("wrong ca", "no authority that is trusted has signed"),
        ("expired", "certificate has expired"),
        ("elsewhere", "for another host"),
        ("mutual", "may require a certificate of the client"),
        ("tls to plain", "does not speak TLS at this port"),
        ("plain to tls", "if it speaks TLS, the address has to begin with https://"),
    ],
)
def test_the_cause_is_named(
    servers: Servers, transport: str, server: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = Authority(tmp_path / "other").ca if server == "wrong ca" else servers.authority.ca
    known = {"wrong ca": servers.good, "tls to plain": servers.plain, "plain to tls": servers.good}
    address = target(known.get(server) or getattr(servers, server), transport)
    files: dict[str, Any] = {"tls_ca": ca}
    if server == "plain to tls":
        files, address = {}, "http://" + address.rpartition("://")[2]
    elif server == "tls to plain":
        address = "https://" + address.rpartition("://")[2]
    # gRPC waits for a handshake that the other side does not answer.
    with pytest.raises(UnreachableError, match=words):
        ask(address, transport, **files)
    options = [part for name, file in files.items() for part in (f"--{name.replace('_', '-')}", str(file))]
    options += ["--transport", transport, "--target", address, "--timeout", "60"]
    assert main(["predict", "flowers", "--row", "1,2,3,4", *options]) == exits.SERVER
    errors = capsys.readouterr().err
    assert (words in errors, len(errors.splitlines())) == (True, 1), errors


def test_files_that_cannot_be_used_are_named(
    servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = servers.authority.issue("one")
    _, other = servers.authority.issue("two")
    _, locked = servers.authority.issue("locked", password=b"secret")
    missing = tmp_path / "missing.pem"
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    wrong: list[tuple[dict[str, Path], str]] = [
        ({"tls_ca": missing}, f"tls_ca: {missing} cannot be read: No such file or directory"),
        ({"tls_cert": certificate, "tls_key": missing}, f"tls_key: {missing} cannot be read"),
        ({"tls_cert": tmp_path, "tls_key": key}, f"tls_cert: {tmp_path} cannot be read: Is a directory"),
        ({"tls_key": key}, "tls_key: its certificate is missing"),
        ({"tls_ca": text}, f"tls_ca: {text} has no certificate in PEM form"),
        ({"tls_cert": text, "tls_key": key}, f"tls_cert: {text} has no certificate"),
        ({"tls_cert": certificate}, f"tls_key: {certificate} has no private key"),
        ({"tls_cert": certificate, "tls_key": other}, f"tls_key: {other} is not the key of the certificate"),
        ({"tls_cert": certificate, "tls_key": locked}, f"tls_key: {locked} is encrypted"),
    ]
    for files, words in wrong:
        options = [part for name, file in files.items() for part in (f"--{name.replace('_', '-')}", str(file))]
        status = main(["predict", "flowers", "--row", "1,2,3,4", *options])
        errors = capsys.readouterr().err
        assert (status, words in errors) == (exits.USAGE, True), errors


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_certificates_without_tls_are_refused(servers: Servers, transport: Any) -> None:
    with pytest.raises(ValueError, match="has to begin with https://"):
        ask("http://127.0.0.1:1", transport, tls_ca=servers.authority.ca)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_password_in_an_address_is_not_shown(transport: Any) -> None:
    with pytest.raises((UnreachableError, ValueError)) as caught:
        ask("http://user:secret@127.0.0.1:1", transport)
    assert "secret" not in str(caught.value)
