"""A zoo of models of many libraries, each added by `serving models add` alone: in every way what its library says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.matrix.conftest import Place, serve
from tests.matrix.test_every_way import check
from tests.matrix.ways import (
    Outputs,
    expected,
    job,
    listed,
    native,
    rows_of_a_database,
    triton_binary,
    triton_grpc,
    v2_json,
)
from tests.matrix.zoo import MAKE

pytestmark = pytest.mark.slow
WAYS = [native, job, rows_of_a_database, v2_json, triton_binary, triton_grpc]


@pytest.fixture(scope="module")
def zoo(model_store: Path) -> Iterator[Place]:
    cases = {name: make() for name, make in MAKE.items()}
    with serve(cases, {"logistic": {"predict_in": "api"}}, model_store / "models" / "iris") as found:
        yield found


@pytest.mark.parametrize("name", MAKE)
def test_a_model_says_what_its_library_says(zoo: Place, name: str) -> None:
    case = zoo.cases[name]
    described = httpx.get(f"{zoo.server.url}/{name}/metadata", timeout=60).json()
    assert (described["kind"], described["task"]) == (case.kind, case.task)
    for way in WAYS:
        check(way(zoo, case), expected(case), case.tolerance)
