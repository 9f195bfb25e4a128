"""Compressed bodies: every route that has a body reads them, and no route reads more than it may."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from serving.core.errors import MalformedRequestError, PayloadTooLargeError
from serving.http.content_encoding import Decompressed
from serving.settings import get_settings
from tests.http.asgi import Body, ask
from tests.http.bodies import VALID_BODY
from tests.pictures import encoded, picture

pytestmark = pytest.mark.anyio

LIMIT = get_settings().api.max_request_bytes
JPEG = encoded(picture(), "JPEG")


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "identity and gzip": ("identity, gzip", gzip.compress),
}
PIXELS = {"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]}
HEAD = json.dumps(PIXELS).encode()
FORM = b'--e\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n' + JPEG + b"\r\n--e--\r\n"
BODIES: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "rows": ("/iris/predict", VALID_BODY, {"content-type": "application/json"}),
    "rows of no type": ("/iris/predict", VALID_BODY, {}),
    "rows in a runner": ("/iris/predict/batched", VALID_BODY, {"content-type": "application/json"}),
    "labels": ("/iris/predict/label", VALID_BODY, {"content-type": "application/json"}),
    "a form": ("/inception_v3/predict", FORM, {"content-type": "multipart/form-data; boundary=e"}),
    "an image": ("/inception_v3/predict", JPEG, {"content-type": "image/jpeg"}),
    "an image as JSON": (
        "/inception_v3/predict",
        json.dumps({"image": base64.b64encode(JPEG).decode()}).encode(),
        {"content-type": "application/json"},
    ),
    "V2 as JSON": (
        "/v2/models/iris/infer",
        b'{"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}',
        {"content-type": "application/json"},
    ),
    "V2 with binary data": (
        "/v2/models/iris/infer",
        HEAD + np.array([5.1, 3.5, 1.4, 0.2], "<f4").tobytes(),
        {"content-type": "application/octet-stream", "inference-header-content-length": str(len(HEAD))},
    ),
    "V1": ("/v1/models/iris:predict", b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}', {}),
    "V1 examples": ("/v1/models/iris:classify", b'{"examples": [{"features": [5.1, 3.5, 1.4, 0.2]}]}', {}),
    "the repository": ("/v2/repository/index", b'{"ready": true}', {}),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", BODIES)
async def test_the_answer_is_that_of_the_body_as_it_is(client: httpx.AsyncClient, name: str, encoding: str) -> None:
    path, body, headers = BODIES[name]
    plain = await client.post(path, content=body, headers=headers)
    assert plain.status_code == 200, plain.text
    declared, compress = ENCODINGS[encoding]
    answer = await client.post(path, content=compress(body), headers=headers | {"content-encoding": declared})
    assert (answer.status_code, answer.content) == (200, plain.content)


async def test_a_job_is_kept_decompressed(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = await client.post("/iris/jobs", content=gzip.compress(VALID_BODY), headers=headers)
    assert answer.status_code == 202, answer.text
    assert (await client.delete(answer.headers["location"])).status_code == 200
    bad = await client.post("/iris/jobs", content=VALID_BODY, headers=headers)
    assert bad.status_code == 400


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x" * 500])
@pytest.mark.parametrize("path", ["/iris/predict", "/v2/models/iris/infer", "/v1/models/iris:predict"])
async def test_another_encoding_names_those_there_are(client: httpx.AsyncClient, path: str, encoding: str) -> None:
    answer = await client.post(path, content=b"x", headers={"content-encoding": encoding})
    assert answer.status_code == 415
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    assert message.startswith(f"content encoding {encoding[:64]}")
    assert message.endswith("is not supported; send one of gzip, deflate, or the body as it is")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


async def test_several_headers_are_one_list(client: httpx.AsyncClient) -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "deflate")]
    answer = await client.post("/iris/predict", content=b"x", headers=headers)
    assert answer.status_code == 415


async def test_nothing_is_decompressed_where_there_is_no_body(client: httpx.AsyncClient) -> None:
    for encoding in ("gzip", "br"):
        assert (await client.get("/iris/metadata", headers={"content-encoding": encoding})).status_code == 200
        answer = await client.post("/iris/predict", headers={"content-encoding": encoding})
        assert (answer.status_code, "the body is empty" in answer.text) == (400, True)


WHOLE = gzip.compress(VALID_BODY)
DAMAGED = {
    "not compressed": (VALID_BODY, "the body is not gzip, as its content encoding says"),
    "cut off": (WHOLE[:-4], "the body ends before its gzip stream does"),
    "a wrong checksum": (WHOLE[:-8] + bytes(8), "the body is not gzip, as its content encoding says"),
    "a header only": (WHOLE[:5], "the body ends before its gzip stream does"),
    "more after the end": (WHOLE + b"x", "the body has bytes after the end of its gzip stream"),
    "two streams": (WHOLE + WHOLE, "the body has bytes after the end of its gzip stream"),
    "a zlib stream": (zlib.compress(VALID_BODY), "the body is not gzip, as its content encoding says"),
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_stream_is_malformed(client: httpx.AsyncClient, name: str) -> None:
    body, says = DAMAGED[name]
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    answer = await client.post("/iris/predict", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, says)
    form = await client.post("/inception_v3/predict", content=body, headers=headers | {"content-type": "image/png"})
    assert (form.status_code, form.json()["error"]["message"]) == (400, says)


@pytest.mark.parametrize("path", ["/iris/predict", "/inception_v3/predict", "/v2/models/iris/infer", "/iris/jobs"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_given_up_at_the_limit(app: Starlette, path: str, encoding: str) -> None:
    declared, compress = ENCODINGS[encoding]
    bomb = compress(bytes(LIMIT * 8))
    body = Body(bomb[: len(bomb) // 2], bomb[len(bomb) // 2 :])
    headers = [("content-type", "application/json"), ("content-encoding", declared)]
    answer = await ask(app, path, body, headers=headers)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert body.taken < len(bomb), "more was read than was needed to see it"


async def test_exactly_the_limit_passes(app: Starlette) -> None:
    body = VALID_BODY + b" " * (LIMIT - len(VALID_BODY))
    headers = [("content-type", "application/json"), ("content-encoding", "gzip")]
    assert (await ask(app, "/iris/predict", Body(gzip.compress(body)), headers=headers)).status == 200
    assert (await ask(app, "/iris/predict", Body(gzip.compress(body + b" ")), headers=headers)).status == 413


async def test_what_becomes_nothing_is_not_read_for_ever() -> None:
    """A gzip header may have a name of any length."""
    endless = Body(bytes.fromhex("1f8b0808000000000003"), *[b"x" * 1000] * 1000)
    receive = Decompressed(endless, b"gzip", max_bytes=10_000)
    with pytest.raises(PayloadTooLargeError):
        await read_all(receive)
    assert endless.taken < 12_000


async def decompress(encoding: str, *chunks: bytes) -> bytes:
    return await read_all(Decompressed(Body(*chunks), encoding.encode(), max_bytes=1 << 30))


async def read_all(receive: Any) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message["body"])
        more = message["more_body"]
    assert max(map(len, parts)) <= 256 * 1024
    return b"".join(parts)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["gzip", "deflate", "raw deflate"]),
    st.binary(max_size=100) | st.integers(0, 2_000_000).map(bytes),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_chunks_of_any_size_become_the_same(encoding: str, content: bytes, cuts: list[int]) -> None:
    declared, compress = ENCODINGS[encoding]
    body = compress(content)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(places)]
    assert asyncio.run(decompress(declared, *chunks)) == content


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["gzip", "deflate"]), st.binary(min_size=1))
def test_any_bytes_are_decompressed_or_malformed(encoding: str, body: bytes) -> None:
    with suppress(MalformedRequestError):
        asyncio.run(decompress(encoding, body))
