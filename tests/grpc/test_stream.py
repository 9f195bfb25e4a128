"""ModelStreamInfer: one answer for each request, errors among them; and what Triton's tools ask beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from serving.core.errors import UnavailableError
from serving.grpc.messages import message
from tests.app import Hold, Metric
from tests.grpc.conftest import Ask, make_server, with_grpc
from tests.grpc.requests import ROW, infer_images, infer_rows
from tests.pictures import encoded, picture
from tests.protocols.engine import probabilities_of

pytestmark = pytest.mark.anyio

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
ModelStreamInferResponse = message("inference.ModelStreamInferResponse")
PNG = encoded(picture(), "PNG")


def stream(channel: grpc.aio.Channel, **options: Any) -> Any:
    return channel.stream_stream(
        STREAM,
        request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
        response_deserializer=ModelStreamInferResponse.FromString,
    )(timeout=60, **options)


async def test_each_request_has_an_answer_in_order_and_errors_do_not_end_the_stream(
    channel: grpc.aio.Channel, running: Any
) -> None:
    call = stream(channel, metadata=(("x-request-id", "mine"),))
    requests = [
        infer_rows(id="1"),
        infer_rows(id="2", model_name="rose"),
        infer_rows([(1, 2, 3, np.nan)], id="3"),
        b"\xff\xff",
        infer_rows([ROW] * 2, id="5"),
    ]
    for request in requests:
        await call.write(request)
    await call.done_writing()
    answers = [answer async for answer in call]
    assert [answer.infer_response.id for answer in answers] == ["1", "2", "3", "", "5"]
    assert [answer.error_message for answer in answers] == [
        "",
        "there is no model rose; served: iris, inception_v3",
        "features[0][3]: a finite number is required",
        "the message cannot be decoded",
        "",
    ]
    for answer, rows in ((answers[0], [ROW]), (answers[4], [ROW] * 2)):
        expected = probabilities_of(running, rows).astype("<f4").tobytes()
        assert answer.infer_response.raw_output_contents[0] == expected
    assert all(not answer.infer_response.outputs for answer in answers[1:4])
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine"


async def test_requests_of_a_stream_are_counted_and_logged(
    channel: grpc.aio.Channel, metric: Metric, caplog: pytest.LogCaptureFixture, running: Any
) -> None:
    def count(status: int) -> float:
        found = metric("bentoml_service_request_total").items()
        return sum(
            value for series, value in found if f'"{STREAM}"' in series and f'http_response_code="{status}"' in series
        )

    before = count(200), count(404)
    call = stream(channel)
    with caplog.at_level(logging.INFO, "serving.prediction"):
        for request in (infer_rows([ROW] * 3), infer_rows(model_name="rose"), infer_rows()):
            await call.write(request)
            await call.read()
    await call.done_writing()
    assert (count(200), count(404)) == (before[0] + 2, before[1] + 1)
    tag = running.models["iris"].tag
    assert [(each.endpoint, each.status, each.model, each.size) for each in caplog.records] == [
        (STREAM, 200, tag, "rows=3"),
        (STREAM, 200, tag, "rows=1"),
    ]


async def test_a_failure_of_the_server_has_the_id_and_no_words(
    channel: grpc.aio.Channel, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    async def away(*_: Any, **__: Any) -> None:
        raise UnavailableError("away", retry_after=1)

    call = stream(channel, metadata=(("x-request-id", "mine"),))
    for function, told in ((broken, "something went wrong on the server"), (away, "away")):
        monkeypatch.setattr(running.models["iris"], "predict", function)
        await call.write(infer_rows(id="1"))
        assert (await call.read()).error_message == f"{told} (request id mine)"
        monkeypatch.undo()
    await call.write(infer_rows(id="2"))
    assert (await call.read()).infer_response.id == "2"
    call.cancel()


async def test_an_open_stream_ends_with_the_server_and_what_was_accepted_is_finished(running: Any, hold: Hold) -> None:
    engine = hold("inception_v3")
    server = make_server(running, with_grpc())
    await server.start("127.0.0.1")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        idle, busy = stream(channel), stream(channel)
        await idle.write(infer_rows())
        await idle.read()
        await busy.write(infer_images(PNG))
        await engine.entered()
        server.drain()
        assert await idle.read() is grpc.aio.EOF
        engine.release()
        assert (await busy.read()).infer_response.model_name == "inception_v3"
        assert await busy.read() is grpc.aio.EOF
        await asyncio.wait_for(server.stop(), 20)


async def test_a_client_that_leaves_takes_its_request_out_of_the_queue(
    channel: grpc.aio.Channel, hold: Hold, queued: Any
) -> None:
    engine = hold("inception_v3", max_batch_rows=1)
    first, second = stream(channel), stream(channel)
    await first.write(infer_images(PNG))
    await engine.entered()
    await second.write(infer_images(PNG))
    await queued("inception_v3", 1)
    second.cancel()
    await queued("inception_v3", 0)
    engine.release()
    assert not (await first.read()).error_message
    first.cancel()
    assert len(engine.sizes) == 1


async def test_a_request_that_is_late_is_told_and_the_stream_goes_on(running: Any, hold: Hold) -> None:
    settings = with_grpc()
    limited = settings.server.model_copy(update={"request_timeout_seconds": 0.2})
    server = make_server(running, settings.model_copy(update={"server": limited}))
    await server.start("127.0.0.1")
    engine = hold("inception_v3")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = stream(channel)
        await call.write(infer_images(PNG))
        assert "not answered within 0.2 seconds" in (await call.read()).error_message
        await call.write(infer_rows(id="2"))
        assert (await call.read()).infer_response.id == "2"
        call.cancel()
    engine.release(10)
    await server.stop()


async def test_tritons_own_client_streams(channel: grpc.aio.Channel, server: Any) -> None:
    """With the callbacks of its threads."""
    assert channel
    import tritonclient.grpc as triton

    def ask() -> list[Any]:
        from queue import Queue

        answers: Queue[Any] = Queue()
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            client.start_stream(lambda result, error: answers.put(error or result))
            rows = triton.InferInput("features", [1, 4], "FP32")
            rows.set_data_from_numpy(np.array([ROW], np.float32))
            client.async_stream_infer("iris", [rows], request_id="1")
            client.async_stream_infer("rose", [rows], request_id="2")
            found = [answers.get(timeout=30) for _ in range(2)]
            client.stop_stream()
            config = client.get_model_config("iris", as_json=True)["config"]
            statistics = client.get_inference_statistics("iris", as_json=True)["model_stats"][0]
        return [*found, config, statistics]

    answer, refusal, config, statistics = await asyncio.to_thread(ask)
    assert answer.as_numpy("label").tolist() == [b"setosa"]
    assert "there is no model rose" in refusal.message()
    assert config["max_batch_size"] == 1024
    assert (config["input"], config["backend"]) == (
        [{"name": "features", "data_type": "TYPE_FP32", "dims": ["4"]}],
        "onnxruntime",
    )
    assert int(statistics["inference_stats"]["success"]["count"]) >= 1


async def test_statistics_are_those_of_http(ask: Ask, client: Any, running: Any) -> None:
    await ask("ModelInfer", infer_rows([ROW] * 2))
    request = message("inference.ModelStatisticsRequest")
    (iris,) = (await ask("ModelStatistics", request(name="iris"))).model_stats
    (document,) = (await client.get("/v2/models/iris/stats")).json()["model_stats"]
    assert iris.version == str(running.models["iris"].version)
    assert iris.inference_stats.success.count == document["inference_stats"]["success"]["count"]
    assert (iris.inference_count, iris.execution_count) == (document["inference_count"], document["execution_count"])
    sizes = {each.batch_size: each.compute_infer.count for each in iris.batch_stats}
    assert sum(size * count for size, count in sizes.items()) == iris.inference_count
    assert sum(sizes.values()) == iris.execution_count == iris.inference_stats.success.count
    assert sizes[2] >= 1
    every = (await ask("ModelStatistics", request())).model_stats
    assert [each.name for each in every] == ["iris", "inception_v3"]


async def test_shared_memory_is_refused_by_its_name(ask: Ask) -> None:
    for where in ("inputs", "outputs"):
        request = infer_rows()
        tensor = request.inputs[0] if where == "inputs" else request.outputs.add(name="probabilities")
        tensor.parameters["shared_memory_region"].string_param = "x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask("ModelInfer", request)
        told = f"{tensor.name}: shared memory is not supported; requests and answers carry their data"
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, told)


async def test_until_ends_with_its_event() -> None:
    from serving.grpc.stream import until

    async def requests() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    event = asyncio.Event()
    found = until(event, requests())
    assert await anext(found) == 1
    event.set()
    assert await anext(found, None) is None
