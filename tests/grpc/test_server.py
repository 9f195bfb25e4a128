"""The server itself: health, reflection, draining, TLS, and its port."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import ValidationError

from serving.codecs.image_decoding import sample_image
from serving.core.errors import ConfigurationError
from serving.grpc import port
from serving.grpc.messages import INFERENCE, MODELS, PREDICTION
from serving.grpc.server import GrpcServer
from serving.settings.grpc import GrpcSettings
from tests.app import Hold
from tests.grpc.conftest import make_server, method, with_grpc
from tests.grpc.requests import infer_images, infer_rows
from tests.relay import Relay
from tests.server import free_port

pytestmark = pytest.mark.anyio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_is_that_of_the_server_and_its_services(
    channel: grpc.aio.Channel, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check
    for service in ("", INFERENCE, PREDICTION, MODELS):
        assert (await check(health_pb2.HealthCheckRequest(service=service), timeout=30)).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(health_pb2.HealthCheckRequest(service="x"), timeout=30)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    monkeypatch.setattr(running.process.drain, "started", True)
    assert (await check(health_pb2.HealthCheckRequest(), timeout=30)).status == NOT_SERVING


async def test_whoever_watches_is_told_of_changes(
    channel: grpc.aio.Channel, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert (await watch.read()).status == SERVING
    monkeypatch.setattr(running.process.drain, "started", True)
    assert (await watch.read()).status == NOT_SERVING
    monkeypatch.undo()
    assert (await watch.read()).status == SERVING
    watch.cancel()
    unknown = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="x"), timeout=60)
    assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()


async def test_not_everybody_may_watch(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watching = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(64)]
    for each in watching:
        await each.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Watch(health_pb2.HealthCheckRequest(), timeout=60).read()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    for each in watching:
        each.cancel()


async def test_reflection_tells_services_and_messages(channel: grpc.aio.Channel) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=INFERENCE)
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=PREDICTION)
        yield reflection_pb2.ServerReflectionRequest(file_by_filename="grpc_health/v1/health.proto")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="x.Y")

    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answers = [answer async for answer in stub.ServerReflectionInfo(requests(), timeout=30)]
    assert [each.name for each in answers[0].list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        INFERENCE,
        MODELS,
        PREDICTION,
    ]
    files = [
        {
            descriptor_pb2.FileDescriptorProto.FromString(file).name
            for file in answer.file_descriptor_response.file_descriptor_proto
        }
        for answer in answers[1:4]
    ]
    assert files[0] == {"inference/open_inference_grpc.proto", "inference/model_config.proto"}
    assert {"tensorflow_serving/apis/predict.proto", "tensorflow/core/framework/tensor.proto"} < files[1]
    assert files[2] == {"grpc_health/v1/health.proto"}
    assert answers[4].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_what_was_accepted_is_finished_and_those_who_watch_hold_nothing_up(running: Any, hold: Hold) -> None:
    engine = hold("inception_v3")
    server = make_server(running, with_grpc())
    await server.start("127.0.0.1")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert (await watch.read()).status == SERVING
        asking = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(timeout=60)
        await asking.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await asking.read()
        answer = asyncio.ensure_future(method(channel, "ModelInfer")(infer_images(sample_image()), timeout=60))
        await engine.entered()
        server.drain()
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        assert await asking.read() is grpc.aio.EOF
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as late:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(late, "ModelInfer")(infer_rows(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert not answer.done()
        engine.release()
        assert (await answer).model_name == "inception_v3"
        await asyncio.wait_for(server.stop(), 20)


async def test_workers_share_the_port(running: Any) -> None:
    settings = with_grpc()
    servers = [make_server(running, settings) for _ in range(2)]
    for server in servers:
        await server.start("127.0.0.1")
    await servers[0].stop()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc.port}") as channel:
        await method(channel, "ModelInfer")(infer_rows(), timeout=30)
    await servers[1].stop()


async def test_a_second_server_does_not_get_the_port(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[socket.socket] = []
    monkeypatch.setattr(port, "_held", held)
    settings = with_grpc()
    port.reserve(settings.grpc)
    with pytest.raises(
        ConfigurationError, match=f"port {settings.grpc.port} on 0.0.0.0 is in use; set SERVING__GRPC__PORT"
    ):
        port.reserve(settings.grpc)
    server = make_server(running, settings)
    await server.start("127.0.0.1")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        await method(channel, "ModelInfer")(infer_rows(), timeout=30)
        held.pop().close()
        with pytest.raises(ConfigurationError, match="is in use"):
            port.reserve(settings.grpc)
    await server.stop()
    # Its connections may linger for a minute; that is no reason to wait.
    port.reserve(settings.grpc)
    held.pop().close()


def test_an_address_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"on 192\.0\.2\.1 cannot be listened on"):
        port.reserve(GrpcSettings(host="192.0.2.1", port=free_port()))


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "127.0.0.1:8500"), ("::1", "[::1]:8500")])
def test_addresses_are_written_as_grpc_wants_them(host: str, expected: str) -> None:
    assert port.address(host, 8500) == expected


async def test_pings_between_calls_keep_a_connection(server: GrpcServer) -> None:
    """What the library allows by itself, the third ping in five minutes, is over after some seconds."""
    options = [
        ("grpc.keepalive_time_ms", 1_200),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with Relay("127.0.0.1", server.port) as relay:
        async with grpc.aio.insecure_channel(relay.address, options=options) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            await check(health_pb2.HealthCheckRequest(), timeout=30)
            await asyncio.sleep(6)  # five pings
            await check(health_pb2.HealthCheckRequest(), timeout=30)
        assert relay.connections == 1


async def test_a_flood_of_pings_ends_its_connection(server: GrpcServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    preface, settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"
    ping = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
    writer.write(preface + settings + 20 * ping)
    answer = await asyncio.wait_for(reader.read(), 60)
    assert b"too_many_pings" in answer
    writer.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server and client: certificates and keys."""
    directory = tmp_path_factory.mktemp("pki")
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    for name in ("ca", "server", "client"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        signed = [] if name == "ca" else ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
        subprocess.run(
            [*new, *files, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", *signed],
            cwd=directory,
            check=True,
            capture_output=True,
        )
    return directory


def tls(pki: Path, **changes: Any) -> dict[str, Any]:
    return {"certificate_file": pki / "server.pem", "private_key_file": pki / "server.key"} | changes


async def infer(server: GrpcServer, credentials: grpc.ChannelCredentials) -> Any:
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
        return await method(channel, "ModelInfer")(infer_rows(), timeout=20)


async def test_tls_and_certificates_of_clients(running: Any, pki: Path) -> None:
    ca = (pki / "ca.pem").read_bytes()
    plain = grpc.ssl_channel_credentials(ca)
    mutual = grpc.ssl_channel_credentials(ca, (pki / "client.key").read_bytes(), (pki / "client.pem").read_bytes())
    server = make_server(running, with_grpc(**tls(pki)))
    await server.start("127.0.0.1")
    assert (await infer(server, plain)).model_name == "iris"
    await server.stop()
    server = make_server(running, with_grpc(**tls(pki, client_ca_file=pki / "ca.pem")))
    await server.start("127.0.0.1")
    assert (await infer(server, mutual)).model_name == "iris"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(server, plain)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await server.stop()


@pytest.mark.parametrize("name", ["certificate_file", "private_key_file", "client_ca_file"])
async def test_a_file_that_is_not_there_is_named(running: Any, pki: Path, name: str) -> None:
    server = make_server(running, with_grpc(**tls(pki, **{"client_ca_file": pki / "ca.pem", name: pki / "x"})))
    with pytest.raises(ConfigurationError, match="x cannot be read"):
        await server.start("127.0.0.1")
    await server.stop()


@pytest.mark.parametrize(
    "files",
    [{"certificate_file": "x"}, {"private_key_file": "x"}, {"client_ca_file": "x"}],
    ids=lambda files: next(iter(files)),
)
def test_half_of_tls_is_refused(files: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="need"):
        GrpcSettings(**files)
