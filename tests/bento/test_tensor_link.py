"""Both ends of the hop to a runner, over a real Unix socket and a real uvicorn."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette

from serving.bento.tensor_link import TensorClient, TensorServer
from serving.core.errors import (
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from serving.core.tensors import Tensors, count, strings, to_bytes
from tests.codecs.models import same


class Runner:
    """Answers the sums of rows of the model `sums`, or as `behave` says."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, bool]] = []
        self.cancelled = asyncio.Event()
        self.behave: Callable[[Tensors], Awaitable[Tensors]] | None = None

    async def submit(
        self, model: str, tensors: Tensors, *, expires_in: float = math.inf, alone: bool = False
    ) -> Tensors:
        if model != "sums":
            raise NotFoundError(f"the runner has no model {model}")
        self.seen.append((count(tensors), expires_in, alone))
        try:
            if self.behave is not None:
                return await self.behave(tensors)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"sums": tensors["rows"].sum(axis=1, keepdims=True)}


def application(runner: Runner) -> TensorServer:
    return TensorServer(Starlette(), submit=runner.submit)


@asynccontextmanager
async def listening(app: Any, listener: socket.socket) -> AsyncIterator[uvicorn.Server]:
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve([listener]))
    try:
        yield server
    finally:
        server.should_exit = server.force_exit = True
        await task


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Runner, TensorClient]]:
    runner = Runner()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "runner.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        async with listening(application(runner), listener):
            client = TensorClient(f"file://{path}", traced=False)
            try:
                await available(client)
                yield runner, client
            finally:
                await client.close()


async def available(client: TensorClient) -> None:
    while not client.available:  # noqa: ASYNC110 - the client has a flag, not an event
        await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


def rows(number: int, more: float = 0) -> Tensors:
    return {"rows": np.arange(number * 4, dtype=np.float32).reshape(number, 4) + np.float32(more)}


async def ask(client: TensorClient, tensors: Tensors, **options: Any) -> list[float]:
    """The sums of the rows."""
    answer = await client.submit("sums", tensors, **options)
    return answer["sums"].ravel().tolist()


@pytest.mark.parametrize("number", [1, 3, 50_000])
def test_arrays_arrive_as_they_were(number: int) -> None:
    async def scenario() -> None:
        async with connected() as (runner, client):
            answer = await client.submit("sums", rows(number))
            np.testing.assert_array_equal(answer["sums"], rows(number)["rows"].sum(axis=1, keepdims=True))
            assert runner.seen == [(number, math.inf, False)]

    run(scenario)


MIXED: Tensors = {
    "a/b.c": np.array([[1, -2], [3, 4]], np.int64),
    "flags": np.array([True, False]),
    "text": strings(["Zürich 😀", "", "a\0b", "x"], (2, 2)),
    "file": strings([b"\xff\xd8", b""]),
    "scalar": np.array(1.5, np.float64),
    "nothing": np.zeros((0, 3), np.float16),
    "not a number": np.array([np.nan, np.inf], np.float32),
}


def test_several_tensors_of_any_dtype_go_there_and_back() -> None:
    async def echo(tensors: Tensors) -> Tensors:
        return tensors

    async def scenario() -> None:
        async with connected() as (runner, client):
            runner.behave = echo
            assert same(await client.submit("sums", MIXED), MIXED)

    run(scenario)


def test_a_model_that_the_runner_does_not_have_is_an_error_of_ours() -> None:
    async def scenario() -> None:
        async with connected() as (_, client):
            with pytest.raises(NotFoundError, match="the runner has no model other"):
                await client.submit("other", rows(1))

    run(scenario)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 99, to_bytes(MIXED)[:-1], to_bytes(MIXED) + b"x"])
def test_hostile_bytes_are_refused_by_the_runner(content: bytes) -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(application(Runner())), base_url="http://runner"
        ) as client:
            response = await client.post("/tensors/sums", content=content)
        assert response.status_code == 422
        assert response.json()["code"] == "malformed_request"

    run(scenario)


def test_other_paths_are_bentomls() -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(application(Runner())), base_url="http://runner"
        ) as client:
            assert (await client.get("/livez")).status_code == 404

    run(scenario)


def test_the_time_limit_and_being_alone_go_along() -> None:
    async def scenario() -> None:
        async with connected() as (runner, client):
            await ask(client, rows(1), expires_in=1.5, alone=True)
            assert runner.seen == [(1, 1.5, True)]

    run(scenario)


def test_many_at_once() -> None:
    async def scenario() -> None:
        async with connected() as (_, client):
            answers = await asyncio.gather(*(ask(client, rows(1, number)) for number in range(300)))
            assert answers == [[6 + 4 * number] for number in range(300)]

    run(scenario)


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("full", retry_after=7),
        InvalidInputError("data[0]: too large"),
        DeadlineExceededError("late"),
        UnavailableError("away", retry_after=1),
    ],
    ids=lambda e: e.code,
)
def test_errors_of_the_runner_are_raised_here(error: Exception) -> None:
    async def fail(_: Tensors) -> Tensors:
        raise error

    async def scenario() -> None:
        async with connected() as (runner, client):
            runner.behave = fail
            with pytest.raises(type(error)) as raised:
                await ask(client, rows(1))
            assert raised.value.message == error.message  # type: ignore[attr-defined]
            assert raised.value.retry_after == error.retry_after  # type: ignore[attr-defined]
            assert client.available

    run(scenario)


def test_a_caller_that_gives_up_is_noticed_in_the_runner() -> None:
    async def wait(_: Tensors) -> Tensors:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        async with connected() as (runner, client):
            runner.behave = wait
            call = asyncio.create_task(ask(client, rows(1)))
            while not runner.seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            call.cancel()
            await runner.cancelled.wait()

    run(scenario)


@contextmanager
def process(listener: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A runner in a process of its own, on a socket that outlives it."""
    code = (
        "import sys, uvicorn; from tests.bento.test_tensor_link import Runner, application;"
        "uvicorn.run(application(Runner()), fd=int(sys.argv[1]), log_config=None, lifespan='off')"
    )
    descriptor = listener.fileno()
    with subprocess.Popen([sys.executable, "-c", code, str(descriptor)], pass_fds=[descriptor]) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_killed_runner_fails_calls_at_once_and_is_found_again() -> None:
    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as keeper:
            path = Path(directory) / "runner.sock"
            keeper.bind(str(path))
            keeper.listen()
            client = TensorClient(f"file://{path}", traced=False)
            with pytest.raises(UnavailableError) as starting:
                await ask(client, rows(1))
            assert starting.value.retry_after
            with process(keeper):
                await available(client)
                assert await ask(client, rows(1)) == [6]
            # Nothing was on its way when it died, and nothing that comes now waits in the socket's backlog.
            while client.available:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(UnavailableError):
                await ask(client, rows(1))
            with process(keeper):
                await available(client)
                assert await ask(client, rows(2)) == [6, 22]
            await client.close()

    run(scenario)


def test_a_runner_that_is_behind_with_its_connections_is_not_away(tmp_path: Path) -> None:
    """On the server's own event loop: asyncio's hides why a Unix socket refuses a connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "runner.sock"))
        listener.listen(0)  # nobody accepts; one connection fits into the backlog, which that to ALIVE takes

        async def overload() -> None:
            client = TensorClient(f"file://{tmp_path}/runner.sock", traced=False)
            client.available = True
            try:
                await asyncio.sleep(0)
                async with asyncio.timeout(60):
                    await asyncio.gather(*(client.submit("sums", rows(1)) for _ in range(4)))
            finally:
                await client.close()

        with pytest.raises(OverloadedError, match="try again"):
            uvloop.run(overload())
