"""Requests of the standard protocols, made by hand: no client's library decides what is in them."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np

from tests.pictures import encoded, picture

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]]
PNG = encoded(picture(seed=1), "PNG")
JPEG = encoded(picture(seed=2), "JPEG")
LENGTH = "Inference-Header-Content-Length"
IRIS = "/v2/models/iris/infer"
INCEPTION_V3 = "/v2/models/inception_v3/infer"


def base64url(file: bytes) -> str:
    return base64.urlsafe_b64encode(file).decode().rstrip("=")


def rows_input(rows: Any = ROWS, **changes: Any) -> dict[str, Any]:
    """An input for iris, with `changes`; `None` leaves a member out."""
    given = {"name": "features", "shape": [len(rows), 4], "datatype": "FP32", "data": rows} | changes
    return {name: value for name, value in given.items() if value is not None}


def infer_body(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs)} | more


def binary(*elements: bytes) -> bytes:
    """A BYTES tensor as binary data."""
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def with_binary(document: dict[str, Any], data: bytes, **headers: str | bytes) -> dict[str, Any]:
    """Keyword arguments of a post with `data` after the JSON."""
    text = json.dumps(document).encode()
    return {"content": text + data, "headers": {LENGTH: str(len(text))} | headers}


def binary_rows(rows: Any = ROWS, **more: Any) -> dict[str, Any]:
    data = np.array(rows, "<f4").tobytes()
    given = rows_input(rows, data=None, parameters={"binary_data_size": len(data)})
    return with_binary(infer_body(given, **more), data)


def images_input(*files: bytes) -> dict[str, Any]:
    return {
        "name": "image",
        "shape": [len(files)],
        "datatype": "BYTES",
        "data": [base64url(file) for file in files],
    }


def read_answer(response: httpx.Response) -> dict[str, Any]:
    """The outputs of a good answer by name: NumPy arrays, and lists of strings."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    document = json.loads(response.content[:length])
    rest = response.content[length:]
    found: dict[str, Any] = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        data, count = output.get("data"), int(np.prod(output["shape"]))
        if size is not None:
            part, rest = rest[:size], rest[size:]
            assert len(part) == size
            data = _elements(part) if output["datatype"] == "BYTES" else np.frombuffer(part, "<f4").tolist()
        assert len(data) == count
        found[output["name"]] = (
            data if output["datatype"] == "BYTES" else np.array(data, np.float32).reshape(output["shape"])
        )
    assert rest == b""
    return found


def _elements(part: bytes) -> list[str]:
    found = []
    while part:
        end = 4 + int.from_bytes(part[:4], "little")
        found.append(part[4:end].decode())
        part = part[end:]
    return found
