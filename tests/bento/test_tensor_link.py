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

import numpy as np
import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette

from serving.bento.tensor_link import TensorClient, TensorPlane
from serving.core.errors import InvalidInputError, OverloadedError, UnavailableError

Rows = np.ndarray[Any, Any]


class Runner:
    """Answers rows with their sums, or as `behave` says."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, bool]] = []
        self.cancelled = asyncio.Event()
        self.behave: Callable[[Rows], Awaitable[Rows]] | None = None

    async def submit(self, rows: Rows, *, expires_in: float = math.inf, alone: bool = False) -> Rows:
        self.seen.append((len(rows), expires_in, alone))
        try:
            if self.behave is not None:
                return await self.behave(rows)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return rows.sum(axis=1, keepdims=True)


def application(runner: Runner) -> TensorPlane:
    return TensorPlane(Starlette(), submit=lambda: runner.submit, dtype=np.float32, row_shape=(4,))


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
            client = TensorClient(f"file://{path}", dtype=np.float32, row_shape=(1,), traced=False)
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


def rows(count: int) -> Rows:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


@pytest.mark.parametrize("count", [1, 3, 50_000])
def test_arrays_arrive_as_they_were(count: int) -> None:
    async def scenario() -> None:
        async with connected() as (runner, client):
            answer = await client.submit(rows(count))
            np.testing.assert_array_equal(answer, rows(count).sum(axis=1, keepdims=True))
            assert runner.seen == [(count, math.inf, False)]

    run(scenario)


def test_the_time_limit_and_being_alone_go_along() -> None:
    async def scenario() -> None:
        async with connected() as (runner, client):
            await client.submit(rows(1), expires_in=1.5, alone=True)
            assert runner.seen == [(1, 1.5, True)]

    run(scenario)


def test_many_at_once() -> None:
    async def scenario() -> None:
        async with connected() as (_, client):
            answers = await asyncio.gather(*(client.submit(rows(1) + number) for number in range(300)))
            assert [answer.item() for answer in answers] == [6 + 4 * number for number in range(300)]

    run(scenario)


@pytest.mark.parametrize(
    "error", [OverloadedError("full", retry_after=7), InvalidInputError("data[0]: too large")], ids=lambda e: e.code
)
def test_errors_of_the_runner_are_raised_here(error: Exception) -> None:
    async def fail(_: Rows) -> Rows:
        raise error

    async def scenario() -> None:
        async with connected() as (runner, client):
            runner.behave = fail
            with pytest.raises(type(error)) as raised:
                await client.submit(rows(1))
            assert raised.value.message == error.message  # type: ignore[attr-defined]
            assert raised.value.retry_after == error.retry_after  # type: ignore[attr-defined]
            assert client.available

    run(scenario)


def test_a_caller_that_gives_up_is_noticed_in_the_runner() -> None:
    async def wait(_: Rows) -> Rows:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        async with connected() as (runner, client):
            runner.behave = wait
            call = asyncio.create_task(client.submit(rows(1)))
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
            client = TensorClient(f"file://{path}", dtype=np.float32, row_shape=(1,), traced=False)
            with pytest.raises(UnavailableError) as starting:
                await client.submit(rows(1))
            assert starting.value.retry_after
            with process(keeper):
                await available(client)
                assert (await client.submit(rows(1))).item() == 6
            # Nothing was on its way when it died, and nothing that comes now waits in the socket's backlog.
            while client.available:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(UnavailableError):
                await client.submit(rows(1))
            with process(keeper):
                await available(client)
                assert (await client.submit(rows(2))).ravel().tolist() == [6, 22]
            await client.close()

    run(scenario)


def test_a_runner_that_is_behind_with_its_connections_is_not_away(tmp_path: Path) -> None:
    """On the server's own event loop: asyncio's hides why a Unix socket refuses a connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "runner.sock"))
        listener.listen(0)  # nobody accepts; one connection fits into the backlog, which that to ALIVE takes

        async def ask() -> None:
            client = TensorClient(f"file://{tmp_path}/runner.sock", dtype=np.float32, row_shape=(1,), traced=False)
            client.available = True
            try:
                await asyncio.sleep(0)
                async with asyncio.timeout(60):
                    await asyncio.gather(*(client.submit(np.zeros((1, 4), np.float32)) for _ in range(4)))
            finally:
                await client.close()

        with pytest.raises(OverloadedError, match="try again"):
            uvloop.run(ask())
