"""The batch pattern with a real server: rows that are posted, scored by the command, and read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.pictures import encoded, picture
from tests.server import BENTOML, ROOT, START_SECONDS, Server, free_port, serving

pytestmark = pytest.mark.slow

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """A database and a directory of images of their own."""
    with TemporaryDirectory() as directory:
        (Path(directory) / "cat.png").write_bytes(encoded(picture(), "PNG"))
        yield {
            "SERVING__BATCH__DATABASE_URL": f"sqlite:///{directory}/batch.db",
            "SERVING__BATCH__IMAGE_ROOT": directory,
        }


@pytest.fixture(scope="module")
def api(model_store: Path, settings: dict[str, str]) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    with serving(**settings) as running:
        yield running


def command(settings: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "serving", "batch", *arguments],
        cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def test_a_url_that_cannot_be_used_ends_the_start_with_one_line(model_store: Path) -> None:  # noqa: ARG001
    url = "mysql://rows:secret@db/rows?ssl-ca=/no/ca.pem"
    done = subprocess.run(
        [BENTOML, "serve", "service:svc", "--port", str(free_port())],
        cwd=ROOT, env=os.environ | {"SERVING__BATCH__DATABASE_URL": url}, capture_output=True, text=True, check=False,
        timeout=START_SECONDS,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("batch.database_url: ssl-ca: there is no file /no/ca.pem")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_rows_are_posted_scored_and_read(api: Server, settings: dict[str, str]) -> None:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert client.get("/batch/items").status_code == 503, "there are no tables yet"
        assert client.post("/iris/predict", json={"data": ROWS}).status_code == 200, "nothing else minds"
        assert command(settings, "init")[0] == 0
        items: list[dict[str, Any]] = [{"model": "iris", "values": row} for row in ROWS]
        items.append({"model": "inception_v3", "values": {"image_path": "cat.png"}})
        items.append({"model": "inception_v3", "values": {"image_url": "file:///etc/passwd"}})
        added = client.post("/batch/items", json={"items": items})
        assert (added.status_code, added.json()) == (201, {"ids": [1, 2, 3, 4]})
        status, summary = command(settings, "score")
        assert (status, summary["succeeded"], summary["failed"]) == (3, 3, 1)

        found = client.get("/batch/items?status=predicted").json()["items"]
        assert [row["values"] for row in found] == [item["values"] for item in items[:3]]
        iris = client.post("/iris/predict", json={"data": ROWS}).json()["prediction"]
        for row, expected in zip(found, iris, strict=False):
            assert row["prediction"] == pytest.approx(expected, abs=1e-6)
        image = encoded(picture(), "PNG")
        sent = client.post("/inception_v3/predict", content=image, headers={"content-type": "image/png"}).json()
        assert [each["class_id"] for each in found[2]["prediction"]] == [
            each["class_id"] for each in sent["predictions"]
        ]
        assert [row["label"] for row in found[:2]] == ["setosa", "virginica"]
        (bad,) = client.get("/batch/items?status=failed").json()["items"]
        assert bad["error"] == "image_url: not below batch.image_root"
        (run,) = client.get("/batch/runs").json()["runs"]
        assert (run["outcome"], run["claimed"], run["succeeded"], run["failed"]) == ("done", 4, 3, 1)


def test_every_answer_is_as_the_document_says(api: Server) -> None:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        document = client.get("/docs.json").json()
        row = {"model": "iris", "values": ROWS[0]}

        def check(path: str, method: str, url: str, **body: Any) -> None:
            response = client.request(method, url, **body)
            declared = document["paths"][path][method.lower()]["responses"][str(response.status_code)]
            schema = declared["content"]["application/json"]["schema"]
            jsonschema_rs.Draft202012Validator(
                {**schema, "components": document["components"]}, validate_formats=True
            ).validate(response.json())

        check("/batch/items", "POST", "/batch/items", json={"items": [row]})
        check("/batch/items", "POST", "/batch/items", json={"items": [row | {"values": []}]})
        check("/batch/items", "POST", "/batch/items", content=b"x", headers={"content-type": "text/csv"})
        check("/batch/items", "GET", "/batch/items")
        check("/batch/items", "GET", "/batch/items?limit=0")
        check("/batch/items/{item_id}", "GET", "/batch/items/1")
        check("/batch/items/{item_id}", "GET", "/batch/items/999")
        check("/batch/runs", "GET", "/batch/runs")

        body = document["paths"]["/batch/items"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        accepts = jsonschema_rs.Draft202012Validator({**body, "components": document["components"]})
        assert accepts.is_valid({"items": [row, {"model": "inception_v3", "values": {"image_path": "a"}}]})
        for wrong in ({"items": []}, {"items": [row | {"model": "wine"}]}, {"items": [row | {"values": [1]}]}, {}):
            assert not accepts.is_valid(wrong)
        text = json.dumps(document)
        used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert used == set(document["components"]["schemas"])
        metrics = client.get("/metrics").text
        assert 'endpoint="/batch/items/{item_id}"' in metrics
        assert "/batch/items/999" not in metrics
