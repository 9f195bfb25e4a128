"""Models of every kind, through every pattern and protocol: what their frameworks say, whichever way it is asked."""

from __future__ import annotations

import csv
import json
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.matrix.cases import MAKE
from tests.matrix.conftest import Place
from tests.matrix.ways import PROBABILITIES, VALUE, WAYS, Outputs, expected

pytestmark = pytest.mark.slow
# Single precision in graphs against double in frameworks.
TOLERANCE = 1e-5


def check(found: Outputs, wanted: Outputs, tolerance: float = TOLERANCE) -> None:
    """Compare numbers within a tolerance, and everything else exactly."""
    assert found
    for name, array in found.items():
        assert array.shape == wanted[name].shape, name
        if wanted[name].dtype.kind == "f":
            given = array.astype(float)  # null becomes NaN
            np.testing.assert_allclose(given, wanted[name].astype(float), rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            assert _listed(array) == _listed(wanted[name]), name


def _listed(array: NDArray[Any]) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", MAKE)
def test_a_model_says_what_its_framework_says(place: Place, name: str, way: object) -> None:
    case = place.cases[name]
    check(way(place, case), expected(case))  # type: ignore[operator]


@pytest.mark.parametrize("name", [name for name in MAKE if name not in ("textures", "pets", "towers", "voice")])
def test_files_of_rows_are_scored(place: Place, name: str) -> None:
    case = place.cases[name]
    columns = httpx.get(f"{place.server.url}/{name}/metadata", timeout=60).json()["feature_names"]
    rows = case.body["data"]
    if isinstance(rows[0], dict):
        columns = list(rows[0])
        rows = [list(row.values()) for row in rows]
    names = columns or [f"X_{index}" for index in range(len(rows[0]))]
    source = place.directory / f"{name}.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        # In another order than the model's: the names tell which is which.
        writer.writerows([names[::-1], *(row[::-1] for row in rows)])
    target = place.directory / f"{name}-scored"
    place.commands([["batch", "score-files", str(source), str(target), "--model", name, "--format", "csv"]])
    (part,) = target.rglob("*.csv")
    with part.open(encoding="utf-8") as file:
        scored = list(csv.DictReader(file))
    assert [row["error"] for row in scored] == [""] * len(rows)
    if case.task == "classification":
        found = np.array([json.loads(row["probabilities"]) for row in scored])
        check({PROBABILITIES: found}, expected(case))
        assert [row["label"] for row in scored] == [case.labels[index] for index in found.argmax(axis=1)]
    else:
        check({VALUE: np.array([json.loads(row["prediction"]) for row in scored])}, expected(case))


@pytest.mark.parametrize("name", MAKE)
def test_a_model_describes_itself_as_it_was_decided(place: Place, name: str) -> None:
    case = place.cases[name]
    described = httpx.get(f"{place.server.url}/{name}/metadata", timeout=60).json()
    assert (described["kind"], described["task"]) == (case.kind, case.task)
    labels = httpx.get(f"{place.server.url}/{name}/label", timeout=60)
    if case.labels:
        assert labels.json() == {str(index): label for index, label in enumerate(case.labels)}
    else:
        assert labels.status_code == 404


@pytest.mark.parametrize("name", MAKE)
def test_the_built_in_sample_is_predicted(place: Place, name: str) -> None:
    assert httpx.get(f"{place.server.url}/{name}/predict/test", timeout=60).status_code == 200


def test_the_default_model_has_the_paths_without_a_name(place: Place) -> None:
    case = place.cases["wine"]
    url = place.server.url
    named = httpx.post(f"{url}/wine/predict", content=case.request, timeout=60)
    assert httpx.post(f"{url}/predict", content=case.request, timeout=60).json() == named.json()
    for path in ("/predict/test", "/predict/test/label", "/metadata", "/label"):
        assert httpx.get(f"{url}{path}", timeout=60).json() == httpx.get(f"{url}/wine{path}", timeout=60).json()


def test_lists_and_records_say_the_same(place: Place) -> None:
    records = place.cases["passengers"].body["data"]
    url = f"{place.server.url}/passengers/predict"
    lists = {"data": [[row["age"], row["siblings"], row["city"]] for row in records]}
    turned = {"data": [dict(reversed(row.items())) for row in records]}
    answers = [httpx.post(url, json=body, timeout=60).json() for body in ({"data": records}, lists, turned)]
    assert answers[0] == answers[1] == answers[2]
    refused = httpx.post(url, json={"data": [records[0] | {"cty": "Bern"}]}, timeout=60)
    assert refused.status_code == 400
    assert "cty" in json.dumps(refused.json(), ensure_ascii=False)
