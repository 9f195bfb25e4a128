"""A server of models of every kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.models import make_models
from tests.client.server import Address, serve


@pytest.fixture(scope="package")
def any_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A server of the models of `make_models`; `flowers` is its default one."""
    with serve(make_models(tmp_path_factory.mktemp("models")), default="flowers") as address:
        yield address
