"""What this project relies on in BentoML, and how it says that something is different."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import bentoml.serving
import pytest
import uvicorn.config
from bentoml.container import BentoMLContainer
from bentoml.exceptions import BentoMLException
from bentoml.models import BentoModel
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.bento import internals
from serving.bento.internals import (
    ServiceAppFactory,
    check_internals,
    restart_processes_in_containers,
    runner_addresses,
    server_context,
)


def test_the_installed_bentoml_is_as_expected() -> None:
    check_internals()


def no_parameters() -> None:
    """In the place of a method."""


BREAKS: dict[str, tuple[Any, str, Any]] = {
    "ServiceAppFactory.__init__": (ServiceAppFactory, "__init__", no_parameters),
    "ServiceAppFactory.__call__": (ServiceAppFactory, "__call__", None),
    "ServiceAppFactory.middlewares": (ServiceAppFactory, "middlewares", no_parameters),
    "ContextMiddleware": (internals, "ContextMiddleware", no_parameters),
    "Service.to_asgi": (bentoml.Service, "to_asgi", no_parameters),
    "Service.inject_config": (bentoml.Service, "inject_config", None),
    "Service.add_asgi_middleware": (bentoml.Service, "add_asgi_middleware", None),
    "BentoModel.resolve": (BentoModel, "resolve", None),
    "BentoModel.to_info": (BentoModel, "to_info", no_parameters),
    "BentoModelInfo": (internals, "BentoModelInfo", no_parameters),
    "server_context": (internals, "server_context", object()),
    "BentoMLContainer.http": (BentoMLContainer, "http", object()),
    "uvicorn.config": (uvicorn.config, "HTTP_PROTOCOLS", {}),
    "running_inside_container": (bentoml.serving, "running_inside_container", no_parameters),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_part_that_is_different_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    owner, attribute, value = BREAKS[name]
    monkeypatch.setattr(owner, attribute, value)
    with pytest.raises(BentoMLException) as caught:
        check_internals()
    assert str(caught.value) == (
        f"BentoML {bentoml.__version__} differs from the version this server was written for, in: {name}; "
        "install the version that requirements/serve.lock has"
    )


MISSING = {
    "HttpToolsProtocol": (HttpToolsProtocol, "_unset_keepalive_if_required"),
    "Service.openapi_spec": (bentoml.Service, "openapi_spec"),
    "remote_runner_mapping": (type(BentoMLContainer), "remote_runner_mapping"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_part_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    owner, attribute = MISSING[name]
    monkeypatch.delattr(owner, attribute)
    with pytest.raises(BentoMLException, match=f"in: {name};"):
        check_internals()


def test_several_parts_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Service.inject_config", "BentoModel.resolve"):
        owner, attribute, value = BREAKS[name]
        monkeypatch.setattr(owner, attribute, value)
    with pytest.raises(BentoMLException, match=r"in: Service\.inject_config, BentoModel\.resolve;"):
        check_internals()


def test_every_expectation_can_fail() -> None:
    assert set(internals._expectations()) == set(BREAKS) | set(MISSING)


def test_where_runners_listen_is_empty_outside_of_a_server() -> None:
    assert runner_addresses() == {}


def test_the_supervisor_replaces_processes_in_containers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_CONTAINERIZED", "1")
    bentoml.serving.running_inside_container.cache_clear()
    try:
        assert bentoml.serving.running_inside_container()
        restart_processes_in_containers()
        assert "BENTOML_CONTAINERIZED" not in os.environ
        assert not bentoml.serving.running_inside_container()
    finally:
        bentoml.serving.running_inside_container.cache_clear()


def test_the_name_of_the_bento_is_known() -> None:
    assert hasattr(server_context, "bento_name")
