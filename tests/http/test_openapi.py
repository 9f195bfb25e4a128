"""The document says what the service does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from serving.bento.api import Api
from serving.protocols.open_inference.meaning import MISSING
from tests.http.bodies import VALID_BODY
from tests.http.test_bad_input import GET, INCEPTION_V3, IRIS
from tests.http.test_overload import ASKING
from tests.pictures import encoded, picture

pytestmark = pytest.mark.anyio

# Served, but not part of the API: the document itself and its page.
UNDOCUMENTED = {"/", "/docs.json", "/schema.json", "/static_content/{file}"}
JSON = {"content-type": "application/json"}
PNG = encoded(picture(), "PNG")


# What generated clients call their methods: these must not change.
OPERATIONS = {
    ("GET", "/health"): "health",
    ("GET", "/healthz"): "healthz",
    ("POST", "/inception_v3/jobs"): "inception_v3_submit_job",
    ("GET", "/inception_v3/label"): "inception_v3_label",
    ("GET", "/inception_v3/metadata"): "inception_v3_metadata",
    ("POST", "/inception_v3/predict"): "inception_v3_predict",
    ("POST", "/inception_v3/predict/batched"): "inception_v3_predict_batched",
    ("POST", "/inception_v3/predict/label"): "inception_v3_predict_label",
    ("GET", "/inception_v3/predict/test"): "inception_v3_predict_test",
    ("GET", "/inception_v3/predict/test/label"): "inception_v3_predict_test_label",
    ("GET", "/inventory"): "inventory",
    ("POST", "/iris/jobs"): "iris_submit_job",
    ("GET", "/iris/label"): "iris_label",
    ("GET", "/iris/metadata"): "iris_metadata",
    ("POST", "/iris/predict"): "iris_predict",
    ("POST", "/iris/predict/batched"): "iris_predict_batched",
    ("POST", "/iris/predict/label"): "iris_predict_label",
    ("GET", "/iris/predict/test"): "iris_predict_test",
    ("GET", "/iris/predict/test/label"): "iris_predict_test_label",
    ("GET", "/jobs"): "list_jobs",
    ("GET", "/jobs/stats"): "job_stats",
    ("GET", "/jobs/{job_id}"): "get_job",
    ("DELETE", "/jobs/{job_id}"): "cancel_job",
    ("POST", "/jobs/{job_id}/retry"): "retry_job",
    ("GET", "/livez"): "livez",
    ("GET", "/metrics"): "metrics",
    ("GET", "/readyz"): "readyz",
}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Any:
    return (await client.get("/docs.json")).json()


def _operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_it_is_valid_openapi(document: Any) -> None:
    import schemathesis  # here, as it takes a second that every process would wait

    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


async def test_an_invalid_document_would_be_noticed(document: Any) -> None:
    import schemathesis

    del document["paths"]["/iris/predict"]["post"]["responses"]["200"]["description"]
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(document).validate()


async def test_it_has_every_route_and_no_other(running: Api, document: Any) -> None:
    routes = running.http.routes.routes
    served = {(route.path, route.method.lower()) for route in routes if route.operation}
    assert {(path, method) for path, method, _ in _operations(document)} == served
    missing = {path for each in MISSING for path in each.paths}
    assert {route.path for route in routes if not route.operation} == UNDOCUMENTED | missing


async def test_every_reference_leads_somewhere_and_every_schema_is_used(document: Any) -> None:
    text = json.dumps(document)
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(document["components"]["schemas"])


async def test_everything_is_described(document: Any) -> None:
    identifiers = []
    assert document["info"]["description"]
    for path, method, operation in _operations(document):
        # a sentence, and not the name of a function
        assert operation.get("summary", "").endswith("."), (path, method)
        assert "description" not in operation, (path, method)
        assert operation.get("tags"), (path, method)
        identifiers.append(operation["operationId"])
        for status, response in operation["responses"].items():
            assert response["description"], (path, status)
            assert "X-Request-ID" in response["headers"], (path, status)
            # an unfinished job says when to ask again
            after = status in ("429", "503") or (path, method, status) == ("/jobs/{job_id}", "get", "200")
            assert ("Retry-After" in response["headers"]) == after, (path, status)
            assert ("Location" in response["headers"]) == (status == "202"), (path, status)
    assert len(identifiers) == len(set(identifiers))


async def test_the_ids_of_operations_are_those_that_clients_were_generated_from(document: Any) -> None:
    found = {(method.upper(), path): operation["operationId"] for path, method, operation in _operations(document)}
    assert {key: found.get(key) for key in OPERATIONS} == OPERATIONS
    nameless = {path for _, path in set(found) - set(OPERATIONS) if not path.startswith(("/v1/", "/v2"))}
    assert nameless == {"/predict", "/predict/label", "/predict/test", "/predict/test/label", "/metadata", "/label"}


async def test_schemas_speak_of_the_interface_only(document: Any) -> None:
    descriptions = {name: schema.get("description", "") for name, schema in document["components"]["schemas"].items()}
    named = [name for name in descriptions if name.startswith(("Iris", "InceptionV3"))]
    assert len(named) == 7, "iris takes the same for a label"
    assert [name for name in named if len(descriptions[name]) < 20] == []
    assert [name for name, text in descriptions.items() if "float32" in text or "handler" in text] == []


async def test_every_error_has_the_one_shape(document: Any) -> None:
    for path, _, operation in _operations(document):
        for status, response in operation["responses"].items():
            if not status.startswith("2"):
                schema = response["content"]["application/json"]["schema"]
                shape = "ProtocolError" if path.startswith(("/v1/", "/v2")) else "ErrorResponse"
                assert schema == {"$ref": f"#/components/schemas/{shape}"}, (path, status)


@pytest.mark.parametrize("path", [*IRIS, *INCEPTION_V3])
async def test_the_statuses_of_predictions_are_declared(document: Any, path: str) -> None:
    waits = "batched" in path or "inception" in path
    expected = {"200", "400", "413", "415", "500", "504"} | ({"429", "503"} if waits else set())
    assert set(document["paths"][path]["post"]["responses"]) == expected


@pytest.mark.parametrize(("method", "path"), [row[:2] for row in ASKING])
async def test_routes_that_ask_a_runner_declare_how_that_fails(document: Any, method: str, path: str) -> None:
    operation = document["paths"][path][method.lower()]
    assert set(operation["responses"]) >= {"200", "400", "429", "500", "503", "504"}


async def test_the_time_limit_is_a_parameter_of_whatever_may_take_time(document: Any) -> None:
    expected = {"in": "header", "required": False, "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999}}
    found = []
    for path, method, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "X-Request-Timeout-Ms":
                found.append((method.upper(), path))
                assert {name: parameter[name] for name in expected} == expected
                assert parameter["description"]
    assert sorted(found) == sorted(
        {
            *(("POST", path) for path in (*IRIS, *INCEPTION_V3)),
            *((method, path) for method, path, *_ in ASKING),
            # of the default model, whose samples are computed at once
            *(("POST", path) for path in ("/predict", "/predict/label")),
            *(
                (method.upper(), path)
                for path, method, operation in _operations(document)
                if "jobs" in operation["tags"]
            ),
            *(
                (method.upper(), path)
                for path, method, _ in _operations(document)
                if path.endswith(("/infer", ":predict", ":classify"))
            ),
        }
    )


async def test_readiness_declares_that_it_may_be_false(document: Any) -> None:
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]


def _top_k_schemas(document: Any, path: str) -> list[dict[str, Any]]:
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    places = [
        next((each["schema"] for each in operation["parameters"] if each["name"] == "top_k"), None),
        content["multipart/form-data"]["schema"]["properties"].get("top_k"),
        document["components"]["schemas"][name]["properties"].get("top_k"),
    ]
    return [place for place in places if place is not None]


async def test_top_k_goes_up_to_the_number_of_classes(document: Any, running: Api) -> None:
    classes = len(running.models["inception_v3"].metadata.labels)
    for path in ("/inception_v3/predict", "/inception_v3/predict/batched"):
        schemas = _top_k_schemas(document, path)
        assert len(schemas) == 3, "query, form and JSON"
        for schema in schemas:
            assert (schema["type"], schema["minimum"], schema["maximum"]) == ("integer", 1, classes)
        # Clients would send a default in the query as well as in the body, or take the field for a required one.
        assert not any("default" in schema for schema in schemas)
    assert _top_k_schemas(document, "/inception_v3/predict/label") == []


async def test_the_content_types_of_images_are_those_that_are_allowed(document: Any) -> None:
    for path in INCEPTION_V3:
        assert set(document["paths"][path]["post"]["requestBody"]["content"]) == {
            "multipart/form-data",
            "application/json",
            "image/jpeg",
            "image/png",
            "image/webp",
            "image/bmp",
            "image/gif",
            "image/avif",
        }
    for path in IRIS:
        assert set(document["paths"][path]["post"]["requestBody"]["content"]) == {"application/json"}


@pytest.mark.parametrize("model", ["iris", "inception_v3"])
async def test_a_job_takes_what_the_prediction_takes(document: Any, model: str) -> None:
    job, prediction = (document["paths"][f"/{model}/{name}"]["post"] for name in ("jobs", "predict"))
    assert job["requestBody"] == prediction["requestBody"]
    own = {"max_retries", "ttl_seconds", "Idempotency-Key"}
    named = {each["name"]: each for each in job["parameters"]}
    assert {name: named[name] for name in named if name not in own} == {
        each["name"]: each for each in prediction["parameters"]
    }
    assert own <= set(named)
    assert set(job["responses"]) == {"202", "400", "409", "413", "415", "429", "500", "503", "504"}


async def test_the_limits_of_rows_are_in_the_schema(document: Any) -> None:
    data = document["components"]["schemas"]["IrisRequest"]["properties"]["data"]
    # All rows of a request have one form.
    lists, records = data["anyOf"]
    assert (lists["minItems"], lists["maxItems"]) == (records["minItems"], records["maxItems"]) == (1, 1024)
    row, record = lists["items"], records["items"]
    assert (row["minItems"], row["maxItems"]) == (4, 4)
    assert row["items"]["type"] == "number"
    assert len(record["properties"]) == len(record["required"]) == 4


REQUESTS = [
    *(("post", path, {"content": VALID_BODY, "headers": JSON}) for path in IRIS),
    *(("post", path, {"content": PNG, "headers": {"content-type": "image/png"}}) for path in INCEPTION_V3),
    *(("get", path, {}) for path in GET if path != "/metrics"),
    *(("post", path, {"content": b"", "headers": JSON}) for path in (*IRIS, *INCEPTION_V3)),
    *((method.lower(), path, {"headers": {"X-Request-Timeout-Ms": "0"}}) for method, path, *_ in ASKING),
    *(("post", path, {"content": b"x", "headers": {"content-type": "a/b"}}) for path in (*IRIS, *INCEPTION_V3)),
]


@pytest.mark.parametrize(("method", "path", "more"), REQUESTS)
async def test_answers_are_as_declared(
    client: httpx.AsyncClient, document: Any, method: str, path: str, more: dict[str, Any]
) -> None:
    response = await client.request(method, path, **more)
    declared = document["paths"][path][method]["responses"][str(response.status_code)]
    schema = declared["content"]["application/json"]["schema"]
    validator = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    validator.validate(response.json())


async def test_the_document_is_small_and_names_no_place_of_this_machine(client: httpx.AsyncClient) -> None:
    text = (await client.get("/docs.json")).text
    assert len(text) < 150_000
    assert "/home/" not in text
    assert "127.0.0.1" not in text
