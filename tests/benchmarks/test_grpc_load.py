"""The load generator for gRPC against a small server that counts for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks import grpc_contenders
from benchmarks.grpc_load import GrpcLoad
from benchmarks.load import Load
from benchmarks.server import ServerError
from serving.grpc.messages import message


@contextmanager
def answering(answer: Any) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose method /x.Y/Z is `answer(request, context)`; its target and what it was sent."""
    seen: list[bytes] = []
    lock = threading.Lock()

    def method(request: bytes, context: grpc.ServicerContext) -> bytes:
        with lock:
            seen.append(request)
        return answer(request, context)

    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(method)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", {"Z": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", seen
    finally:
        server.stop(None).wait()


def test_every_answer_is_counted() -> None:
    with answering(lambda request, _: request) as (target, seen):
        result = GrpcLoad(target, "/x.Y/Z").run(Load("", 3, 0.3, body=b"asked"))
    assert set(seen) == {b"asked"}
    assert result.requests_per_second * 0.3 <= len(seen) <= result.requests_per_second * 30
    assert (result.non_2xx, result.errors) == (0, 0)
    assert 0 < result.p50_ms <= result.p99_ms


@pytest.mark.parametrize(
    ("code", "refused"), [(grpc.StatusCode.INVALID_ARGUMENT, True), (grpc.StatusCode.UNAVAILABLE, False)]
)
def test_refusals_and_errors_are_told_apart(code: grpc.StatusCode, refused: bool) -> None:
    with answering(lambda _, context: context.abort(code, "no")) as (target, _):
        result = GrpcLoad(target, "/x.Y/Z").run(Load("", 2, 0.2))
    assert (result.non_2xx > 0, result.errors > 0) == (refused, not refused)


def test_a_wrong_answer_is_seen(model_store: Path) -> None:  # noqa: ARG001 - the model has to be there
    from benchmarks.models import model_file

    model = model_file("iris")
    for row, right in (([0.9744952, 0.0242291, 0.0012757], True), ([0.1, 0.8, 0.1], False)):
        made = message("inference.ModelInferResponse")()
        made.outputs.add(name="probabilities").contents.fp32_contents.extend(row)
        with answering(lambda *_, made=made: made.SerializeToString()) as (target, _):
            port = int(target.rpartition(":")[2])
            server = grpc_contenders.contenders(model)[0].server
            contender = grpc_contenders.GrpcContender(
                server, port, "/x.Y/Z", b"", grpc_contenders._read_inferred, model
            )
            if right:
                contender.check()
            else:
                with pytest.raises(ServerError, match="answers wrongly"):
                    contender.check()
