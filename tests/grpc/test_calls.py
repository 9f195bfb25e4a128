"""What every call has: an id, a time limit, bounds, metrics, a log line; whichever protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.codecs.image_decoding import sample_image
from serving.core.admission import Admission
from serving.core.errors import ServingError, UnavailableError
from serving.grpc import calls
from serving.grpc.messages import message
from serving.grpc.status import STATUS, status_of
from serving.http import errors as http_errors
from tests.app import Hold, Metric
from tests.grpc.conftest import Ask, make_server, method, with_grpc
from tests.grpc.requests import infer_images, infer_rows, predict_images, predict_rows

pytestmark = pytest.mark.anyio

Queued = Callable[[str, int], Awaitable[None]]
IMAGE = sample_image()
INFER = "/inference.GRPCInferenceService/ModelInfer"


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def trailing(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    return dict(error.trailing_metadata() or ())


def _kinds(kind: type[ServingError] = ServingError) -> list[type[ServingError]]:
    return [kind, *(found for each in kind.__subclasses__() for found in _kinds(each))]


@pytest.mark.parametrize("kind", _kinds(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_the_status_that_http_has(kind: type[ServingError]) -> None:
    error = kind("x")
    assert status_of(error).http == http_errors.status_of(error)
    assert (status_of(error).code == grpc.StatusCode.INTERNAL) == (status_of(error).http == 500)


def test_an_error_that_is_new_has_the_code_of_its_kind() -> None:
    class NewError(UnavailableError):
        pass

    assert status_of(NewError("x")).code == grpc.StatusCode.UNAVAILABLE
    assert {kind for kind in STATUS if STATUS[kind].code == grpc.StatusCode.INTERNAL} == {ServingError}


async def test_an_id_is_taken_and_returned(channel: grpc.aio.Channel) -> None:
    infer = method(channel, "ModelInfer")
    call = infer(infer_rows(), metadata=(("x-request-id", "mine-1"),))
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine-1"
    refused = await failure(infer(infer_rows(model_name="x"), metadata=(("x-request-id", "mine-2"),)))
    assert trailing(refused)["x-request-id"] == "mine-2"
    made = set()
    for metadata in ((), (("x-request-id", ""),), (("x-request-id", "no spaces"),), (("x-request-id", "x" * 129),)):
        call = infer(infer_rows(), metadata=metadata)
        await call
        made.add(dict(await call.trailing_metadata())["x-request-id"])
    assert len(made) == 4
    assert all(len(each) == 32 for each in made)


async def test_predictions_are_logged_and_counted(
    ask: Ask, metric: Metric, caplog: pytest.LogCaptureFixture, running: Any
) -> None:
    def count(status: int) -> float:
        found = metric("bentoml_service_request_total").items()
        return sum(
            value for series, value in found if f'"{INFER}"' in series and f'http_response_code="{status}"' in series
        )

    before = count(200), count(400)
    with caplog.at_level(logging.INFO, "serving.prediction"):
        await ask("ModelInfer", infer_rows([(1, 2, 3, 4)] * 3), metadata=(("x-request-id", "logged"),))
        bad = infer_rows()
        bad.raw_input_contents[0] = b""
        await failure(ask("ModelInfer", bad))
        await ask("ModelReady", message("inference.ModelReadyRequest")(name="iris"))
    found = [(each.endpoint, each.status, each.model, each.size) for each in caplog.records]
    tag = running.models["iris"].tag
    assert found == [(INFER, 200, tag, "rows=3"), (INFER, 400, tag, "-")]
    assert caplog.records[0].request_id == "logged"
    assert (count(200), count(400)) == (before[0] + 1, before[1] + 1)
    assert not [
        value for series, value in metric("bentoml_service_request_in_progress").items() if INFER in series and value
    ]


@pytest.mark.parametrize("request_", [infer_images(IMAGE), predict_images(IMAGE)], ids=["ModelInfer", "Predict"])
async def test_a_deadline_ends_the_call_and_drops_its_work(
    channel: grpc.aio.Channel, hold: Hold, queued: Queued, request_: Any
) -> None:
    engine = hold("inception_v3", max_batch_rows=1)
    name = "ModelInfer" if "Infer" in type(request_).DESCRIPTOR.name else "Predict"
    first = asyncio.ensure_future(method(channel, name)(request_, timeout=30))
    await engine.entered()
    late = await failure(method(channel, name)(request_, timeout=0.3))
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await queued("inception_v3", 0)
    engine.release()
    await first
    assert len(engine.calls) == 1, "nobody wants the second answer"


async def test_the_settings_limit_counts_without_a_deadline(running: Any, hold: Hold) -> None:
    settings = with_grpc()
    serving = settings.server.model_copy(update={"request_timeout_seconds": 0.2})
    server = make_server(running, settings.model_copy(update={"server": serving}))
    await server.start("127.0.0.1")
    hold("inception_v3")
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            late = await failure(method(channel, "ModelInfer")(infer_images(IMAGE)))
    finally:
        await server.stop()
    assert (late.code(), late.details()[:12]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "not answered")


async def test_cancelling_takes_what_waits_out_of_the_queue(
    channel: grpc.aio.Channel, hold: Hold, queued: Queued
) -> None:
    engine = hold("inception_v3", max_batch_rows=1)
    infer = method(channel, "ModelInfer")
    first = asyncio.ensure_future(infer(infer_images(IMAGE), timeout=30))
    await engine.entered()
    second = infer(infer_images(IMAGE), timeout=30)
    await queued("inception_v3", 1)
    second.cancel()
    await queued("inception_v3", 0)
    engine.release()
    await first
    assert len(engine.calls) == 1


async def test_beyond_the_bound_it_says_when_to_come_back(
    ask: Ask, channel: grpc.aio.Channel, running: Any, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = hold("inception_v3", max_batch_rows=1)
    rejected = running.metrics.rejected("inception_v3", "queue_full")
    monkeypatch.setattr(running.models["inception_v3"], "admission", Admission(1, rejected=rejected))
    held = asyncio.ensure_future(method(channel, "ModelInfer")(infer_images(IMAGE), timeout=30))
    await engine.entered()
    for name, request in (("ModelInfer", infer_images(IMAGE)), ("Predict", predict_images(IMAGE))):
        full = await failure(ask(name, request))
        assert full.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(trailing(full)["retry-after"]) >= 1
    engine.release()
    await held


async def test_a_message_beyond_the_limit_is_refused(ask: Ask) -> None:
    large = infer_rows()
    large.raw_input_contents[0] = bytes(17 * 1024 * 1024)
    refused = await failure(ask("ModelInfer", large))
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await ask("ModelInfer", infer_rows())


async def test_what_a_compressed_message_becomes_counts_too(ask: Ask) -> None:
    large = infer_rows()
    large.raw_input_contents[0] = bytes(64 * 1024 * 1024)
    refused = await failure(ask("ModelInfer", large, compression=grpc.Compression.Gzip))
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await ask("ModelInfer", infer_rows(), compression=grpc.Compression.Gzip)


async def test_huge_metadata_harms_nobody(ask: Ask) -> None:
    refused = await failure(ask("ModelInfer", infer_rows(), metadata=(("x-large", "x" * 200_000),)))
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await ask("ModelInfer", infer_rows())


async def test_what_nobody_expected_is_told_by_its_id_only(
    ask: Ask, running: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(running.models["iris"], "predict", broken)
    for name, request in (("ModelInfer", infer_rows()), ("Predict", predict_rows())):
        failed = await failure(ask(name, request, metadata=(("x-request-id", "the-id"),)))
        assert failed.code() == grpc.StatusCode.INTERNAL
        assert failed.details() == "something went wrong on the server (request id the-id)"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError] * 2
    assert "the-id" in caplog.text


async def test_an_absent_runner_is_unavailable(ask: Ask, running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: Any, **__: Any) -> None:
        raise UnavailableError("the model is not available just now; try again", retry_after=1)

    monkeypatch.setattr(running.models["inception_v3"], "_submit", gone)
    refused = await failure(ask("ModelInfer", infer_images(IMAGE)))
    assert (refused.code(), trailing(refused)["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "1")


async def test_a_call_is_a_span_below_that_of_its_client(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(calls, "_tracer", provider.get_tracer("test"))
    settings = with_grpc()
    tracing = settings.tracing.model_copy(update={"exporter": "otlp"})
    server = make_server(running, settings.model_copy(update={"tracing": tracing}))
    await server.start("127.0.0.1")
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    metadata = (("traceparent", f"00-{trace_id}-{span_id}-01"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        await method(channel, "ModelInfer")(infer_rows(), metadata=metadata, timeout=30)
        await failure(method(channel, "ModelInfer")(infer_rows(model_name="x"), metadata=metadata, timeout=30))
    await server.stop()
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [INFER, INFER]
    assert {f"{span.context.trace_id:032x}" for span in spans} == {trace_id}
    assert {f"{span.parent.span_id:016x}" for span in spans if span.parent} == {span_id}
    assert [span.status.is_ok for span in spans] == [True, False]
