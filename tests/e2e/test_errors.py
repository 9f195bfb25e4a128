"""What hostile or mistaken clients get from real processes."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serving.settings import get_settings
from tests.server import Server

JSON = {"Content-Type": "application/json"}
TOO_LARGE = b" " * (get_settings().api.max_request_bytes + 1)
MANY_ROWS = b'{"data":[' + b"[1,2,3,4]," * (get_settings().models["iris"].max_rows or 0) + b"[1,2,3,4]]}"
ROW = [5.1, 3.5, 1.4, 0.2]

BAD = [
    pytest.param("/iris/predict", b"{", JSON, 400, "malformed_request", id="malformed JSON"),
    pytest.param("/iris/predict", b"", JSON, 400, "malformed_request", id="empty body"),
    pytest.param("/iris/predict", b"{}", JSON, 400, "invalid_input", id="missing field"),
    pytest.param("/iris/predict", b'{"data":[[1,2,3]]}', JSON, 400, "invalid_input", id="wrong column count"),
    pytest.param("/iris/predict", b'{"data":[[1,2,3,4],[1]]}', JSON, 400, "invalid_input", id="ragged rows"),
    pytest.param("/iris/predict", b'{"data":[[1,2,3,NaN]]}', JSON, 400, "invalid_input", id="NaN"),
    pytest.param("/iris/predict", b'{"data":[[1,2,3,Infinity]]}', JSON, 400, "invalid_input", id="Infinity"),
    pytest.param("/iris/predict", b'{"data":[[1,2,3,1e39]]}', JSON, 400, "invalid_input", id="over float32"),
    pytest.param("/iris/predict", b'{"data":[[1,2,3,"4"]]}', JSON, 400, "invalid_input", id="string for a number"),
    pytest.param("/iris/predict", b'{"data":[]}', JSON, 400, "invalid_input", id="no rows"),
    pytest.param(
        "/iris/predict",
        b'{"data":[' + b"[1,2,3,4]," * 1024 + b"[1,2,3,4]]}",
        JSON,
        400,
        "invalid_input",
        id="many rows",
    ),
    pytest.param("/iris/predict", b"a,b", {"Content-Type": "text/csv"}, 415, "unsupported_media_type", id="wrong type"),
    pytest.param("/iris/predict", TOO_LARGE, JSON, 413, "payload_too_large", id="too large"),
    pytest.param("/inception_v3/predict", b"no", {"Content-Type": "image/png"}, 400, "invalid_image", id="no image"),
    pytest.param(
        "/inception_v3/predict", b"", {"Content-Type": "image/png"}, 400, "malformed_request", id="empty image"
    ),
    pytest.param("/inception_v3/predict", b"x", JSON, 400, "malformed_request", id="malformed JSON image"),
    pytest.param(
        "/inception_v3/predict", b'{"image":"http://127.0.0.1/"}', JSON, 400, "malformed_request", id="URL for an image"
    ),
    pytest.param(
        "/inception_v3/predict",
        b"x",
        {"Content-Type": "application/vnd.bentoml+pickle"},
        415,
        "unsupported_media_type",
        id="pickle",
    ),
    pytest.param("/no/such/path", b"", {}, 404, "not_found", id="unknown path"),
    pytest.param("/iris/metadata", b"", {}, 405, "method_not_allowed", id="wrong method"),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "code"), BAD)
def test_bad_input_is_told_what_is_wrong(
    client: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = client.post(path, content=body, headers=headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert isinstance(error["details"], list)
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/iris/predict", "/iris/predict/batched", "/inception_v3/predict"])
def test_a_body_without_a_length_is_not_read_beyond_the_limit(server: Server, path: str) -> None:
    """An endless chunked body is answered while it is still being sent."""
    kind = b"image/png" if "inception" in path else b"application/json"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % (path.encode(), kind)
        )
        sent = 0
        try:
            for _ in range(200):
                connection.sendall(chunk)
                sent += 1
        except OSError:
            pass  # the server has closed its side
        assert sent < 200
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_bad_requests_harm_no_good_ones_and_leave_no_traceback(server: Server, photo: bytes) -> None:
    def bad(number: int) -> int:
        path, body, headers, *_ = BAD[number % len(BAD)].values
        return httpx.post(server.url + str(path), content=body, headers=headers, timeout=30).status_code

    def good(number: int) -> int:
        if number % 4 == 0:
            return httpx.post(
                server.url + "/inception_v3/predict/batched", files={"image": photo}, timeout=30
            ).status_code
        return httpx.post(server.url + "/iris/predict/batched", json={"data": [ROW]}, timeout=30).status_code

    with ThreadPoolExecutor(8) as threads:
        refused = threads.map(bad, range(60))
        answered = threads.map(good, range(60))
        assert {status // 100 for status in refused} == {4}
        assert set(answered) == {200}
    assert "Traceback" not in server.log()
