"""Programs in other languages, with the HTTP clients that come with them or that everybody uses there."""

from __future__ import annotations

import asyncio
import io
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import requests

from tests.e2e.programs.running import BUILD, HERE, answers, installed, node, run
from tests.server import Server

ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}
LABEL = "/inception_v3/predict/label"


@pytest.fixture
def row(client: httpx.Client) -> Any:
    """The right answer for `ROW`."""
    return client.post("/iris/predict", json=ROW).json()


@pytest.fixture
def label(client: httpx.Client, photo: bytes) -> Any:
    """The right answer for the photo."""
    return client.post(LABEL, content=photo, headers={"content-type": "image/jpeg"}).json()


def check(printed: str, *, rows: dict[str, Any], images: set[str], row: Any, label: Any) -> None:
    """What a program has printed: predictions of `rows` and `images`, a job, a refused body and a refused WebSocket."""
    found = answers(printed)
    large = next(name for name in found if name.endswith("too large"))
    ((status, refused),) = found.pop(large)
    assert (status, refused["error"]["code"]) == (413, "payload_too_large")
    ((status, accepted),) = found.pop("accepted")
    assert (status, accepted["status"]) == (202, "queued")
    ((status, job),) = found.pop("job")
    assert (status, job["job_id"], job["result"]) == (200, accepted["job_id"], row)
    if "WebSocket" in found:
        ((status, refused),) = found.pop("WebSocket")
        assert (status, refused["error"]["message"]) == (400, "this server has no WebSockets; send HTTP requests")
    assert found == {name: [(200, answer)] * len(found[name]) for name, answer in rows.items()} | {
        name: [(200, label)] for name in images
    }


def test_java(server: Server, image: Path, row: Any, label: Any) -> None:
    printed = run(installed("java", "openjdk-17-jdk-headless"), HERE / "Client.java", server.url, image)
    rows = dict.fromkeys(("json", "chunked", "async"), row)
    check(printed, rows=rows, images={"raw", "multipart", "field"}, row=row, label=label)
    assert len(answers(printed)["async"]) == 4
    assert "WebSocket" in answers(printed)


def test_go(server: Server, image: Path, tmp_path: Path, row: Any, label: Any) -> None:
    go = installed("go", "golang-go")
    program = tmp_path / "client"
    run(go, "build", "-o", program, HERE / "client.go", GOCACHE=str(BUILD / "go"), GOFLAGS="", GO111MODULE="off")
    rows = dict.fromkeys(("json", "chunked", "expect"), row)
    check(run(program, server.url, image), rows=rows, images={"raw", "multipart", "field"}, row=row, label=label)


def test_node(server: Server, image: Path, row: Any, label: Any) -> None:
    printed = node(HERE / "client.mjs", server.url, image)
    rows = {"fetch json": row, "fetch stream": row, "axios json": row}
    rows["fetch untyped"] = {"predictions": row["prediction"]}
    fetched = {f"fetch {name}" for name in ("raw", "blob", "form", "data URL")}
    sent = {f"axios {name}" for name in ("named buffer", "buffer", "typed buffer", "filepath")}
    check(printed, rows=rows, images=fetched | sent, row=row, label=label)
    assert "WebSocket" in answers(printed)


def test_requests(server: Server, photo: bytes, row: Any, label: Any) -> None:
    with requests.Session() as session:

        def post(path: str, **more: Any) -> Any:
            answer = session.post(server.url + path, timeout=60, **more)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert post("/iris/predict", json=ROW) == row
        assert post(LABEL, files={"image": photo}) == label
        assert post(LABEL, files={"image": ("Katze – 1.jpg", photo, "image/jpeg")}) == label
        assert post(LABEL, files={"image": (None, photo)}) == label
        assert post(LABEL, data=io.BytesIO(photo), headers={"content-type": "image/jpeg"}) == label
        chunks = (photo[start : start + 4096] for start in range(0, len(photo), 4096))
        assert post(LABEL, data=chunks, headers={"content-type": "image/jpeg"}) == label
        assert session.head(f"{server.url}/livez", timeout=60).status_code == 200
        json_type = {"content-type": "application/json"}
        assert (
            session.post(f"{server.url}/iris/predict", bytes(64 << 20), headers=json_type, timeout=60).status_code
            == 413
        )


def test_urllib_is_told_that_a_body_is_too_large(server: Server) -> None:
    """It reads nothing before it has sent everything."""
    request = urllib.request.Request(
        f"{server.url}/iris/predict", bytes(64 << 20), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=60):
        pass
    assert refused.value.code == 413
    refused.value.close()


def test_aiohttp(server: Server, photo: bytes, row: Any, label: Any) -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession(server.url) as session:

            async def post(path: str, **more: Any) -> Any:
                async with session.post(path, **more) as answer:
                    assert answer.status == 200, await answer.text()
                    return await answer.json()

            assert await asyncio.gather(*(post("/iris/predict", json=ROW) for _ in range(8))) == [row] * 8
            for more in ({}, {"filename": "cat.jpg"}, {"content_type": "image/jpeg"}):
                form = aiohttp.FormData()
                form.add_field("image", io.BytesIO(photo), **more)
                assert await post(LABEL, data=form) == label
            with aiohttp.MultipartWriter("form-data") as parts:
                parts.append(photo, {"Content-Type": "image/jpeg"}).set_content_disposition("form-data", name="image")
            assert await post(LABEL, data=parts) == label
            assert await post(LABEL, data=io.BytesIO(photo), headers={"content-type": "image/jpeg"}) == label
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/iris/predict")
            assert refused.value.status == 400

    asyncio.run(ask())


@pytest.mark.parametrize(
    "disposition",
    [
        "form-data; name=image; filename=photo.jpg; filename*=utf-8''photo.jpg",
        "form-data; name=image; filename=\"=?utf-8?B?S8O8aGU=?=\"; filename*=utf-8''K%C3%BChe",
        "form-data; name=image",
    ],
    ids=["plain name", "name beyond ASCII", "no name"],
)
def test_forms_as_dotnet_writes_them(server: Server, photo: bytes, label: Any, disposition: str) -> None:
    """`MultipartFormDataContent` quotes the boundary and nothing else, unless it has to."""
    boundary = "4f4b5a2e-7a1a-4a9e-8b37-2f0f3a4d7c11"
    head = f"--{boundary}\r\nContent-Type: image/jpeg\r\nContent-Disposition: {disposition}\r\n\r\n"
    body = head.encode() + photo + f"\r\n--{boundary}--\r\n".encode()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", LABEL, body, {"Content-Type": f'multipart/form-data; boundary="{boundary}"'})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert (answer.status, httpx.Response(200, content=content).json()) == (200, label)
