"""What a URL of Redis says, and what is wrong with it, before anything is connected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.core.errors import ConfigurationError
from serving.jobs.redis_url import target_of
from serving.jobs.store import open_store
from serving.settings.jobs import JobsSettings


@pytest.mark.parametrize(
    ("url", "address", "options"),
    [
        ("redis://host", "redis://host:6379/0", {"host": "host"}),
        ("redis://[::1]:7000/2", "redis://[::1]:7000/2", {"host": "::1", "port": 7000, "db": 2}),
        ("redis://u%40:p%2F%3A%25@h", "redis://h:6379/0", {"username": "u@", "password": "p/:%"}),
        ("unix:///run/r.sock?db=1", "unix:///run/r.sock", {"path": "/run/r.sock", "db": 1}),
        ("unix://:p%40@/run/r.sock", "unix:///run/r.sock", {"password": "p@"}),
        ("redis+sentinel://a/main", "redis+sentinel://a:26379/main/0", {"db": 0}),
        (
            "redis+sentinel://u:p%2F@a:1,[::1]:2,b/main/3?protocol=2",
            "redis+sentinel://a:1,[::1]:2,b:26379/main/3",
            {"username": "u", "password": "p/", "db": 3, "protocol": 2},
        ),
        ("rediss+sentinel://a:1/main/", "rediss+sentinel://a:1/main/0", {}),
    ],
)
def test_urls_that_are_understood(url: str, address: str, options: dict[str, Any]) -> None:
    target = target_of(url)
    assert target.address == address
    assert {name: target.options.get(name) for name in options} == options
    assert target.tls == url.startswith("rediss")
    assert "p%" not in repr(target)
    assert isinstance(open_store(JobsSettings(url=url)), object)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://host:1",
        "redis+sentinel://host:1/",
        "redis+sentinel:///service",
        "redis+sentinel://:secret@host:1/service/x",
        "redis+sentinel://:sec/ret@host:1/service",
        "redis+sentinel://:secret@a:b/service",
        "redis+sentinel://:secret@a:1,,b:2/service",
        "redis+sentinel://:secret@a:1/service?sentinel_unknown=1",
        "redis+sentinel://:secret@a:1/service?unknown=1",
        "redis+sentinel://:secret@::1/service",
        "redis://:secret@host/0?socket_timeout=x",
        "http://:secret@host",
    ],
)
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^jobs\.url: ") as refused:
        open_store(JobsSettings(url=url))
    assert "sec" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("ssl_ca_certs=/none/ca.pem", "ssl_ca_certs: /none/ca.pem is not there or cannot be read"),
        ("ssl_certfile=/none/c.pem&ssl_keyfile=/none/k.pem", "ssl_certfile: /none/c.pem is not there"),
        ("ssl_ca_certs={here}", "{here}: NO_CERTIFICATE_OR_CRL_FOUND"),
        ("ssl_cert_reqs=CERT_REQUIRED", "ssl_cert_reqs: required, optional or none"),
    ],
)
@pytest.mark.parametrize("start", ["rediss://:secret@host/0", "rediss+sentinel://:secret@host/service"])
def test_files_of_tls_are_read_at_once(tmp_path: Path, start: str, query: str, words: str) -> None:
    here = tmp_path / "file.pem"
    here.write_text("no certificate")
    with pytest.raises(ConfigurationError) as refused:
        open_store(JobsSettings(url=f"{start}?{query.format(here=here)}"))
    assert words.format(here=here) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_options_of_tls_need_tls() -> None:
    with pytest.raises(ConfigurationError, match=r"ssl_ca_certs: only with TLS, that is rediss://"):
        target_of("redis://host?ssl_ca_certs=ca.pem")
