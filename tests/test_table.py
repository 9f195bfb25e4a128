"""The table of all routes: what is configured has routes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from serving.codecs.opening import open_codec
from serving.core.admission import Admission
from serving.metrics.inference import InferenceMetrics, Statistics
from serving.model import Model, Models
from serving.settings import Settings
from serving.settings.models import ModelSettings
from serving.table import Services, make_document, make_routes
from tests.example_models import colours, flats, regressor

SERVER = {
    *("/", "/docs.json", "/schema.json", "/health", "/metrics", "/inventory", "/livez", "/healthz", "/readyz"),
    "/static_content/{file}",
}
PREDICT = {"/predict", "/predict/batched", "/predict/test", "/metadata"}
NAMELESS = {"/predict", "/predict/test", "/metadata"}
LABEL = {"/predict/label", "/predict/test/label", "/label"}


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    """A classifier of rows, a regressor and a classifier of images."""
    registry = CollectorRegistry()
    counter, metrics = Counter("rejected", "-", registry=registry), InferenceMetrics(registry=registry)

    async def submit(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked")

    def open_one(name: str, stored: Any) -> Model:
        return Model(
            name,
            open_codec(stored, ModelSettings()),
            engine=None,
            submit=submit,
            admission=Admission(1, rejected=counter),
            statistics=Statistics(name, metrics),
        )

    return [
        open_one("flats", flats(tmp_path)),
        open_one("price", regressor(tmp_path)),
        open_one("colours", colours(tmp_path)),
    ]


def configured(**changes: Any) -> Settings:
    off = {
        "jobs": {"enabled": False},
        "protocols": {"v2": False, "tfserving": False},
        "models": {},
        "default_model": "",
    }
    return Settings(**(off | changes))


def paths(settings: Settings, models: Iterable[Model], default: str = "") -> set[str]:
    table = make_routes(settings, Models(models, default=default), Services())
    return {route.path for route in table.routes}


def of(name: str, found: set[str]) -> set[str]:
    """The routes of a model, without its name."""
    return {path.removeprefix(f"/{name}") for path in found if path.startswith(f"/{name}/")}


def test_a_server_without_models_has_the_routes_of_the_server() -> None:
    assert paths(configured(), []) == SERVER


def test_each_model_that_is_served_has_routes_and_others_have_none(models: list[Model]) -> None:
    found = paths(configured(), models)
    assert of("flats", found) == of("colours", found) == PREDICT | LABEL
    assert of("price", found) == PREDICT, "no labels, no routes of labels"
    assert len(found) == len(SERVER) + 2 * len(PREDICT | LABEL) + len(PREDICT)
    alone = paths(configured(), models[:1])
    assert (of("price", alone), of("colours", alone)) == (set(), set())


@pytest.mark.parametrize(("default", "expected"), [
    ("flats", NAMELESS | LABEL), ("price", NAMELESS), ("", set()),
])  # fmt: skip
def test_the_default_model_has_routes_without_its_name(models: list[Model], default: str, expected: set[str]) -> None:
    nameless = paths(configured(), models, default) - paths(configured(), models)
    assert nameless == expected


def test_jobs_have_routes_where_they_are_on(models: list[Model]) -> None:
    more = paths(configured(jobs={"enabled": True}), models) - paths(configured(), models)
    assert more == {
        *("/flats/jobs", "/price/jobs", "/colours/jobs"),
        *("/jobs", "/jobs/stats", "/jobs/{job_id}", "/jobs/{job_id}/retry"),
    }


def test_batch_has_routes_where_there_is_a_database(models: list[Model]) -> None:
    more = paths(configured(batch={"database_url": "sqlite://"}), models) - paths(configured(), models)
    assert more == {"/batch/items", "/batch/items/{item_id}", "/batch/runs"}


@pytest.mark.parametrize(("protocol", "start"), [("v2", "/v2"), ("tfserving", "/v1/models")])
def test_a_protocol_has_routes_where_it_is_on(models: list[Model], protocol: str, start: str) -> None:
    on = {"v2": False, "tfserving": False} | {protocol: True}
    more = paths(configured(protocols=on), models) - paths(configured(), models)
    assert more
    assert all(path.startswith(start) for path in more)


def test_what_is_off_is_not_imported() -> None:
    from tests.test_architecture import run

    code = (
        "import sys\nfrom serving.settings import Settings\nfrom serving.model import Models\n"
        "from serving.table import Services, make_routes\n"
        "off = dict(v2=False, tfserving=False)\n"
        "make_routes(Settings(protocols=off, models={}, default_model=''), Models([]), Services())\n"
        "print(sorted(name for name in sys.modules if name.startswith(('serving.protocols', 'sqlalchemy', 'grpc'))))"
    )
    assert run(code) == "[]\n"


def test_a_path_of_a_model_is_found_at_once(models: list[Model]) -> None:
    table = make_routes(configured(protocols={"v2": True, "tfserving": True}), Models(models), Services())
    table._patterns = []
    version = models[0].version
    for method, path in (
        ("POST", "/flats/predict"),
        ("POST", "/v2/models/flats/infer"),
        ("POST", f"/v2/models/flats/versions/{version}/infer"),
        ("POST", "/v1/models/flats:predict"),
    ):
        assert table.find(method, path).route.handler is not None


def test_the_document_has_the_routes_of_the_table(models: list[Model]) -> None:
    settings = configured(jobs={"enabled": True}, protocols={"v2": True, "tfserving": True})
    document = make_document(settings, Models(models, default="flats"))
    table = make_routes(settings, Models(models, default="flats"), Services())
    assert set(document["paths"]) == {route.path for route in table.routes if route.operation}
    assert document["info"]["description"] == "Predictions of the models flats, price, colours."
