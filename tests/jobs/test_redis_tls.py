"""Redis with TLS: a CA of its own, certificates of clients, and what is said when they do not fit."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.core.errors import UnavailableError
from serving.jobs.job import Status
from serving.jobs.redis_store import RedisJobStore
from serving.settings.jobs import JobsSettings
from tests.jobs.factory import submit
from tests.jobs.redis_server import PrivateRedis, private_redis, private_sentinel
from tests.server import free_port

__all__ = ["private_redis", "private_sentinel"]

pytestmark = pytest.mark.anyio

StartRedis = Callable[..., PrivateRedis]
_KEY = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CAs, and certificates of the first one for a server and a client."""
    directory = tmp_path_factory.mktemp("pki")
    for name in ("ca", "other", "server", "client"):
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
        subprocess.run(
            [*_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
            + ["-addext", "subjectAltName=DNS:localhost"]
            + (signed if name in ("server", "client") else []),
            cwd=directory,
            check=True,
            capture_output=True,
        )
    return directory


def _options(pki: Path, port: int, clients: str) -> list[str]:
    files = {"cert": pki / "server.pem", "key": pki / "server.key", "ca-cert": pki / "ca.pem"}
    options = ["--tls-port", str(port), "--tls-auth-clients", clients]
    return options + [word for name, file in files.items() for word in (f"--tls-{name}-file", str(file))]


async def _works(url: str) -> None:
    store = RedisJobStore(JobsSettings(url=url))
    try:
        await store.open()
        assert (await submit(store)).status is Status.QUEUED
    finally:
        await store.close()


async def _says(url: str, caplog: pytest.LogCaptureFixture) -> str:
    store = RedisJobStore(JobsSettings(url=url))
    caplog.clear()
    try:
        for call in (store.open, store.maintain):
            with pytest.raises(UnavailableError):
                await call()
    finally:
        await store.close()
    (line,) = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    return line


async def test_verified_and_not(private_redis: StartRedis, pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    server = private_redis(*_options(pki, port, "no"))
    url, ca = f"rediss://localhost:{port}/0", f"ssl_ca_certs={pki / 'ca.pem'}"
    await _works(f"{url}?{ca}")
    await _works(f"{url}?{ca}&ssl_cert_reqs=required&ssl_check_hostname=true")
    await _works(f"{url}?ssl_cert_reqs=none")
    elsewhere = url.replace("localhost", "127.0.0.1")
    await _works(f"{elsewhere}?{ca}&ssl_check_hostname=false")
    assert "certificate is not valid for '127.0.0.1'" in await _says(f"{elsewhere}?{ca}", caplog)
    for wrong in (url, f"{url}?ssl_ca_certs={pki / 'other.pem'}"):
        line = await _says(wrong, caplog)
        assert "its certificate is not trusted" in line
        assert "ssl_ca_certs=FILE" in line
    assert "rediss:// instead of redis://" in await _says(f"redis://localhost:{port}/0", caplog)
    # Redis waits for the rest of what it takes for a command.
    slow = f"rediss://localhost:{server.port}/0?{ca}&socket_connect_timeout=0.3"
    assert "redis:// instead of rediss://" in await _says(slow, caplog)


async def test_certificates_of_clients(private_redis: StartRedis, pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    private_redis(*_options(pki, port, "yes"))
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={pki / 'ca.pem'}"
    await _works(f"{url}&ssl_certfile={pki / 'client.pem'}&ssl_keyfile={pki / 'client.key'}")
    assert "a client certificate that it trusts" in await _says(url, caplog)
    stranger = f"{url}&ssl_certfile={pki / 'other.pem'}&ssl_keyfile={pki / 'other.key'}"
    assert "a client certificate that it trusts" in await _says(stranger, caplog)


async def test_tls_to_the_sentinel_and_to_the_master(
    private_redis: StartRedis, private_sentinel: StartRedis, pki: Path
) -> None:
    """The master is announced by the port that has TLS."""
    port, sentinel_port = free_port(), free_port()
    private_redis(*_options(pki, port, "no"))
    words = iter([*_options(pki, sentinel_port, "no"), "--tls-replication", "yes"])
    lines = "\n".join(f"{name.removeprefix('--')} {value}" for name, value in zip(words, words, strict=True))
    master = PrivateRedis(pki)
    master.port = port
    private_sentinel(master, f"down-after-milliseconds mymaster 600000\n{lines}")
    verify = f"ssl_ca_certs={pki / 'ca.pem'}&ssl_check_hostname=false"
    await _works(f"rediss+sentinel://localhost:{sentinel_port}/mymaster?{verify}")
