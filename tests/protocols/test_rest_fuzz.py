"""Nothing that is sent to a route of the standard protocols fails the server.

`PROTOCOL_FUZZ_CASES=10000` asks more often than the suite has time for.
"""

from __future__ import annotations

import copy
import json
import os
import random
from typing import Any

import httpx
import numpy as np
import pytest

from tests.http import tensors
from tests.http.tensors import LENGTH, PNG, ROWS

pytestmark = pytest.mark.anyio

CASES = int(os.environ.get("PROTOCOL_FUZZ_CASES", "400"))
SEED = 7
JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    4,
    12,
    2**31,
    -(2**31),
    2**63,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e308,
    3.5e38,
    float("nan"),
    float("inf"),
    "",
    "x",
    "label",
    "probabilities",
    "features",
    "image",
    "FP32",
    "UINT8",
    "BYTES",
    "\ud800",
    "\0",
    "ü" * 99,
    [],
    [[]],
    [1],
    [1, 4],
    [3, 4],
    [-1, 4],
    [[1, 2, 3, 4]],
    [1, [2]],
    ["a"],
    [None],
    {},
    {"b64": "AA"},
    {"b64": 1},
    {"features": [1, 2, 3, 4]},
    {"binary_data_size": 48},
    {"binary_data": True},
    {"classification": 2},
    [[[[0]]]],
    {"classification": 1e300},
    {"binary_data_output": True},
]
V2_IRIS = [
    "/v2/models/iris/infer", "/v2/models/iris/versions/{iris}/infer", "/v2/models/iris/versions/9/infer",
]  # fmt: skip
V2_IMAGES = ["/v2/models/inception_v3/infer", "/v2/models/inception_v3/versions/{inception_v3}/infer"]
TF = ["/v1/models/{}", "/v1/models/{}/versions/{{{}}}", "/v1/models/{}/labels/stable", "/v1/models/{}/versions/x"]


def _v2(model: str, rng: random.Random) -> tuple[str, dict[str, Any], bytes]:
    """Path, document and binary data of a right request."""
    asked: dict[str, Any] = rng.choice([{}, {"outputs": [{"name": "label"}]}, {"parameters": {"classification": 2}}])
    asked = copy.deepcopy(asked) | rng.choice([{}, {"id": "7"}])
    if model == "iris":
        path, data = rng.choice(V2_IRIS), np.array(ROWS, "<f4").tobytes()
        if rng.random() < 0.5:
            return path, tensors.infer_body(copy.deepcopy(tensors.rows_input()), **asked), b""
        given = tensors.rows_input(data=None, parameters={"binary_data_size": len(data)})
        return path, tensors.infer_body(given, **asked), data
    path = rng.choice(V2_IMAGES)
    if rng.random() < 0.5:
        return path, tensors.infer_body(tensors.images_input(PNG), **asked), b""
    data = tensors.binary(PNG, PNG)
    given = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    return path, tensors.infer_body(given, **asked), data


def _tensorflow(model: str, rng: random.Random) -> tuple[str, dict[str, Any], bytes]:
    path = rng.choice(TF).format(model, model)
    value: Any = [5.1, 3.5, 1.4, 0.2] if model == "iris" else {"b64": tensors.base64url(PNG)}
    name = "features" if model == "iris" else "image"
    if rng.random() < 0.3:
        return f"{path}:classify", {"examples": [{name: value}], "context": {}}, b""
    data: Any = rng.choice([[value, value], [{name: value}]])
    document = {"instances": data} if rng.random() < 0.7 else {"inputs": {name: [value]}}
    if rng.random() < 0.3:
        document["signature_name"] = rng.choice(["serving_default", "probabilities", "classify", "x"])
    return f"{path}:predict", document, b""


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a document with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    found = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found


def _spoil(document: dict[str, Any], rng: random.Random) -> None:
    places = _places(document)
    if not places:
        return
    container, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.extend([copy.deepcopy(container[key])] * rng.choice([1, 1, 40, 2000]))
    elif kind == 2 and isinstance(container, dict):
        container[rng.choice(["x", "name", "data", "parameters", "outputs", "inputs", "instances", "b64"])] = (
            copy.deepcopy(rng.choice(JUNK))
        )
    else:
        container[key] = copy.deepcopy(rng.choice(JUNK))


def _spoil_bytes(body: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(body) + 1)
    return rng.choice(
        [body[:place], body[:place] + rng.randbytes(rng.choice([1, 4])) + body[place + 1 :], body[place:]]
    )


def make_case(rng: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers: right, or spoilt in one to three places."""
    model = rng.choice(["iris", "iris", "inception_v3"])
    path, document, data = rng.choice([_v2, _v2, _tensorflow])(model, rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        _spoil(document, rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.9).encode(errors="surrogatepass")
    if rng.random() < 0.15:
        text = _spoil_bytes(text, rng)
    headers = {"content-type": rng.choice(["application/json", "application/octet-stream", "text/plain"])}
    if data:
        headers[LENGTH] = str(len(text))
        if rng.random() < 0.2:
            data = _spoil_bytes(data, rng)
        if rng.random() < 0.1:
            headers[LENGTH] = str(rng.choice([0, -1, 1, len(text) - 1, len(text) + 1, 10**30, "x", "", "1e3", "0x10"]))
    return path, text + data, headers


@pytest.fixture
def quick_images(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are decoded and all classes equally probable."""

    async def submit(tensors: Any, **_: Any) -> Any:
        (pixels,) = tensors.values()
        return {"probabilities": np.full((len(pixels), 1000), 0.001, np.float32)}

    monkeypatch.setattr(running.models["inception_v3"], "_submit", submit)


@pytest.mark.usefixtures("quick_images")
@pytest.mark.timeout(3000)
async def test_nothing_that_is_sent_fails_the_server(client: httpx.AsyncClient, running: Any) -> None:
    versions = {model.name: model.version for model in running.models}
    rng = random.Random(SEED)
    seen: dict[int, int] = {}
    for number in range(CASES):
        path, body, headers = make_case(rng)
        path = path.format(**versions)
        answer = await client.post(path, content=body, headers=headers)
        told = f"case {number} of seed {SEED}: {path} {headers} {body[:500]!r}"
        status = answer.status_code
        seen[status] = seen.get(status, 0) + 1
        assert status in (200, 400, 404, 413), f"{told}: {status} {answer.content!r}"
        if status != 200:
            document = answer.json()
            assert list(document) == ["error"], told
            assert isinstance(document["error"], str), told
            assert len(document["error"]) < 700, told
    assert min(seen.get(200, 0), seen.get(400, 0)) > CASES / 10, "there are right ones and wrong ones among them"
