"""Asks with KServe's client, in an environment that has it: `python kserve_client.py <url> <host:port> <image>`.

Prints what it was told as JSON. The rows are two of iris, setosa and virginica.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


def rows(*, binary: bool) -> InferRequest:
    given = InferInput("features", list(ROWS.shape), "FP32")
    given.set_data_from_numpy(ROWS, binary_data=binary)
    # KServe's servers hand parameters of all kinds on to their models.
    return InferRequest("iris", [given], request_id="seven", parameters={"of": "the caller"})


def image(content: bytes) -> InferRequest:
    given = InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([content], object), binary_data=True)
    wanted = [RequestedOutput("label", parameters={"binary_data": True})]
    return InferRequest("inception_v3", [given], request_outputs=wanted)


def told(answer: Any) -> dict[str, Any]:
    """What stands in an InferResponse."""
    outputs = {each.name: each.as_numpy().ravel().tolist() for each in answer.outputs}
    outputs = {
        name: [each.decode() if isinstance(each, bytes) else each for each in values]
        for name, values in outputs.items()
    }
    return {"id": answer.id, "model": answer.model_name, **outputs}


async def v1(url: str, content: bytes) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=60))
    encoded = {"image": {"b64": base64.b64encode(content).decode()}}
    try:
        await client.infer(url, {"instances": [[1.0]]}, model_name="iris")
    except httpx.HTTPStatusError as error:
        refused = str(error)
    found = {
        "live": await client.is_server_live(url),
        "ready": await client.is_model_ready(url, "iris"),
        "rows": await client.infer(url, {"instances": ROWS.tolist()}, model_name="iris"),
        "image": await client.infer(url, {"instances": [encoded]}, model_name="inception_v3"),
        "refused": refused,
    }
    await client.close()
    return found


async def v2(url: str, content: bytes) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    found = {
        "live": await client.is_server_live(url),
        "ready": [
            await client.is_server_ready(url),
            await client.is_model_ready(url, "iris"),
            await client.is_model_ready(url, "rose"),
        ],
        "rows": [told(await client.infer(url, rows(binary=binary), model_name="iris")) for binary in (True, False)],
        "image": told(await client.infer(url, image(content), model_name="inception_v3")),
    }
    await client.close()
    return found


async def v2_grpc(target: str, content: bytes) -> dict[str, Any]:
    async with InferenceGRPCClient(url=target, timeout=60) as client:
        try:
            await client.is_model_ready("rose")
        except grpc.RpcError as error:
            refused = error.details()
        return {
            "live": await client.is_server_live(),
            "ready": [await client.is_server_ready(), await client.is_model_ready("iris")],
            "rows": [told(await client.infer(rows(binary=binary))) for binary in (True, False)],
            "image": told(await client.infer(image(content))),
            "refused": refused,
        }


async def main(url: str, target: str, content: bytes) -> None:
    found = {"v1": await v1(url, content), "v2": await v2(url, content), "grpc": await v2_grpc(target, content)}
    print(json.dumps(found))


_, http, other, file = sys.argv
asyncio.run(main(http, other, Path(file).read_bytes()))
