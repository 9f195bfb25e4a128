"""Requests of kinds that users of model servers have reported as failing, by the programs that send them.

What stands in `files/` came from them. Files of rows are in test_row_files.py.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.pictures import encoded, picture
from tests.server import NO_PROXY_THERE, ROOT, Server

FILES = Path(__file__).parent / "files"
ROW = [5.1, 3.5, 1.4, 0.2]
SETOSA = 0.9745
PHOTO = encoded(picture(height=480, width=640), "JPEG")
NATIVE, V1, V2 = "/iris/predict", "/v1/models/iris:predict", "/v2/models/iris/infer"
TENSOR = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": ROW}
BODIES: dict[str, dict[str, Any]] = {
    NATIVE: {"data": [ROW]},
    V1: {"instances": [ROW]},
    V2: {"inputs": [TENSOR], "outputs": [{"name": "probabilities"}]},
}
OF_IMAGES = ("/inception_v3/predict", "/v1/models/inception_v3:predict", "/v2/models/inception_v3/infer")


def probabilities(path: str, answer: Any) -> list[float]:
    """Of the one row."""
    if path == V2:
        return list(answer["outputs"][0]["data"])
    (found,) = answer["predictions" if path == V1 else "prediction"]
    return list(found)


def highest(path: str, answer: Any) -> list[Any]:
    """The most probable class of the one picture: its label, or its probability in V2."""
    if path == OF_IMAGES[0]:
        return [answer["predictions"][0]["label"], answer["predictions"][0]["probability"]]
    if path == OF_IMAGES[1]:
        return [answer["predictions"][0]]
    return [max(answer["outputs"][0]["data"])]


def post(server: Server, path: str, body: bytes, **headers: str) -> Any:
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    answer = requests.post(server.url + path, data=body, headers=named, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def check_setosa(path: str, answer: Any) -> None:
    assert round(probabilities(path, answer)[0], 4) == SETOSA


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_upgrade_offered(server: Server, path: str, chunked: bool) -> None:
    headers = ["Content-Type: application/json", *(["Transfer-Encoding: chunked"] if chunked else [])]
    arguments = [part for header in headers for part in ("--header", header)]
    arguments += ["--data-binary", json.dumps(BODIES[path]), "--no-progress-meter", "--max-time", "120"]
    # Twice, the second time on the same connection.
    urls = [server.url + path] * 2
    done = subprocess.run(["curl", "--http2", *arguments, *urls], capture_output=True, check=True)
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(done.stdout.decode())
    second, _ = decoder.raw_decode(done.stdout.decode()[end:])
    check_setosa(path, first)
    check_setosa(path, second)


def test_no_file_name(server: Server) -> None:
    url = f"{server.url}/inception_v3/predict"
    named = requests.post(url, files={"image": ("cat.jpg", PHOTO, "image/jpeg")}, timeout=120)
    buffer = requests.post(url, files={"image": (None, PHOTO, "image/jpeg")}, timeout=120)
    assert (buffer.status_code, buffer.content) == (200, named.content)


def image_body(path: str, text: str) -> dict[str, Any]:
    if path.startswith("/v1"):
        return {"instances": [{"b64": text}]}
    if path.startswith("/v2"):
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
        return {"inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    return {"image": text}


@pytest.mark.parametrize("path", OF_IMAGES)
def test_data_url(server: Server, path: str) -> None:
    text = base64.b64encode(PHOTO).decode()
    plain = post(server, path, json.dumps(image_body(path, text)).encode())
    url = post(server, path, json.dumps(image_body(path, f"data:image/jpeg;base64,{text}")).encode())
    assert highest(path, url) == highest(path, plain)


@pytest.mark.parametrize("path", BODIES)
def test_compressed_body(server: Server, path: str) -> None:
    body = gzip.compress(json.dumps(BODIES[path]).encode())
    check_setosa(path, post(server, path, body, Content_Encoding="gzip"))


@pytest.mark.parametrize("path", BODIES)
def test_byte_order_mark(server: Server, path: str) -> None:
    content = (FILES / "byte_order_mark.json").read_bytes()
    body = content if path == NATIVE else content[:3] + json.dumps(BODIES[path]).encode()
    check_setosa(path, post(server, path, body))


def test_null_for_not_given(server: Server) -> None:
    nothing = {"id": None, "parameters": None, "outputs": None}
    tensor = TENSOR | {"parameters": {"binary_data_size": None, "of_others": {"deep": [1]}}}
    body = nothing | {"inputs": [tensor]}
    answer = post(server, V2, json.dumps(body).encode())
    (found,) = [output for output in answer["outputs"] if output["name"] == "probabilities"]
    assert round(found["data"][0], 4) == SETOSA


def test_list_of_v1_models(server: Server) -> None:
    names = requests.get(f"{server.url}/v1/models", timeout=60).json()["models"]
    assert "iris" in names
    status = requests.get(f"{server.url}/v1/models/iris", timeout=60).json()
    assert status["ready"] is True, "for KServe's clients"
    assert status["model_version_status"][0]["state"] == "AVAILABLE", "for TensorFlow Serving's"


@pytest.mark.parametrize("path", OF_IMAGES)
@pytest.mark.parametrize("name", ["no_end_marker.jpg", "large_text_chunk.png", "black_on_transparent.png"])
def test_image(server: Server, path: str, name: str) -> None:
    """What its pixels are is in tests/codecs; here the same prediction comes out on every way."""
    content = (FILES / name).read_bytes()
    plain = requests.post(f"{server.url}/inception_v3/predict", data=content, timeout=120)
    assert plain.status_code == 200, plain.text
    answer = post(server, path, json.dumps(image_body(path, base64.b64encode(content).decode())).encode())
    label, probability = highest(OF_IMAGES[0], plain.json())
    for found in highest(path, answer):
        assert found == (label if isinstance(found, str) else pytest.approx(probability, abs=1e-6))
    if name == "no_end_marker.jpg":
        half = requests.post(f"{server.url}/inception_v3/predict", data=content[: len(content) // 2], timeout=120)
        assert half.status_code == 400, "half a file is refused"


def test_proxy_in_the_environment(server: Server) -> None:
    arguments = ["-m", "serving", "predict", "iris", "--row", ",".join(map(str, ROW)), "--target", server.url]
    done = subprocess.run(
        [sys.executable, *arguments, "--timeout", "60"], cwd=ROOT, env=NO_PROXY_THERE | {"PATH": ""},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "setosa" in done.stdout
