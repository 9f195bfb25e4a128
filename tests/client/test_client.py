"""The client of the jobs API, against a stand-in that fails on purpose."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from serving import client as package
from serving.client import (
    ApiError,
    Client,
    ClientError,
    ErrorDetail,
    JobError,
    JobFailedError,
    Status,
    UnreachableError,
    WaitTimeoutError,
)
from serving.client.answers import as_json, make_job, read_error, read_json
from tests.jobs_stand_in import DROP, LOSE, Busy, StandIn, describe, done, failed
from tests.pki import Authority
from tests.server import free_port

ROWS = [[5.1, 3.5, 1.4, 0.2]]
REQUEST = httpx.Request("GET", "http://server/iris/metadata")
RESULT = {"prediction": [[0.9, 0.05, 0.05]]}


@pytest.fixture
def api() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture
def client(api: StandIn) -> Iterator[Client]:
    with Client(api.url, timeout=20) as made:
        yield made


def test_rows_become_a_job(api: StandIn, client: Client) -> None:
    job = client.submit("iris", rows=ROWS, max_retries=2, ttl_seconds=7.5)
    assert (job.id, job.model, job.status) == ("job-1", "iris", Status.QUEUED)
    (asked,) = api.asked
    assert (asked.method, asked.path, asked.query) == ("POST", "/iris/jobs", {"max_retries": "2", "ttl_seconds": "7.5"})
    assert (asked.headers["content-type"], asked.body) == ("application/json", b'{"data":[[5.1,3.5,1.4,0.2]]}')


@pytest.mark.parametrize("as_path", [False, True])
def test_an_image_becomes_a_job(api: StandIn, client: Client, as_path: bool, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"\xff\xd8picture")
    client.submit("inception_v3", image=path if as_path else path.read_bytes(), top_k=3)
    (asked,) = api.asked
    assert (asked.path, asked.query, asked.body) == ("/inception_v3/jobs", {"top_k": "3"}, b"\xff\xd8picture")
    assert asked.headers["content-type"] == "image/*"


def test_each_submission_has_a_key_of_its_own_unless_given(api: StandIn, client: Client) -> None:
    for _ in range(2):
        client.submit("iris", rows=ROWS)
    client.submit("iris", rows=ROWS, idempotency_key="mine")
    keys = [asked.headers["idempotency-key"] for asked in api.asked]
    assert keys[2] == "mine"
    assert len(set(keys)) == 3
    assert all(len(key) >= 22 for key in keys[:2])


@pytest.mark.parametrize("fault", [DROP, LOSE, Busy(503, "0"), Busy(502), Busy(429, "0.01")], ids=str)
def test_a_repeated_submission_is_one_job(api: StandIn, client: Client, fault: object) -> None:
    api.faults.extend([fault, fault])  # type: ignore[list-item]
    assert client.submit("iris", rows=ROWS).id == "job-1"
    assert len(api.asked) == 3
    assert len({asked.headers["idempotency-key"] for asked in api.asked}) == 1
    assert len(api.by_key) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"rows": ROWS, "image": b"x"},
        {"rows": ROWS, "top_k": 1},
        {"rows": ROWS, "idempotency_key": ""},
        {"rows": ROWS, "idempotency_key": "a b"},
        {"rows": ROWS, "idempotency_key": "é"},
        {"rows": ROWS, "idempotency_key": "a\r\nX-Other: b"},
        {"rows": [[float("nan")]]},
    ],
)
def test_what_cannot_be_asked_is_not_sent(api: StandIn, client: Client, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are not the point
        client.submit("iris", **arguments)  # type: ignore[arg-type]
    assert api.asked == []


@pytest.mark.parametrize("job_id", ["", "a/b", "..", "a?wait=1", "x" * 65])
def test_what_is_no_job_id_is_not_sent(api: StandIn, client: Client, job_id: str) -> None:
    for ask in (client.get, client.cancel, client.retry, client.wait):
        with pytest.raises(ValueError, match="not a job id"):
            ask(job_id)
    assert api.asked == []


@pytest.mark.parametrize("url", ["", "localhost:3000", "ftp://host", "http://", "http://host:port", "redis://host"])
def test_a_url_that_is_none_of_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url)


def test_a_job_is_read_in_full(api: StandIn, client: Client) -> None:
    api.job("a", {**done(RESULT), "position": None, "something_new": 1})
    job = client.get("a")
    assert job.finished
    assert (job.result, job.attempts, job.max_retries, job.error) == (RESULT, 1, 3, None)
    assert job.created_at == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert job.finished_at == job.created_at + timedelta(seconds=1.5)
    api.job("b", failed("invalid_image", "the file is damaged"))
    assert client.get("b").error == JobError("invalid_image", "the file is damaged")


def test_a_job_as_json_is_that_of_the_api() -> None:
    body = describe("a", **done(RESULT), position=2, error={"code": "x", "message": "y"})
    written = as_json(make_job(body))
    assert make_job(written) == make_job(body)
    assert {
        name: body[name] for name in written.keys() - {"created_at", "expires_at", "started_at", "finished_at"}
    } == {name: value for name, value in written.items() if not name.endswith("_at")}


def test_errors_say_what_the_server_said(api: StandIn, client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.get("unknown")
    assert (caught.value.status, caught.value.code, caught.value.message) == (404, "not_found", "there is no such job")
    body = b'{"error":{"code":"invalid_input","message":"data[0]: no","details":[{"field":"data[0]","message":"no"}]}}'
    api.faults.append(Busy(400, body=body))
    with pytest.raises(ApiError) as caught:
        client.submit("iris", rows=ROWS)
    assert caught.value.details == (ErrorDetail("data[0]", "no"),)
    assert isinstance(caught.value, ClientError)


@pytest.mark.parametrize("body", [b"<html>Bad Request</html>", b"[]", b"{}", b'{"error": "no"}', b'{"error": {}}'])
def test_errors_in_other_words_are_errors_too(api: StandIn, client: Client, body: bytes) -> None:
    api.faults.append(Busy(400, body=body))
    with pytest.raises(ApiError) as caught:
        client.get("a")
    assert (caught.value.status, caught.value.code) == (400, "http_400")


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b"{}", b'{"job_id": "a", "status": "dreaming"}'])
def test_a_good_answer_of_something_else_is_not_taken_for_a_job(api: StandIn, client: Client, body: bytes) -> None:
    for ask in (lambda: client.get("a"), lambda: list(client.jobs()), client.stats):
        api.faults.append(Busy(200, body=body))
        with pytest.raises(ApiError, match="not ours"):
            ask()


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (502, {"content-type": "text/html"}, b"<h1>Bad</h1> Gateway", "502 Bad Gateway with text/html: 'Bad Gateway'"),
        (504, {}, b"", "504 Gateway Timeout with an empty body"),
        (200, {"content-type": "text/html"}, b"<style>x</style><p>Log in", "with text/html: 'Log in'"),
        (200, {}, b"", "200 OK with an empty body"),
        (200, {"content-type": "application/json"}, b'{"name": "ir', 'application/json: \'{"name": "ir\''),
        (200, {"content-type": "text/plain"}, b"x" * 9000, f"text/plain: '{'x' * 120}'"),
        (308, {"location": "https://server/"}, b"", "redirects to 'https://server/', and redirects are not followed"),
        (407, {}, b"", "a proxy wants a user and a password"),
    ],
)
def test_answers_of_others_are_told_with_address_and_content(
    status: int, headers: dict[str, str], body: bytes, words: str
) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(httpx.Response(status, headers=headers, content=body, request=REQUEST))
    assert "http://server/iris/metadata answered" in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-3", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),  # long ago
        ("soon", None),
        ("inf", None),
        (None, None),
    ],
)
def test_retry_after_in_every_form(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    assert read_error(httpx.Response(503, headers=headers, request=REQUEST)).retry_after == seconds


def test_retry_after_as_a_date() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    after = read_error(httpx.Response(503, headers={"Retry-After": moment}, request=REQUEST)).retry_after
    assert after is not None
    assert 60 < after <= 90


def test_retry_after_is_obeyed(api: StandIn, client: Client) -> None:
    api.job("a", "queued")
    api.faults.append(Busy(429, "0.4"))
    began = time.monotonic()
    client.get("a")
    assert time.monotonic() - began >= 0.4


def test_a_server_that_is_busy_for_longer_than_the_limit_is_not_waited_for(api: StandIn) -> None:
    api.faults.append(Busy(429, "60"))
    with Client(api.url, timeout=30) as client, pytest.raises(ApiError) as caught:
        client.submit("iris", rows=ROWS)
    assert (caught.value.status, caught.value.retry_after, len(api.asked)) == (429, 60.0, 1)


def test_nobody_there_ends_with_the_limit() -> None:
    seen: list[ClientError] = []
    url = f"http://user:secret@127.0.0.1:{free_port()}"
    with Client(url, timeout=1.0, on_retry=seen.append) as client, pytest.raises(UnreachableError) as caught:
        client.stats()
    assert seen
    assert "secret" not in str(caught.value)
    assert "cannot be reached" in str(caught.value)


def test_a_server_that_does_not_answer_ends_with_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout=0.1) as client, pytest.raises(UnreachableError):
            client.get("a")
        with Client(url) as client, pytest.raises(TimeoutError):
            client.wait("a", timeout=0.1)


def test_errors_that_will_not_pass_are_not_repeated(api: StandIn, client: Client) -> None:
    for status in (400, 404, 409, 413, 500):
        api.faults.append(Busy(status))
        with pytest.raises(ApiError):
            client.get("a")
    assert len(api.asked) == 5


def test_wait_polls_until_the_end(api: StandIn, client: Client) -> None:
    api.job("a", "queued", "running", done(RESULT))
    assert client.wait("a", timeout=20).result == RESULT
    assert [float(asked.query["wait"]) > 10 for asked in api.asked] == [True] * 3


def test_wait_outlasts_everything_that_passes(api: StandIn, client: Client) -> None:
    api.job("a", "queued", "queued", "running", done(RESULT))
    api.faults.extend([DROP, LOSE, None, Busy(503, "0"), Busy(429, "0"), None, Busy(502), Busy(504)])
    assert client.wait("a", timeout=30).result == RESULT


def test_wait_outlasts_a_restart() -> None:
    """The server is away when the waiting begins, and comes back at the port while the client tries again."""
    with ExitStack() as stack:
        api = StandIn(port=free_port())
        api.job("a", done(RESULT))

        def start(_: ClientError) -> None:
            if not hasattr(api, "server"):
                stack.enter_context(api)

        with Client(api.url, on_retry=start) as client:
            assert client.wait("a", timeout=20).result == RESULT
        assert len(api.asked) == 1


def test_wait_ends_with_its_time(api: StandIn, client: Client) -> None:
    api.job("a", "running")
    with pytest.raises(WaitTimeoutError, match=r"within 0\.3 s: a"):
        client.wait("a", timeout=0.3)
    # Early answers to a long poll do not make the client ask without a pause.
    assert len(api.asked) <= 4


def test_wait_with_no_time_looks_once(api: StandIn, client: Client) -> None:
    api.job("a", done(RESULT))
    assert client.wait("a", timeout=0).result == RESULT
    api.job("b", "queued")
    with pytest.raises(TimeoutError):
        client.wait("b", timeout=0)
    assert [asked.query for asked in api.asked] == [{}, {}]


def test_wait_during_an_outage_ends_with_its_time() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(TimeoutError, match="no answer within"):
        client.wait("a", timeout=0.3)


def test_wait_for_an_unknown_job_ends_at_once(client: Client) -> None:
    with pytest.raises(ApiError, match="no such job"):
        client.wait("unknown")


def test_a_result_is_the_answer_or_says_why_there_is_none(api: StandIn, client: Client) -> None:
    api.job("a", "queued", done(RESULT))
    assert client.result("a", timeout=20) == RESULT
    api.job("b", failed("invalid_image", "the file is damaged"))
    with pytest.raises(JobFailedError, match=r"job b failed: the file is damaged \(invalid_image\)") as caught:
        client.result("b")
    assert caught.value.job.id == "b"
    for status, words in (("expired", "job c has expired"), ("cancelled", "job c was cancelled")):
        api.job("c", status)
        with pytest.raises(JobFailedError, match=words):
            client.result("c")


def test_many_are_watched_with_few_requests(api: StandIn, client: Client) -> None:
    ids = [api.job(f"job{number}", "queued", done(number)) for number in range(5)]
    seen = list(client.watch([*ids, ids[0]], timeout=20))
    assert {job.id: job.result for job in seen if job.finished} == {job_id: n for n, job_id in enumerate(ids)}
    assert len(api.asked) <= 10


def test_those_behind_are_asked_for_too(api: StandIn, client: Client) -> None:
    api.job("first", "running", "running", done(1))
    api.job("second", done(2))
    ends = [job.id for job in client.watch(["first", "second"], timeout=20, interval=0.2) if job.finished]
    assert ends == ["second", "first"]


def test_cancel_and_retry(api: StandIn, client: Client) -> None:
    api.job("a", "running")
    assert client.cancel("a").status is Status.CANCELLED
    with pytest.raises(ApiError) as caught:
        client.cancel("a")
    assert caught.value.status == 409
    api.job("b", "failed")
    assert client.retry("b").status is Status.QUEUED
    with pytest.raises(ApiError, match="conflict"):
        client.retry("b")


def test_a_lost_answer_makes_neither_cancel_nor_retry_fail(api: StandIn, client: Client) -> None:
    api.job("a", "running")
    api.faults.append(LOSE)
    assert client.cancel("a").status is Status.CANCELLED
    api.job("b", "failed")
    api.faults.append(LOSE)
    assert client.retry("b").status is Status.QUEUED
    api.job("c", done(RESULT))
    api.faults.append(LOSE)
    with pytest.raises(ApiError, match="conflict"):
        client.cancel("c")


def test_all_pages_in_one_iteration(api: StandIn, client: Client) -> None:
    for cursor, following in (("", "one"), ("one", "two"), ("two", None)):
        page = [describe(f"{cursor}{number}") for number in range(3)]
        api.pages[cursor] = {"jobs": page, "next": following}
    assert len({job.id for job in client.jobs(status=Status.QUEUED, model="iris")}) == 9
    assert api.asked[0].query == {"status": "queued", "model": "iris", "limit": "200"}
    assert [asked.query.get("after") for asked in api.asked] == [None, "one", "two"]
    api.asked.clear()
    assert len(list(client.jobs(limit=4))) == 4
    assert [asked.query["limit"] for asked in api.asked] == ["4", "1"]
    with pytest.raises(ValueError, match="dreaming"):
        list(client.jobs(status="dreaming"))


def test_figures(api: StandIn, client: Client) -> None:
    figures = {"oldest_queued_seconds": 1.5, "queued_bytes": 16, "finished_per_second": 0.25}
    api.stats = {"models": {"iris": {"counts": {"queued": 1, "failed": 2}, **figures}}}
    stats = client.stats()["iris"]
    assert (stats.counts[Status.QUEUED], stats.counts[Status.FAILED], stats.counts[Status.RUNNING]) == (1, 2, 0)
    assert (stats.oldest_queued_seconds, stats.queued_bytes, stats.finished_per_second) == (1.5, 16, 0.25)


def test_a_path_in_the_url_and_headers_are_kept(api: StandIn) -> None:
    api.faults.append(Busy(404))
    with Client(f"{api.url}/models/", headers={"Authorization": "Bearer x"}) as client, pytest.raises(ClientError):
        client.get("a")
    assert (api.asked[0].path, api.asked[0].headers["authorization"]) == ("/models/jobs/a", "Bearer x")


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """No answer of its server is ever read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("server", "127.0.0.1"))
    with StandIn() as api:
        api.server.socket = context.wrap_socket(api.server.socket, server_side=True)
        url = f"https://127.0.0.1:{api.port}"
        with Client(url, timeout=0) as client, pytest.raises(UnreachableError, match="no authority that is trusted"):
            client.get("a")
    assert api.asked == []


def test_names_are_public() -> None:
    assert all(hasattr(package, name) for name in package.__all__)
    errors = (ApiError, UnreachableError, WaitTimeoutError, JobFailedError)
    assert all(issubclass(error, ClientError) for error in errors)
    assert issubclass(WaitTimeoutError, TimeoutError)


@pytest.mark.parametrize("module", ["serving", "serving.client", "serving.cli"])
def test_importing_it_needs_neither_bentoml_nor_numpy(module: str) -> None:
    heavy = "('bentoml', 'numpy', 'onnxruntime', 'PIL', 'fastapi', 'aiohttp', 'redis')"
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
