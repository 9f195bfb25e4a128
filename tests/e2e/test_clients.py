"""Clients as their users have them: BentoML's SDK, a generated one, and a fuzzer that only has the document."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import bentoml
import httpx
import pytest

from tests.server import Server

BIN = Path(sys.executable).parent
OPAQUE = "^/inception_v3/(predict(/batched|/label)?|jobs)$|^/jobs$"
"""Not every file is an image, not every string is base64 or a cursor, and no schema can say which are."""
PROTOCOLS = "^/v1/|^/v2/models/"
"""Nor is every tensor as long as its shape says. tests/protocols/test_rest_fuzz.py asks these routes far more often."""
CONFIGURATION = """
# It gives the server a millisecond, too, and then 504 is the right answer.
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]
"""


def test_bentoml_client(server: Server, photo: bytes, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    with bentoml.SyncHTTPClient(server.url) as client:
        rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
        assert client.iris_predict_label(data=rows) == {"prediction": ["setosa", "virginica"]}
        assert client.iris_predict(data=rows) == client.iris_predict_batched(data=rows)
        answer = client.inception_v3_predict(image=file, top_k=2)
        assert len(answer["predictions"]) == 2
        label = client.inception_v3_predict_label(image=file)
        assert label == {"prediction": answer["predictions"][0]["label"]}
    # BentoML leaves it to the garbage collector, whose warning would fail whichever test runs then.
    client._temp_dir.cleanup()


def test_generated_client(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """openapi-python-client makes a typed package from the document; it has to predict."""
    document = tmp_path / "docs.json"
    document.write_text(httpx.get(f"{server.url}/docs.json", timeout=60).text)
    package = tmp_path / "generated" / "model_serving_client"
    subprocess.run(
        [BIN / "openapi-python-client", "generate", "--path", document, "--meta", "none", "--output-path", package],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    monkeypatch.syspath_prepend(str(package.parent))
    generated = importlib.import_module("model_serving_client")
    models = importlib.import_module("model_serving_client.models")
    predict = importlib.import_module("model_serving_client.api.iris.iris_predict_label")
    metadata = importlib.import_module("model_serving_client.api.inception_v3.inception_v3_metadata")
    with generated.Client(base_url=server.url) as client:
        answer = predict.sync(client=client, body=models.IrisRequest(data=[[5.1, 3.5, 1.4, 0.2]]))
        assert answer.prediction == ["setosa"]
        wrong = predict.sync(client=client, body=models.IrisRequest(data=[[5.1]]))
        assert wrong.error.code == "invalid_input"
        assert metadata.sync(client=client).trained is False


@pytest.mark.parametrize(
    ("selection", "without"),
    [
        # A job that was cancelled can still be asked for: deleting does not make it unknown.
        pytest.param(
            ["--exclude-path-regex", f"{OPAQUE}|{PROTOCOLS}"], ["--exclude-checks", "use_after_free"], id="all checks"
        ),
        pytest.param(
            ["--include-path-regex", OPAQUE], ["--exclude-checks", "positive_data_acceptance"], id="opaque values"
        ),
        pytest.param(
            ["--include-path-regex", PROTOCOLS, "--phases", "examples,fuzzing", "--max-examples", "5"],
            ["--exclude-checks", "positive_data_acceptance"],
            id="protocols",
        ),
    ],
)
def test_schemathesis(server: Server, tmp_path: Path, selection: list[str], without: list[str]) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    result = subprocess.run(
        [
            *(BIN / "schemathesis", "run", f"{server.url}/docs.json", "--checks", "all", *without),
            *("--max-examples", "25", *selection),  # the last one counts
            *("--seed", "1", "--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout
    assert "Traceback" not in server.log()


def test_the_document_can_be_read_without_the_server(server: Server) -> None:
    """What the service says of itself outside a server, as `bentoml build` does, is what the server answers."""
    printed = subprocess.run(
        [sys.executable, "-c", "import json, service; print(json.dumps(service.svc.openapi_spec.asdict()))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    assert json.loads(printed) == httpx.get(f"{server.url}/docs.json", timeout=60).json()
